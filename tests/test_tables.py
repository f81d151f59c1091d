"""Odd tables and targets: each numbered case, and what a schema promises of every table."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse
from tablehelp import N, round_trip, same, towns, two_columns

from autoreg import frames, kinds
from autoreg.errors import DataError, DataTypeError, DataWarning, ModelFileError, SchemaError
from autoreg.tables import CodedTable, Column, Schema, as_frame, infer_schema, read_target

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class TargetCase:
    """A target, and what becomes of it: an error or warning with these parts, or these numbers."""

    number: str
    title: str
    y: Any
    error: tuple[str, ...] = ()
    warns: tuple[str, ...] = ()
    numbers: Any = None
    kind_of_error: type[Exception] = DataError


MISSING_ROWS = [1.0, None, 3.0, *[None] * 6]

TARGETS = [
    TargetCase("37", "NaN", [1.0, np.nan, 3.0], ("Input y contains NaN", "row 2 of 3", "--drop-missing-target")),
    TargetCase("37b", "many", pd.Series(MISSING_ROWS, name="rent"),
               ("Target 'rent'", "rows 2, 4, 5, 6, 7 and 2 more of 9")),
    TargetCase("38", "inf", [1.0, np.inf], ("Input y contains infinity", "'price'", "row 2 of 2")),
    TargetCase("38b", "minus inf in a second target", [[1.0, 1.0], [2.0, -np.inf]], ("'price_1'", "row 2 of 2")),
    TargetCase("39", "constant", [2.0, 2.0, 2.0], warns=("'price'", "one value only, 2"), numbers=[2.0, 2.0, 2.0]),
    TargetCase("41", "no value", [None, np.nan], ("Input y contains NaN", "'price'", "no value", "2 rows")),
    TargetCase("42", "text", pd.Series(["1", "high"]), ("'high' in row 2", "regression needs numbers", "--na-values")),
    TargetCase("42b", "thousands", ["1,234", "5,000"], ("'1,234' in row 1", "--thousands", "--decimal")),
    TargetCase("42c", "numbers as text", ["1.5", "2e3"], numbers=[1.5, 2000.0]),
    TargetCase("42d", "an object", [{"a": 1}, {"a": 2}], ("not 'dict'", "'price'", "row 1"),
               kind_of_error=DataTypeError),
    TargetCase("43", "true and false", [True, False, True], warns=("'price' is true or false",), numbers=[1, 0, 1]),
    TargetCase("46", "two targets", pd.DataFrame({"a": [1, 2], "b": [3, 4.5]}), numbers=[[1, 3], [2, 4.5]]),
    TargetCase("46b", "one of two misses", pd.DataFrame({"a": [1, 2], "b": [3, None]}), ("Target 'b'", "row 2 of 2")),
    TargetCase("46c", "no target", pd.DataFrame(index=[0, 1]), ("0 feature(s)", "no target")),
    TargetCase("46d", "three dimensions", np.zeros((2, 2, 2)), ("y should be a 1d array", "(2, 2, 2)")),
    TargetCase("47", "a column vector", [[1.0], [2.0]], numbers=[[1.0], [2.0]]),
    TargetCase("49", "huge", [1e30, -3e30], numbers=[1e30, -3e30]),
    TargetCase("49b", "tiny", [1e-30, 3e-30], numbers=[1e-30, 3e-30]),
    TargetCase("50", "an outlier", [1.0, 2.0, 1e300], numbers=[1.0, 2.0, 1e300]),
    TargetCase("51", "dates", pd.to_datetime(["2020-01-01", "2020-01-02"]), ("'price' holds dates", "days since")),
    TargetCase("51b", "dates as objects", [dt.date(2020, 1, 1), None], ("'price' holds dates",)),
    TargetCase("51c", "durations", pd.to_timedelta([1, 2], unit="s"), ("'price' holds dates or durations",)),
    TargetCase("52", "pandas NA", pd.Series([1, None], dtype="Int64"), ("contains NaN", "row 2 of 2")),
    TargetCase("52b", "pandas integers", pd.Series([1, 2], dtype="Int64"), numbers=[1.0, 2.0]),
    TargetCase("52c", "polars", pl.Series("rent", [1, None]), ("Target 'rent'", "row 2 of 2")),
    TargetCase("complex", "complex", [1j, 2.0], ("Complex data not supported",)),
    TargetCase("empty", "no rows", [], ("0 sample(s)",)),
    TargetCase("sparse", "sparse", sparse.csr_array(np.eye(2)), ("Sparse data", "toarray"),
               kind_of_error=DataTypeError),
    TargetCase("decimal", "decimals", [decimal.Decimal("1.5"), decimal.Decimal(2)], numbers=[1.5, 2.0]),
]  # fmt: skip
"""What `read_target` is given. Cases 40, 44 and 48 are for the search, the command line and the estimators."""


@pytest.mark.parametrize("case", TARGETS, ids=lambda case: f"{case.number}-{case.title.replace(' ', '_')}")
def test_target(case: TargetCase) -> None:
    if case.error:
        with pytest.raises(case.kind_of_error) as caught:
            read_target(case.y, "price")
        assert [part for part in case.error if part not in str(caught.value)] == []
        assert "\n" not in str(caught.value)
        return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        y = read_target(case.y, "price")
    assert [str(warning.message) for warning in told if warning.category is not DataWarning] == []
    assert len(told) == bool(case.warns)
    assert [part for part in case.warns if part not in str(told[0].message)] == []
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, np.asarray(case.numbers, dtype=np.float64))


@dataclass(frozen=True)
class FeatureCase:
    """A table to fit on, and how it is read; or a table to predict for, and what is said."""

    number: str
    title: str
    table: Any
    error: tuple[str, ...] = ()
    warns: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    kinds: dict[str, str] | None = None
    later: Any = None
    numbers: Any = None
    codes: Any = None
    kind_of_error: type[Exception] = DataError


TWINS = pd.DataFrame([[1, 2], [3, 4]], columns=["size", "size"])

FEATURES = [
    FeatureCase("45", "names twice", TWINS, error=("1 column name stands twice", "'size'")),
    FeatureCase("53", "no column", pd.DataFrame(index=[0, 1]), error=("0 feature(s)", "minimum of 1 is required")),
    FeatureCase("53b", "no row", pd.DataFrame({"a": []}), error=("0 sample(s)", "minimum of 1 is required")),
    FeatureCase("53c", "no useful column", pd.DataFrame({"a": [1, 1], "b": [None, None]}),
                error=("no column can be used", "one value only, ignored: 'a'", "without a value, ignored: 'b'")),
    FeatureCase("54", "one column", pd.DataFrame({"a": [1.0, 2.0]}), kinds={"a": "number"}),
    FeatureCase("55", "a column without values", two_columns(e=[None] * N), warns=("without a value, ignored: 'e'",),
                kinds={"size": "number", "town": "category", "e": "ignored"}),
    FeatureCase("55b", "blank texts only", two_columns(e=[" ", ""] * (N // 2)), warns=("without a value", "'e'")),
    FeatureCase("56", "a constant column", two_columns(c=7, d="x", e=True, f=pd.Timestamp("2020")),
                notices=("4 columns with one value only, ignored: 'c', 'd', 'e', 'f'",)),
    FeatureCase("56b", "constant with gaps", two_columns(c=[7.0, None] * (N // 2), d=["x", None] * (N // 2)),
                kinds={"size": "number", "town": "category", "c": "number", "d": "category"}),
    FeatureCase("58", "a text for each row", two_columns(name=[f"house {i} x" for i in range(N)]),
                warns=("naming or counting the rows", "ignored: 'name'")),
    FeatureCase("58b", "an id", two_columns(house_id=RNG.permutation(1000)[:N]), warns=("ignored: 'house_id'",)),
    FeatureCase("58c", "an index", two_columns(**{"Unnamed: 0": np.arange(N)}), warns=("ignored: 'Unnamed: 0'",)),
    FeatureCase("60", "unseen category", two_columns(), later=towns("Kiel", "Ulm", None), codes=[[1], [3], [0]]),
    FeatureCase("61", "column missing later", two_columns(), later=pd.DataFrame({"size": [1.0], "Town": ["Ulm"]}),
                error=("column missing", "'town'", "'Town' for 'town'"), kind_of_error=SchemaError),
    FeatureCase("61b", "all missing later", two_columns(), later=pd.DataFrame({"x": [1.0]}),
                error=("2 columns missing", "'size', 'town'"), kind_of_error=SchemaError),
    FeatureCase("62", "other order later", two_columns(), later=towns("Ulm")[["town", "size"]],
                codes=[[3]], numbers=[[1.5]]),
    FeatureCase("63", "more columns later", two_columns(), later=towns("Ulm").assign(x=1, price="?"), codes=[[3]]),
    FeatureCase("63b", "more columns later, twice", two_columns(), codes=[[3]],
                later=pd.concat([towns("Ulm"), TWINS.set_axis(["x", "x"], axis=1)[:1]], axis=1)),
    FeatureCase("63c", "a needed column twice later", two_columns(), error=("'size'", "stands twice"),
                later=pd.concat([towns("Ulm"), TWINS[:1]], axis=1)),
    FeatureCase("63d", "an ignored column is not needed", two_columns(c=7), later=towns("Ulm"), codes=[[3]]),
    FeatureCase("64", "text among numbers later", two_columns(), kind_of_error=SchemaError,
                later=pd.DataFrame({"size": [1.0, "big"], "town": "Ulm"}),
                error=("'size'", "numbers", "row 2", "'big'")),
    FeatureCase("64b", "numbers as text later", two_columns(), numbers=[[1.5], [np.nan]],
                later=pd.DataFrame({"size": ["1.5", None], "town": "Ulm"})),
    FeatureCase("64c", "a date among numbers later", two_columns(), kind_of_error=SchemaError,
                later=pd.DataFrame({"size": [dt.date(2020, 1, 1)], "town": "Ulm"}), error=("'size'", "2020-01-01")),
    FeatureCase("64d", "numbers where dates were", pd.DataFrame({"d": pd.date_range("2020", periods=9)}),
                later=pd.DataFrame({"d": [5.0]}), error=("'d'", "dates", "row 1", "5"), kind_of_error=SchemaError),
    FeatureCase("64e", "text where true was", pd.DataFrame({"b": [True, False]}), later=pd.DataFrame({"b": ["maybe"]}),
                error=("'b'", "true and false", "'maybe'"), kind_of_error=SchemaError),
    FeatureCase("64f", "2 where true was", pd.DataFrame({"b": [True, False]}), later=pd.DataFrame({"b": [0, 2]}),
                error=("'b'", "true and false", "row 2", "2"), kind_of_error=SchemaError),
    FeatureCase("64g", "0, 1 and text where true was", pd.DataFrame({"b": [True, False]}),
                later=pd.DataFrame({"b": [1, "False", "true", None]}), numbers=[[1], [0], [1], [np.nan]]),
    FeatureCase("64h", "numbers where categories were", pd.DataFrame({"c": ["1a", "2", "3"]}),
                later=pd.DataFrame({"c": [2.0, 3.0, np.nan]}), codes=[[3], [4], [0]], warns=("mixes numbers",)),
    FeatureCase("66", "an index that repeats", two_columns().set_axis([0] * N), codes=[[3], [2]],
                later=towns("Ulm", "Bonn").set_axis([7, 7])),
    FeatureCase("67", "sparse", sparse.csr_matrix([[0.0, 1.0], [2.0, 0.0]]), kinds={"x0": "number", "x1": "number"}),
    FeatureCase("70", "dates with a time zone", kinds={"t": "date"}, numbers=[[2.0, 3.0, -4 / 24]],
                later=pd.DataFrame({"t": [dt.datetime(2020, 1, 2)]}),
                table=pd.DataFrame({"t": pd.date_range("2020-01-01 23:00", periods=3, tz="America/New_York")})),
    FeatureCase("72", "complex", np.array([[1j], [2j]]), error=("Complex data not supported",)),
    FeatureCase("72b", "complex in a frame", pd.DataFrame({"a": [1j, 2j]}),
                error=("Complex data not supported", "'a'")),
    FeatureCase("72c", "dicts", two_columns(o=[{"a": 1}] * N), kind_of_error=DataTypeError,
                error=("argument must be a string or a number, not 'dict'", "'o'", "row 1")),
    FeatureCase("73", "names of mixed types", pd.DataFrame([[1, 2], [3, 5]], columns=["a", 1]),
                error=("Feature names are only supported if all input features have string names", "['int', 'str']"),
                kind_of_error=DataTypeError),
    FeatureCase("73b", "numbers as names", pd.DataFrame([[1, 2], [3, 5]]), kinds={"0": "number", "1": "number"}),
    FeatureCase("73c", "names of two levels", pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
                error=("column names of 2 levels",), kind_of_error=DataTypeError),
    FeatureCase("75", "more columns than rows", RNG.normal(size=(4, 50)), kinds={f"x{i}": "number" for i in range(50)}),
    FeatureCase("76", "one row", pd.DataFrame({"a": [1.0]}), error=("1 sample(s)", "minimum of 2")),
    FeatureCase("1d", "one dimension", np.arange(3.0), error=("Expected 2D array, got 1D array",)),
    FeatureCase("0d", "a number", 5, error=("Expected 2D array, got scalar array",)),
    FeatureCase("3d", "three dimensions", np.zeros((2, 2, 2)), error=("array with dim 3",)),
    FeatureCase("0s", "an array without rows", np.zeros((0, 3)), error=("0 sample(s) (shape=(0, 3))", "minimum of 1")),
    FeatureCase("0f", "an array without columns", np.zeros((3, 0)),
                error=("0 feature(s) (shape=(3, 0))", "minimum of 1")),
    FeatureCase("inf", "infinity in an array", [[1.0, np.inf]], error=("Input X contains infinity", "float64")),
    FeatureCase("ragged", "rows of unequal length", [[1], [1, 2]], error=("X cannot be read as rows and columns",)),
]  # fmt: skip
"""What `as_frame` and `infer_schema` are given, and what a schema meets later."""


def test_every_numbered_case_has_a_test() -> None:
    """Cases 57, 59, 65, 68, 69, 71 and 74 are tests of their own below; 40, 44 and 48 are not of this floor."""
    elsewhere = {"40", "44", "48", "57", "59", "65", "68", "69", "71", "74"}
    numbers = {case.number.rstrip("abcdefgh") for case in [*TARGETS, *FEATURES]} | elsewhere
    assert {str(number) for number in range(37, 77)} <= numbers


def fit_and_code(table: Any, later: Any) -> CodedTable:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return infer_schema(as_frame(table)).encode(later)


@pytest.mark.parametrize("case", FEATURES, ids=lambda case: f"{case.number}-{case.title.replace(' ', '_')}")
def test_features(case: FeatureCase) -> None:
    if case.error:
        with pytest.raises(case.kind_of_error) as caught:
            fit_and_code(case.table, case.later)
        assert [part for part in case.error if part not in str(caught.value)] == []
        assert "\n" not in str(caught.value)
        return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        schema = infer_schema(as_frame(case.table))
        table = schema.encode(as_frame(case.table) if case.later is None else case.later)
    texts = [str(warning.message) for warning in told]
    assert len(texts) == bool(case.warns), texts
    assert [part for part in case.warns if part not in texts[0]] == []
    assert set(texts) <= set(schema.notices)
    assert set(case.notices) <= set(schema.notices)
    if case.kinds is not None:
        assert {column.name: column.kind for column in schema.columns} == case.kinds
    if case.numbers is not None:
        np.testing.assert_allclose(table.numbers, case.numbers, rtol=1e-6)
    if case.codes is not None:
        assert table.codes.tolist() == case.codes
    assert same(Schema.from_json(round_trip(schema)).encode(as_frame(case.table)), schema.encode(as_frame(case.table)))


def every_kind(n: int = 60) -> pd.DataFrame:
    """A table with a column of each kind, all with missing values."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({
        "size": rng.normal(size=n), "rooms": rng.integers(1, 6, n).astype("float64"),
        "stamp": 1.7e9 + rng.integers(0, 10**6, n), "huge": rng.normal(size=n) * 1e200,
        "tiny": rng.normal(size=n) * 1e-200, "town": rng.choice(["a", "b", "ü"], n),
        "new": rng.choice([True, False], n).astype(object),
        "sold": pd.Timestamp("2019-03-01") + pd.to_timedelta(rng.integers(0, 10**8, n), unit="s"),
        "built": rng.choice(["2001-02-03", "1999-12-31", "2010-06-07"], n),
        "power": [f"{x} kW" for x in rng.integers(50, 200, n)],
        "range": [f"{x:.1f} {('km', 'mi')[i % 2]}" for i, x in enumerate(rng.uniform(1, 99, n))],
        "took": pd.to_timedelta(rng.integers(0, 999, n), unit="m"), "class": pd.Categorical(rng.choice(["x", "y"], n)),
        "clock": [f"{h}:30" for h in rng.integers(0, 24, n)],
        "none": None, "same": 1,
    })  # fmt: skip
    for place, name in enumerate(frame.columns[:-2]):
        frame.loc[place, name] = None
    return frame


