"""Tables from files. A file is opened and read once, so that a pipe will do."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import sys
import warnings
import zlib
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from autoreg.delimited import MISSING, Dialect, read_delimited
from autoreg.errors import DataError, DataWarning, OptionError
from autoreg.frames import check_names, some

FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".txt": "csv", ".data": "csv", ".dat": "csv", "": "csv",
    ".parquet": "parquet", ".pq": "parquet", ".feather": "feather", ".arrow": "feather", ".jsonl": "json",
    ".ndjson": "json", ".json": "json", ".xlsx": "xlsx", ".xlsm": "xlsx",
}  # fmt: skip
"""What a file is, by the end of its name. Other names are read as csv."""

_MAGIC = (
    (b"PAR1", "parquet"), (b"ARROW1", "feather"), (b"FEA1", "feather version 1"), (b"\xd0\xcf\x11\xe0", "xls"),
    (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstandard"), (b"7z\xbc\xaf", "7-zip"),
    (b"\x89HDF", "HDF5"), (b"SQLite format 3", "SQLite"), (b"%PDF", "PDF"), (b"\x80\x04", "pickle"),
    (b"\x80\x05", "pickle"),
)  # fmt: skip
_READABLE = "csv, tsv, csv.gz, parquet, feather, json lines or xlsx"


def read_table(
    path: str | os.PathLike[str] | BinaryIO, *, sep: str | None = None, encoding: str | None = None,
    decimal: str | None = None, thousands: str | None = None, na_values: str | Iterable[str] | None = None,
    as_text: Sequence[str] = (), max_columns: int | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Read a table from a file.

    Parameters
    ----------
    path : path-like or binary file
        csv, tsv, either with gzip, parquet, feather, json lines or xlsx, by the end of its name; ``-`` is csv on
        standard input. An open file is read as csv to its end.
    sep, encoding, decimal, thousands : str, optional
        How a text table is written. Separator and encoding are found out where not given; marks that group thousands
        and decimal commas are never guessed. In other tables these marks are those of numbers that are texts there.
    na_values : str or iterable of str, optional
        The texts that mean missing, beside the empty one, in place of the usual (NA, None, null, ...).
    as_text : sequence of str
        Columns of a text table whose cells are kept as written, such as postal codes with zeros in front.
    max_columns : int, optional
        A text table with more is refused before its cells are read.

    Returns
    -------
    DataFrame
        With at least one row and one column, and texts that are all different as names.

    Raises
    ------
    DataError
        In one line: what is wrong, where, and which option mends it.

    Warns
    -----
    DataWarning
        For guesses and for what was mended.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "houses.csv")
    ...     _ = path.write_text("size,town\\n30,Bonn\\n45,Ulm\\n")
    ...     read_table(path)
       size  town
    0    30  Bonn
    1    45   Ulm
    """
    source = _name(path)
    missing = MISSING if na_values is None else (na_values,) if isinstance(na_values, str) else tuple(na_values)
    dialect = Dialect(
        decimal=_one_character("decimal", decimal) or ".", thousands=_one_character("thousands", thousands or None),
        missing=missing, told_missing=na_values is not None,
    )  # fmt: skip
    if dialect.thousands == dialect.decimal:
        raise OptionError(f"decimal and thousands are both '{dialect.decimal}': they have to differ")
    data = _bytes(path)
    if not data:
        raise DataError(f"{source} is empty: a table has a line of column names and at least one row")
    suffixes = [suffix.lower() for suffix in Path(source).suffixes]
    if data.startswith(b"\x1f\x8b"):
        data = _gunzipped(data, source)
    if suffixes and suffixes[-1] in (".gz", ".gzip"):
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    kind = FORMATS.get(suffix, "csv")
    _check_content(data, kind, source)
    if kind == "csv":
        table = read_delimited(
            data, source, sep=sep, encoding=encoding, dialect=dialect, tabs_expected=suffix in (".tsv", ".tab"),
            as_text=as_text, max_columns=max_columns,
        )  # fmt: skip
        names, frame = table.names, table.frame
    elif kind == "xlsx":
        names, frame = _read_xlsx(data, source, dialect.missing)
    elif kind == "json":
        names, frame = _read_json(data, source, encoding or "utf-8-sig")
    else:
        names, frame = _read_arrow(data, source, kind)
    frame.columns = pd.RangeIndex(len(names))
    if kind != "csv" and (dialect.told_missing or dialect.thousands or dialect.decimal != "."):
        frame = _as_told(frame, dialect, [place for place, name in enumerate(names) if str(name).strip() in as_text])
    return _with_names(frame, names, source)


