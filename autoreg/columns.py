"""One column of a schema: its kind, and how its cells become numbers and codes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autoreg import dates
from autoreg.errors import DataWarning, ModelFileError, SchemaError
from autoreg.quantities import PLAIN, SHARE, Quantity
from autoreg.values import Values, as_text, read_values, shown

KINDS = ("number", "boolean", "category", "date", "ignored")
MISSING, UNSEEN, FIRST_LEVEL = 0, 1, 2

LIMIT = 1e18
"""Bound on coded numbers, so that their squares stay within float32."""


@dataclass(frozen=True)
class Column:
    """What a schema knows of one column.

    Attributes
    ----------
    name : str
    kind : str
        ``number``, ``boolean``, ``category``, ``date`` or ``ignored``.
    levels : tuple of str
        A category's levels, sorted. A number column whose texts carry different units has the units here.
    parts : tuple of str
        The calendar parts of a date that vary, of `autoreg.dates.PARTS`.
    shift, scale : float
        A number x is coded as (x - shift) / scale. Of a date, `shift` is where elapsed days count from, in seconds.
    minimum, maximum : float or None
        Of the table that the schema was made from; of dates, in seconds since 1970.
    may_miss : bool
        Whether a value was missing in that table.
    dtype : str
        The dtype there, for a person to read.
    reason : str
        Why a column is ignored.
    quantity : Quantity or None
        How texts are read as numbers.
    formats : tuple of str
        How texts, or numbers, are read as dates.
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    shift: float = 0.0
    scale: float = 1.0
    minimum: float | None = None
    maximum: float | None = None
    may_miss: bool = False
    dtype: str = ""
    reason: str = ""
    quantity: Quantity | None = None
    formats: tuple[str, ...] = ()

    @property
    def number_names(self) -> tuple[str, ...]:
        """Names of the number features that the column gives."""
        if self.kind == "date":
            return tuple(f"{self.name}.{part}" for part in self.parts)
        return (self.name,) if self.kind in ("number", "boolean") else ()

    @property
    def code_names(self) -> tuple[str, ...]:
        """Names of the category features that the column gives."""
        if self.kind == "category":
            return (self.name,)
        return (f"{self.name}.unit",) if self.kind == "number" and self.levels else ()

    @property
    def n_codes(self) -> int:
        """Codes of its category feature: missing, unseen and the levels."""
        return FIRST_LEVEL + len(self.levels)

    @property
    def is_plain(self) -> bool:
        """Whether the cells are numbers as they stand."""
        return self.kind == "number" and self.quantity is None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {level: FIRST_LEVEL + place for place, level in enumerate(self.levels)}

    def code(self, series: pd.Series, *, strict: bool = True) -> tuple[NDArray[np.float64], NDArray[np.int32] | None]:
        """Turn the cells into numbers and codes.

        Parameters
        ----------
        series : Series
        strict : bool
            Cells of the wrong kind are an error; otherwise they count as missing, with a warning.

        Returns
        -------
        numbers : array, (N, number of `number_names`)
            NaN where missing.
        codes : array, (N,), or None
            None where the column has no category feature.

        Raises
        ------
        SchemaError
            When the column holds another kind of thing than it did.

        Examples
        --------
        >>> Column("colour", "category", levels=("blue", "red")).code(pd.Series(["red", "pink", None]))[1]
        array([3, 1, 0], dtype=int32)
        """
        if self.kind == "category":
            return np.empty((len(series), 0)), self.level_codes(as_text(series))
        values = read_values(series)
        if values.kind == "empty":
            numbers = np.full((len(series), len(self.number_names)), np.nan)
            return numbers, np.zeros(len(series), dtype=np.int32) if self.code_names else None
        if self.kind == "date":
            return dates.date_numbers(self._instants(values, strict), self.parts, self.shift), None
        read = self._boolean if self.kind == "boolean" else self._number
        plain, codes = read(values, strict)
        return scaled(plain[:, None], self.shift, self.scale), codes

    def level_codes(self, values: Values) -> NDArray[np.int32]:
        """Codes of texts by this column's levels."""
        return np.array([*map(self._level_code, values.levels), MISSING], dtype=np.int32)[values.data]

    def _level_code(self, level: str) -> int:
        code = self._places.get(level)
        if code is None and level.removesuffix(".0").removeprefix("-").isdecimal():
            # pandas writes whole numbers with a point where a cell of the column is empty
            code = self._places.get(level[:-2] if level.endswith(".0") else f"{level}.0")
        return UNSEEN if code is None else code

    def _number(self, values: Values, strict: bool) -> tuple[NDArray[np.float64], NDArray[np.int32] | None]:
        # a number stands without a unit
        codes = np.full(len(values.data), self._places.get("", UNSEEN), dtype=np.int32) if self.levels else None
        if values.kind in ("number", "boolean"):
            numbers = finite(values.data, self.name)
        elif values.kind == "text":
            read, units = (self.quantity or PLAIN).read(values.levels)
            bad = np.isnan(read)
            self._check(values, bad, strict, "numbers", from_text=self.quantity is not None)
            numbers = np.append(read, np.nan)[values.data]
            if codes is not None and self.quantity is not None:
                names = [*self.quantity.units, ""]
                table = [self._places.get(names[unit], UNSEEN) for unit in units]
                codes = np.array([*table, MISSING], dtype=np.int32)[values.data]
        else:
            self._check(values, np.ones(1, dtype=bool), strict, "numbers")
            numbers = np.full(len(values.data), np.nan)
        if codes is not None:
            codes[np.isnan(numbers)] = MISSING
        return numbers, codes

    def _boolean(self, values: Values, strict: bool) -> tuple[NDArray[np.float64], None]:
        if values.kind == "date":
            self._check(values, np.ones(1, dtype=bool), strict, "true and false")
            return np.full(len(values.data), np.nan), None
        if values.kind == "text":
            known = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}
            read = np.array([known.get(level.strip().lower(), np.nan) for level in values.levels])
            self._check(values, np.isnan(read), strict, "true and false")
            return np.append(read, np.nan)[values.data], None
        odd = ~np.isnan(values.data) & (values.data != 0) & (values.data != 1)
        if odd.any():
            self._complain(_shown(values.data[odd][0]), int(np.argmax(odd)), strict, "true and false")
        return np.where(odd, np.nan, values.data), None

    def _instants(self, values: Values, strict: bool) -> dates.Instants:
        if values.kind == "date":
            return values.data
        if values.kind == "text":
            read = dates.parse(values.levels, self.formats or ("ISO8601",))
            bad = np.isnat(read)
            self._check(values, bad, strict, "dates", from_text=bool(self.formats))
            return np.append(read, np.datetime64("NaT"))[values.data]
        counted = [form for form in self.formats if form.startswith("epoch")]
        if counted:
            return dates.from_epoch(values.data, counted[0])
        digits = tuple(form for form in self.formats if form in dates.DIGITS)  # such as 20201231
        texts = as_text(pd.Series(values.data))
        read = dates.parse(texts.levels, digits)
        if not np.isnat(read).all():
            return np.append(read, np.datetime64("NaT"))[texts.data]
        self._complain(_shown(values.data[~values.missing][0]), int(np.argmin(values.missing)), strict, "dates")
        return np.full(len(values.data), "NaT", dtype="datetime64[us]")

    def _check(
        self, values: Values, bad: NDArray[np.bool_], strict: bool, wanted: str, from_text: bool = False
    ) -> None:
        """Complain of cells that cannot be read.

        Where the column was text when fitted, some such cells may stand in it: a few are passed over, as they were
        then, and not all of them are an error.
        """
        if not bad.any():
            return
        if from_text and not bad.all():
            if np.append(bad, False)[values.data].sum() <= (1 - SHARE) * (~values.missing).sum():
                return
            strict = False
        if values.kind == "date":
            row = int(np.argmin(values.missing))
            self._complain(str(values.data[row]), row, strict, wanted)
        else:
            level = int(np.argmax(bad))
            self._complain(shown(values.levels[level]), int(np.argmax(values.data == level)), strict, wanted)

    def _complain(self, example: str, row: int, strict: bool, wanted: str) -> None:
        text = f"column '{self.name}' held {wanted} when the model was fitted, row {row + 1} now has {example}"
        if strict:
            raise SchemaError(f"{text}. Correct it, or leave it empty (--na-values names texts that mean missing)")
        warnings.warn(f"{text}: such cells count as missing", DataWarning, stacklevel=5)

    def to_json(self) -> dict[str, Any]:
        """The column as JSON, without what stands at its default."""
        out: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default or field.name in ("name", "kind"):
                out[field.name] = list(value) if isinstance(value, tuple) else value
        out["may_miss"] = int(self.may_miss)
        if self.quantity is not None:
            out["quantity"] = self.quantity.to_json()
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Column:
        """Read what `to_json` wrote, and trust nothing.

        Raises
        ------
        ModelFileError
            When a field is missing, of the wrong type or out of bounds.

        Examples
        --------
        >>> Column.from_json(Column("age", "number", minimum=18.0).to_json()).minimum
        18.0
        """
        try:
            unknown = set(data) - {field.name for field in fields(cls)}
            if unknown:
                raise ValueError(f"no field '{min(unknown)}' is known")
            given: dict[str, Any] = {"may_miss": bool(data.get("may_miss", 0))}
            given |= {name: _text(data.get(name, "")) for name in ("name", "kind", "dtype", "reason")}
            given |= {name: _texts(data.get(name, [])) for name in ("levels", "parts", "formats")}
            numbers = ("shift", "scale", "minimum", "maximum")
            given |= {name: _number(data[name]) for name in numbers if data.get(name) is not None}
            if data.get("quantity") is not None:
                given["quantity"] = Quantity.from_json(data["quantity"])
            column = cls(**given)
            column._validate()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = ascii(str(error))[1:-1][:200]
            raise ModelFileError(f"the schema is damaged: column {str(data)[:60]!a}: {reason}") from error
        return column

    def _validate(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no kind '{self.kind}'")
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError("levels are not sorted")
        if not set(self.parts) <= set(dates.PARTS) or len(set(self.parts)) != len(self.parts):
            raise ValueError("parts of a date are not known")
        if not set(self.formats) <= dates.FORMATS:
            raise ValueError("the form of dates is not known")
        if (self.kind == "date") != bool(self.parts) or (self.levels and self.kind not in ("category", "number")):
            raise ValueError("parts or levels do not belong to the kind")
        if self.kind == "date" and abs(self.shift) > 1e12:
            raise ValueError("the origin of dates is out of bounds")
        if self.scale <= 0:
            raise ValueError("the scale is not positive")


def scaled(numbers: NDArray[np.float64], shift: Any, scale: Any) -> NDArray[np.float64]:
    """(x - shift) / scale, kept within what float32 can square."""
    with np.errstate(over="ignore"):
        return np.clip((numbers - shift) / scale, -LIMIT, LIMIT)


def finite(numbers: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Let infinite numbers be missing, with a warning."""
    infinite = np.isinf(numbers)
    if not infinite.any():
        return numbers
    warnings.warn(infinite_text(name, infinite), DataWarning, stacklevel=5)
    return np.where(infinite, np.nan, numbers)


def infinite_text(name: str, infinite: NDArray[np.bool_]) -> str:
    """What is said of infinite numbers."""
    count, row = int(infinite.sum()), int(np.argmax(infinite)) + 1
    if count == 1:
        return f"column '{name}': 1 infinite value, in row {row}, counts as missing"
    return f"column '{name}': {count} infinite values, the first in row {row}, count as missing"


def _shown(number: float) -> str:
    return f"{number:g}"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{value!r} is no list")
    return tuple(_text(item) for item in value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no finite number")
    return float(value)