@pytest.fixture(scope="module")
def all_kinds() -> tuple[pd.DataFrame, Schema]:
    frame = every_kind()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return frame, infer_schema(frame)


def test_kinds_of_a_table_with_everything(all_kinds: tuple[pd.DataFrame, Schema]) -> None:
    frame, schema = all_kinds
    kinds = {column.name: column.kind for column in schema.columns}
    assert kinds == {
        "size": "number", "rooms": "number", "stamp": "number", "huge": "number", "tiny": "number", "town": "category",
        "new": "boolean", "sold": "date", "built": "date", "power": "number", "range": "number", "took": "number",
        "class": "category", "clock": "number", "none": "ignored", "same": "ignored",
    }  # fmt: skip
    table = schema.encode(frame)
    assert table.numbers.dtype == np.float32
    assert table.numbers.flags.c_contiguous
    assert table.codes.dtype == np.int32
    assert not np.isinf(table.numbers).any()
    layout = schema.layout
    assert table.numbers.shape == (len(frame), layout.n_numbers) == (len(frame), len(table.number_names))
    assert layout.may_miss == tuple(np.isnan(table.numbers).any(axis=0)) == (True,) * layout.n_numbers
    assert table.codes.shape == (len(frame), len(layout.n_codes))
    assert (table.codes.max(axis=0) < layout.n_codes).all()
    assert (table.codes == 0).any(axis=0).all()
    assert table.code_names == ("town", "range.unit", "class")
    assert [column.levels for column in schema.columns if column.name in table.code_names] == [
        ("a", "b", "ü"),
        ("x", "y"),
    ]


