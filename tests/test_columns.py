"""Columns of every dtype, and texts that are dates, numbers with units or names of rows."""

from __future__ import annotations

import datetime as dt
import decimal
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from tablehelp import N, round_trip, same, two_columns

from autoreg.errors import DataError, DataWarning, SchemaError
from autoreg.kinds import float32_constants
from autoreg.tables import Schema, infer_schema

RNG = np.random.default_rng(0)


SAME_NUMBERS: dict[str, Callable[[], Any]] = {
    "float64": lambda: pd.Series([1.0, 2.0, np.nan]),
    "68-Int64": lambda: pd.Series([1, 2, None], dtype="Int64"),
    "Float32": lambda: pd.Series([1, 2, None], dtype="Float32"),
    "69-pyarrow double": lambda: pd.Series([1.0, 2.0, None], dtype="double[pyarrow]"),
    "pyarrow int": lambda: pd.Series([1, 2, None], dtype="int8[pyarrow]"),
    "pyarrow decimal": lambda: pd.Series(
        [decimal.Decimal(1), decimal.Decimal(2), None], dtype=pd.ArrowDtype(pa.decimal128(5, 2))
    ),
    "float16": lambda: pd.Series(np.array([1, 2, np.nan], dtype=np.float16)),
    "longdouble": lambda: pd.Series(np.array([1, 2, np.nan], dtype=np.longdouble)),
    "objects": lambda: pd.Series([1, np.float32(2.0), None], dtype=object),
    "decimals": lambda: pd.Series([decimal.Decimal(1), decimal.Decimal(2), None]),
    "pandas NA": lambda: pd.Series([1, 2, pd.NA], dtype=object),
    "sparse": lambda: pd.Series(pd.arrays.SparseArray([1.0, 2.0, np.nan])),
    "durations": lambda: pd.Series(pd.to_timedelta([1, 2, None], unit="s")),
    "duration objects": lambda: pd.Series([dt.timedelta(seconds=1), dt.timedelta(seconds=2), None], dtype=object),
    "times of day": lambda: pd.Series([dt.time(0, 0, 1), dt.time(0, 0, 2), None], dtype=object),
    "polars": lambda: pl.DataFrame({"a": [1, 2, None]}).to_pandas()["a"],
}


@pytest.mark.parametrize("make", SAME_NUMBERS.values(), ids=SAME_NUMBERS.keys())
def test_numbers_of_any_dtype(make: Callable[[], Any]) -> None:
    frame = pd.DataFrame({"a": make()})
    schema = infer_schema(frame)
    assert schema.columns[0].kind == "number"
    np.testing.assert_array_equal(schema.encode(frame).numbers, np.array([[1], [2], [np.nan]], dtype=np.float32))


SAME_TEXTS: dict[str, Callable[[], Any]] = {
    "str": lambda: pd.Series(["x", "y", None]),
    "object": lambda: pd.Series(["x", "y", None], dtype=object),
    "string": lambda: pd.Series(["x", "y", None], dtype="string"),
    "pyarrow string": lambda: pd.Series(["x", "y", None], dtype="string[pyarrow]"),
    "arrow dtype": lambda: pd.Series(["x", "y", None], dtype=pd.ArrowDtype(pa.large_string())),
    "arrow dictionary": lambda: pd.Series(["x", "y", None], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))),
    "category": lambda: pd.Series(["x", "y", None], dtype="category"),
    "category with more": lambda: pd.Series(pd.Categorical(["x", "y", None], categories=["z", "y", "x"])),
    "bytes": lambda: pd.Series([b"x", b"y", None]),
    "blank": lambda: pd.Series(["x", "y", "  "]),
    "numpy": lambda: pd.Series([np.str_("x"), "y", np.nan], dtype=object),
    "polars": lambda: pl.DataFrame({"a": ["x", "y", None]}).to_pandas()["a"],
    "polars category": lambda: pl.DataFrame({"a": pl.Series(["x", "y", None], dtype=pl.Categorical)}).to_pandas()["a"],
}


@pytest.mark.parametrize("make", SAME_TEXTS.values(), ids=SAME_TEXTS.keys())
def test_texts_of_any_dtype(make: Callable[[], Any]) -> None:
    frame = pd.DataFrame({"a": make()})
    schema = infer_schema(frame)
    assert (schema.columns[0].kind, schema.columns[0].levels) == ("category", ("x", "y"))
    assert schema.encode(frame).codes.tolist() == [[2], [3], [0]]


