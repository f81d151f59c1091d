"""The schema of a table, and the numbers and codes that it turns a table into.

`infer_schema` looks once at all rows and fixes each column's kind, levels and units; nothing else is learned from rows
here. `Schema.encode` then reads any table with those columns the same way, at `fit`, at `predict` and after loading.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autoreg.columns import UNSEEN, Column, finite, scaled
from autoreg.encoding import TableLayout
from autoreg.errors import DataError, DataWarning, ModelFileError, SchemaError, unknown
from autoreg.frames import as_frame, check_names, some
from autoreg.kinds import REASONS, Remark, infer_column
from autoreg.targets import read_target
from autoreg.values import as_text

__all__ = ["CodedTable", "Column", "Schema", "as_frame", "infer_schema", "read_target"]

BLOCK_CELLS = 4_000_000
"""Number columns are coded together, so many float64 cells at a time."""


@dataclass(frozen=True, eq=False)
class CodedTable:
    """A table as numbers.

    Attributes
    ----------
    numbers : array of float32, (N, Dn)
        NaN where missing.
    codes : array of int32, (N, Dc)
        0 where missing, 1 for a level that the schema does not know, 2 + i for its level i.
    number_names, code_names : tuple of str
        Names of the features.
    """

    numbers: NDArray[np.float32]
    codes: NDArray[np.int32]
    number_names: tuple[str, ...]
    code_names: tuple[str, ...]


@dataclass(frozen=True)
class Schema:
    """The columns of a table: names, kinds, levels and ranges.

    Attributes
    ----------
    columns : tuple of Column
        In the table's order, ignored ones included.
    notices : tuple of str
        Columns left out and why, guesses, and what was mended.

    Examples
    --------
    >>> schema = infer_schema(pd.DataFrame({"size": [30, 45, None], "town": ["Bonn", "Ulm", "Bonn"]}))
    >>> [(column.name, column.kind) for column in schema.columns]
    [('size', 'number'), ('town', 'category')]
    >>> table = schema.encode(pd.DataFrame({"town": ["Kiel", "Ulm"], "size": [50, 30]}))
    >>> table.numbers.tolist(), table.codes.tolist()
    ([[50.0], [30.0]], [[1], [3]])
    """

    columns: tuple[Column, ...]
    notices: tuple[str, ...] = ()

    @cached_property
    def used(self) -> tuple[Column, ...]:
        """The columns that give features."""
        return tuple(column for column in self.columns if column.kind != "ignored")

    @cached_property
    def number_names(self) -> tuple[str, ...]:
        """Names of the number features, in the order of `CodedTable.numbers`."""
        return tuple(name for column in self.used for name in column.number_names)

    @cached_property
    def code_names(self) -> tuple[str, ...]:
        """Names of the category features, in the order of `CodedTable.codes`."""
        return tuple(name for column in self.used for name in column.code_names)

    @cached_property
    def layout(self) -> TableLayout:
        """The shape of every table that this schema codes."""
        return TableLayout(
            len(self.number_names),
            tuple(column.may_miss for column in self.used for _ in column.number_names),
            tuple(column.n_codes for column in self.used for _ in column.code_names),
        )

    def encode(self, frame: pd.DataFrame, *, strict_kinds: bool = True) -> CodedTable:
        """Turn a table into numbers and codes.

        Columns are found by name: their order does not matter, further columns are not looked at, and neither are those
        that the schema ignores. Infinite numbers count as missing, with a warning.

        Parameters
        ----------
        frame : DataFrame, (N, any)
            Left as it is.
        strict_kinds : bool
            Whether cells of another kind than at `fit`, such as text among numbers, are an error; otherwise they count
            as missing, with a warning.

        Returns
        -------
        CodedTable

        Raises
        ------
        SchemaError
            When a column is missing, or holds another kind of thing.
        DataError
            When a column that is needed stands twice.
        """
        places, dtypes = self._places(frame), list(frame.dtypes)
        numbers = np.empty((len(frame), len(self.number_names)), dtype=np.float32)
        codes = np.empty((len(frame), len(self.code_names)), dtype=np.int32)
        plain: list[tuple[Column, int, int]] = []
        at_number = at_code = 0
        for column in self.used:
            place, width = places[column.name], len(column.number_names)
            if column.is_plain and _is_numeric(dtypes[place]):
                plain.append((column, place, at_number))
            else:
                own_numbers, own_codes = column.code(frame.iloc[:, place], strict=strict_kinds)
                numbers[:, at_number : at_number + width] = own_numbers
                if own_codes is not None:
                    codes[:, at_code] = own_codes
                    at_code += 1
            at_number += width
        _code_plain(frame, plain, numbers)
        return CodedTable(numbers, codes, self.number_names, self.code_names)

    def unseen(self, frame: pd.DataFrame) -> dict[str, tuple[str, ...]]:
        """Levels in a table that the schema does not know, by column; at most five each.

        Examples
        --------
        >>> infer_schema(pd.DataFrame({"town": ["Bonn", "Ulm"]})).unseen(pd.DataFrame({"town": ["Kiel", "Ulm"]}))
        {'town': ('Kiel',)}
        """
        found = {}
        places = self._places(frame)
        for column in self.used:
            if column.kind == "category":
                values = as_text(frame.iloc[:, places[column.name]])
                new = np.unique(values.data[column.level_codes(values) == UNSEEN])
                if len(new):
                    found[column.name] = tuple(values.levels[level] for level in new[:5])
        return found

    def _places(self, frame: pd.DataFrame) -> dict[str, int]:
        """Where the needed columns stand."""
        names = [str(name) for name in frame.columns]
        places = {name: place for place, name in enumerate(names)}
        missing = [column.name for column in self.used if column.name not in places]
        if missing:
            raise SchemaError(_missing_message(missing, [name for name in names if name not in self._names]))
        if len(places) < len(names):
            check_names([name for name in names if name in self._names])
        return places

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(column.name for column in self.used)

    def to_json(self) -> dict[str, Any]:
        """The schema as plain JSON values without NaN."""
        return {"columns": [column.to_json() for column in self.columns], "notices": list(self.notices)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schema:
        """Read what `to_json` wrote, and trust nothing.

        Raises
        ------
        ModelFileError
            When it is no schema.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("columns"), (list, tuple)):
            raise ModelFileError("the schema is damaged: it has no list of columns")
        notices = data.get("notices", [])
        if not isinstance(notices, (list, tuple)) or not all(isinstance(text, str) for text in notices):
            raise ModelFileError("the schema is damaged: its notices are no texts")
        columns = tuple(Column.from_json(column) for column in data["columns"])
        if len({column.name for column in columns}) < len(columns):
            raise ModelFileError("the schema is damaged: a column stands twice")
        return cls(columns, tuple(notices))