def test_a_schema_survives_json_and_codes_the_same_bits(all_kinds: tuple[pd.DataFrame, Schema]) -> None:
    frame, schema = all_kinds
    again = Schema.from_json(round_trip(schema))
    assert again == schema
    assert again.layout == schema.layout
    assert same(again.encode(frame), schema.encode(frame))


def test_other_rows_and_columns_change_nothing(all_kinds: tuple[pd.DataFrame, Schema]) -> None:
    """Rows of missing values, unseen categories, reordered and further columns never raise."""
    frame, schema = all_kinds
    table = schema.encode(frame)
    rng = np.random.default_rng(2)
    nothing = pd.DataFrame({name: [None] * 3 for name in frame.columns}, dtype=object)
    strange = frame.iloc[:4].assign(town=["new town", "", "7", None], **{"class": ["z", "x", None, "w"]})
    for extra in (nothing, strange, frame.iloc[:0]):
        more = pd.concat([frame.astype(object), extra.astype(object)])
        more = more[rng.permutation(more.columns)].assign(price=3, other="x")
        coded = schema.encode(more)
        assert coded.numbers[: len(frame)].tobytes() == table.numbers.tobytes()
        assert coded.codes[: len(frame)].tobytes() == table.codes.tobytes()
    last = schema.encode(nothing)
    assert np.isnan(last.numbers).all()
    assert (last.codes == 0).all()
    order = rng.permutation(len(frame))
    assert schema.encode(frame.iloc[order]).numbers.tobytes() == table.numbers[order].tobytes()
    one_by_one = [schema.encode(frame.iloc[[row]]) for row in range(len(frame))]
    assert np.concatenate([part.numbers for part in one_by_one]).tobytes() == table.numbers.tobytes()
    assert np.concatenate([part.codes for part in one_by_one]).tobytes() == table.codes.tobytes()


