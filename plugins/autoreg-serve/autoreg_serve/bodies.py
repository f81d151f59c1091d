"""What a client sends, read as a table with bounds on everything.

A body that cannot be read is a `Refusal`, or one of autoreg's own errors: a status of 4xx and a sentence.
"""

from __future__ import annotations

import codecs
import io
import json
import math
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

import numpy as np
import pandas as pd

from autoreg.errors import DataWarning
from autoreg.options import as_when_fitted
from autoreg.readers import read_table

JSON, CSV = "application/json", "text/csv"
READING = ("sep", "decimal", "thousands", "na_values")
"""Query parameters that say how a CSV body is written, by the names of `autoreg predict`'s options."""

FORM = '{"rows": [{"size": 30, "town": "Ulm"}]} or {"columns": {"size": [30], "town": ["Ulm"]}}'
MAX_MEMBERS = 1000
"""Parts that a gzip body may consist of."""


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Refusal(Exception):
    """A request that is answered with a status of 4xx and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Sent:
    """A request's body and what its headers and its address say of it."""

    body: bytes
    media: str
    charset: str | None = None
    compressed: bool = False
    reading: Mapping[str, Any] = field(default_factory=dict)


def media_of(content_type: str | None) -> tuple[str, str | None]:
    """The media type and charset of a header ``Content-Type``.

    Examples
    --------
    >>> media_of("text/csv; charset=latin-1"), media_of("application/problem+json")
    (('text/csv', 'latin-1'), ('application/json', None))
    """
    message = Message()
    message["content-type"] = (content_type or "").encode("ascii", "replace").decode()
    media, charset = message.get_content_type(), message.get_content_charset()
    if not content_type:
        raise Refusal(415, f"the request does not say what its body is: add the header Content-Type: {JSON}, or {CSV}")
    if media.endswith("+json"):
        media = JSON
    if media not in (JSON, CSV):
        raise Refusal(415, f"bodies of type {media} cannot be read: send {JSON} or {CSV} as Content-Type")
    if media == JSON and charset not in (None, "utf-8", "us-ascii"):
        raise Refusal(415, f"JSON in {charset} cannot be read: send UTF-8")
    if charset is not None and not _is_plain(charset):
        raise Refusal(415, f"text in {charset[:40]} cannot be read: send UTF-8")
    return media, charset


_PLAIN = re.compile(
    r"utf-8(-sig)?|utf-(16|32)(-[bl]e)?|ascii|iso8859-\d+|cp125\d|cp437|cp850|koi8-[ru]|mac-roman|"
    r"gb2312|gbk|gb18030|big5|shift_jis|euc_(jp|kr)"
)
"""Encodings that tables are written in. Others of Python's may take time with the square of the text, or hide lines."""


def _is_plain(charset: str) -> bool:
    try:
        return _PLAIN.fullmatch(codecs.lookup(charset).name) is not None
    except (LookupError, ValueError):  # who reads the text says so
        return True


def compression_of(content_encoding: str | None) -> bool:
    """Whether a header ``Content-Encoding`` says gzip."""
    given = (content_encoding or "identity").strip().lower()
    if given not in ("identity", "gzip", "x-gzip"):
        raise Refusal(415, f"Content-Encoding {given} cannot be read: send gzip, or no such header")
    return given != "identity"


def inflated(body: bytes, limit: int) -> bytes:
    """Decompress gzip, up to a number of bytes.

    Examples
    --------
    >>> import gzip
    >>> inflated(gzip.compress(b"a,b"), 10)
    b'a,b'
    >>> inflated(gzip.compress(b"0" * 1000), 9)
    Traceback (most recent call last):
    autoreg_serve.bodies.Refusal: the body is larger than 9 bytes when decompressed, which is the limit: send fewer rows
    """
    found, rest = bytearray(), body
    for _ in range(MAX_MEMBERS):
        member = zlib.decompressobj(wbits=31)
        try:
            found += member.decompress(rest, limit + 1 - len(found))
        except zlib.error as error:
            raise Refusal(400, f"the body is said to be gzip, but is damaged or something else: {error}") from None
        if len(found) > limit:
            raise Refusal(
                413, f"the body is larger than {limit} bytes when decompressed, which is the limit: send fewer rows"
            )
        if not member.eof:
            raise Refusal(400, "the body is gzip that is cut off: send all of it")
        rest = member.unused_data
        if not rest:
            return bytes(found)
    raise Refusal(400, f"the body is gzip of more than {MAX_MEMBERS} parts: compress it in one")


