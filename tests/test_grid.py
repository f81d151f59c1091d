"""`grid` and `random` give what scikit-learn's searches over `NeuralRegressor` give."""

import numpy as np
import pytest
from scipy import stats
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, RandomizedSearchCV, ShuffleSplit, TimeSeriesSplit

from autoreg import AutoRegressor, NeuralRegressor
from autoreg.errors import DataWarning, OptionError

SCORING = "neg_root_mean_squared_error"
SIZES = {"max_epochs": [20], "network__width": [16]}
TIMES = ("mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time")


@pytest.fixture(scope="module")
def table():
    draw = np.random.default_rng(1)
    X = draw.normal(size=(90, 4))
    return X, 100 + 30 * X[:, 0] * X[:, 1] + 20 * X[:, 2] + draw.normal(size=90)


def ours(table, space, cv, strategy="grid", groups=None, scoring=SCORING, **options):
    options = {"companions": None, "ensemble": False, "random_state": 0, "verbose": 0, **options}
    return AutoRegressor(strategy, cv=cv, scoring=scoring, space=space, **options).fit(*table, groups=groups)


def theirs(table, space, cv, groups=None, scoring=SCORING):
    return GridSearchCV(NeuralRegressor(random_state=0), space, cv=cv, scoring=scoring).fit(*table, groups=groups)


def assert_equal_searches(one, other):
    mine, yours = one.cv_results_, other.cv_results_
    assert list(mine) == list(yours)
    assert mine["params"] == yours["params"]
    for name in mine:
        if name.startswith("param_"):
            assert mine[name].tolist() == yours[name].tolist(), name
            assert np.array_equal(np.ma.getmaskarray(mine[name]), np.ma.getmaskarray(yours[name])), name
            assert mine[name].dtype == yours[name].dtype, name
        elif name == "rank_test_score":
            assert mine[name].tolist() == yours[name].tolist()
            assert mine[name].dtype == yours[name].dtype
        elif name.endswith("_test_score"):
            np.testing.assert_allclose(mine[name], yours[name], rtol=1e-5, atol=1e-5, err_msg=name)
    assert one.best_index_ == other.best_index_
    assert one.best_params_ == other.best_params_
    assert one.best_score_ == pytest.approx(other.best_score_, rel=1e-5)
    assert one.n_splits_ == other.n_splits_


@pytest.mark.parametrize(
    "cv", [KFold(3), KFold(3, shuffle=True, random_state=1), ShuffleSplit(2, random_state=0), TimeSeriesSplit(3), 3],
    ids=lambda cv: type(cv).__name__,
)  # fmt: skip
def test_learning_rates_depths_and_activations(table, cv):
    space = {"learning_rate": [1e-3, 1e-2], "network__depth": [1, 2], "activation": ["relu", "silu"], **SIZES}
    assert_equal_searches(ours(table, space, cv), theirs(table, space, cv))


def test_losses_optimizers_encodings_and_batch_sizes(table):
    space = {
        "loss": ["squared_error", "absolute_error"], "optimizer": ["adamw", "momentum"], "encoding": ["plain", "ple"],
        "batch_size": [16, "auto"], "learning_rate": [0.01], "max_epochs": [5],
    }  # fmt: skip
    assert_equal_searches(ours(table, space, KFold(2)), theirs(table, space, KFold(2)))


def test_a_list_of_spaces(table):
    space = [
        {"network": ["linear"], "learning_rate": [0.01, 0.1], "max_epochs": [5]},
        {"network": ["mlp", "resnet"], "network__depth": [1], "max_epochs": [5]},
    ]
    assert_equal_searches(ours(table, space, KFold(2)), theirs(table, space, KFold(2)))


def test_all_epochs_run(table):
    """A fold's validation rows choose no epoch: the score is that of the last one."""
    space = {"learning_rate": [0.01], "early_stopping": [False], **SIZES}
    found = ours(table, space, KFold(2))
    assert_equal_searches(found, theirs(table, space, KFold(2)))
    assert [row.epoch for row in found.results_.candidates] == [20]