def test_the_table_is_left_as_it_is(all_kinds: tuple[pd.DataFrame, Schema]) -> None:
    frame, schema = every_kind(), all_kinds[1]
    frame["size"] = np.where(np.arange(len(frame)) == 5, np.inf, frame["size"].fillna(0.0))
    before = frame.copy(deep=True)
    with pytest.warns(DataWarning, match="infinite"):
        schema.encode(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_codes_are_missing_unseen_and_levels() -> None:
    schema = infer_schema(towns("Ulm", None, "Bonn", "Ulm"))
    column = next(column for column in schema.columns if column.name == "town")
    assert column.levels == ("Bonn", "Ulm")
    assert schema.encode(towns("Ulm", None, "Bonn", "Köln")).codes.tolist() == [[3], [0], [2], [1]]
    assert schema.layout.n_codes == (4,)
    assert schema.unseen(towns("Ulm", "Köln", "Köln", None)) == {"town": ("Köln",)}


def test_57_and_missing_flags_come_from_all_rows() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, None, 3.0], "b": [1.0, 2.0, 3.0, 5.0]})
    assert infer_schema(frame).layout.may_miss == (True, False)


def test_59_many_levels_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"k{i}" for i in range(300)]
    frame = pd.DataFrame({"k": names * 2 + ["k7", "k8", "once"]})
    assert len(infer_schema(frame).columns[0].levels) == 301
    monkeypatch.setattr(kinds, "MAX_LEVELS", 5)
    levels = infer_schema(frame).columns[0].levels
    assert len(levels) == 5
    assert {"k7", "k8"} < set(levels)
    assert "once" not in levels
    assert sorted(levels) == list(levels)
    codes = infer_schema(frame).encode(frame).codes[:, 0]
    assert (codes == 1).sum() == len(frame) - 2 * 5 - 2


