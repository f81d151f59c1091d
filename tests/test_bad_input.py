"""Bad input on the command line: each listed case ends with one line that says what, where and how to mend it, with a
warning, or well; never with a traceback or a file half-written.

The numbers are those of the project's list of bad inputs; letters tell variants apart.
"""

from __future__ import annotations

import gzip
import io
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from autoreg.cli import autoreg

CHEAP = ["--effort", "quick", "--candidates", "1", "--companions", "none", "--space", "max_epochs=2"]

N = 24
RNG = np.random.default_rng(0)
SIZE, TOWN, RENT = (
    RNG.normal(50, 10, N).round(2),
    RNG.choice(["Bonn", "Kiel", "Ulm"], N),
    RNG.normal(900, 80, N).round(),
)


def houses(**columns: Any) -> pd.DataFrame:
    """A good table, with columns added or replaced; None leaves one out."""
    frame = pd.DataFrame({"size": SIZE, "town": TOWN, "rent": RENT}).assign(**columns)
    return frame.drop(columns=[name for name, values in columns.items() if values is None])


def text(sep: str = ",", end: str = "\n", **columns: Any) -> str:
    return houses(**columns).to_csv(index=False, sep=sep, lineterminator=end)


def header(old: str, new: str) -> str:
    return text().replace(old, new, 1)


