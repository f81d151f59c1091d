"""How rows are split: made once per fit, the same for every candidate and companion."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import check_cv

from autoreg.errors import DataError, DataWarning, OptionError, one_line
from autoreg.space import N_FOLDS
from autoreg.values import read_values

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fold:
    """Training rows and validation rows, each sorted.

    Attributes
    ----------
    train, valid : array of int64
    """

    train: Rows
    valid: Rows


def make_folds(
    cv: Any,
    n_rows: int,
    y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    random_state: int | None = None,
    time: ArrayLike | None = None,
    *,
    n_folds: int = N_FOLDS,
    X: Any = None,
) -> list[Fold]:
    """Split the rows of a table.

    Parameters
    ----------
    cv : int, scikit-learn splitter, iterable of (train, valid), or None
        None makes `n_folds` shuffled folds that respect `groups` and `time`. Anything else means what it means in
        scikit-learn: an int is a `KFold` without shuffling. A splitter without a seed of its own takes `random_state`.
    n_rows : int
    y : array, (N,) or (N, O), optional
        Handed to the splitter.
    groups : array, (N,), optional
        Rows of one group are never on both sides of a split.
    random_state : int, optional
    time : array of numbers or dates, (N,), optional
        Training rows are earlier than validation rows; rows of one moment stay together. Together with `groups`,
        validation rows are later and of groups that training has not seen.
    n_folds : int
        How many folds when `cv` is None; fewer, with a warning, when there are too few rows, groups or moments.
    X : table, optional
        Handed to the splitter.

    Returns
    -------
    list of Fold

    Raises
    ------
    DataError
        When the table is too small, or a group or time is missing.
    OptionError
        When `cv` is none of the above or does not fit the table.

    Examples
    --------
    >>> [fold.valid for fold in make_folds(2, 4)]
    [array([0, 1]), array([2, 3])]
    >>> [fold.valid.tolist() for fold in make_folds(None, 6, time=[3, 1, 2, 6, 4, 5], n_folds=2)]
    [[0, 4], [3, 5]]
    """
    if n_rows < 2:
        found = f"found {n_rows} sample(s)" if n_rows == 0 else "found one row (n_samples=1)"
        raise DataError(f"{found}: cross-validation needs at least 2")
    moments = None if time is None else _moments(time, n_rows)
    if cv is not None:
        if moments is not None:
            raise OptionError("cv and time both say how to split: give one of them")
        return list(_by_scikit_learn(cv, n_rows, y, groups, random_state, X))
    if n_folds < 2:
        raise OptionError(f"folds={n_folds}: give 2 or more")
    codes = None if groups is None else _group_codes(groups, n_rows)
    rng = np.random.default_rng(random_state)
    if moments is not None:
        return _by_time(moments, codes, n_folds, rng)
    if codes is not None:
        places = _spread_groups(codes, n_folds, rng)
    else:
        if n_rows < n_folds:
            _warn_fewer(n_folds, n_rows, "rows")
        # the sizes of scikit-learn's KFold: the first folds take the rows that are left over
        places = np.empty(n_rows, dtype=np.int64)
        for place, rows in enumerate(np.array_split(rng.permutation(n_rows), min(n_folds, n_rows))):
            places[rows] = place
    return [Fold(np.flatnonzero(places != k), np.flatnonzero(places == k)) for k in range(int(places.max()) + 1)]


def go_forward(folds: Sequence[Fold]) -> bool:
    """Whether each fold holds out rows from which only later ones learn, as folds over time do.

    The earlier a fold, the less its members have seen, and some rows are never held out.

    Examples
    --------
    >>> from sklearn.model_selection import TimeSeriesSplit
    >>> go_forward(make_folds(TimeSeriesSplit(2), 6)), go_forward(make_folds(2, 6))
    (True, False)
    """
    for k, fold in enumerate(folds):
        learns = [bool(np.isin(fold.valid, other.train).any()) for other in folds]
        if any(learns[: k + 1]) or (k + 1 < len(folds) and not any(learns[k + 1 :])):
            return False
    return len(folds) > 1


def hold_out(
    fraction: float,
    n_rows: int,
    groups: ArrayLike | None = None,
    random_state: int | None = None,
    time: ArrayLike | None = None,
) -> Fold:
    """Set rows aside for a test at the end: whole groups with `groups`, the latest rows with `time`.

    With both, the rows set aside are the latest ones of a share of the groups; the latest rows of the other groups and
    earlier rows of these groups are then used for neither.

    Parameters
    ----------
    fraction : float
        Share of the rows, between 0 and 1.
    n_rows, groups, random_state, time
        As for `make_folds`.

    Returns
    -------
    Fold
        `valid` is what is set aside.

    Examples
    --------
    >>> hold_out(0.25, 4, time=[2020, 2023, 2021, 2022]).valid
    array([1])
    """
    if not 0 < fraction < 1:
        raise OptionError(f"holdout={fraction:g}: give a share of the rows between 0 and 1")
    rng = np.random.default_rng(random_state)
    held = np.ones(n_rows, dtype=bool)
    kept = np.ones(n_rows, dtype=bool)
    if time is not None:
        moments = _moments(time, n_rows)
        ordered = np.sort(moments)
        cut = ordered[min(n_rows - 1, max(1, n_rows - max(1, round(fraction * n_rows))))]
        held &= moments >= cut
        kept &= moments < cut
    if groups is not None:
        codes = _group_codes(groups, n_rows)
        sizes = np.bincount(codes)
        order = rng.permutation(len(sizes))
        before = np.cumsum(sizes[order]) - sizes[order]
        chosen = order[(before < fraction * n_rows - 0.5) | (np.arange(len(order)) == 0)]
        held &= np.isin(codes, chosen)
        kept &= ~np.isin(codes, chosen)
    if time is None and groups is None:
        rows = rng.permutation(n_rows)[: max(1, round(fraction * n_rows))]
        held = np.isin(np.arange(n_rows), rows)
        kept = ~held
    if not held.any() or kept.sum() < 2:
        raise DataError(
            f"holdout={fraction:g} of {n_rows} rows leaves {kept.sum()} rows to train on and {held.sum()} to test on: "
            "give another share or more rows"
        )
    return Fold(np.flatnonzero(kept), np.flatnonzero(held))


def _by_scikit_learn(
    cv: Any, n_rows: int, y: ArrayLike | None, groups: ArrayLike | None, random_state: int | None, X: Any = None
) -> Iterator[Fold]:
    if isinstance(cv, (bool, str)):
        raise OptionError(f"cv={cv!r}: give an int, a scikit-learn splitter, an iterable of splits, or None")
    if isinstance(cv, (int, np.integer)) and groups is not None:
        warnings.warn(
            f"cv={cv} splits by row and ignores groups: give cv=None or GroupKFold({cv})", DataWarning, stacklevel=3
        )
        groups = None
    try:
        if isinstance(cv, Iterable) and not hasattr(cv, "split"):
            splits = list(cv)
        else:
            splitter = check_cv(cv)
            if getattr(splitter, "random_state", 0) is None:
                splitter = copy.copy(splitter)
                splitter.random_state = random_state
            rows = X if hasattr(X, "shape") or hasattr(X, "__len__") else np.zeros((n_rows, 1))
            splits = list(splitter.split(rows, y, groups))
    except Exception as error:  # a user's splitter may raise anything
        reason = (str(error).splitlines() or [""])[0] if isinstance(error, ValueError) else one_line(error)
        raise OptionError(f"cv={cv!r}: {reason}") from error
    if not splits:
        raise OptionError(f"cv={cv!r}: it makes no split")
    for number, split in enumerate(splits):
        try:
            # by way of a row count, so that masks and negative numbers mean what they mean in numpy
            train, valid = (np.sort(np.arange(n_rows)[np.asarray(rows)]) for rows in split)
        except (IndexError, TypeError, ValueError) as error:
            raise OptionError(f"cv: split {number} is not a pair of row numbers below {n_rows}: {error}") from error
        if not len(train) or not len(valid):
            raise OptionError(f"cv: split {number} has {len(train)} training and {len(valid)} validation rows")
        yield Fold(train.astype(np.int64), valid.astype(np.int64))


def _by_time(moments: NDArray[Any], codes: Rows | None, n_folds: int, rng: np.random.Generator) -> list[Fold]:
    """`TimeSeriesSplit` on the sorted rows, each cut moved back to the first row of its moment."""
    n_rows = len(moments)
    ordered = np.sort(moments)
    distinct = np.unique(ordered)
    if len(distinct) < 2:
        raise DataError("the time column holds one moment only: there is no earlier and later")
    wanted, n_folds = n_folds, min(n_folds, len(distinct) - 1)
    size = n_rows // (n_folds + 1)
    cuts = sorted({ordered[n_rows - (n_folds - k) * size] for k in range(n_folds)} - {distinct[0]})
    if len(cuts) < n_folds:
        # a moment of many rows swallows cuts: cut between moments evenly instead of between rows
        size = len(distinct) // (n_folds + 1)
        cuts = [distinct[len(distinct) - (n_folds - k) * size] for k in range(n_folds)]
    places = None if codes is None else _spread_groups(codes, len(cuts), rng)
    folds = []
    for k, (cut, end) in enumerate(zip(cuts, [*cuts[1:], None], strict=True)):
        train = moments < cut
        valid = (moments >= cut) & (moments < end if end is not None else True)
        if places is not None:
            place = k % (int(places.max()) + 1)
            train &= places != place
            valid &= places == place
        if train.any() and valid.any():
            folds.append(Fold(np.flatnonzero(train), np.flatnonzero(valid)))
    if not folds:
        raise DataError("no split by group and time has rows on both sides: every group would have to come later")
    if len(folds) < wanted:
        _warn_fewer(wanted, len(folds), "moments and groups with rows on both sides of a split")
    return folds


def _spread_groups(codes: Rows, n_folds: int, rng: np.random.Generator) -> Rows:
    """Each row's fold: large groups first, each into the smallest fold, equal ones in random order."""
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        raise DataError("the group column holds one group only: a split needs at least two")
    if len(sizes) < n_folds:
        _warn_fewer(n_folds, len(sizes), "groups")
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    loads = np.zeros(min(n_folds, len(sizes)), dtype=np.int64)
    place_of = np.empty(len(sizes), dtype=np.int64)
    for group in order:
        place_of[group] = np.argmin(loads)
        loads[place_of[group]] += sizes[group]
    return place_of[codes]