def test_levels_that_would_fill_a_models_file_are_capped() -> None:
    names = [f"{'Ж' * 40} {i}" for i in range(20_000)]
    schema = infer_schema(pd.DataFrame({"k": names * 2 + [names[7], "single"]}))
    (column,) = schema.columns
    assert 10_000 < len(column.levels) < 20_000
    assert names[7] in column.levels
    assert "single" not in column.levels
    assert len(json.dumps(json.dumps(schema.to_json()))) < 4.2 * 2**20


def test_a_level_is_known_with_and_without_a_decimal_point() -> None:
    """A column of whole numbers has a point once a cell is empty: pandas writes it so."""
    zips = infer_schema(pd.DataFrame({"zip": ["10115", "80331"]}), categorical=["zip"])
    assert zips.encode(pd.DataFrame({"zip": ["10115.0", "80331", "80331.5", "7"]})).codes[:, 0].tolist() == [2, 3, 1, 1]
    floats = infer_schema(pd.DataFrame({"zip": [10115.0, 80331.0, None]}), categorical=["zip"])
    assert floats.encode(pd.DataFrame({"zip": ["10115", "80331.0"]})).codes[:, 0].tolist() == [2, 3]


def test_65_the_target_in_a_table_to_predict_is_not_looked_at() -> None:
    schema = infer_schema(two_columns())
    assert same(schema.encode(towns("Ulm").assign(price="unknown")), schema.encode(towns("Ulm")))


