"""Texts that are numbers: plain, with a unit (23.4 kmpl, 5%, $3) or as a clock shows them (12:30)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARE = 0.95
"""Share of the cells that a way of reading must fit; what is left counts as missing."""

MAX_UNITS = 5
RARE_UNIT = 0.01

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_QUANTITY = re.compile(
    rf"\s*(?P<sign>[-+]?)\s*(?P<before>(?:US|CA|AU)?[$€£¥₹₩]|USD|EUR|GBP|INR|Rs\.?|CHF)?\s*(?P<sign2>[-+]?)"
    rf"(?P<number>{_NUMBER})\s*(?P<after>[^\W\d_][^\d]*|[%‰°$€£¥₹₩+'\"][^\d]*|)",
    re.IGNORECASE,
)
_CLOCK = re.compile(r"\s*(\d{1,4}):([0-5]?\d)(?::([0-5]?\d(?:\.\d+)?))?\s*")
_CODE = re.compile(r"\s*[-+]?0\d")
_GROUPED = re.compile(r"\s*[-+$€£]?\d+(?:[.,\s]\d+)*,\d+(?:\.\d+)?\s*[^\d]{0,15}")
_HEX = re.compile(r"\s*0[xX][0-9a-fA-F]+\s*")
_MAGNITUDES = {"": 1.0, "k": 1e3, "m": 1e6, "mn": 1e6, "b": 1e9, "bn": 1e9}


@dataclass(frozen=True)
class Quantity:
    """How a column's texts are read as numbers.

    Attributes
    ----------
    units : tuple of str
        What may stand around the number, in lower case; a bare number is always understood.
    factors : tuple of float
        What a number with that unit is multiplied by.
    clock : bool
        The texts are ``hours:minutes[:seconds]`` and become seconds.
    """

    units: tuple[str, ...] = ()
    factors: tuple[float, ...] = ()
    clock: bool = False

    def read(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Read texts.

        Returns
        -------
        numbers : array, (n,)
            NaN where a text is no such number.
        units : array, (n,)
            Index of the unit, -1 for a bare number.

        Examples
        --------
        >>> Quantity(("kmpl",), (1.0,)).read(["23.4 kmpl", "12", "?"])
        (array([23.4, 12. ,  nan]), array([ 0, -1, -1]))
        """
        if self.clock:
            return np.array([_seconds(text) for text in texts], dtype=np.float64), np.full(len(texts), -1)
        known = {
            unit: (place, factor) for place, (unit, factor) in enumerate(zip(self.units, self.factors, strict=True))
        }
        known.setdefault("", (-1, 1.0))
        numbers, units = np.full(len(texts), np.nan), np.full(len(texts), -1, dtype=np.int64)
        for row, text in enumerate(texts):
            number, unit = _split(text)
            if unit in known:
                units[row] = known[unit][0]
                numbers[row] = number * known[unit][1]
        return numbers, units

    def to_json(self) -> dict[str, Any]:
        return {"units": list(self.units), "factors": list(self.factors), "clock": int(self.clock)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Quantity:
        units, factors = tuple(data["units"]), tuple(float(factor) for factor in data["factors"])
        if len(set(units)) != len(units) or len(units) != len(factors):
            raise ValueError("a unit needs one factor")
        if not all(isinstance(unit, str) for unit in units) or not all(math.isfinite(factor) for factor in factors):
            raise ValueError("a unit is a text, its factor a finite number")
        return cls(units, factors, bool(data["clock"]))


PLAIN = Quantity()
"""Bare numbers."""


def find_quantity(texts: Sequence[str], counts: NDArray[Any]) -> Quantity | None:
    """Find out whether a column's texts are numbers, and in which form.

    Parameters
    ----------
    texts : sequence of str
        The distinct texts.
    counts : array
        Rows with each text.

    Returns
    -------
    Quantity or None
        None where too few are numbers, where leading zeros tell that they are codes, and where a few numbers with
        several endings (1st, 2nd) are better taken as categories.

    Examples
    --------
    >>> find_quantity(["5%", "7.5%", "80%"], np.ones(3))
    Quantity(units=('%',), factors=(1.0,), clock=False)
    >>> find_quantity(["1Fam", "2fmCon", "Duplex"], np.ones(3))
    """
    total = float(np.sum(counts))
    if not texts or _cannot_be(texts, counts, total):
        return None
    if sum(count for text, count in zip(texts, counts, strict=True) if _CLOCK.fullmatch(text)) >= SHARE * total:
        return Quantity(clock=True)
    numbers: dict[str, set[float]] = {}
    rows: dict[str, float] = {}
    for text, count in zip(texts, counts, strict=True):
        number, unit = _split(text)
        if not math.isnan(number):
            if _CODE.match(text):
                return None
            numbers.setdefault(unit, set()).add(number)
            rows[unit] = rows.get(unit, 0.0) + count
    units = sorted(unit for unit in rows if rows[unit] >= RARE_UNIT * total)
    covered = sum(rows[unit] for unit in units) + (0.0 if "" in units else rows.get("", 0.0))
    if not units or covered < SHARE * total or len(units) > MAX_UNITS:
        return None
    distinct = len(set().union(*(numbers[unit] for unit in units)))
    if units == [""]:
        return PLAIN if covered == total or distinct >= 3 else None
    if distinct < 3 or (len(units) > 1 and (distinct < 10 or min(len(numbers[unit]) for unit in units) < 3)):
        return None
    return Quantity(tuple(units), _factors(units))


def number_share(texts: Sequence[str], counts: NDArray[Any]) -> tuple[float, int]:
    """Share of the rows whose text is a bare number, and the first text that is none.

    >>> number_share(["1", "x", "2"], np.ones(3))
    (0.66..., 1)
    """
    bare = np.array([bool(re.fullmatch(rf"\s*[-+]?{_NUMBER}\s*", text)) for text in texts], dtype=bool)
    return float(np.sum(counts[bare]) / max(np.sum(counts), 1)), int(np.argmin(bare)) if len(bare) else 0


def grouped_or_hexadecimal(texts: Sequence[str], counts: NDArray[Any]) -> str:
    """Name the form of texts that look like numbers but are not read as such: ``comma``, ``hexadecimal`` or nothing.

    >>> grouped_or_hexadecimal(["1,234", "12"], np.ones(2)), grouped_or_hexadecimal(["0x1f"], np.ones(1))
    ('comma', 'hexadecimal')
    """
    total = SHARE * float(np.sum(counts))
    with_comma = [bool(_GROUPED.fullmatch(text)) for text in texts]
    bare = [bool(re.fullmatch(rf"\s*[-+]?{_NUMBER}\s*", text)) for text in texts]
    if any(with_comma) and np.sum(counts[np.array(with_comma) | np.array(bare)]) >= total:
        return "comma"
    hexadecimal = np.array([bool(_HEX.fullmatch(text)) for text in texts], dtype=bool)
    return "hexadecimal" if len(texts) and np.sum(counts[hexadecimal]) >= total else ""


def _cannot_be(texts: Sequence[str], counts: NDArray[Any], total: float) -> bool:
    """Tell quickly that most texts hold no number, so that long lists of words cost little."""
    wordy = sum(
        count for text, count in zip(texts, counts, strict=True) if len(text) > 60 or not any(map(str.isdigit, text))
    )
    return wordy > (1 - SHARE) * total


def _split(text: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text)
    if not match or (match["sign"] and match["sign2"]):
        return math.nan, ""
    number = float(match["number"])
    if not math.isfinite(number):
        return math.nan, ""
    unit = ((match["before"] or "") + match["after"]).strip().lower()
    if len(unit) > 20:
        return math.nan, ""
    return -number if "-" in (match["sign"], match["sign2"]) else number, unit


def _seconds(text: str) -> float:
    match = _CLOCK.fullmatch(text)
    if not match:
        return math.nan
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3] or 0)


def _factors(units: Sequence[str]) -> tuple[float, ...]:
    """Thousands and millions, where the endings can mean nothing else."""
    endings = [unit.lstrip("$€£¥₹₩ ") for unit in units]
    if set(endings) <= set(_MAGNITUDES) and "k" in endings and len(set(endings)) > 1:
        return tuple(_MAGNITUDES[ending] for ending in endings)
    return tuple(1.0 for _ in units)