def _group_codes(groups: ArrayLike, n_rows: int) -> Rows:
    values = groups if isinstance(groups, pd.Series) else pd.Series(np.asarray(groups))
    _check_length("groups", len(values), n_rows)
    codes, _ = pd.factorize(values, use_na_sentinel=True)
    _check_complete("group", codes < 0)
    return codes.astype(np.int64)


def _moments(time: ArrayLike, n_rows: int) -> NDArray[Any]:
    values = time if isinstance(time, pd.Series) else pd.Series(np.asarray(time))
    _check_length("time", len(values), n_rows)
    _check_complete("time", values.isna().to_numpy())
    read = read_values(values)
    if read.kind in ("number", "boolean"):
        return read.data
    if read.kind == "date":
        return read.data.astype(np.int64)
    try:
        with warnings.catch_warnings():
            # pandas warns when texts do not all have one format; they are dates all the same
            warnings.simplefilter("ignore")
            dates = pd.to_datetime(values, utc=True).dt.tz_localize(None)
            # nanoseconds would end in 2262
            return dates.to_numpy().astype("datetime64[us]").astype(np.int64)
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"the time column is neither numbers nor dates: {reason}") from error


def _check_length(name: str, found: int, n_rows: int) -> None:
    if found != n_rows:
        raise DataError(f"{name} has {found} values and the table {n_rows} rows: they must be as long")


def _check_complete(name: str, missing: NDArray[np.bool_]) -> None:
    if missing.any():
        rows = ", ".join(str(row + 1) for row in np.flatnonzero(missing)[:3])
        raise DataError(
            f"the {name} column has {missing.sum()} missing values (row {rows}{', ...' if missing.sum() > 3 else ''}): "
            "fill them or drop these rows"
        )


def _warn_fewer(wanted: int, made: int, reason: str) -> None:
    warnings.warn(f"{made} folds instead of {wanted}: there are only so many {reason}", DataWarning, stacklevel=4)
