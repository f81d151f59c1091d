"""How rows are split."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneOut,
    PredefinedSplit,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)

from autoreg.errors import DataError, DataWarning, OptionError
from autoreg.folds import Fold, hold_out, make_folds


def same(folds: list[Fold], splits: Any) -> bool:
    return all(
        np.array_equal(fold.train, np.sort(train)) and np.array_equal(fold.valid, np.sort(valid))
        for fold, (train, valid) in zip(folds, splits, strict=True)
    )


@pytest.mark.parametrize("n_rows", [5, 12, 101])
def test_default_is_five_shuffled_folds_of_all_rows(n_rows: int) -> None:
    folds = make_folds(None, n_rows, random_state=3)
    sizes = [len(valid) for _, valid in KFold(5).split(np.zeros(n_rows))]
    assert [len(fold.valid) for fold in folds] == sizes
    assert np.array_equal(np.sort(np.concatenate([fold.valid for fold in folds])), np.arange(n_rows))
    for fold in folds:
        assert fold.train.dtype == fold.valid.dtype == np.int64
        assert np.array_equal(np.sort(np.concatenate([fold.train, fold.valid])), np.arange(n_rows))
        assert np.all(np.diff(fold.train) > 0)
        assert np.all(np.diff(fold.valid) > 0)
    assert n_rows == 5 or not same(folds, KFold(5).split(np.zeros(n_rows)))


@pytest.mark.parametrize("cv", [None, ShuffleSplit(3), KFold(3, shuffle=True), RepeatedKFold(n_splits=2, n_repeats=2)])
def test_the_seed_decides(cv: Any) -> None:
    def flat(seed: int) -> list[int]:
        return [row for fold in make_folds(cv, 30, random_state=seed) for row in fold.valid]

    assert flat(1) == flat(1)
    assert flat(1) != flat(2)


def test_the_user_s_splitter_is_left_as_it_is() -> None:
    splitter = ShuffleSplit(3)
    make_folds(splitter, 30, random_state=1)
    assert splitter.random_state is None


@pytest.mark.parametrize(
    ("cv", "expected"),
    [
        (3, KFold(3)),
        (np.int64(4), KFold(4)),
        (KFold(4, shuffle=True, random_state=7), KFold(4, shuffle=True, random_state=7)),
        (TimeSeriesSplit(3), TimeSeriesSplit(3)),
        (LeaveOneOut(), LeaveOneOut()),
        (PredefinedSplit([0, 0, 1, -1] * 5), PredefinedSplit([0, 0, 1, -1] * 5)),
        (list(KFold(2).split(np.zeros(20))), KFold(2)),
    ],
)
def test_cv_means_what_it_means_in_scikit_learn(cv: Any, expected: Any) -> None:
    assert same(make_folds(cv, 20, np.arange(20.0), random_state=0), expected.split(np.zeros((20, 1))))


def test_a_generator_and_masks_are_splits_too() -> None:
    mask = np.arange(6) < 4
    folds = make_folds(iter([(mask, ~mask)]), 6)
    assert folds[0].train.tolist() == [0, 1, 2, 3]
    assert folds[0].valid.tolist() == [4, 5]


def test_a_group_splitter_gets_the_groups() -> None:
    groups = np.repeat(list("abcd"), 3)
    assert same(make_folds(GroupKFold(2), 12, groups=groups), GroupKFold(2).split(np.zeros(12), groups=groups))


def test_an_int_splits_by_row_as_in_scikit_learn_and_says_so() -> None:
    with pytest.warns(DataWarning, match="GroupKFold"):
        folds = make_folds(2, 6, groups=np.zeros(6))
    assert same(folds, KFold(2).split(np.zeros(6)))


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (1, "n_splits=2 or more"),
        (10, "n_splits=10 greater than the number of samples"),
        ("five", "'five'"),
        (True, "True"),
        (2.5, "2.5"),
        (StratifiedKFold(3), "continuous"),
        (GroupKFold(3), "groups"),
        ([], "no split"),
        ([(np.arange(4), np.array([9]))], "split 0"),
        ([(np.arange(4), np.array([], dtype=int))], "0 validation rows"),
        ([np.arange(4)], "split 0"),
    ],
)
def test_a_wrong_cv_is_one_line(cv: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        make_folds(cv, 6, np.linspace(0, 1, 6))
    assert "\n" not in str(caught.value)


def test_fewer_folds_when_rows_are_few() -> None:
    with pytest.warns(DataWarning, match="3 folds instead of 5"):
        folds = make_folds(None, 3)
    assert [len(fold.valid) for fold in folds] == [1, 1, 1]


@pytest.mark.parametrize("cv", [None, 2, KFold(2)])
@pytest.mark.parametrize(("n_rows", "message"), [(0, r"0 sample\(s\)"), (1, "n_samples=1")])
def test_one_row_is_an_error(cv: Any, n_rows: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_folds(cv, n_rows)


def test_groups_stay_together_and_folds_are_even() -> None:
    rng = np.random.default_rng(0)
    groups = rng.choice(40, 500, p=rng.dirichlet(np.ones(40)))
    folds = make_folds(None, 500, groups=groups, random_state=0)
    assert np.array_equal(np.sort(np.concatenate([fold.valid for fold in folds])), np.arange(500))
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.valid])
    sizes = [len(fold.valid) for fold in folds]
    assert max(sizes) - min(sizes) <= np.bincount(groups).max()
    other = make_folds(None, 500, groups=groups, random_state=1)
    assert not all(np.array_equal(a.valid, b.valid) for a, b in zip(folds, other, strict=True))


def test_groups_of_any_type() -> None:
    for groups in (pd.Series(["a", "b"] * 4, index=range(8, 16)), pd.Categorical(["a", "b"] * 4), [1.5, 2.5] * 4):
        with pytest.warns(DataWarning, match="2 folds instead of 5: there are only so many groups"):
            folds = make_folds(None, 8, groups=groups)
        assert sorted(tuple(fold.valid) for fold in folds) == [(0, 2, 4, 6), (1, 3, 5, 7)]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["a"] * 4, "one group only"),
        (["a", None, "b", None], r"2 missing values \(row 2, 4\)"),
        (["a", "b"], "2 values and the table 4 rows"),
    ],
)
def test_wrong_groups(groups: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_folds(None, 4, groups=groups)


def test_time_without_ties_is_time_series_split_of_the_sorted_rows() -> None:
    for n_rows in (6, 23, 100):
        time = np.random.default_rng(n_rows).permutation(n_rows)
        order = np.argsort(time)
        splits = [(order[train], order[valid]) for train, valid in TimeSeriesSplit(5).split(time)]
        assert same(make_folds(None, n_rows, time=time), splits)


@pytest.mark.parametrize(
    "time",
    [
        np.repeat(np.arange(9), 7)[::-1],
        pd.Series(pd.date_range("2024-01-01", periods=9, tz="Europe/Berlin").repeat(7)),
        pd.Series(pd.date_range("2024-01-01", periods=9).repeat(7)).dt.strftime("%Y-%m-%d"),
        np.array([0] * 50 + list(range(1, 14))),
    ],
)
def test_training_is_earlier_and_a_moment_stays_together(time: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        folds = make_folds(None, 63, time=time)
    moments = pd.Series(np.asarray(time))
    assert len(folds) >= 2
    for fold in folds:
        assert moments[fold.train].max() < moments[fold.valid].min()
    valid = [set(moments[fold.valid]) for fold in folds]
    assert sum(map(len, valid)) == len(set.union(*valid))


def test_few_moments_make_fewer_folds() -> None:
    with pytest.warns(DataWarning, match="2 folds instead of 5"):
        folds = make_folds(None, 30, time=np.repeat([1, 2, 3], 10))
    assert [len(fold.train) for fold in folds] == [10, 20]


@pytest.mark.parametrize(
    ("time", "message"),
    [
        ([5, 5, 5, 5], "one moment only"),
        ([1, None, 3, 4], r"1 missing values \(row 2\)"),
        (["early", "late", "later", "latest"], "neither numbers nor dates"),
    ],
)
def test_wrong_time(time: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_folds(None, 4, time=time)


def test_group_and_time_together() -> None:
    rng = np.random.default_rng(0)
    groups, time = rng.choice(30, 600), rng.choice(100, 600)
    folds = make_folds(None, 600, groups=groups, time=time, random_state=0)
    assert len(folds) == 5
    for fold in folds:
        assert time[fold.train].max() < time[fold.valid].min()
        assert not set(groups[fold.train]) & set(groups[fold.valid])


def test_cv_and_time_contradict_each_other() -> None:
    with pytest.raises(OptionError, match="cv and time"):
        make_folds(3, 6, time=np.arange(6))
    with pytest.raises(OptionError, match="folds=1"):
        make_folds(None, 6, n_folds=1)


def test_hold_out_rows() -> None:
    fold = hold_out(0.2, 100, random_state=0)
    assert len(fold.valid) == 20
    assert np.array_equal(np.sort(np.concatenate([fold.train, fold.valid])), np.arange(100))
    assert np.array_equal(fold.valid, hold_out(0.2, 100, random_state=0).valid)
    assert not np.array_equal(fold.valid, hold_out(0.2, 100, random_state=1).valid)


def test_hold_out_groups_and_the_latest() -> None:
    rng = np.random.default_rng(0)
    groups, time = rng.choice(50, 1000), rng.choice(200, 1000)
    by_group = hold_out(0.2, 1000, groups=groups, random_state=0)
    assert not set(groups[by_group.train]) & set(groups[by_group.valid])
    assert 150 < len(by_group.valid) < 250
    by_time = hold_out(0.2, 1000, time=time)
    assert time[by_time.train].max() < time[by_time.valid].min()
    assert 190 < len(by_time.valid) < 230
    both = hold_out(0.2, 1000, groups=groups, time=time, random_state=0)
    assert time[both.train].max() < time[both.valid].min()
    assert not set(groups[both.train]) & set(groups[both.valid])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 20.0, float("nan")])
def test_hold_out_of_nothing_or_all(fraction: float) -> None:
    with pytest.raises(OptionError, match="between 0 and 1"):
        hold_out(fraction, 10)


@pytest.mark.parametrize(("fraction", "n_rows"), [(0.9, 4), (0.5, 1), (0.5, 2)])
def test_hold_out_leaves_rows_to_train_on(fraction: float, n_rows: int) -> None:
    with pytest.raises(DataError, match="rows to train on"):
        hold_out(fraction, n_rows)


class ByColumn:
    """A splitter that looks at the table."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Any, Any]]:
        late = (X["year"] >= 2020).to_numpy()
        yield np.flatnonzero(~late), np.flatnonzero(late)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        return 1