def test_later_numbers_stay_finite() -> None:
    schema = infer_schema(pd.DataFrame({"a": 1.7e9 + np.arange(50.0), "b": np.arange(50.0) ** 2}))
    coded = schema.encode(pd.DataFrame({"a": [1e308, -1e308], "b": [1e300, 0.0]})).numbers
    assert np.isfinite(coded**2).all()


def test_infinite_features_of_a_frame_are_missing() -> None:
    frame = pd.DataFrame({"a": [1.0, np.inf, 3.0, -np.inf], "b": [1.0, 2.0, 3.0, 5.0], "c": [1, 2, 3, float("inf")]})
    schema = infer_schema(frame)
    assert "column 'a': 2 infinite values, the first in row 2, count as missing" in schema.notices
    assert schema.layout.may_miss == (True, False, True)
    with pytest.warns(DataWarning) as told:
        table = schema.encode(frame)
    assert [str(warning.message) for warning in told] == [
        "column 'a': 2 infinite values, the first in row 2, count as missing",
        "column 'c': 1 infinite value, in row 4, counts as missing",
    ]
    np.testing.assert_array_equal(np.isnan(table.numbers).sum(axis=0), [2, 0, 1])


def test_strict_kinds_may_be_given_up() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [True, False, True], "d": pd.date_range("2020", periods=3)})
    odd = pd.DataFrame({"a": ["x", 2.0], "b": ["x", True], "d": [5.0, None]})
    with pytest.warns(DataWarning) as told:
        table = infer_schema(frame).encode(odd, strict_kinds=False)
    assert [name for warning, name in zip(told, "abd", strict=True) if f"column '{name}'" in str(warning.message)] == [
        "a", "b", "d",
    ]  # fmt: skip
    assert np.isnan(table.numbers[0]).all()
    assert table.numbers[1, :2].tolist() == [2.0, 1.0]


