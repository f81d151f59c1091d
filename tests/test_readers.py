"""Bad files: each numbered case is read as it should be, mended with a warning, or refused in one line."""

from __future__ import annotations

import gzip
import io
import os
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autoreg.errors import DataError, DataWarning, OptionError
from autoreg.readers import FORMATS, read_table
from autoreg.tables import infer_schema


@dataclass(frozen=True)
class Case:
    """One way in which a file can be odd.

    Attributes
    ----------
    number : str
        Of the list of bad inputs; letters tell variants apart.
    content : str or bytes
    error : tuple of str
        Parts of the one line that refuses it; empty when it is read.
    warns : tuple of tuple of str
        Parts of each warning, one tuple a warning, from reading it and finding out its kinds.
    cells : dict or None
        What has to be read.
    kinds : dict
        Kinds of columns.
    """

    number: str
    title: str
    content: str | bytes
    error: tuple[str, ...] = ()
    warns: tuple[tuple[str, ...], ...] = ()
    cells: dict[str, list[Any]] | None = None
    kinds: dict[str, str] = field(default_factory=dict)
    name: str = "houses.csv"
    options: dict[str, Any] = field(default_factory=dict)
    kind_of_error: type[Exception] = DataError


def parquet(**columns: list[Any]) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


def xlsx(**sheets: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    with pd.ExcelWriter(buffer) as writer:
        for name, frame in sheets.items():
            frame.to_excel(writer, sheet_name=name, index=False)
    return buffer.getvalue()


TWO = {"a": [1, 3], "b": [2, 4]}
LONG_NUMBERS = "a,b\n" + "".join(f"{i},{i % 7}\n" for i in range(60))

CASES = [
    Case("1", "no bytes", b"", error=("houses.csv is empty",)),
    Case("1b", "no bytes in gzip", gzip.compress(b""), error=("houses.csv is empty",)),
    Case("2", "newlines only", "\n\r\n\n", error=("houses.csv is empty",)),
    Case("3", "header only", "a,b\n", error=("has no rows", "'a', 'b'")),
    Case("4", "semicolons", "a;b\n1;2\n3;4\n", warns=(("semicolons separate", "--sep"),), cells=TWO),
    Case("4b", "semicolons, told", "a;b\n1;2\n3;4\n", cells=TWO, options={"sep": ";"}),
    Case("4c", "tabs", "a\tb\n1\t2\n3\t4\n", warns=(("tabs separate", "--sep"),), cells=TWO),
    Case("4d", "tabs in tsv", "a\tb\n1\t2\n3\t4\n", cells=TWO, name="houses.tsv"),
    Case("4e", "blanks, told", "a   b\n1  2\n3 4\n", cells=TWO, name="houses.data", options={"sep": r"\s+"}),
    Case("4f", "Excel says which", "sep=;\na;b\n1;2\n3;4\n", cells=TWO),
    Case("4g", "decimal commas hide no separator", "a;b\n1,5;2\n2,5;4\n",
         warns=(("semicolons",), ("'a' looks numeric", "'1,5'", "--decimal"))),
    Case("4h", "two characters", "a;;b\n", error=("sep ';;'", "one ASCII character"), options={"sep": ";;"},
         kind_of_error=OptionError),
    Case("5", "byte order mark", b"\xef\xbb\xbfa,b\n1,2\n3,4\n", cells=TWO),
    Case("6", "UTF-16", "a,b\n1,ü\n3,x\n".encode("utf-16"), warns=(("UTF-16", "--text-encoding"),),
         cells={"a": [1, 3], "b": ["ü", "x"]}),
    Case("6b", "UTF-16 of the other end", b"\xfe\xff" + "a,b\n1,2\n3,4\n".encode("utf-16-be"),
         warns=(("UTF-16",),), cells=TWO),
    Case("7", "latin-1", "a,b\n1,x\n3,é\n".encode("latin-1"),
         error=("line 3", "byte 10", "UTF-8", "--text-encoding latin-1")),
    Case("7b", "latin-1, told", "a,b\n1,x\n3,é\n".encode("latin-1"), cells={"a": [1, 3], "b": ["x", "é"]},
         options={"encoding": "latin-1"}),
    Case("7c", "no such encoding", "a,b\n1,2\n", error=("'latin-one' is not known",),
         options={"encoding": "latin-one"}, kind_of_error=OptionError),
    Case("8", "names twice", "a,b,a,c,c\n1,2,3,4,5\n", error=("2 column names", "'a', 'c'", "Rename")),
    Case("9", "a later row too long", "a,b\n1,2\n3,4,5\n6,7\n", error=("line 3", "3 fields", "2 column names")),
    Case("9b", "too long after quoted newlines", 'a,b\n"x\ny",2\n3,4,5\n', error=("line 4", "3 fields")),
    Case("10", "all rows too long", "a,b\n1,2,3\n4,5,6\n", error=("line 2", "3 fields", "2 column names")),
    Case("11", "rows too short", "a,b,c\n1,2,3\n4\n5,6\n", warns=(("2 rows have fewer fields", "line 3"),),
         cells={"a": [1, 4, 5], "b": [2.0, None, 6.0], "c": [3.0, None, None]}),
    Case("12", "NUL", b"a,b\n1,2\n1,x\0y\n", error=("line 3", "NUL", "utf-16")),
    Case("13", "thousands", 'a,b\n"1,234",1\n"2,500",2\n', cells={"a": ["1,234", "2,500"], "b": [1, 2]},
         warns=(("'a' looks numeric", "'1,234'", "--thousands"),), kinds={"a": "category"}),
    Case("13b", "thousands, told", 'a,b\n"1,234",1\n"2,500",2\n', cells={"a": [1234, 2500], "b": [1, 2]},
         options={"thousands": ","}),
    Case("13c", "thousands, told but not so", 'a,b\n"1,234",1\n"2,5",2\n', options={"thousands": ","},
         error=("column 'a', row 2", "2,5", "--decimal")),
    Case("13d", "one mark for both", "a\n1\n", options={"thousands": ",", "decimal": ","}, kind_of_error=OptionError,
         error=("decimal and thousands are both ','",)),
    Case("14", "decimal comma", "a;b\n1,5;1\n2,25;2\n", options={"sep": ";"}, kinds={"a": "category"},
         warns=(("'a' looks numeric", "'1,5'", "--decimal"),)),
    Case("14b", "decimal comma, told", "a;b\n1,5;1\n2,25;2\n", options={"sep": ";", "decimal": ","},
         cells={"a": [1.5, 2.25], "b": [1, 2]}),
    Case("14c", "German numbers, told", "a;b\n1.234,5;1\n2.000,25;2\n",
         options={"sep": ";", "decimal": ",", "thousands": "."}, cells={"a": [1234.5, 2000.25], "b": [1, 2]}),
    Case("15", "integer beyond 64 bits", "a,b\n18446744073709551616,1\n5,2\n",
         warns=(("column 'a'", "beyond 64 bits"),), cells={"a": [2.0**64, 5.0], "b": [1, 2]}),
    Case("15b", "unsigned and negative", "a,b\n9223372036854775808,1\n-5,2\n",
         warns=(("column 'a'", "beyond 64 bits"),), cells={"a": [2.0**63, -5.0], "b": [1, 2]}),
    Case("16", "1e308", "a,b\n1e308,1\n-1e308,2\n", cells={"a": [1e308, -1e308], "b": [1, 2]}, kinds={"a": "number"}),
    Case("17", "1e400", "a,b\n1,1\n1e400,2\n", error=("column 'a', row 2", "1e400", "1.8e308")),
    Case("18", "True and false, yes and no", "a,b\nTrue,yes\nfalse,no\n", kinds={"a": "boolean", "b": "category"}),
    Case("18b", "true with gaps", "a,b\nTrue,1\n,2\nfalse,3\n", kinds={"a": "boolean", "b": "number"}),
    Case("19", "NA, None, null", "a,b\nNA,1\n2,null\n3,None\n",
         cells={"a": [None, 2.0, 3.0], "b": [1.0, None, None]}),
    Case("20", "the country NA", "c,b\nNA,1\nDE,2\nFR,3\n", cells={"c": [None, "DE", "FR"], "b": [1, 2, 3]},
         warns=(("'NA' in text column 'c'", "1 in all", "--na-values"),)),
    Case("20b", "the country NA, told", "c,b\nNA,1\nDE,2\nFR,?\n", options={"na_values": ["?"]},
         cells={"c": ["NA", "DE", "FR"], "b": [1.0, 2.0, None]}),
    Case("21", "inf as text", "a,b\n1,1\ninf,2\n-Infinity,3\n", cells={"a": [1.0, np.inf, -np.inf], "b": [1, 2, 3]}),
    Case("22", "numbers and texts", "a,b\n1,1\n2,2\nabc,3\n4,4\nx,5\n", kinds={"a": "category"},
         warns=(("'a' mixes numbers and texts", "'abc' in row 3", "--na-values 'abc'"),)),
    Case("22b", "numbers and one question mark", LONG_NUMBERS + "?,1\n", kinds={"a": "number"},
         warns=(("'a'", "read as numbers"), ("1 text is no number", "'?' in row 61"))),
    Case("22c", "the question mark, told", LONG_NUMBERS + "?,1\n", kinds={"a": "number"}, options={"na_values": "?"}),
    Case("23", "quote not closed at the end", 'a,b\n1,2\n3,"x\n4,y\n', error=("line 3", "quote", "never closed")),
    Case("23b", "quote not closed within", 'a,b\n1,"x\n3,y\n4,"z"\n5,w\n', error=("line 2", "quote", "never closed")),
    Case("23c", "quote closed on a later line", 'a,b\n"x\ny",1\n"q""r",2\n', cells={"a": ["x\ny", 'q"r'], "b": [1, 2]}),
    Case("23d", "inches", 'a,b\n5" pipe,1\n6" pipe,2\n', cells={"a": ['5" pipe', '6" pipe'], "b": [1, 2]}),
    Case("23e", "a quote within, another never closed", 'a\tb\n4" kg\tx\n"y\t5\n', name="houses.tsv",
         error=("line 3", "quote", "never closed")),
    Case("24", "row numbers without a name", ",a\n0,5\n1,6\n2,8\n", warns=(("without a name", "column '1'"),),
         cells={"a": [5, 6, 8]}),
    Case("24b", "other numbers without a name", ",a\n5,5\n3,6\n2,8\n", warns=(("named by its place", "Unnamed: 0"),),
         cells={"Unnamed: 0": [5, 3, 2], "a": [5, 6, 8]}),
    Case("24d", "numbers in steps of one without a name", ",a\n5,5\n6,6\n", warns=(("named by its place",),),
         cells={"Unnamed: 0": [5, 6], "a": [5, 6]}),
    Case("24c", "a separator at each line's end", "a,b,\n1,2,\n3,4,\n", warns=(("column '3'",),), cells=TWO),
    Case("25", "no header", "5.1,3.5\n4.9,3.0\n1,2\n", warns=(("'5.1' are numbers", "first line"),)),
    Case("25b", "no header, a number twice", "5,3,5\n4,3,1\n", error=("'5' twice", "first line data")),
    Case("26", "blanks in the header", " a , b\n1,2\n3,4\n", warns=(("blanks around column names", "'a'"),), cells=TWO),
    Case("26b", "blanks hide a clash", "a , a\n1,2\n", error=("1 column name stands twice", "'a'")),
    Case("26c", "blanks before quotes", 'a, b\n1, "x,y"\n2, z\n', cells={"a": [1, 2], "b": ["x,y", "z"]}),
    Case("27", "CR only", b"a,b\r1,2\r3,4\r", cells=TWO),
    Case("27b", "mixed line ends", b"a,b\r\n1,2\n3,4\r\n", cells=TWO),
    Case("27c", "blank lines", "\na,b\n\n1,2\n\n3,4\n\n", warns=(("2 blank lines", "line 3"),), cells=TWO),
    Case("28", "parquet named csv", parquet(a=[1]), error=("holds parquet, not csv", ".parquet")),
    Case("28b", "csv named parquet", "a,b\n1,2\n", name="houses.parquet", error=("no parquet file", "first bytes")),
    Case("28c", "old Excel", b"\xd0\xcf\x11\xe0\xa1\xb1", name="houses.xls", error=("holds xls", "save the table as")),
    Case("28d", "pickle", b"\x80\x04\x95", error=("holds pickle",)),
    Case("28e", "parquet cut off", parquet(a=[1])[:-3], name="houses.parquet", error=("cannot be read as parquet",)),
    Case("28f", "another zip", b"PK\x03\x04 word/", name="houses.xlsx", error=("holds zip",)),
    Case("28g", "Excel cut off", b"PK\x03\x04 xl/", name="houses.xlsx", error=("cannot be read as xlsx",)),
    Case("29", "gzip named csv", gzip.compress(b"a,b\n1,2\n3,4\n"), cells=TWO),
    Case("29b", "gzip", gzip.compress(b"a\tb\n1\t2\n3\t4\n"), name="houses.tsv.gz", cells=TWO),
    Case("29c", "gzip cut off", gzip.compress(b"a,b\n1,2\n")[:-9], name="houses.csv.gz", error=("gzip", "cut off")),
    Case("32", "hexadecimal, percent and dollars", "h,p,d\n0x10,5%,$3\n0x11,7.5%,$4.5\n0x12,1%,$10\n",
         kinds={"h": "category", "p": "number", "d": "number"},
         warns=(("'h' looks like hexadecimal",), ("'p'", "'5%'", "numbers"), ("'d'", "'$3'", "numbers"))),
    Case("33", "postal codes", "z,b\n00123,1\n00456,2\n", cells={"z": [123, 456], "b": [1, 2]}),
    Case("33b", "postal codes, told", "z,b\n00123,1\n00456,2\n", options={"as_text": ["z"]},
         cells={"z": ["00123", "00456"], "b": [1, 2]}, kinds={"z": "category"}),
    Case("34", "dates of several forms", "d,b\n2020-01-01,1\n31/12/2020,2\nsoon,3\n2020-02-03,4\n",
         kinds={"d": "category"}, warns=(("'d' looks like dates", "--date 'd'"),)),
    Case("35", "a name with blanks and umlauts", "a,b\n1,2\n3,4\n", name="Häuser am See.csv", cells=TWO),
    Case("json", "an object a line", '{"a": 1, "b": "x"}\n\n{"b": "y", "a": null}\n', name="houses.jsonl",
         cells={"a": [1.0, None], "b": ["x", "y"]}),
    Case("json-b", "a list of objects", '[{"a": 1}, {"a": 2}]', name="houses.json", cells={"a": [1, 2]}),
    Case("json-c", "codes stay texts", '{"a": "007"}\n{"a": "010"}\n', name="houses.jsonl",
         cells={"a": ["007", "010"]}),
    Case("json-d", "a key twice", '{"a": 1}\n{"a": 1, "a": 2}\n', name="houses.jsonl",
         error=("line 2", "'a'", "twice")),
    Case("json-e", "a list in a cell", '{"a": 1}\n{"a": [1]}\n', name="houses.jsonl",
         error=("line 2, column 'a'", "list")),
    Case("json-f", "half a line", '{"a": 1}\n{"a":\n', name="houses.jsonl", error=("line 2", "no JSON")),
    Case("json-g", "numbers only", "1\n2\n", name="houses.jsonl", error=("line 1", "not an object")),
    Case("json-h", "integer beyond 64 bits", f'{{"a": {2**70}}}\n{{"a": 5}}\n', name="houses.jsonl",
         warns=(("column 'a'", "beyond 64 bits"),), cells={"a": [2.0**70, 5.0]}),
    Case("json-i", "nested too deeply", "[" * 100_000, name="houses.json", error=("no JSON",)),
    Case("json-j", "no rows", "[]", name="houses.json", error=("no columns",)),
    Case("parquet", "as it should be", parquet(a=[1, 3], b=[2, 4]), name="houses.parquet", cells=TWO),
    Case("xlsx", "as it should be", xlsx(one=pd.DataFrame(TWO)), name="houses.xlsx", cells=TWO),
    Case("xlsx-b", "several sheets", xlsx(one=pd.DataFrame(TWO), two=pd.DataFrame({"c": [1]})), name="houses.xlsx",
         warns=(("2 sheets", "'one'"),), cells=TWO),
    Case("xlsx-c", "names twice", xlsx(one=pd.DataFrame([["a", "a"], [1, 2]]).pipe(
        lambda f: f.iloc[1:].set_axis(f.iloc[0], axis=1))), name="houses.xlsx", error=("stands twice", "'a'")),
]  # fmt: skip
"""What `read_table` is given; cases 30, 31, 35 (standard input) and 36 have tests of their own below."""


def write(folder: Path, case: Case) -> Path:
    path = folder / case.name
    path.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    return path


def plain(column: pd.Series) -> list[Any]:
    """The cells, None where missing."""
    return [None if pd.isna(cell) else cell for cell in column]


def read_and_infer(path: Path, case: Case) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """The table, its kinds and all warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = read_table(path, **case.options)
        kinds = {column.name: column.kind for column in infer_schema(frame).columns} if case.kinds or case.warns else {}
    assert all(issubclass(warning.category, DataWarning) for warning in caught)
    return frame, kinds, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}-{case.title.replace(' ', '_')}")
def test_case(case: Case, tmp_path: Path) -> None:
    path = write(tmp_path, case)
    if case.error:
        with pytest.raises(case.kind_of_error) as caught:
            read_table(path, **case.options)
        message = str(caught.value)
        assert [part for part in case.error if part not in message] == []
        assert "\n" not in message
        return
    frame, kinds, told = read_and_infer(path, case)
    assert [
        (parts, told) for parts in case.warns if not any(all(part in text for part in parts) for text in told)
    ] == []
    assert len(told) == len(case.warns), told
    assert not any("\n" in text for text in told)
    if case.cells is not None:
        assert {name: plain(frame[name]) for name in frame} == case.cells
    assert {name: kinds[name] for name in case.kinds} == case.kinds


def test_every_numbered_case_has_a_test() -> None:
    elsewhere = {"30", "31", "35", "36"}
    numbers = {case.number.rstrip("abcdefgh") for case in CASES} | elsewhere
    assert {str(number) for number in range(1, 37)} <= numbers
    assert len({case.number for case in CASES}) == len(CASES)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file '.*nothing.csv'"):
        read_table(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"a,b\n1,2\n3,4\n")

    monkeypatch.setattr(sys, "stdin", Stdin)
    assert read_table("-").to_dict("list") == TWO
    Stdin.buffer = io.BytesIO(parquet(a=[1]))
    with pytest.raises(DataError, match=r"standard input holds parquet, not csv: save it to a file"):
        read_table("-")


@pytest.mark.parametrize("content", [b"a,b\n1,2\n3,4\n", gzip.compress(b"a,b\n1,2\n3,4\n")], ids=["csv", "gzip"])
def test_a_pipe_is_read_once(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    assert read_table(path).to_dict("list") == TWO
    writer.join()


def test_a_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    path = tmp_path / "houses.csv"
    path.write_text("c,b\nNA,1e3\nDE,inf\n")
    opened = []
    real_open: Callable[..., Any] = builtins.open
    monkeypatch.setattr(
        builtins, "open", lambda file, *rest, **more: opened.append(file) or real_open(file, *rest, **more)
    )
    with pytest.warns(DataWarning, match="'NA'"):
        read_table(path)
    assert opened.count(path) == 1


@pytest.mark.parametrize(
    ("package", "name", "extra"), [("pyarrow", "houses.parquet", "parquet"), ("openpyxl", "houses.xlsx", "excel")]
)
def test_a_missing_package_is_named(
    package: str, name: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = parquet(a=[1]) if extra == "parquet" else xlsx(one=pd.DataFrame(TWO))
    (tmp_path / name).write_bytes(content)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=rf"needs {package}: pip install 'autoreg-core\[{extra}\]'"):
        read_table(tmp_path / name)


def test_all_formats_give_one_table(tmp_path: Path) -> None:
    table = pd.DataFrame({
        "size": [30.25, None, 1e-7, 0.1 + 0.2], "rooms": [1, 2, 3, 4], "town": ["Bonn", None, "Köln, Süd", 'a "b"'],
        "new": [True, False, True, True],
    })  # fmt: skip
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_csv(tmp_path / "t.csv.gz", index=False)
    table.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    table.to_parquet(tmp_path / "t.parquet")
    table.to_feather(tmp_path / "t.feather")
    table.to_json(tmp_path / "t.jsonl", lines=True, orient="records", double_precision=15)
    table.to_excel(tmp_path / "t.xlsx", index=False)
    coded = infer_schema(table).encode(table)
    for path in sorted(tmp_path.iterdir()):
        read = read_table(path)
        schema = infer_schema(read)
        again = schema.encode(read)
        assert [column.kind for column in schema.columns] == ["number", "number", "category", "boolean"], path.name
        assert again.numbers.tobytes() == coded.numbers.tobytes(), path.name
        assert again.codes.tolist() == coded.codes.tolist(), path.name
    assert {"".join(path.suffixes[-1:]) for path in tmp_path.iterdir()} - set(FORMATS) == {".gz"}


def test_floats_are_read_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.normal(size=500), 10.0 ** rng.uniform(-300, 300, 500)])
    (tmp_path / "t.csv").write_text("a\n" + "\n".join(map(repr, numbers.tolist())))
    assert read_table(tmp_path / "t.csv")["a"].tolist() == numbers.tolist()


def test_parquet_with_texts_that_are_none(tmp_path: Path) -> None:
    offsets = pa.py_buffer(np.array([0, 2], dtype=np.int32).tobytes())
    texts = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"\xff\xfe"))
    pq.write_table(pa.table({"a": texts}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t.parquet cannot be read as parquet: .*UTF8"):
        read_table(tmp_path / "t.parquet")


def test_a_named_index_of_parquet_is_a_column(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="town")).to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").to_dict("list") == {"town": ["x", "y"], "a": [1, 2]}


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("quoting", [0, 1, 2])
def test_the_quick_check_of_widths_agrees_with_the_exact_one(width: int, quoting: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(width)
    cells = np.array(["x", "a,b", 'say "hi"', "two\nlines", "", "7"], dtype=object)
    table = pd.DataFrame({f"c{i}": ["k", *rng.choice(cells, 40)] for i in range(width)})
    if width == 1:
        table = table[table["c0"] != ""].reset_index(drop=True)
    path = tmp_path / "t.csv"
    table.to_csv(path, index=False, quoting=quoting)
    read = read_table(path, na_values=[], as_text=list(table.columns))
    assert read.fillna("").astype(object).values.tolist() == table.values.tolist()


def mutated(content: bytes, draw: np.random.Generator) -> bytes:
    """The bytes with some inserted, left out, changed or repeated."""
    bits = [b'"', b",", b";", b"\n", b"\r", b"\0", b"\t", b" ", b"\xff", b"NA", b"inf", b"1e400", b"9" * 25, b"-", b"{"]
    out = bytearray(content)
    for _ in range(draw.integers(1, 6)):
        place, how = int(draw.integers(0, len(out))), draw.integers(0, 4)
        if how == 0:
            out[place:place] = bits[draw.integers(len(bits))]
        elif how == 1:
            del out[place : place + int(draw.integers(1, 8))]
        elif how == 2:
            out[place] = int(draw.integers(256))
        else:
            out[place:place] = out[max(0, place - 20) : place]
    return bytes(out)


@pytest.mark.parametrize("form", ["csv", "tsv", "csv.gz", "jsonl", "parquet", "feather", "xlsx"])
def test_a_damaged_file_is_a_table_or_one_line(form: str, tmp_path: Path) -> None:
    table = pd.DataFrame({
        "a": [1.5, None, 3], "b": ["x", "NA", 'y,"z"'], "d": ["2020-01-01", "2020-02-01", "soon"],
        "q": ["3 kg", "4 kg", "5 kg"], "t": [True, False, True],
    })  # fmt: skip
    path = tmp_path / f"t.{form}"
    writers: dict[str, Callable[[], Any]] = {
        "jsonl": lambda: table.to_json(path, lines=True, orient="records"), "parquet": lambda: table.to_parquet(path),
        "feather": lambda: table.to_feather(path), "xlsx": lambda: table.to_excel(path, index=False),
    }  # fmt: skip
    writers.get(form, lambda: table.to_csv(path, index=False, sep="\t" if form == "tsv" else ","))()
    whole = path.read_bytes()
    draw = np.random.default_rng(0)
    lines = []
    for _ in range(80):
        path.write_bytes(mutated(whole, draw))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read = read_table(path)
                infer_schema(read).encode(read)
            except DataError as error:
                lines.append(str(error))
    assert lines
    assert not any("\n" in line for line in lines)


def test_an_open_file_is_read_as_csv_to_its_end() -> None:
    assert read_table(io.BytesIO(b"a,b\n1,x\n2,y\n")).to_numpy().tolist() == [[1, "x"], [2, "y"]]
    with pytest.raises(DataError, match=r"^the table has no rows"):
        read_table(io.BytesIO(b"a,b\n"))


def test_a_bound_on_columns_holds_before_the_cells_are_read() -> None:
    assert read_table(io.BytesIO(b"a,b\n1,2\n"), max_columns=2).shape == (1, 2)
    with pytest.raises(DataError, match=r"^the table has 1000001 columns, and the limit is 2: leave some out"):
        read_table(io.BytesIO(b"," * 1_000_000 + b"\n1"), max_columns=2)


def test_a_column_name_of_any_length_is_read_or_refused_in_one_line() -> None:
    with pytest.raises(DataError, match=r"^the table: the column names cannot be read: field larger than"):
        read_table(io.BytesIO(b'"' + b"a" * 200_000 + b'",b\n1,2\n'))


TYPED = {
    "houses.parquet": lambda **columns: parquet(**columns),
    "houses.jsonl": lambda **columns: pd.DataFrame(columns).to_json(orient="records", lines=True).encode(),
    "houses.xlsx": lambda **columns: xlsx(houses=pd.DataFrame(columns)),
}


@pytest.mark.parametrize("name", TYPED)
def test_texts_in_typed_tables_mean_what_the_options_say(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(TYPED[name](a=["1.234,5", "-7", "?"], b=[-999, 2, 3], c=["x", "?", "NA"]))
    frame = read_table(path, decimal=",", thousands=".", na_values=["?", "-999"])
    assert {column: plain(frame[column]) for column in frame} == {
        "a": [1234.5, -7, None], "b": [None, 2, 3], "c": ["x", None, "NA"],
    }  # fmt: skip
    assert plain(read_table(path, decimal=",", na_values="-999")["a"]) == ["1.234,5", "-7", "?"]


def test_what_is_to_stay_text_does(tmp_path: Path) -> None:
    path = tmp_path / "houses.parquet"
    path.write_bytes(parquet(zip=["007", "7,5"], id=["001", "002"], b=[True, False], n=[1, 2]))
    frame = read_table(path, decimal=",", na_values=["1"], as_text=["zip"])
    assert {column: plain(frame[column]) for column in frame} == {
        "zip": ["007", "7,5"], "id": ["001", "002"], "b": [True, False], "n": [None, 2],
    }  # fmt: skip
