"""Text tables: finding out encoding and separator, and refusing what pandas would shift, pad or rename in silence."""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from autoreg.errors import DataError, DataWarning, OptionError
from autoreg.frames import some

SEPARATORS = (",", ";", "\t", "|")
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}

MISSING = (
    "NA", "N/A", "n/a", "#N/A", "#NA", "#N/A N/A", "NaN", "nan", "-NaN", "-nan", "<NA>", "None", "NULL", "null",
    "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN",
)  # fmt: skip
"""Texts that mean missing, beside the empty text, unless the user names others."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_BLANKS = r"\s+"
_SAMPLE = 1 << 16


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    Attributes
    ----------
    sep, decimal : str
    thousands : str or None
    missing : tuple of str
        Texts that mean missing, beside the empty text.
    told_missing : bool
        Whether the user named them.
    skip_space : bool
        Blanks after a separator do not count.
    """

    sep: str = ","
    decimal: str = "."
    thousands: str | None = None
    missing: tuple[str, ...] = MISSING
    told_missing: bool = False
    skip_space: bool = False

    def reader(self, lines: Iterator[str] | Sequence[str]) -> Iterator[list[str]]:
        """Split lines into fields."""
        return csv.reader(lines, delimiter=self.sep, skipinitialspace=self.skip_space)


@dataclass(frozen=True)
class TextTable:
    """A parsed table whose names are not yet looked at."""

    names: list[str]
    frame: pd.DataFrame


def read_delimited(
    data: bytes, source: str, *, sep: str | None = None, encoding: str | None = None, dialect: Dialect | None = None,
    tabs_expected: bool = False, as_text: Sequence[str] = (), max_columns: int | None = None,
) -> TextTable:  # fmt: skip
    """Parse a text table.

    Parameters
    ----------
    data : bytes
        The whole file.
    source : str
        What messages call it.
    sep, encoding : str, optional
        Found out where not given.
    dialect : Dialect, optional
        The rest of the options.
    tabs_expected : bool
        Whether the file's name says that tabs separate.
    as_text : sequence of str
        Columns whose cells are kept as they are written, zeros in front included.
    max_columns : int, optional
        A table with more is refused before its cells are read.

    Returns
    -------
    TextTable

    Raises
    ------
    DataError
        With the line at fault and the option that mends it.

    Examples
    --------
    >>> read_delimited(b"a,b\\n1,x\\n", "t.csv").frame.values.tolist()
    [[1, 'x']]
    """
    dialect = dialect or Dialect()
    text = _decoded(data, source, encoding)
    text, sep = _told_separator(text, sep)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise DataError(f"{source} is empty: a table has a line of column names and at least one row")
    if "\0" in text:
        raise DataError(
            f"{source}, line {_line_at(text, text.index(chr(0)))}: a NUL character. The file is damaged or no text; "
            "if it is UTF-16 give --text-encoding utf-16"
        )
    if sep == _BLANKS:
        text, sep = "\n".join(re.sub(r"[ \t]+", " ", line.strip()) for line in text.split("\n")), " "
    if sep is None:
        sep = _guess_separator(text[:_SAMPLE], dialect.decimal)
        if sep != ("\t" if tabs_expected else ","):
            _warn(f"{source}: {NAMES[sep]} separate the columns, as it seems; if not, give --sep")
    dialect = replace(dialect, sep=sep)
    blank_lines = re.match(r"(?: *\n)*", text)
    blank = blank_lines[0].count("\n") if blank_lines else 0
    text = text.split("\n", blank)[blank] if blank else text
    names = _header(text, dialect, source)
    if any(name.startswith(" ") for name in names[1:]):
        dialect = replace(dialect, skip_space=True)
        names = _header(text, dialect, source)
    if max_columns is not None and len(names) > max_columns:
        raise DataError(f"{source} has {len(names)} columns, and the limit is {max_columns}: leave some out")
    _check_widths(text, len(names), dialect, source, blank)
    raw = text.encode("utf-8", "replace")
    del text
    return TextTable(names, _parsed(raw, names, dialect, source, as_text))


