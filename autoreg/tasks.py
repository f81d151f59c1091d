"""From a table and the roles of its columns to what a fit needs: features, targets, weights, and how to split."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autoreg import dates
from autoreg.errors import DataError, DataWarning, OptionError
from autoreg.frames import some
from autoreg.targets import read_target
from autoreg.values import read_values

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Roles:
    """Which column is what; the others are features.

    Attributes
    ----------
    targets : tuple of str
    group, time, weight : str or None
        The time column stays a feature; groups and weights are none.
    ignore, categorical, dates : tuple of str
    """

    targets: tuple[str, ...]
    group: str | None = None
    time: str | None = None
    weight: str | None = None
    ignore: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()

    def not_features(self) -> list[str]:
        """Columns that are known, and no features."""
        return [*self.targets, *self.ignore, *(name for name in (self.group, self.weight) if name is not None)]

    def named(self) -> list[tuple[str, str]]:
        """Every column that is named, with the option that names it."""
        single = {"--group": self.group, "--time": self.time, "--weight": self.weight}
        several = {
            "--target": self.targets, "--ignore": self.ignore, "--categorical": self.categorical, "--date": self.dates
        }  # fmt: skip
        pairs = [(option, name) for option, names in several.items() for name in names]
        return pairs + [(option, name) for option, name in single.items() if name is not None]


@dataclass(frozen=True, eq=False)
class Task:
    """A table, taken apart.

    Attributes
    ----------
    X : DataFrame
    y : Series or DataFrame
        A Series for one target.
    weight : array, (N,), or None
    groups : Series or None
    time : Series or None
    """

    X: pd.DataFrame
    y: pd.Series | pd.DataFrame
    weight: Floats | None = None
    groups: pd.Series | None = None
    time: pd.Series | None = None

    def take(self, rows: NDArray[Any]) -> Task:
        """Some of the rows."""
        return Task(
            self.X.iloc[rows].reset_index(drop=True),
            self.y.iloc[rows].reset_index(drop=True),
            None if self.weight is None else self.weight[rows],
            None if self.groups is None else self.groups.iloc[rows].reset_index(drop=True),
            None if self.time is None else self.time.iloc[rows].reset_index(drop=True),
        )


def make_task(frame: pd.DataFrame, roles: Roles, *, drop_missing_target: bool = False) -> Task:
    """Take a table apart.

    Parameters
    ----------
    frame : DataFrame
    roles : Roles
    drop_missing_target : bool
        Leave out rows without a target, with a warning; otherwise they are an error.

    Returns
    -------
    Task

    Raises
    ------
    OptionError
        When a column does not exist, or has two roles that exclude each other.
    DataError
        When the target, the weights or the time cannot be used.

    Examples
    --------
    >>> frame = pd.DataFrame({"size": [30, 45], "rent": [400.0, 500.0], "id": [7, 8]})
    >>> task = make_task(frame, Roles(targets=("rent",), ignore=("id",)))
    >>> list(task.X), task.y.name
    (['size'], 'rent')
    """
    _check_roles(list(frame.columns), roles)
    if drop_missing_target:
        frame = _without_missing_targets(frame, roles.targets)
    y = frame[roles.targets[0]] if len(roles.targets) == 1 else frame[list(roles.targets)]
    read_target(y)
    weight = None if roles.weight is None else _weights(frame[roles.weight])
    left_out = set(roles.not_features())
    features = [name for name in frame.columns if name not in left_out]
    if not features:
        raise DataError("no column is left as a feature: all others are the target, or none by an option")
    task = Task(
        frame[features],
        y,
        weight,
        None if roles.group is None else frame[roles.group],
        None if roles.time is None else _times(frame[roles.time]),
    )
    if weight is None or (weight > 0).all():
        return task
    # rows of weight zero take no part, so folds must not count them
    return task.take(np.flatnonzero(weight > 0))


def _check_roles(columns: Sequence[str], roles: Roles) -> None:
    for option, name in roles.named():
        if name not in columns:
            raise OptionError(no_column(name, option, columns))
    if len(set(roles.targets)) < len(roles.targets):
        raise OptionError("--target: a column is named twice")
    others = [(option, name) for option, name in roles.named() if option != "--target"]
    for option, name in others:
        if name in roles.targets:
            raise OptionError(f"column '{name}' is named by --target and by {option}: choose one")
    no_features = set(roles.not_features())
    for option, name in others:
        if option in ("--categorical", "--date") and name in no_features:
            raise OptionError(f"{option} '{name}': the column is no feature, by another option: choose one")
    if roles.weight is not None and roles.weight in (roles.group, roles.time):
        raise OptionError(f"column '{roles.weight}' is named by --weight and by another option: choose one")


def no_column(name: str, option: str, columns: Sequence[str]) -> str:
    """Say that a column does not exist, with the nearest one.

    >>> no_column("rnet", "--target", ["rent", "size"])
    "--target: no column 'rnet'; did you mean 'rent'? columns: 'rent', 'size'"
    """
    near = get_close_matches(name, list(columns), n=1) or [c for c in columns if c.lower() == name.lower()]
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    single = " (one column only: if the table has more, give --sep)" if len(columns) == 1 else ""
    return f"{option}: no column '{name}'{hint} columns: {some(list(columns))}{single}"


def _without_missing_targets(frame: pd.DataFrame, targets: Sequence[str]) -> pd.DataFrame:
    missing = np.any([read_values(frame[name]).missing for name in targets], axis=0)
    if missing.all():
        raise DataError(f"target {some(targets)} has no value in any of {len(frame)} rows")
    if missing.any():
        rows = "1 row" if missing.sum() == 1 else f"{missing.sum()} rows"
        warnings.warn(f"{rows} of {len(frame)} without a target left out", DataWarning, stacklevel=3)
    return frame.loc[~missing].reset_index(drop=True)


def _weights(series: pd.Series) -> Floats:
    values = read_values(series)
    if values.kind not in ("number", "boolean"):
        raise DataError(f"--weight '{series.name}': the column holds no numbers")
    weight = np.asarray(values.data, dtype=np.float64)
    wrong = ~np.isfinite(weight) | (weight < 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        shown = "missing" if np.isnan(weight[row]) else f"{weight[row]:g}"
        raise DataError(f"--weight '{series.name}', row {row + 1}: {shown}; a weight is a number from 0 on")
    if not (weight > 0).any():
        raise DataError(f"--weight '{series.name}': all weights are 0")
    return weight


def _times(series: pd.Series) -> pd.Series:
    """Numbers and dates as they are; texts as dates, whatever their form."""
    values = read_values(series)
    if values.kind in ("number", "date", "empty"):
        return series
    if values.kind == "text":
        counts = np.bincount(values.data[values.data >= 0], minlength=len(values.levels))
        formats = dates.find_formats(values.levels, counts, forced=True)
        read = dates.parse(values.levels, formats) if formats else np.full(len(values.levels), "NaT", "datetime64[us]")
        if not np.isnat(read).any():
            return pd.Series(np.append(read, np.datetime64("NaT"))[values.data], name=series.name)
        level = int(np.argmax(np.isnat(read)))
        row = int(np.argmax(values.data == level))
        raise DataError(
            f"--time '{series.name}', row {row + 1}: '{values.levels[level]}' is neither a date nor a number"
        )
    raise DataError(f"--time '{series.name}': the column holds neither dates nor numbers")