class Reader:
    """Reads bodies for one model.

    Parameters
    ----------
    columns : sequence of Column
        Of the model's schema.
    aside : sequence of str
        Further names that a table may have without a word: targets, and what the fit left out.
    manifest : mapping
        The model's, which says how the table that it was fitted on was written.
    max_body, max_rows : int
    """

    def __init__(
        self, columns: Sequence[Any], aside: Sequence[str], manifest: Mapping[str, Any], *, max_body: int, max_rows: int
    ) -> None:
        self.manifest = manifest
        self.needed = {column.name: column for column in columns if column.kind != "ignored"}
        self.known = {column.name for column in columns} | set(aside)
        self.as_text = [column.name for column in columns if column.kind == "category"]
        self.max_columns = max(1000, 4 * len(columns))
        self.max_body, self.max_rows = max_body, max_rows

    def read(self, sent: Sent) -> pd.DataFrame:
        """The table in a body, with all columns that it has of those that the model needs.

        Warns
        -----
        DataWarning
            For what was mended, guessed or left out.
        """
        body = inflated(sent.body, self.max_body) if sent.compressed else sent.body
        if body.startswith(b"\x1f\x8b"):
            what = (
                "was compressed twice" if sent.compressed else "is gzip: say so with the header Content-Encoding: gzip"
            )
            raise Refusal(400, f"the body {what}")
        if not body.strip():
            raise Refusal(400, f"the body is empty: send {FORM}, or CSV with a line of column names")
        return self._csv(body, sent) if sent.media == CSV else self._json(body)

    def _csv(self, body: bytes, sent: Sent) -> pd.DataFrame:
        wide = b"\0" in body[:4]  # UTF-16 or 32
        both = 0 if wide else body.count(b"\r\n")
        ends = body.count(b"\n"), body.count(b"\r")
        rows = (max(ends) if wide else sum(ends) - both) - 1
        self._check_most(rows)
        names = 1 + max(re.split(rb"[\r\n]", body.lstrip(), maxsplit=1)[0].count(sep) for sep in b",;\t|")
        if rows * names > 2 * len(body) + 100_000:
            # a row that is cut short has all its cells once it is read
            raise Refusal(413, f"the body has {rows} rows of {names} columns, most of them left out: send whole rows")
        frame = read_table(
            io.BytesIO(body), encoding=sent.charset, as_text=self.as_text, max_columns=self.max_columns,
            **as_when_fitted(sent.reading, self.manifest),
        )  # fmt: skip
        self._tell_unknown([name for name in frame.columns if name not in self.known])
        return frame

    def _json(self, body: bytes) -> pd.DataFrame:
        content = _parsed(body)
        if not isinstance(content, dict) or len(content) != 1 or not content.keys() <= {"rows", "columns"}:
            raise Refusal(422, f"the body has to be an object of the form {FORM}")
        ((form, table),) = content.items()
        return self._rows(table) if form == "rows" else self._columns(table)

    def _rows(self, rows: Any) -> pd.DataFrame:
        if not isinstance(rows, list):
            raise Refusal(422, f"'rows' is {_named(rows)}, but has to be a list of objects: {FORM}")
        self._check_rows(len(rows))
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict):
                raise Refusal(422, f"row {number} is {_named(row)}, but has to be an object: {FORM}")
        present = set().union(*rows)
        return self._frame({name: [row.get(name) for row in rows] for name in self.needed if name in present}, present)

    def _columns(self, columns: Any) -> pd.DataFrame:
        if not isinstance(columns, dict):
            raise Refusal(422, f"'columns' is {_named(columns)}, but has to be an object of lists: {FORM}")
        lengths: dict[int, Any] = {}
        for name, cells in columns.items():
            if not isinstance(cells, list):
                raise Refusal(422, f"column {_shown(name)} is {_named(cells)}, but has to be a list")
            lengths.setdefault(len(cells), name)
        if len(lengths) > 1:
            (one, first), (other, second) = list(lengths.items())[:2]
            raise Refusal(
                422, f"column {_shown(first)} has {one} cells and column {_shown(second)} has {other}: "
                "all have to be of one length"
            )  # fmt: skip
        self._check_rows(next(iter(lengths), 0))
        return self._frame({name: columns[name] for name in self.needed if name in columns}, columns.keys())

    def _frame(self, cells: Mapping[str, list[Any]], present: Any) -> pd.DataFrame:
        unknown = sorted(present - self.known)
        self._tell_unknown(unknown)
        found = {name: _array(name, values, self.needed[name]) for name, values in cells.items()}
        if len(found) < len(self.needed):
            # the error that follows tells which of the other columns a missing one may be
            length = len(next(iter(cells.values()), [None]))
            found |= {name: np.full(length, np.nan) for name in unknown[:100]}
        return pd.DataFrame(found)

    def _check_rows(self, count: int) -> None:
        if count == 0:
            raise Refusal(422, "the table has no rows: send at least one")
        self._check_most(count)

    def _check_most(self, count: int) -> None:
        if count > self.max_rows:
            raise Refusal(413, f"the body has {count} rows, and the limit is {self.max_rows}: send fewer at a time")

    def _tell_unknown(self, names: Sequence[str]) -> None:
        if names:
            what = "1 column" if len(names) == 1 else f"{len(names)} columns"
            listed = ", ".join(_shown(name) for name in names[:8])
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            text = f"{what} that the model does not know, not used: {listed}{more}"
            warnings.warn(text, DataWarning, stacklevel=2)