def test_67_sparse_matrices_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = sparse.random_array((20, 10), density=0.2, rng=np.random.default_rng(0), format="csc")
    np.testing.assert_array_equal(as_frame(matrix).to_numpy(), matrix.toarray())
    monkeypatch.setattr(frames, "MAX_SPARSE_CELLS", 199)
    with pytest.raises(DataTypeError, match=r"Sparse data of shape \(20, 10\).* beyond 199 cells"):
        as_frame(matrix)


def test_71_polars_and_arrow_tables() -> None:
    columns = {"a": [1.5, None], "t": ["x", "y"], "d": [dt.date(2020, 1, 1), dt.date(2021, 1, 1)], "b": [True, None]}
    expected = infer_schema(pd.DataFrame(columns)).encode(pd.DataFrame(columns))
    for table in (pl.DataFrame(columns), pl.LazyFrame(columns), pa.table(columns)):
        frame = as_frame(table)
        assert same(infer_schema(frame).encode(frame), expected)
    with pytest.raises(DataTypeError, match="not 'ndarray': column 'l'"):
        infer_schema(as_frame(pl.DataFrame({"l": [[1], [2]]})))
    with pytest.raises(DataTypeError, match="Expected 2D array, got 1D array"):
        as_frame(pl.Series([1, 2]))