def test_a_splitter_sees_the_table_and_its_errors_are_one_line() -> None:
    (fold,) = make_folds(ByColumn(), 4, X=pd.DataFrame({"year": [2021, 2019, 2020, 2018]}))
    assert (fold.train.tolist(), fold.valid.tolist()) == ([1, 3], [0, 2])
    with pytest.raises(OptionError, match=r"^cv=.*KeyError: 'year'$"):
        make_folds(ByColumn(), 4, X=pd.DataFrame({"month": [1, 2, 3, 4]}))


@pytest.mark.parametrize("form", ["texts", "dates", "datetime64[us]", "datetime64[s]", "decimals", "durations"])
def test_moments_of_any_age_are_in_order(form: str) -> None:
    years = [9999, 1500, 2000, 9998, 1501]
    texts = [f"{year}-12-31" for year in years]
    times: dict[str, Any] = {
        "texts": texts,
        "dates": [datetime.date.fromisoformat(text) for text in texts],
        "datetime64[us]": pd.Series(np.array(texts, dtype="datetime64[us]")),
        "datetime64[s]": pd.Series(np.array(texts, dtype="datetime64[s]")),
        "decimals": pd.Series([Decimal(year) for year in years], dtype=object),
        "durations": pd.Series(pd.to_timedelta(years, unit="s")),
    }
    assert hold_out(0.4, 5, time=times[form]).valid.tolist() == [0, 3]
