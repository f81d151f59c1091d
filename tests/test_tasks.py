"""From a table and the roles of its columns to features, targets, weights and groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from autoreg.errors import DataError, DataWarning, OptionError
from autoreg.tasks import Roles, Task, make_task


def table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {"rent": [1.0, 2.0, 3.0, 4.0], "size": [5, 6, 7, 8], "street": list("aabb"), "year": [2020, 2021, 2022, 2023]}
    ).assign(**columns)


def task(frame: pd.DataFrame | None = None, drop: bool = False, **roles: Any) -> Task:
    return make_task(
        table() if frame is None else frame, Roles(**{"targets": ("rent",), **roles}), drop_missing_target=drop
    )


def test_roles_decide_what_is_a_feature() -> None:
    found = task(table(w=1.0), group="street", weight="w", time="year", ignore=("size",))
    assert list(found.X) == ["year"]
    assert isinstance(found.y, pd.Series)
    assert found.groups is not None
    assert found.groups.tolist() == list("aabb")
    assert found.time is not None
    assert found.time.tolist() == [2020, 2021, 2022, 2023]
    assert found.weight is not None
    assert found.weight.tolist() == [1.0] * 4


def test_several_targets_make_a_table() -> None:
    found = task(targets=("size", "rent"))
    assert isinstance(found.y, pd.DataFrame)
    assert list(found.y) == ["size", "rent"]


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"targets": ("rnt",)}, "--target: no column 'rnt'; did you mean 'rent'"),
        ({"targets": ("RENT",)}, "did you mean 'rent'"),
        ({"group": "strete"}, "--group: no column 'strete'; did you mean 'street'"),
        ({"time": "when"}, "--time: no column 'when'; columns: 'rent', 'size', 'street', 'year'"),
        ({"weight": "w"}, "--weight: no column 'w'"),
        ({"ignore": ("sizes",)}, "--ignore"),
        ({"categorical": ("sizes",)}, "--categorical"),
        ({"dates": ("years",)}, "--date"),
        ({"targets": ("rent", "rent")}, "named twice"),
        ({"ignore": ("rent",)}, "named by --target and by --ignore"),
        ({"group": "rent"}, "named by --target and by --group"),
        ({"ignore": ("street",), "categorical": ("street",)}, "--categorical 'street'"),
        ({"weight": "size", "dates": ("size",)}, "--date 'size'"),
        ({"weight": "year", "time": "year"}, "named by --weight and by another option"),
    ],
)
def test_roles_that_cannot_be(roles: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        task(**roles)
    assert message in str(caught.value)


def test_a_long_table_is_not_listed_in_full() -> None:
    wide = pd.DataFrame(np.zeros((2, 300)), columns=[f"c{i}" for i in range(300)])
    with pytest.raises(OptionError) as caught:
        task(wide)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1, np.nan, 1, 1], "row 2: missing"),
        ([1, 1, -2, 1], "row 3: -2"),
        ([1, np.inf, 1, 1], "row 2: inf"),
        ([0, 0, 0, 0], "all weights are 0"),
        (list("abcd"), "no numbers"),
    ],
)
def test_weights_that_cannot_be(weight: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        task(table(w=weight), weight="w")


def test_rows_of_weight_zero_are_gone() -> None:
    found = task(table(w=[0, 1, 0, 2]), weight="w", group="street", time="year")
    assert len(found.X) == len(found.y) == 2
    assert found.weight is not None
    assert found.weight.tolist() == [1.0, 2.0]
    assert found.groups is not None
    assert found.groups.tolist() == ["a", "b"]


def test_rows_without_a_target() -> None:
    frame = table(rent=[1.0, np.nan, 3.0, 4.0])
    with pytest.raises(DataError, match=r"row 2 of 4.*--drop-missing-target"):
        task(frame)
    with pytest.warns(DataWarning, match="1 row of 4"):
        found = task(frame, drop=True, group="street")
    assert found.y.tolist() == [1.0, 3.0, 4.0]
    assert found.X.index.tolist() == [0, 1, 2]
    assert found.groups is not None
    assert found.groups.tolist() == ["a", "b", "b"]
    with pytest.raises(DataError, match="no value in any of 4 rows"):
        task(table(rent=np.nan), drop=True)
    with pytest.warns(DataWarning, match="1 row of 4"):
        assert len(task(table(rent=["1", " ", "3", "4"]), drop=True).y) == 3


def test_no_feature_is_left() -> None:
    with pytest.raises(DataError, match="no column is left"):
        task(ignore=("size", "year"), group="street")


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d %b %Y"])
def test_times_are_dates_in_any_form(form: str) -> None:
    days = pd.Series(pd.date_range("2024-01-30", periods=4, freq="35D"))
    found = task(table(day=days.dt.strftime(form)), time="day").time
    assert found is not None
    assert found.tolist() == days.tolist()


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["2024-01-01", "soon", "2024-01-03", "2024-01-04"], "row 2: 'soon' is neither a date nor a number"),
        ([True, False, True, False], "neither dates nor numbers"),
    ],
)
def test_times_that_cannot_be(times: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        task(table(day=times), time="day")


def test_take() -> None:
    found = task(table(w=[1, 2, 3, 4]), group="street", weight="w").take(np.array([3, 1]))
    assert found.X["size"].tolist() == [8, 6]
    assert found.y.tolist() == [4.0, 2.0]
    assert found.weight is not None
    assert found.weight.tolist() == [4.0, 2.0]
    assert found.groups is not None
    assert found.groups.tolist() == ["b", "a"]
    assert found.time is None