SAME_DATES: dict[str, Callable[[], Any]] = {
    "datetime": lambda: pd.Series(pd.to_datetime(["2020-01-31", "2021-02-01", None])),
    "nanoseconds": lambda: pd.Series(pd.to_datetime(["2020-01-31", "2021-02-01", None])).astype("datetime64[ns]"),
    "UTC": lambda: pd.Series(pd.to_datetime(["2020-01-31", "2021-02-01", None], utc=True)),
    "Tokyo": lambda: pd.Series(pd.to_datetime(["2020-01-31", "2021-02-01", None], utc=True).tz_convert("Asia/Tokyo")),
    "date objects": lambda: pd.Series([dt.date(2020, 1, 31), dt.date(2021, 2, 1), None]),
    "datetime objects": lambda: pd.Series([dt.datetime(2020, 1, 31), dt.datetime(2021, 2, 1), None], dtype=object),
    "datetime objects with a zone": lambda: pd.Series(
        [dt.datetime(2020, 1, 31, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), dt.datetime(2021, 2, 1), None],
        dtype=object,
    ),
    "periods": lambda: pd.Series(pd.PeriodIndex(["2020-01-31", "2021-02-01", "NaT"], freq="D")),
    "arrow date": lambda: pd.Series(
        [dt.date(2020, 1, 31), dt.date(2021, 2, 1), None], dtype=pd.ArrowDtype(pa.date32())
    ),
    "arrow stamp": lambda: pd.Series(
        [pd.Timestamp("2020-01-31"), pd.Timestamp("2021-02-01"), None], dtype=pd.ArrowDtype(pa.timestamp("us"))
    ),
    "polars": lambda: pl.DataFrame({"a": [dt.date(2020, 1, 31), dt.date(2021, 2, 1), None]}).to_pandas()["a"],
    **{
        text: (lambda text=text: pd.Series([*text.split("|"), None]))  # type: ignore[misc]
        for text in (
            "2020-01-31|2021-02-01", "2020/01/31|2021/02/01", "2020-1-31|2021-2-1", "31.01.2020|01.02.2021",
            "31.1.20|1.2.21", "1/31/2020|2/1/2021", "31/01/2020|01/02/2021", "31-01-2020|01-02-2021", "1/31/20|2/1/21",
            "31 Jan 2020|1 Feb 2021", "Jan 31, 2020|Feb 1, 2021", "January 31, 2020|February 1, 2021",
            "31-Jan-20|01-Feb-21", "2020-01-31T00:00:00Z|2021-02-01T00:00:00Z", "2020-01-31 00:00|2021-02-01 00:00",
            "2020-01-31T02:00:00+02:00|2021-02-01", "1/31/2020 12:00 AM|2/1/2021 12:00 AM", " 2020-01-31 |2021-02-01",
            "31.01.2020 00:00:00|01.02.2021 00:00:00",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("make", SAME_DATES.values(), ids=SAME_DATES.keys())
def test_dates_of_any_form(make: Callable[[], Any]) -> None:
    frame = pd.DataFrame({"a": make()})
    schema = infer_schema(frame)
    column = schema.columns[0]
    assert column.kind == "date"
    assert column.parts == ("year", "month", "day", "weekday", "day_of_year", "elapsed_days")
    expected = [[2020, 1, 31, 4, 31, 0], [2021, 2, 1, 0, 32, 367], [np.nan] * 6]
    np.testing.assert_array_equal(schema.encode(frame).numbers, np.array(expected, dtype=np.float32))
    assert schema.number_names[0] == "a.year"
    assert same(Schema.from_json(round_trip(schema)).encode(frame), schema.encode(frame))


@pytest.mark.parametrize(
    ("texts", "parts"),
    [
        (["2020-01-01 10:00:00", "2020-01-01 12:30:00"], ("hour", "minute", "elapsed_days")),
        (["2020-01-01 10:00:00.5", "2020-01-01 10:00:01"], ("second", "elapsed_days")),
        (["2020-01-06", "2020-01-13"], ("day", "elapsed_days")),
        (["2019-05", "2020-05"], ("year", "weekday", "day_of_year", "elapsed_days")),
        (["Dec-2015", "Jan-2016"], ("year", "month", "weekday", "day_of_year", "elapsed_days")),
    ],
)
def test_parts_of_a_date_that_vary(texts: list[str], parts: tuple[str, ...]) -> None:
    assert infer_schema(pd.DataFrame({"a": texts})).columns[0].parts == parts


def test_dates_that_could_be_swapped_are_told_of() -> None:
    with pytest.warns(DataWarning, match="column 'a': dates such as '1/2/2020' are read month first"):
        schema = infer_schema(pd.DataFrame({"a": ["1/2/2020", "3/4/2020"]}))
    assert schema.columns[0].formats == ("%m/%d/%Y",)


def test_later_dates_are_read_as_the_first_ones_were() -> None:
    schema = infer_schema(pd.DataFrame({"a": ["31.01.2020", "01.02.2020", "05.02.2020"]}))
    elapsed = [name.endswith("elapsed_days") for name in schema.number_names]
    table = schema.encode(pd.DataFrame({"a": ["03.02.2020", None]}))
    assert table.numbers[0, elapsed].tolist() == [3.0]
    assert schema.encode(pd.DataFrame({"a": [dt.date(2020, 2, 3)]})).numbers[0, elapsed].tolist() == [3.0]
    with pytest.warns(DataWarning, match=r"'a' held dates .* row 2 now has 'soon'"):
        table = schema.encode(pd.DataFrame({"a": ["03.02.2020", "soon"]}))
    assert np.isnan(table.numbers[1]).all()
    with pytest.raises(SchemaError, match=r"'a' held dates .* row 1 now has 'soon'"):
        schema.encode(pd.DataFrame({"a": ["soon", "later"]}))


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        ([20200131, 20200202], 2),
        ([1580428800, 1580601600], 2),
        ([1580428800000, 1580601600000], 2),
        (["20200131", "20200202"], 2),
        ([2019, 2020], 365),
        ([202001, 202002], 31),
        (["202011", "202012"], 30),
        (["2020-01-31", "2.2.2020"], 2),
    ],
)
def test_what_the_user_calls_a_date_is_one(cells: list[Any], days: float) -> None:
    frame = pd.DataFrame({"a": cells})
    schema = infer_schema(frame, dates=["a"])
    assert schema.columns[0].kind == "date"
    table = Schema.from_json(round_trip(schema)).encode(frame)
    assert table.numbers[:, -1].tolist() == [0.0, days]


def test_a_forced_date_without_one_is_refused() -> None:
    with pytest.raises(DataError, match=r"column 'a': nothing in it is a date, such as 'x' in row 1"):
        infer_schema(pd.DataFrame({"a": ["x", "y"]}), dates=["a"])


QUANTITIES = {
    "unit": (["23.4 kmpl", "17 kmpl", "9.5 kmpl"], [23.4, 17, 9.5], ()),
    "capitals": (["1248 CC", "998 cc", "1500 CC"], [1248, 998, 1500], ()),
    "percent": (["5%", "7.5 %", "-1%"], [5, 7.5, -1], ()),
    "money": (["$3", "-$4.50", "$1e3"], [3, -4.5, 1000], ()),
    "money behind": (["3 €", "4.5€", "2 €"], [3, 4.5, 2], ()),
    "plain": (["3", " 4.5", "+2"], [3, 4.5, 2], ()),
    "clock": (["7:30", "12:05", "23:59:30"], [27000, 43500, 86370], ()),
    "signs": (["3°", "4.5°", "-2°"], [3, 4.5, -2], ()),
}


@pytest.mark.parametrize(("texts", "numbers", "units"), QUANTITIES.values(), ids=QUANTITIES.keys())
def test_texts_that_are_numbers(texts: list[str], numbers: list[float], units: tuple[str, ...]) -> None:
    frame = pd.DataFrame({"a": [*texts, None]})
    with pytest.warns(DataWarning, match=r"column 'a': texts such as .* are read as numbers"):
        schema = infer_schema(frame)
    assert (schema.columns[0].kind, schema.columns[0].levels) == ("number", units)
    expected = np.array([*numbers, np.nan], dtype=np.float32)
    np.testing.assert_array_equal(Schema.from_json(round_trip(schema)).encode(frame).numbers[:, 0], expected)
    bare = pd.DataFrame({"a": [*numbers, None]})
    np.testing.assert_array_equal(schema.encode(bare).numbers[:, 0], expected)


@pytest.mark.filterwarnings("ignore::autoreg.errors.DataWarning")
def test_several_units_are_a_category_beside_the_number() -> None:
    frame = pd.DataFrame({"a": [f"{i} kmpl" for i in range(90)] + [f"{i}.5 km/kg" for i in range(10)] + [None]})
    schema = infer_schema(frame)
    table = schema.encode(pd.DataFrame({"a": ["3 kmpl", "4 km/kg", "5 miles", "6", None, "7 KMPL"]}))
    np.testing.assert_array_equal(table.numbers[:, 0], np.array([3, 4, np.nan, 6, np.nan, 7], dtype=np.float32))
    assert table.code_names == ("a.unit",)
    assert table.codes[:, 0].tolist() == [3, 2, 0, 1, 0, 3]


def test_units_with_few_numbers_are_categories() -> None:
    """1st, 2nd and 3rd are names, however many other endings there are."""
    texts = [f"{i}th" for i in range(4, 15)] * 2 + ["1st", "2nd", "3rd"] * 2
    column = infer_schema(pd.DataFrame({"a": texts})).columns[0]
    assert (column.kind, len(column.levels)) == ("category", 14)


@pytest.mark.filterwarnings("ignore::autoreg.errors.DataWarning")
def test_thousands_and_millions_are_understood() -> None:
    texts = [f"€{i}.5M" for i in range(20)] + [f"€{i}K" for i in range(20)]
    frame = pd.DataFrame({"a": texts})
    numbers = infer_schema(frame).encode(frame).numbers[:, 0]
    np.testing.assert_allclose(numbers, [(i + 0.5) * 1e6 for i in range(20)] + [i * 1e3 for i in range(20)])


@pytest.mark.parametrize(
    "texts",
    [["020", "030", "060"], ["1Fam", "2fmCon", "Duplex"], ["1st", "2nd", "3rd"], ["S08", "S53", "S11"],
     ["737-800", "757-200", "A320"], ["N14228", "N24211", "N619AA"], ["10-20", "20-30", "30-40"],
     ["1.2.3", "1.2.4", "2.0.0"], ["10.20.30", "11.21.31"], ["Boeing 737", "Airbus 320"], ["yes", "no", "yes"]],
    ids=lambda texts: texts[0],
)  # fmt: skip
def test_texts_that_only_look_like_numbers_stay_categories(texts: list[str]) -> None:
    assert infer_schema(pd.DataFrame({"a": texts})).columns[0].kind == "category"


def test_stray_texts_among_quantities() -> None:
    """A few were allowed at fit and are at predict; many are told of, and nothing but such texts is an error."""
    texts = [f"{i} bhp" for i in range(99)]
    with pytest.warns(DataWarning) as told:
        schema = infer_schema(pd.DataFrame({"a": [*texts, " bhp"]}))
    assert "1 text is no number, such as ' bhp' in row 100, and counts as missing" in str(told[1].message)
    assert np.isnan(schema.encode(pd.DataFrame({"a": [*texts, "null bhp"]})).numbers[-1, 0])
    with pytest.warns(DataWarning, match="row 2 now has 'fast': such cells count as missing"):
        schema.encode(pd.DataFrame({"a": ["3 bhp", "fast"]}))
    with pytest.raises(SchemaError, match="row 1 now has 'fast'"):
        schema.encode(pd.DataFrame({"a": ["fast"]}))


IDENTIFIERS = {"id", "ID", "rental_id", "PassengerId", "uuid", "Unnamed: 0", "index", "row number", "S.No", "#"}
INFORMATIVE = {"x0", "size", "year", "age", "day", "instant", "heat_index", "paid", "grid", "number of rooms"}


@pytest.mark.parametrize("name", sorted(IDENTIFIERS | INFORMATIVE))
def test_only_what_is_called_a_row_number_is_dropped(name: str) -> None:
    """A trend counts the rows too: only the name tells."""
    schemas = []
    for numbers in (np.arange(1, N + 1), RNG.permutation(N), np.arange(1.0, N + 1)):
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            schemas.append(infer_schema(two_columns(**{name: numbers} if name != "size" else {"size": numbers})))
    kinds = {column.kind for schema in schemas for column in schema.columns if column.name == name}
    assert kinds == ({"ignored"} if name in IDENTIFIERS else {"number"})


def test_identifiers_that_repeat_or_are_continuous_are_kept() -> None:
    frame = two_columns(building_id=RNG.integers(0, 10**6, N // 2).repeat(2), row=RNG.normal(size=N))
    schema = infer_schema(frame)
    assert {column.kind for column in schema.columns if column.name in ("building_id", "row")} == {"number"}
    assert any("'building_id' looks like an identifier" in notice for notice in schema.notices)


def test_the_only_column_is_kept_and_a_user_may_insist() -> None:
    frame = pd.DataFrame({"id": np.arange(30), "name": [f"house {i}" for i in range(30)]})
    assert [column.kind for column in infer_schema(frame).columns] == ["number", "category"]
    schema = infer_schema(two_columns(id=np.arange(N)), categorical=["id"])
    assert (schema.columns[2].kind, len(schema.columns[2].levels)) == ("category", N)


def test_what_the_user_says_goes() -> None:
    frame = pd.DataFrame({
        "zip": [10115, 20095, 10115], "floor": [1.0, 2.0, None], "flag": [True, False, True],
        "big": [2**60, 2**60 + 1, 2**60], "code": ["5%", "6%", "7%"], "size": [1.0, 2.0, 3.0], "noise": [3.0, 1.0, 2.0],
    })  # fmt: skip
    schema = infer_schema(frame, categorical=["zip", "floor", "flag", "big", "code"], ignore=["noise"])
    levels = {column.name: column.levels for column in schema.columns if column.kind == "category"}
    assert levels == {
        "zip": ("10115", "20095"), "floor": ("1", "2"), "flag": ("False", "True"),
        "big": (str(2**60), str(2**60 + 1)), "code": ("5%", "6%", "7%"),
    }  # fmt: skip
    assert [column.name for column in schema.used] == ["zip", "floor", "flag", "big", "code", "size"]
    assert schema.notices == ()
    later = pd.DataFrame(
        {"zip": ["10115", 20095.0], "floor": [2, "1"], "flag": "True", "big": 2**60, "code": "5%", "size": 1}
    )
    assert schema.encode(later.assign(size=1)).codes.tolist() == [[2, 3, 3, 2, 2], [3, 2, 3, 2, 2]]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"categorical": ["town", "siz"]}, "categorical: no column 'siz'; did you mean 'size'"),
        ({"dates": ["when"]}, "dates: no column 'when'"),
        ({"ignore": ["x"]}, "ignore: no column 'x'"),
        ({"categorical": ["size"], "ignore": ["size"]}, "'size' is listed under categorical and under ignore"),
        ({"ignore": ["size", "town"]}, "no column can be used as a feature"),
    ],
)
def test_wishes_that_cannot_be(wishes: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        infer_schema(two_columns(), **wishes)


FLOATS: dict[str, NDArray[np.float64]] = {
    "normal": RNG.normal(size=500),
    "epoch seconds": 1.7e9 + RNG.uniform(0, 1e5, 500),
    "epoch nanoseconds": 1.7e18 + RNG.uniform(0, 1e12, 500),
    "far from zero": 1e6 + RNG.normal(size=500) * 1e-3,
    "far, with zeros": np.where(np.arange(500) % 50 == 0, 0, 1.7e9 + RNG.uniform(0, 1e5, 500)),
    "huge": RNG.normal(size=500) * 1e300,
    "huge, far": 1e300 + RNG.normal(size=500) * 1e295,
    "largest": np.where(np.arange(500) % 2 == 0, 1.7e308, -1.7e308) * RNG.uniform(0.5, 1, 500),
    "tiny": RNG.normal(size=500) * 1e-250,
    "smallest": np.arange(500) * 5e-324,
    "small steps from one": 1 + np.arange(500) * 1e-12,
    "integers": RNG.integers(0, 10**6, 500).astype(float),
    "with an outlier": np.append(RNG.normal(size=499), 1e15),
}


@pytest.mark.parametrize("numbers", FLOATS.values(), ids=FLOATS.keys())
def test_float32_holds_a_column_to_a_millionth_of_its_spread(numbers: NDArray[np.float64]) -> None:
    frame = pd.DataFrame({"a": numbers})
    schema = infer_schema(frame)
    coded = schema.encode(frame).numbers[:, 0].astype(np.float64)
    assert np.isfinite(coded.astype(np.float32) ** 2).all()
    shift, scale = schema.columns[0].shift, schema.columns[0].scale
    middle = np.argsort(numbers)[len(numbers) // 20 : -len(numbers) // 20]
    exact = (numbers[middle] - shift) / scale
    assert np.abs(coded[middle] - exact).max() <= 1e-6 * np.ptp(exact)
    assert len(np.unique(coded)) > 1


def test_ordinary_columns_are_neither_shifted_nor_scaled() -> None:
    for numbers in (np.arange(100.0), RNG.normal(size=100), RNG.uniform(1e3, 1e4, 100), np.array([0.1, np.nan, 0.1])):
        assert float32_constants(numbers) == (0.0, 1.0)


@pytest.mark.filterwarnings("ignore::autoreg.errors.DataWarning")
def test_a_bare_number_has_one_code_whatever_stands_beside_it() -> None:
    schema = infer_schema(pd.DataFrame({"a": [f"{i}" for i in range(90)] + [f"1.{i}k" for i in range(10)]}))
    beside, alone = (schema.encode(pd.DataFrame({"a": cells})) for cells in (["523", "1.2k"], [523]))
    assert beside.codes[0].tolist() == alone.codes[0].tolist() != [1]
    assert beside.numbers[0].tolist() == alone.numbers[0].tolist()