def test_several_targets_other_scores_and_groups(table):
    X, y = table
    several = X, np.column_stack([y, -(y**2), X[:, 3]])
    groups = np.repeat(np.arange(9), 10)
    space = {"learning_rate": [1e-3, 1e-2], **SIZES}
    for scoring in ("r2", "neg_mean_absolute_error"):
        assert_equal_searches(
            ours(several, space, GroupKFold(3), groups=groups, scoring=scoring),
            theirs(several, space, GroupKFold(3), groups, scoring),
        )


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_a_candidate_that_fails_ranks_last(table):
    space = {"learning_rate": [1e12, 1e-2], "optimizer": ["sgd"], **SIZES}
    with pytest.warns(FitFailedWarning):
        other = theirs(table, space, KFold(2))
    one = ours(table, space, KFold(2))
    assert_equal_searches(one, other)
    assert one.cv_results_["rank_test_score"].tolist() == [2, 1]


def test_seeds_are_a_dimension_too(table):
    space = {"random_state": [1, 7], "learning_rate": [0.01], **SIZES}
    one = ours(table, space, KFold(2))
    assert_equal_searches(one, theirs(table, space, KFold(2)))
    assert len(set(one.cv_results_["mean_test_score"])) == 2
    assert one.best_estimator_.random_state == one.best_params_["random_state"]
    assert {row.name.split()[-1] for row in one.results_.candidates} == {"1", "7"}
    with pytest.raises(OptionError, match="random_state=-1: give a whole number from 0"):
        ours(table, {"random_state": [-1]}, KFold(2))


def test_keys_come_in_the_order_of_scikit_learn(table):
    space = [{"network__width": [4], "max_epochs": [1]}, {"activation": ["relu"], "max_epochs": [1]}]
    assert list(ours(table, space, KFold(2)).cv_results_) == list(theirs(table, space, KFold(2)).cv_results_)


def test_weights_are_given_to_a_score_that_takes_them(table):
    X, y = table
    weight = np.linspace(0.1, 3, len(y))
    space = {"learning_rate": [1e-3, 1e-2], **SIZES}
    scorer = get_scorer(SCORING)

    def weighted(estimator, X, y, sample_weight=None):
        return scorer(estimator, X, y, sample_weight=sample_weight)

    def plain(estimator, X, y):
        return scorer(estimator, X, y)

    folds = list(KFold(3).split(X))
    for scoring in (SCORING, weighted, plain):
        options = {"companions": None, "ensemble": False, "random_state": 0, "verbose": 0}
        search = AutoRegressor("grid", cv=folds, scoring=scoring, space=space, **options)
        if scoring is plain:
            with pytest.warns(DataWarning, match="scoring plain takes no row weights: in it all rows count alike"):
                search.fit(X, y, sample_weight=weight)
        else:
            search.fit(X, y, sample_weight=weight)
        for i, parameters in enumerate(search.cv_results_["params"]):
            for k, (train, valid) in enumerate(folds):
                alone = NeuralRegressor(random_state=0, **as_options(parameters))
                alone.fit(X[train], y[train], sample_weight=weight[train])
                own = {} if scoring is plain else {"sample_weight": weight[valid]}
                wanted = scorer(alone, X[valid], y[valid], **own)
                assert search.cv_results_[f"split{k}_test_score"][i] == pytest.approx(wanted, rel=1e-5)


def as_options(parameters):
    own = {name: value for name, value in parameters.items() if "__" not in name}
    return {**own, "network_options": {"width": parameters["network__width"]}}


def test_random_draws_as_randomized_search_does(table):
    space = {
        "learning_rate": stats.loguniform(1e-3, 1e-1), "network__width": stats.randint(4, 32),
        "activation": ["relu", "tanh", "gelu"], "max_epochs": [5],
    }  # fmt: skip
    other = RandomizedSearchCV(
        NeuralRegressor(random_state=3), space, n_iter=6, cv=KFold(2), scoring=SCORING, random_state=3
    ).fit(*table)
    one = ours(table, space, KFold(2), "random", n_candidates=6, random_state=3)
    assert_equal_searches(one, other)


def test_the_default_of_scoring_and_of_cv_are_ours(table):
    """Five shuffled folds, root mean squared error: as if scikit-learn had been asked for them."""
    space = {"learning_rate": [0.01], **SIZES}
    found = ours(table, space, None)
    assert found.n_splits_ == 5
    folds = AutoRegressor(verbose=0)
    assert (folds.cv, folds.scoring) == (None, SCORING)
    assert found.best_score_ == pytest.approx(
        ours(table, space, KFold(5, shuffle=True, random_state=0)).best_score_, rel=0.2
    )
