"""Texts that are dates, and what a network is told of a date."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autoreg.quantities import PLAIN, SHARE

Instants = NDArray[np.datetime64]

PARTS = ("year", "month", "day", "weekday", "day_of_year", "hour", "minute", "second", "elapsed_days")
"""Calendar parts, and the days since a date of the schema, fractions included."""

_DAYS = (
    "ISO8601", "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y",
    "%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%B %d, %Y",
    "%b %d %Y", "%B %d %Y", "%b-%Y", "%b %Y", "%B %Y", "%b-%y", "%m/%Y", "%Y/%m",
)  # fmt: skip
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
DIGITS = ("%Y%m%d", "%Y%m", "%Y")
"""Forms without a separator, tried only when a user says that a column is a date."""

_LENGTHS = {"%Y%m%d": 8, "%Y%m": 6, "%Y": 4}
_EPOCHS = {"epoch:s": 1_000_000, "epoch:ms": 1_000, "epoch:us": 1, "epoch:ns": 0.001}

FORMATS = frozenset([*(day + time for day in _DAYS for time in _TIMES), *DIGITS, *_EPOCHS])
"""Every form of a date that a schema may hold."""

_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_LOOKS_LIKE_A_DATE = re.compile(
    r"\s*(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})|\d{4}[-/]\d{2}|\d{1,2}/\d{4}"
    rf"|\d{{1,2}}[- ]{_MONTH}[- ]\d{{2,4}}|{_MONTH} \d{{1,2}},? \d{{4}}|{_MONTH}[- ]\d{{2,4}})(?:[T ].*)?",
    re.IGNORECASE,
)
_SAMPLE = 200


def find_formats(texts: Sequence[str], counts: NDArray[np.int64], *, forced: bool = False) -> tuple[str, ...]:
    """Find the form in which a column's texts are dates.

    Parameters
    ----------
    texts : sequence of str
        The distinct texts.
    counts : array of int
        Rows with each text.
    forced : bool
        The user says that they are dates: digits alone count too, several forms are tried one after another, and one
        date suffices.

    Returns
    -------
    tuple of str
        Empty where the texts are no dates.

    Examples
    --------
    >>> find_formats(["2011-01-01", "2011-01-02"], np.array([1, 1]))
    ('ISO8601',)
    >>> find_formats(["1/31/2020", "2/1/2020"], np.array([1, 1]))
    ('%m/%d/%Y',)
    >>> find_formats(["red", "blue"], np.array([1, 1]))
    ()
    """
    remaining = np.arange(len(texts))
    total = float(counts.sum())
    if not forced:
        dated = np.array([bool(_LOOKS_LIKE_A_DATE.fullmatch(text)) for text in texts], dtype=bool)
        if not len(texts) or counts[dated].sum() < SHARE * total:
            return ()
    formats: list[str] = []
    while len(remaining) and len(formats) < (4 if forced else 1):
        best, read = _best_format([texts[int(i)] for i in remaining], counts[remaining], forced)
        if not read.any():
            break
        formats.append(best)
        remaining = remaining[~read]
    if not forced and counts[remaining].sum() > (1 - SHARE) * total:
        return ()
    return tuple(formats)


def share_of_dates(texts: Sequence[str], counts: NDArray[np.int64]) -> float:
    """Share of the rows whose text is a date in one of several forms.

    >>> share_of_dates(["2020-01-31", "1.2.2020", "soon", "1.2.3"], np.array([1, 1, 1, 1]))
    0.5
    """
    dated = [i for i, text in enumerate(texts) if _LOOKS_LIKE_A_DATE.fullmatch(text)]
    if not dated:
        return 0.0
    found = [texts[i] for i in dated]
    read = ~np.isnat(parse(found, find_formats(found, counts[dated], forced=True)))
    return float(counts[dated][read].sum() / counts.sum())


def epoch_format(numbers: NDArray[np.float64]) -> str:
    """Choose how a column of numbers that the user calls dates is read, by its size.

    >>> epoch_format(np.array([20200131.0])), epoch_format(np.array([1.6e9])), epoch_format(np.array([1999.0]))
    ('%Y%m%d', 'epoch:s', '%Y')
    """
    present = numbers[np.isfinite(numbers)]
    low, high = (present.min(), present.max()) if len(present) else (0.0, 0.0)
    if (present == np.floor(present)).all():
        for form, first, last in (("%Y%m%d", 17000101, 22001231), ("%Y%m", 170001, 220012), ("%Y", 1700, 2200)):
            if first <= low and high <= last:
                return form
    for form, bound in (("epoch:s", 1e11), ("epoch:ms", 1e14), ("epoch:us", 1e17)):
        if high < bound:
            return form
    return "epoch:ns"


def day_and_month_may_swap(formats: tuple[str, ...], texts: Sequence[str]) -> bool:
    """Whether the texts are dates too when day and month change places.

    >>> day_and_month_may_swap(("%m/%d/%Y",), ["1/2/2020", "3/4/2020"])
    True
    """
    if len(formats) != 1 or not re.match(r"%[md][-/.]%[md][-/.]%[yY]", formats[0]):
        return False
    swapped = formats[0].replace("%m", "%?").replace("%d", "%m").replace("%?", "%d")
    one, other = parse(texts, formats), parse(texts, (swapped,))
    return bool((np.isnat(one) == np.isnat(other)).all() and (one != other)[~np.isnat(one)].any())


def parse(texts: Sequence[str], formats: tuple[str, ...]) -> Instants:
    """Read texts as dates in UTC, NaT where none of the formats fits.

    Examples
    --------
    >>> parse(["2020-01-02T03:04:05+01:00", "soon"], ("ISO8601",))
    array(['2020-01-02T02:04:05.000000', 'NaT'], dtype='datetime64[us]')
    """
    dates = np.full(len(texts), "NaT", dtype="datetime64[us]")
    for form in formats:
        open_rows = np.flatnonzero(np.isnat(dates))
        if not len(open_rows):
            break
        if form in _EPOCHS:
            dates[open_rows] = from_epoch(PLAIN.read([texts[int(i)] for i in open_rows])[0], form)
        else:
            dates[open_rows] = _strptime([texts[int(i)].strip() for i in open_rows], form)
    return dates


def from_epoch(numbers: NDArray[np.float64], form: str) -> Instants:
    """Read numbers counted from 1970 on as dates."""
    dates = np.full(len(numbers), "NaT", dtype="datetime64[us]")
    with np.errstate(invalid="ignore", over="ignore"):
        counted = numbers * _EPOCHS[form]
        usable = np.abs(counted) < 2.0**62
    dates[usable] = np.round(counted[usable]).astype(np.int64).astype("datetime64[us]")
    return dates


def seconds(dates: Instants) -> NDArray[np.float64]:
    """Seconds since 1970, NaN where missing."""
    return np.where(np.isnat(dates), np.nan, dates.astype(np.int64) / 1e6)


def varying_parts(dates: Instants) -> tuple[str, ...]:
    """Parts that tell the dates of a column apart.

    Examples
    --------
    >>> varying_parts(np.array(["2020-01-05", "2020-02-06"], dtype="datetime64[us]"))
    ('month', 'day', 'weekday', 'elapsed_days')
    """
    present = pd.DatetimeIndex(dates[~np.isnat(dates)])
    varying = {name for name in PARTS[:-1] if len(present) and np.ptp(_calendar(present, name)) > 0}
    if "year" not in varying:
        varying.discard("day_of_year")  # within one year it is the elapsed time
    return (*(name for name in PARTS[:-1] if name in varying), "elapsed_days")


def date_numbers(dates: Instants, parts: Sequence[str], origin: float) -> NDArray[np.float64]:
    """Numbers for each date, (N, number of parts), NaN where missing.

    Parameters
    ----------
    dates : array of datetime64[us], (N,)
    parts : sequence of str
        Of `PARTS`.
    origin : float
        Seconds since 1970 from which elapsed days count.
    """
    numbers = np.full((len(dates), len(parts)), np.nan)
    present = ~np.isnat(dates)
    index = pd.DatetimeIndex(dates[present])
    for place, name in enumerate(parts):
        if name == "elapsed_days":
            start = np.int64(round(origin * 1e6))
            numbers[present, place] = (dates[present].astype(np.int64) - start) / 86_400e6
        else:
            numbers[present, place] = _calendar(index, name)
    return numbers


def _calendar(index: pd.DatetimeIndex, part: str) -> NDArray[np.int64]:
    return np.asarray(getattr(index, "day_of_week" if part == "weekday" else part), dtype=np.int64)


def _best_format(texts: list[str], counts: NDArray[np.int64], forced: bool) -> tuple[str, NDArray[np.bool_]]:
    """The format that reads most rows, and which texts it reads."""
    step = max(1, len(texts) // _SAMPLE)
    sample, weight = texts[::step], counts[::step]
    timed = [":" in text for text in sample]
    times = _TIMES if any(timed) else ("",)
    candidates = [*(DIGITS if forced else ()), "ISO8601"]
    candidates += [day + time for day in _DAYS[1:] for time in times]
    scores = [float(weight[~np.isnat(_strptime([t.strip() for t in sample], form))].sum()) for form in candidates]
    order = sorted(range(len(candidates)), key=lambda i: -scores[i])  # stable: earlier ones win
    # A sample may hold no day above 12, so day-first and month-first are told apart on all texts.
    ties = [candidates[i] for i in order if scores[i] == scores[order[0]]]
    read = [~np.isnat(_strptime([t.strip() for t in texts], form)) for form in ties]
    best = max(range(len(ties)), key=lambda i: counts[read[i]].sum())
    return ties[best], read[best]


def _strptime(texts: list[str], form: str) -> Instants:
    if form in _LENGTHS:  # strptime would take 202011 for the first of January 2020
        texts = [text if len(text) == _LENGTHS[form] else "" for text in texts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the locale's names of months
        index = pd.to_datetime(pd.Series(texts, dtype=object), format=form, errors="coerce", utc=True)
    return index.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