def test_74_read_only_memory_is_not_written_to(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", RNG.normal(size=(30, 3)))
    X = np.load(tmp_path / "x.npy", mmap_mode="r")
    schema = infer_schema(as_frame(X))
    np.testing.assert_array_equal(schema.encode(as_frame(X)).numbers, X.astype(np.float32))


def test_arrays_of_texts_numbers_and_dates() -> None:
    frame = as_frame([["a", 1.5, None], ["b", None, 2]])
    assert [column.kind for column in infer_schema(frame).columns] == ["category", "number", "number"]
    frame = as_frame([["a", 1.5], ["b", 2.5]])
    assert [column.kind for column in infer_schema(frame).columns] == ["category", "number"]
    assert as_frame(pd.DataFrame([[1, 2]])).columns.tolist() == ["0", "1"]
    assert as_frame(np.array([["2020-01-01"], ["2020-01-02"]], dtype="datetime64[D]")).dtypes.iloc[0].kind == "M"
    assert as_frame(np.array([[1, 2]], dtype=object)).dtypes.tolist() == [np.dtype("float64")] * 2
    masked = as_frame(np.ma.masked_array([[1.0, 2.0]], mask=[[False, True]]))
    assert masked.isna().to_numpy().tolist() == [[False, True]]
    assert as_frame([[1, 2]], feature_names=["p", "q"]).columns.tolist() == ["p", "q"]
    with pytest.raises(DataError, match="X has 2 features, but autoreg is expecting 1 features as input"):
        as_frame([[1, 2]], feature_names=["p"])


def test_an_array_is_not_copied() -> None:
    X = RNG.normal(size=(5, 3))
    assert np.shares_memory(as_frame(X).to_numpy(), X)
    frame = two_columns()
    assert as_frame(frame) is frame


HOSTILE: list[tuple[Any, str]] = [
    (None, "no list of columns"),
    ({"columns": {}}, "no list of columns"),
    ({"columns": [], "notices": [1]}, "notices are no texts"),
    ({"columns": [{"name": "a", "kind": "number"}] * 2}, "stands twice"),
    ({"columns": [7]}, "damaged"),
    ({"columns": [{"kind": "number"}, {"name": "", "kind": "number"}]}, "stands twice"),
    *(
        ({"columns": [{"name": "a", "kind": "number", **change}]}, message)
        for change, message in [
            ({"kind": "code"}, "no kind 'code'"),
            ({"name": 3}, "no text"),
            ({"extra": 1}, "no field 'extra'"),
            ({"scale": 0.0}, "not positive"),
            ({"scale": "1"}, "no finite number"),
            ({"shift": float("nan")}, "no finite number"),
            ({"shift": True}, "no finite number"),
            ({"kind": "category", "levels": ["b", "a"]}, "not sorted"),
            ({"kind": "category", "levels": ["a", "a"]}, "not sorted"),
            ({"kind": "category", "levels": [1]}, "no text"),
            ({"kind": "boolean", "levels": ["a"]}, "do not belong"),
            ({"kind": "date"}, "do not belong"),
            ({"parts": ["year"]}, "do not belong"),
            ({"kind": "date", "parts": ["century"]}, "not known"),
            ({"kind": "date", "parts": ["year"], "formats": ["%c"]}, "not known"),
            ({"kind": "date", "parts": ["elapsed_days"], "shift": 1e300}, "out of bounds"),
            ({"quantity": {"units": ["a"], "factors": [], "clock": 0}}, "one factor"),
            ({"quantity": {"units": ["a"], "factors": [float("inf")], "clock": 0}}, "finite"),
            ({"quantity": {}}, "damaged"),
        ]
    ),
]


@pytest.mark.parametrize(("data", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_damaged_schema_is_refused(data: Any, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        Schema.from_json(data)


def test_a_column_writes_only_what_is_not_at_its_default() -> None:
    assert Column("a", "number").to_json() == {"name": "a", "kind": "number", "may_miss": 0}


def test_masked_targets_are_missing() -> None:
    with pytest.raises(DataError, match=r"'target' is missing in row 3 of 3"):
        read_target(np.ma.masked_array([1, 2, -9999], mask=[0, 0, 1]))