def row(number: int, line: str) -> str:
    """The good table with another line in place of a row's; row 1 is line 2."""
    lines = text().splitlines(keepends=True)
    lines[number] = line + "\n"
    return "".join(lines)


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes
    ----------
    content : str, bytes or None
        Of the table; None where there is none.
    args : list of str
        Options beside the cheap ones.
    error : tuple of str
        Parts of the line that refuses it; empty when it goes well.
    warns : tuple of str
        Parts of one warning.
    command : str
        ``fit``, or ``predict`` and ``evaluate`` with a model of the good table.
    shape : tuple or None
        Rows and columns that `predict` writes.
    """

    number: str
    title: str
    content: str | bytes | None
    args: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    warns: tuple[str, ...] = ()
    name: str = "houses.csv"
    command: str = "fit"
    target: tuple[str, ...] = ("rent",)
    shape: tuple[int, int] = (N, 1)


def fit(number: str, title: str, content: str | bytes | None, *args: str, **expected: Any) -> Case:
    return Case(number, title, content, args, **expected)


def predict(number: str, title: str, content: str | bytes | None, *args: str, **expected: Any) -> Case:
    return Case(number, title, content, args, command="predict", **expected)


SHORT = "".join(
    line.replace("size,town,rent", "rent,town,size") if i == 0 else "900,Ulm\n" if i == 7 else f"900.{i},Ulm,{i}\n"
    for i, line in enumerate(text().splitlines(keepends=True))
)
LONG = text().replace("\n", ",1\n").replace("rent,1", "rent")
GROUPED = [f"{i + 1},{i:03d}" for i in range(N)]
HUGE, OUTLIER = RENT * 1e30, np.where(np.arange(N) == 3, 1e15, RENT)
FEW = np.where(np.arange(N) < 2, [1.5, 2.5] * (N // 2), np.nan)
MANY = pd.DataFrame({"town": [f"town {i // 2}" for i in range(2400)], "rent": np.arange(2400.0) % 97})
TWICE = parquet(houses().set_axis([0] * N))
ZIPS = [f"{i % 3:05d}" for i in range(N)]

CSV = [
    fit("1", "no bytes", b"", error=("houses.csv is empty",)),
    fit("2", "newlines only", "\n\n\r\n", error=("houses.csv is empty",)),
    fit("3", "header only", "size,town,rent\n", error=("has no rows", "'size', 'town', 'rent'")),
    fit("4", "semicolons", text(sep=";"), warns=("semicolons separate", "--sep")),
    fit("4b", "another separator", text(sep="^"), error=("--target", "no column 'rent'", "--sep")),
    fit("4c", "another separator, told", text(sep="^"), "--sep", "^"),
    fit("5", "byte order mark", b"\xef\xbb\xbf" + header("size,town,rent", "rent,town,size").encode()),
    fit("6", "UTF-16", text().encode("utf-16"), warns=("UTF-16", "--text-encoding")),
    fit("7", "latin-1", text(town=["Köln", "Ulm"] * (N // 2)).encode("latin-1"),
        error=("houses.csv, line 2", "byte", "--text-encoding latin-1")),
    fit("7b", "latin-1, told", text(town=["Köln", "Ulm"] * (N // 2)).encode("latin-1"), "--text-encoding", "latin-1"),
    fit("8", "names twice", header("town", "size"), error=("stands twice", "'size'")),
    fit("9", "a later row too long", row(7, "50,Ulm,900,1"), error=("line 8", "4 fields", "3 column names")),
    fit("10", "all rows too long", LONG, error=("line 2", "4 fields")),
    fit("11", "a row too short", SHORT, warns=("1 row has fewer fields", "line 8", "missing")),
    fit("11b", "a row without its target", row(7, "50,Ulm"), error=("'rent'", "row 7")),
    fit("12", "NUL", row(7, "50,U\0lm,900"), error=("line 8", "NUL")),
    fit("13", "thousands", text(size=GROUPED), warns=("'size' looks numeric", "--thousands")),
    fit("13b", "thousands, told", text(size=GROUPED), "--thousands", ","),
    fit("14", "decimal comma", text(size=[f"{i},5" for i in range(N)]), warns=("'size' looks numeric", "--decimal")),
    fit("14b", "decimal comma, told", text(sep=";", size=[f"{i},5" for i in range(N)]), "--sep", ";", "--decimal", ","),
    fit("15", "integer beyond 64 bits", text(size=[2**70 + i * 2**60 for i in range(N)]),
        warns=("'size'", "beyond 64 bits")),
    fit("16", "1e308", text(size=[f"{i}e306" for i in range(1, N + 1)])),
    fit("17", "1e400", row(7, "1e400,Ulm,900"), error=("column 'size', row 7", "1e400")),
    fit("18", "True and false, yes and no", text(size=["True", "false"] * (N // 2), town=["yes", "no"] * (N // 2))),
    fit("19", "NA, None, null", text(size=[*["NA", "None", "null"], *SIZE[3:]])),
    fit("20", "the country NA", text(town=["NA", "DE"] * (N // 2)), warns=("'NA'", "'town'", "--na-values")),
    fit("20b", "the country NA, told", text(town=["NA", "DE"] * (N // 2)), "--na-values", "?"),
    fit("21", "inf in a feature", text(size=["inf", *SIZE[1:]]), warns=("'size'", "infinit")),
    fit("22", "numbers and texts", text(size=[*["low", "high"] * 5, *SIZE[10:]]), warns=("'size'", "'low' in row 1")),
    fit("23", "quote never closed", row(7, '50,"Ulm,900'), error=("line 8", "quote")),
    fit("24", "row numbers without a name", houses().to_csv(), warns=("without a name",)),
    fit("25", "no header", text().split("\n", 1)[1], error=("no column 'rent'",), warns=("are numbers",)),
    fit("26", "blanks in the header", header("size,town,rent", " size , town, rent "), warns=("blanks",)),
    fit("26b", "blanks hide a clash", header("town", " size "), error=("stands twice", "'size'")),
    fit("27", "CR only", text(end="\r").encode()),
    fit("27b", "mixed line ends", text(end="\r\n").replace("\r\n", "\n", 5).encode()),
    fit("28", "parquet named csv", parquet(houses()), error=("holds parquet, not csv", ".parquet")),
    fit("28b", "csv named parquet", text(), name="houses.parquet", error=("no parquet file",)),
    fit("29", "gzip named csv", gzip.compress(text().encode())),
    fit("30", "no such file", None, error=("no file", "houses.csv")),
    fit("31", "a folder", None, error=("is a folder",), name="folder"),
    fit("32", "hexadecimal", text(size=[hex(i) for i in range(N)]), warns=("'size' looks like hexadecimal",)),
    fit("32b", "percent", text(size=[f"{i}%" for i in range(N)]), warns=("'size'", "read as numbers")),
    fit("32c", "dollars", text(size=[f"${i}" for i in range(N)]), warns=("'size'", "read as numbers")),
    fit("33", "postal codes", text(town=ZIPS), "--categorical", "town"),
    fit("34", "dates of several forms", text(town=[*["2020-01-31", "31/12/2020"] * 11, "soon", "later"]),
        warns=("'town' looks like dates", "--date")),
    fit("34b", "no dates at all", text(), "--date", "town", error=("'town'", "date")),
    fit("35", "a name with blanks and umlauts", text(), name="Häuser am See.csv"),
]  # fmt: skip
"""35 (standard input) and 36 (a pipe) have tests of their own below too."""

TARGET = [
    fit("37", "missing", text(rent=[*RENT[:5], np.nan, *RENT[6:]]), error=("'rent'", "row 6", "--drop-missing-target")),
    fit("37b", "missing, dropped", text(rent=[*RENT[:5], np.nan, *RENT[6:]]), "--drop-missing-target",
        warns=("1 row of 24",)),
    fit("38", "inf", text(rent=[*RENT[:5], np.inf, *RENT[6:]]), error=("'rent'", "row 6", "infinity")),
    fit("39", "constant", text(rent=7), warns=("'rent'", "one value only")),
    fit("40", "constant in some folds", text(rent=[1.0] * (N - 2) + [2.0, 3.0]), "--metric", "r2"),
    fit("41", "no value", text(rent=np.nan), error=("'rent'", "no value")),
    fit("41b", "no value, dropped", text(rent=np.nan), "--drop-missing-target", error=("'rent'", "no value")),
    fit("42", "text", text(), target=("town",), error=("'town'", "text", "regression needs numbers")),
    fit("43", "boolean", text(rent=[True, False] * (N // 2)), warns=("'rent'", "1 and 0")),
    fit("44", "a typo", text(), target=("rnet",), error=("--target", "no column 'rnet'", "did you mean 'rent'")),
    fit("44b", "a typo in another option", text(), "--ignore", "twon", error=("--ignore", "did you mean 'town'")),
    fit("45", "twice in the table", header("town", "rent"), error=("stands twice", "'rent'")),
    fit("45b", "named twice", text(), target=("rent", "rent"), error=("--target", "twice")),
    fit("46", "two targets", text(), target=("rent", "size"), shape=(N, 2)),
    fit("47", "a table of one target column", parquet(houses()), name="houses.parquet"),
    fit("48", "fewer targets than rows", row(7, "50,Ulm"), error=("'rent'", "row 7")),
    fit("49", "1e30", text(rent=HUGE)),
    fit("49b", "1e-30", text(rent=RENT * 1e-30)),
    fit("50", "an outlier", text(rent=OUTLIER)),
    fit("51", "dates", text(rent=pd.date_range("2024-01-01", periods=N)), error=("'rent'", "dates")),
    fit("52", "nullable integers with a gap", parquet(houses(rent=pd.array([*range(N - 1), None], dtype="Int64"))),
        name="houses.parquet", error=("'rent'", "row 24")),
]  # fmt: skip

FEATURES = [
    fit("53", "no features", text(size=None, town=None), error=("no column is left",)),
    fit("53b", "all ignored", text(), "--ignore", "size", "--ignore", "town", error=("no column is left",)),
    fit("54", "one feature", text(town=None)),
    fit("55", "a column without values", text(empty=np.nan), warns=("without a value", "'empty'")),
    fit("56", "a constant column", text(constant=7)),
    fit("57", "values in few rows only", text(few=FEW)),
    fit("58", "a text for each row", text(name=[f"house {i} x" for i in range(N)]),
        warns=("naming or counting", "'name'")),
    fit("59", "very many categories", MANY.to_csv(index=False), shape=(2400, 1)),
    predict("60", "unseen category", text(town=["Bonn", "Jena"] * (N // 2))),
    predict("61", "a column missing", text(size=None), error=("missing", "'size'")),
    predict("61b", "a column renamed", header("size", "sizes"), error=("'size'", "'sizes'")),
    predict("62", "columns in another order", houses()[["rent", "town", "size"]].to_csv(index=False)),
    predict("63", "a column more", text(colour="red"), warns=("does not know", "'colour'")),
    predict("64", "text among numbers", row(7, "large,Ulm,900"), error=("'size'", "row 7", "'large'")),
    predict("64b", "dates where numbers were", text(size=pd.date_range("2024-01-01", periods=N)), error=("'size'",)),
    predict("65", "with the target", text()),
    predict("65b", "without the target", text(rent=None)),
    fit("66", "an index that repeats", TWICE, name="houses.parquet"),
    predict("66b", "an index that repeats later", TWICE, name="houses.parquet"),
]  # fmt: skip

CASES = [*CSV, *TARGET, *FEATURES]
N_CASES = len(CASES) + 2


def invoke(*args: object, **options: Any) -> Result:
    return CliRunner().invoke(autoreg, [str(arg) for arg in args], **options)


def lines(result: Result, beginning: str) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith(beginning)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the good table."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "good.csv").write_text(text())
    done = invoke("fit", folder / "good.csv", "--target", "rent", "-o", folder / "m.safetensors", *CHEAP)
    assert done.exit_code == 0, done.stderr
    return folder / "m.safetensors"


def check(case: Case, done: Result, output: Path) -> None:
    """Exit status, what stands on standard error, and whether a file was written."""
    told = done.stderr
    assert "Traceback" not in told
    if case.warns:
        warned = lines(done, "Warning: ")
        assert any(all(part in line for part in case.warns) for line in warned), told
    if case.error:
        assert done.exit_code == 2, told
        assert done.stdout == ""
        assert len(lines(done, "Error: ")) == 1
        assert {line.split(": ")[0] for line in told.splitlines()} <= {"Error", "Warning"}, told
        assert [part for part in case.error if part not in lines(done, "Error: ")[0]] == [], told
        assert "bug" not in told
        assert not output.exists()
    else:
        assert done.exit_code == 0, told
        assert not lines(done, "Error")
        assert output.exists()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}-{case.title.replace(' ', '_')}")
def test_case(case: Case, tmp_path: Path, model: Path) -> None:
    table = tmp_path / case.name
    if case.name == "folder":
        table.mkdir()
    elif case.content is not None:
        table.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    before = set(tmp_path.iterdir())
    predictions = tmp_path / "predictions.csv"
    if case.command == "predict":
        done = invoke("predict", model, table, "-o", predictions, *case.args)
        check(case, done, predictions)
    else:
        output = tmp_path / "model.safetensors"
        targets = [arg for target in case.target for arg in ("--target", target)]
        done = invoke("fit", table, *targets, "-o", output, *CHEAP, "--quiet", *case.args)
        check(case, done, output)
        if not case.error:
            reading = [arg for pair in _reading(case.args) for arg in pair]
            assert invoke("predict", output, table, "-o", predictions, *reading).exit_code == 0
    if case.error:
        assert set(tmp_path.iterdir()) == before
    else:
        found = pd.read_csv(predictions)
        assert found.shape == case.shape
        assert list(found.columns) == list(case.target)
        assert np.isfinite(found.to_numpy()).all()


def _reading(args: tuple[str, ...]) -> list[tuple[str, str]]:
    """The options that say how a file is read, which `predict` needs too."""
    pairs = list(zip(args[::2], args[1::2], strict=False))
    return [(a, b) for a, b in pairs if a in ("--sep", "--decimal", "--thousands", "--text-encoding", "--na-values")]


def test_standard_input(tmp_path: Path, model: Path) -> None:
    """Case 35: ``-`` for csv on standard input."""
    output = tmp_path / "model.safetensors"
    done = invoke("fit", "-", "--target", "rent", "-o", output, *CHEAP, "--quiet", input=text())
    assert (done.exit_code, done.stderr) == (0, "")
    assert output.exists()
    done = invoke("predict", model, "-", input=text())
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == N + 1
    done = invoke("predict", model, "-", input="")
    assert done.exit_code == 2
    assert done.stderr == ("Error: standard input is empty: a table has a line of column names and at least one row\n")


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """Case 36: a table that can be read only once."""
    pipe, output = tmp_path / "pipe.csv", tmp_path / "model.safetensors"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(text(),))
    writer.start()
    done = invoke("fit", pipe, "--target", "rent", "-o", output, *CHEAP, "--quiet")
    writer.join()
    assert (done.exit_code, done.stderr) == (0, "")
    assert output.exists()


def test_order_of_columns_does_not_matter(tmp_path: Path, model: Path) -> None:
    """Cases 62, 63, 65 and 66: the same numbers."""
    expected = invoke("predict", model, "-", input=text()).stdout
    variants: list[Callable[[], pd.DataFrame]] = [
        lambda: houses()[["rent", "town", "size"]],
        lambda: houses(colour="red"),
        lambda: houses(rent=None),
    ]
    for variant in variants:
        assert invoke("predict", model, "-", input=variant().to_csv(index=False)).stdout == expected
    (tmp_path / "twice.parquet").write_bytes(TWICE)
    assert invoke("predict", model, tmp_path / "twice.parquet").stdout == expected


def test_every_listed_case_has_a_test() -> None:
    numbers = {case.number.rstrip("abc") for case in CASES} | {"36"}
    assert {str(number) for number in range(1, 67)} <= numbers
    assert len({case.number for case in CASES}) == len(CASES)


def test_how_many(record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]) -> None:
    record_property("bad inputs on the command line", N_CASES)
    with capsys.disabled():
        print(f"\n{N_CASES} bad inputs on the command line", end=" ")