def _as_told(frame: pd.DataFrame, dialect: Dialect, kept: Sequence[int]) -> pd.DataFrame:
    """Cells of typed tables as the options say: what means missing, and numbers written as texts with marks."""
    frame = frame.copy(deep=False)
    numbers = [float(text) for text in dialect.missing if _is_number(text)]
    mark, point = dialect.thousands or "", dialect.decimal
    digits = rf"\d{{1,3}}(?:{re.escape(mark)}\d{{3}})+|\d+" if mark else r"\d+"
    number = re.compile(rf"[-+]?(?:{digits})(?:{re.escape(point)}\d*)?")
    for place in range(frame.shape[1]):
        cells = frame[place]
        if dialect.told_missing:
            means_missing = [*dialect.missing, *([] if pd.api.types.is_bool_dtype(cells.dtype) else numbers)]
            cells = cells.mask(cells.isin(means_missing))
        texts = cells.dropna()
        written = place not in kept and len(texts) and all(isinstance(text, str) for text in texts)
        if written and (mark or point != "."):
            plain = texts.astype(str).str.strip()
            marked = any(sign in text for text in plain for sign in {mark, point} - {"", "."})
            if marked and plain.str.fullmatch(number).all():
                plain = plain.str.replace(mark, "") if mark else plain
                cells = plain.str.replace(point, ".").astype(np.float64).reindex(cells.index)
        frame[place] = cells
    return frame


def _one_character(option: str, value: str | None) -> str | None:
    if value is not None and (len(value) != 1 or not value.isascii() or value.isalnum()):
        raise OptionError(f"{option} '{value}': give one ASCII character that is no letter or digit")
    return value


def _name(path: str | os.PathLike[str] | BinaryIO) -> str:
    """What messages call the table."""
    if isinstance(path, str | os.PathLike):
        return "standard input" if os.fspath(path) == "-" else Path(path).name
    return "the table"


def _bytes(path: str | os.PathLike[str] | BinaryIO) -> bytes:
    if not isinstance(path, str | os.PathLike):
        return path.read()
    if os.fspath(path) == "-":
        return sys.stdin.buffer.read()
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise DataError(f"no file '{os.fspath(path)}': check its name and folder") from None
    except IsADirectoryError:
        raise DataError(f"'{os.fspath(path)}' is a folder: give a file in it") from None
    except OSError as error:
        raise DataError(f"'{os.fspath(path)}' cannot be read: {error.strerror or error}") from error


def _gunzipped(data: bytes, source: str) -> bytes:
    try:
        data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source} is compressed by gzip, but damaged or cut off: {error}") from error
    if not data:
        raise DataError(f"{source} is empty: a table has a line of column names and at least one row")
    return data


def _check_content(data: bytes, kind: str, source: str) -> None:
    """Refuse a file whose first bytes say something else than its name."""
    found = next((name for mark, name in _MAGIC if data.startswith(mark)), "")
    if data.startswith(b"PK\x03\x04"):
        found = "xlsx" if b"xl/" in data else "zip"  # a zip file holds its members' names as they are
    if found == kind:
        return
    if found in ("parquet", "feather", "xlsx"):
        where = "save it to a file" if source == "standard input" else "rename it"
        raise DataError(f"{source} holds {found}, not {kind}: {where} so that its name ends in .{found}")
    if found:
        raise DataError(f"{source} holds {found}, which cannot be read: save the table as {_READABLE}")
    if kind in ("parquet", "feather", "xlsx"):
        raise DataError(f"{source} is no {kind} file, by its first bytes: it is damaged, or its name is wrong")


def _read_arrow(data: bytes, source: str, kind: str) -> tuple[list[Any], pd.DataFrame]:
    try:
        import_module("pyarrow")
        arrow = import_module("pyarrow.parquet" if kind == "parquet" else "pyarrow.feather")
    except ImportError:
        raise DataError(f"reading {kind} needs pyarrow: pip install 'autoreg-core[parquet]'") from None
    try:
        table = arrow.read_table(io.BytesIO(data))
        table.validate(full=True)
        frame = table.to_pandas()
    except Exception as error:  # a damaged file fails with whatever comes first, in pyarrow or in pandas
        raise DataError(f"{source} cannot be read as {kind}: {_one_line(error)}") from error
    named = [name for name in frame.index.names if name is not None and name not in frame.columns]
    if named:  # an index that a person named is a column for everybody else
        frame = frame.reset_index(level=named)
    return list(frame.columns), frame.reset_index(drop=True)