def infer_schema(
    frame: pd.DataFrame, *, categorical: Iterable[str] = (), dates: Iterable[str] = (), ignore: Iterable[str] = ()
) -> Schema:
    """Find out what each column of a table is.

    A column without a value, with one value only, or that names or counts the rows is ignored.

    Parameters
    ----------
    frame : DataFrame, (N, D)
        As `as_frame` gives it.
    categorical, dates, ignore : iterable of str
        Columns whose kind the user knows better.

    Returns
    -------
    Schema

    Raises
    ------
    DataError
        When no column can be used, a listed column does not exist, or there is one row only.

    Warns
    -----
    DataWarning
        For guesses and mends. Each warning's text is also one of the schema's notices.

    Examples
    --------
    >>> frame = pd.DataFrame({"day": ["2011-01-01", "2011-01-05"], "unit": ["kg", "kg"]})
    >>> schema = infer_schema(frame)
    >>> schema.columns[0].kind, schema.columns[0].parts
    ('date', ('day', 'weekday', 'elapsed_days'))
    >>> schema.notices
    ("column with one value only, ignored: 'unit'",)
    """
    if not isinstance(frame, pd.DataFrame) or 0 in frame.shape:
        frame = as_frame(frame)
    if len(frame) == 1:
        raise DataError(f"Found array with 1 sample(s) (shape={frame.shape}) while a minimum of 2 is required.")
    names = [str(name) for name in frame.columns]
    check_names(names)
    wishes = {"categorical": set(categorical), "dates": set(dates), "ignore": set(ignore)}
    _check_wishes(wishes, names)
    columns, remarks = _infer_all(frame, names, wishes, keep_identifiers=False)
    if not any(column.kind != "ignored" for column in columns):
        columns, remarks = _infer_all(frame, names, wishes, keep_identifiers=True)
    for remark in remarks:
        if remark.warns:
            warnings.warn(remark.text, DataWarning, stacklevel=2)
    notices = tuple(remark.text for remark in remarks)
    if all(column.kind == "ignored" for column in columns):
        raise DataError(f"no column can be used as a feature: {'; '.join(notices) or 'all are ignored as asked'}")
    return Schema(tuple(columns), notices)