def _warn(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=4)


def _decoded(data: bytes, source: str, encoding: str | None) -> str:
    if encoding is None:
        encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
        if not encoding.startswith("utf-8"):
            _warn(f"{source} is {encoding.upper()} text, by its first bytes; if not, give --text-encoding")
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise OptionError(f"text encoding '{encoding}' is not known: give one such as utf-8, latin-1, cp1252") from None
    except UnicodeError as error:
        at = getattr(error, "start", 0)
        line = data.count(b"\n", 0, at) + 1
        raise DataError(
            f"{source}, line {line}: byte {at} is no {encoding.upper()} text. "
            "Give its encoding, for instance --text-encoding latin-1 or cp1252"
        ) from None


def _told_separator(text: str, sep: str | None) -> tuple[str, str | None]:
    """The separator that the user, or the first line as Excel writes it, gives."""
    if sep is None:
        match = re.match(r'"?sep=(.)"?\r?\n', text)
        return (text[match.end() :], match[1]) if match else (text, None)
    spoken = {"\\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";", "space": " ", "\\s+": _BLANKS}
    sep = spoken.get(sep, sep)
    if sep != _BLANKS and (len(sep) != 1 or not sep.isascii() or sep in '"\n\r'):
        raise OptionError(f"sep '{sep}': give one ASCII character, '\\t' for a tab, or '\\s+' for blanks of any length")
    return text, sep


def _guess_separator(sample: str, decimal: str) -> str:
    """The character that splits most lines into as many fields as the header has.

    >>> _guess_separator("a;b\\n1,5;2\\n", ".")
    ';'
    """
    lines = [line for line in sample.split("\n")[:200] if line.strip()]
    if len(sample) == _SAMPLE and len(lines) > 2:
        lines.pop()  # cut off
    best, best_share = ",", 0.0
    for sep in sorted(SEPARATORS, key=lambda sep: sep == decimal):
        try:
            widths = [len(fields) for fields in csv.reader(lines, delimiter=sep)]
        except csv.Error:
            continue
        share = widths.count(widths[0]) / len(widths)
        if widths[0] > 1 and share > best_share:
            best, best_share = sep, share
    return best


def _header(text: str, dialect: Dialect, source: str) -> list[str]:
    try:
        return next(dialect.reader(io.StringIO(text)))
    except csv.Error as error:
        raise DataError(f"{source}: the column names cannot be read: {error}. Is a quote opened there?") from error


def _line_at(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _check_widths(text: str, width: int, dialect: Dialect, source: str, skipped: int) -> None:
    """Every row has as many fields as there are names; shorter ones are told of, longer ones refused."""
    if _all_even(text, width, dialect.sep):
        return
    lines = text.split("\n")
    reader = csv.reader((line + "\n" for line in lines), delimiter=dialect.sep, skipinitialspace=dialect.skip_space)
    short, first_short, blank, first_blank, blank_inside = 0, 0, 0, 0, 0
    begin = end = 0
    too_long = ""
    while True:
        begin = end
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise DataError(
                f'{source}, line {skipped + begin + 1}: {error}. Is a quote (") opened there and never closed?'
            ) from error
        end = reader.line_num
        here = skipped + begin + 1
        if not "".join(lines[begin:end]).replace(dialect.sep, "x").strip():
            blank, first_blank = blank + 1, first_blank or here
            continue
        blank_inside = blank  # blank lines at the end are no rows
        if '"' in lines[begin] and _is_open(lines[begin:end], dialect):
            where = f'{source}, line {here}: a quote (") is opened there and never closed'
            raise DataError(f'{where}. Close it, or write "" for a quote within a text')
        if len(fields) > width:
            too_long = too_long or f"{source}, line {here}: {len(fields)} fields, but there are {width} column names"
        elif len(fields) < width:
            short, first_short = short + 1, first_short or here
    if too_long:
        raise DataError(f"{too_long}. Quote a text that holds the separator, or give --sep")
    if blank_inside:
        lines_are = "1 blank line is" if blank_inside == 1 else f"{blank_inside} blank lines are"
        _warn(f"{source}: {lines_are} left out, the first is line {first_blank}")
    if short:
        rows = "1 row has" if short == 1 else f"{short} rows have"
        _warn(f"{source}: {rows} fewer fields than the {width} columns, the first is line {first_short}; "
              "what is left counts as missing")  # fmt: skip


def _all_even(text: str, width: int, sep: str) -> bool:
    """Tell quickly that every line has the right number of fields; False when in doubt."""
    data = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)
    ends, seps = data == ord("\n"), data == ord(sep)
    if '"' in text:
        quotes = data == ord('"')
        inside = (np.cumsum(quotes, dtype=np.uint8) & 1).astype(bool)
        border = np.append(True, ends | seps | quotes)
        border = np.append(border, True)  # what stands before the first and behind the last character
        opened, closed = np.flatnonzero(quotes & inside), np.flatnonzero(quotes & ~inside)
        if inside[-1] or not border[opened].all() or not border[closed + 2].all():
            return False
        ends &= ~inside
        seps &= ~inside
    places = np.flatnonzero(ends)
    if not len(places) or places[-1] != len(data) - 1:
        places = np.append(places, len(data))
    starts = np.append(0, places[:-1] + 1)
    if (places == starts).any():
        return False
    counts = np.diff(np.searchsorted(np.flatnonzero(seps), np.append(0, places)))
    return bool((counts == width - 1).all())


def _is_open(lines: list[str], dialect: Dialect) -> bool:
    """Whether a row ends within a quoted text, or runs over lines and goes on behind the closing quote."""
    reader = csv.reader([line + "\n" for line in lines], delimiter=dialect.sep, skipinitialspace=dialect.skip_space,
                        strict=True)  # fmt: skip
    try:
        for _ in reader:
            pass
    except csv.Error as error:
        return len(lines) > 1 or "unexpected end" in str(error)
    return False


def _parsed(raw: bytes, names: Sequence[str], dialect: Dialect, source: str, as_text: Sequence[str]) -> pd.DataFrame:
    """All columns by their types; what pandas would lose in silence is looked up in the text."""
    n = len(names)
    kept = [place for place in range(n) if names[place].strip() in set(as_text)]
    frame = _parse(raw, range(n), n, dialect, dtype=dict.fromkeys(kept, str))
    if len(frame) == 0:
        raise DataError(f"{source} has no rows: below the column names {some(list(names), 4)} there is nothing")
    texts = [place for place in range(n) if _is_text(frame[place])]
    doubtful = [] if dialect.told_missing else [place for place in texts if frame[place].isna().any()]
    infinite = [place for place in range(n) if frame[place].dtype.kind == "f" and np.isinf(frame[place]).any()]
    marked = [place for place in range(n) if dialect.thousands and frame[place].dtype.kind in "iuf"]
    if doubtful or infinite or marked:
        again = sorted({*doubtful, *infinite, *marked})
        cells = _parse(raw, again, n, dialect, dtype=str, na_filter=False)
        _tell_missing_texts(frame, cells, names, doubtful, source)
        _refuse_overflow(frame, cells, names, infinite, source)
        _check_thousands(frame[marked], cells, names, dialect, source)
    for place in texts:
        if place not in kept and _are_numbers(frame[place]):
            numbers = frame[place].astype(np.float64)
            _refuse_overflow({place: numbers}, {place: frame[place].astype(str)}, names, [place], source)
            frame[place] = numbers
            _warn(f"{source}: column '{names[place].strip()}' has integers beyond 64 bits, kept to 16 digits")
    return frame


def _parse(raw: bytes, places: Sequence[int], n_columns: int, dialect: Dialect, **options: Any) -> pd.DataFrame:
    """Some of the columns, named by their places."""
    if pd.__version__.startswith(("2.", "3.0.")):  # later versions always read the nearest float
        options["float_precision"] = "round_trip"
    try:
        frame: pd.DataFrame = pd.read_csv(
            io.BytesIO(raw), sep=dialect.sep, header=0, names=list(range(n_columns)), usecols=list(places),
            index_col=False, decimal=dialect.decimal, thousands=dialect.thousands, keep_default_na=False,
            na_values=["", *dialect.missing], skipinitialspace=dialect.skip_space, low_memory=False, encoding="utf-8",
            **options,
        )  # fmt: skip
    except pd.errors.ParserError as error:
        what = " ".join(str(error).split())
        raise DataError(f"the table cannot be read: {what}. Look for quotes out of place") from error
    return frame


def _is_text(series: pd.Series) -> bool:
    return isinstance(series.dtype, pd.StringDtype) or series.dtype == object


def _are_numbers(series: pd.Series) -> bool:
    """Whether pandas kept numbers as texts or objects because one is too large for it."""
    present = series.dropna()
    if len(present) == 0 or isinstance(present.iloc[0], bool):
        return False
    number = re.compile(r" *[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)? *")
    return all(number.fullmatch(str(cell)) for cell in present)


def _tell_missing_texts(
    frame: pd.DataFrame, cells: pd.DataFrame, names: Sequence[str], places: Sequence[int], source: str
) -> None:
    """Say which texts of text columns were taken as missing: NA may be a country."""
    found: Counter[str] = Counter()
    where = []
    for place in places:
        lost = cells[place][frame[place].isna() & (cells[place] != "")]
        if len(lost):
            found.update(lost)
            where.append(names[place].strip())
    if found:
        tokens = [token for token, _ in found.most_common()]
        _warn(
            f"{source}: {some(tokens, 4)} in text column{'s' * (len(where) > 1)} {some(where, 6)} "
            f"({found.total()} in all) taken as missing; if it is a value, give those that mean missing as --na-values"
        )


def _refuse_overflow(frame: Any, cells: Any, names: Sequence[str], places: Sequence[int], source: str) -> None:
    """Infinity is a number only where the text says so."""
    for place in places:
        written = cells[place].str.strip().str.lower().str.lstrip("+-")
        over = np.isinf(frame[place].to_numpy()) & ~written.isin(["inf", "infinity"]).to_numpy()
        if over.any():
            row = int(np.argmax(over))
            raise DataError(
                f"{source}, column '{names[place].strip()}', row {row + 1}: {cells[place].iloc[row]} is beyond the "
                "largest number, 1.8e308. Correct it, or leave it empty"
            )


def _check_thousands(
    frame: pd.DataFrame, cells: pd.DataFrame, names: Sequence[str], dialect: Dialect, source: str
) -> None:
    """The mark must stand between groups of digits: where it is the decimal sign after all, 1,5 would become 15."""
    mark, point = re.escape(dialect.thousands or ""), re.escape(dialect.decimal)
    grouped = rf"\s*[-+]?(?:[^{mark}]*|\d{{1,3}}(?:{mark}\d{{2,3}})*{mark}\d{{3}}(?:{point}\d*)?)\s*"
    for place in map(int, frame.columns):
        if frame[place].dtype.kind in "iuf":
            bad = ~cells[place].str.fullmatch(grouped).to_numpy(dtype=bool)
            if bad.any():
                row = int(np.argmax(bad))
                raise DataError(
                    f"{source}, column '{names[place].strip()}', row {row + 1}: in {cells[place].iloc[row]} "
                    f"'{dialect.thousands}' does not group thousands. Is it the decimal sign (--decimal)?"
                )