def _parsed(body: bytes) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            double = Counter(name for name, _ in items).most_common(1)[0][0]
            raise Refusal(400, f"the key {_shown(double)} stands twice in one object of the body: send it once")
        return found

    try:
        text = body.decode(json.detect_encoding(body))
        content = json.loads(text, object_pairs_hook=pairs)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()
        return content
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refusal(400, f"the body is no JSON: {error.msg}, {where}") from None
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the body is no UTF-8 text at byte {error.start}: send JSON in UTF-8") from None
    except UnicodeEncodeError:
        raise Refusal(400, "the body has half of a surrogate pair, which is no character: send both or none") from None
    except ValueError:  # Python reads no integers beyond some thousand digits
        raise Refusal(400, "the body has a number with too many digits: send numbers as float64 holds them") from None
    except RecursionError:
        raise Refusal(400, f"the body is nested too deeply: send {FORM}") from None


def _array(name: str, cells: list[Any], column: Any) -> np.ndarray:
    """Cells as numbers where all are, as what they are otherwise."""
    types = set(map(type, cells))
    if not types <= {int, float, str, bool, type(None)}:
        row = next(row for row, cell in enumerate(cells, 1) if isinstance(cell, list | dict))
        what = f"row {row}, column {_shown(name)} is {_named(cells[row - 1])}"
        raise Refusal(422, f"{what}, but has to be a number, a text, true, false or null")
    if column.is_plain and types <= {int, float, type(None)}:
        try:
            return np.array([math.nan if cell is None else cell for cell in cells], dtype=np.float64)
        except OverflowError:  # an integer beyond float64, which autoreg has words for
            pass
    array = np.empty(len(cells), dtype=object)
    array[:] = cells
    return array


def _named(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _shown(name: str) -> str:
    return f"'{name[:60]}{'...' if len(name) > 60 else ''}'"