def _infer_all(
    frame: pd.DataFrame, names: Sequence[str], wishes: Mapping[str, set[str]], keep_identifiers: bool
) -> tuple[list[Column], list[Remark]]:
    columns, remarks = [], []
    for place, name in enumerate(names):
        series = frame.iloc[:, place]
        if name in wishes["ignore"]:
            columns.append(Column(name, "ignored", dtype=str(series.dtype), reason="asked"))
            continue
        column, own = infer_column(
            series, name, categorical=name in wishes["categorical"], date=name in wishes["dates"],
            keep_identifiers=keep_identifiers,
        )  # fmt: skip
        columns.append(column)
        remarks += own
    for reason, why in REASONS.items():
        ignored = [column.name for column in columns if column.reason == reason]
        if ignored:
            what = "column" if len(ignored) == 1 else f"{len(ignored)} columns"
            remarks.append(Remark(f"{what} {why}, ignored: {some(ignored)}", warns=reason != "constant"))
    return columns, remarks


def _check_wishes(wishes: Mapping[str, set[str]], names: Sequence[str]) -> None:
    for wish, listed in wishes.items():
        for name in sorted(listed - set(names)):
            raise DataError(f"{wish}: {unknown('column', name, list(names))}")
    for one, other in (("categorical", "dates"), ("categorical", "ignore"), ("dates", "ignore")):
        both = wishes[one] & wishes[other]
        if both:
            raise DataError(f"column '{min(both)}' is listed under {one} and under {other}: choose one")


def _missing_message(missing: Sequence[str], offered: Sequence[str]) -> str:
    """Name the missing columns, and the nearest of the columns that are not needed."""
    near = {name: get_close_matches(name, list(offered), n=1) for name in missing[:8]}
    hints = [f"'{found[0]}' for '{name}'" for name, found in near.items() if found]
    what = "column" if len(missing) == 1 else f"{len(missing)} columns"
    hint = f"; the table has {', '.join(hints)}: rename?" if hints else ""
    return f"{what} missing that the model was fitted on: {some(missing)}{hint or '. Add them, empty where unknown'}"


def _is_numeric(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in "iufb"


def _code_plain(frame: pd.DataFrame, plain: Sequence[tuple[Column, int, int]], numbers: NDArray[np.float32]) -> None:
    """Code number columns that are numbers already, many at once."""
    step = max(1, BLOCK_CELLS // max(1, len(frame)))
    for start in range(0, len(plain), step):
        part = plain[start : start + step]
        block = frame.iloc[:, [place for _, place, _ in part]].to_numpy(dtype=np.float64)
        if np.isinf(block).any():
            block = np.stack([finite(block[:, i], column.name) for i, (column, _, _) in enumerate(part)], axis=1)
        shift, scale = (np.array([getattr(c, name) for c, _, _ in part]) for name in ("shift", "scale"))
        numbers[:, [at for _, _, at in part]] = scaled(block, shift, scale)