def _read_xlsx(data: bytes, source: str, missing: Sequence[str]) -> tuple[list[Any], pd.DataFrame]:
    try:
        import_module("openpyxl")
    except ImportError:
        raise DataError("reading xlsx needs openpyxl: pip install 'autoreg-core[excel]'") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and the like
        try:
            with pd.ExcelFile(io.BytesIO(data), engine="openpyxl") as book:
                sheets = list(book.sheet_names)
                cells = book.parse(
                    sheets[0], header=None, dtype=object, keep_default_na=False, na_values=["", *missing]
                )
        except Exception as error:  # openpyxl checks little: a damaged file fails with whatever comes first
            raise DataError(f"{source} cannot be read as xlsx: {_one_line(error)}") from error
    if len(sheets) > 1:
        _warn(f"{source} has {len(sheets)} sheets: the first, '{sheets[0]}', is read")
    cells = cells.dropna(axis=0, how="all")
    if len(cells) == 0:
        raise DataError(f"{source} is empty: a table has a row of column names and at least one row")
    names = ["" if pd.isna(name) else name for name in cells.iloc[0]]
    return names, cells.iloc[1:].reset_index(drop=True).infer_objects()


def _read_json(data: bytes, source: str, encoding: str) -> tuple[list[Any], pd.DataFrame]:
    """Read one object a line, or one list of objects."""
    try:
        text = data.decode(encoding)
    except (UnicodeError, LookupError) as error:
        raise DataError(f"{source} is no {encoding} text: {error}. Give --text-encoding") from None
    if text.lstrip().startswith("["):
        rows = _loaded(text, source, "")
        records = list(enumerate(rows, 1))
        where = "row"
    else:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        records = [(number, _loaded(line, source, f", line {number}")) for number, line in lines]
        where = "line"
    for number, record in records:
        if not isinstance(record, dict):
            raise DataError(f'{source}, {where} {number}: not an object. Each line has to be like {{"size": 30}}')
        for key, value in record.items():
            if isinstance(value, (dict, list)):
                raise DataError(
                    f"{source}, {where} {number}, column '{key}': a {type(value).__name__} in a cell. "
                    "Turn it into columns of numbers or texts"
                )
    frame = pd.DataFrame([record for _, record in records])
    for name in frame.columns:
        present = frame[name].dropna() if frame[name].dtype.kind == "O" else ()
        if len(present) and {type(cell) for cell in present} <= {int, float}:
            frame[name] = frame[name].astype(np.float64)
            _warn(f"{source}: column '{name}' has integers beyond 64 bits, kept to 16 digits")
    return list(frame.columns), frame


def _loaded(text: str, source: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _without_doubles(pairs, source, where))
    except (json.JSONDecodeError, RecursionError) as error:
        message = getattr(error, "msg", "nested too deeply")
        raise DataError(f"{source}{where} is no JSON: {message}. Each line has to be one whole object") from None


def _without_doubles(pairs: list[tuple[str, Any]], source: str, where: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{source}{where}: the key '{double}' stands twice. Rename one")
    return found


def _with_names(frame: pd.DataFrame, names: Sequence[Any], source: str) -> pd.DataFrame:
    """Give the columns their names: no blanks around them, no two alike, no row numbers that some program wrote."""
    texts = [str(name).strip() for name in names]
    padded = [text for text, name in zip(texts, names, strict=True) if text != str(name)]
    double = {text for text in texts if text and texts.count(text) > 1} if len(set(texts)) < len(texts) else set()
    if double and any(_is_number(text) for text in double):
        raise DataError(f"{source}: {some(sorted(double))} twice among the column names: is the first line data?")
    try:
        check_names([text for text in texts if text])
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    if padded:
        _warn(f"{source}: blanks around column names are left out: {some(padded)}")
    unnamed = [place for place, text in enumerate(texts) if not text]
    dropped = [place for place in unnamed if _is_of_no_use(frame[place], place)]
    keep = [place for place in range(len(texts)) if place not in dropped]
    for place in unnamed:
        texts[place] = f"Unnamed: {place}"
    if dropped:
        numbers = some([place + 1 for place in dropped])
        _warn(f"{source}: left out without a name, as it is empty or counts the rows: column {numbers}")
    if len(dropped) < len(unnamed):
        _warn(f"{source}: without a name, and named by its place: {some([texts[p] for p in unnamed if p in keep])}")
    if not keep:
        raise DataError(f"{source} has no columns")
    numeric = [text for text in texts if _is_number(text)]
    if len(numeric) * 2 >= len(texts):
        _warn(f"{source}: column names such as '{numeric[0]}' are numbers: is the first line data? Then add names")
    frame = frame[keep] if len(keep) < len(texts) else frame
    frame.columns = pd.Index([texts[place] for place in keep], dtype=object)
    if len(frame) == 0:
        raise DataError(f"{source} has no rows: below the column names {some(list(frame.columns), 4)} there is nothing")
    return frame


def _is_of_no_use(column: pd.Series, place: int) -> bool:
    """Whether a column without a name is empty, or first and counts the rows from 0 or 1."""
    if column.isna().all():
        return True
    if place > 0 or column.dtype.kind not in "iu":
        return False
    counted = column.to_numpy() - np.arange(len(column))
    return bool(counted[0] in (0, 1) and (counted == counted[0]).all())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.lower() not in ("nan", "inf", "infinity")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _warn(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=4)
