"""`NeuralRegressor` and `AutoRegressor` as citizens of scikit-learn."""

import copy
import inspect
import io
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest
import sklearn
import torch
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    RandomizedSearchCV,
    ShuffleSplit,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import nn

from autoreg import AutoRegressor, NeuralRegressor
from autoreg.errors import AutoregError, DataError, DataWarning, OptionError, SchemaError, SearchError, UnknownNameError

N = 60
FEATURES = ["area", "rooms", "built", "town", "garden", "sold"]


def small(**options):
    """A network that trains in a twentieth of a second."""
    settings = {"max_epochs": 15, "network_options": {"depth": 1, "width": 16}, "learning_rate": 0.01}
    return NeuralRegressor(**{**settings, "random_state": 0, **options})


def search(**options):
    """A search of two such networks on two folds."""
    space = {"learning_rate": [0.001, 0.01], "max_epochs": [10], "network__width": [16], "network__depth": [1]}
    settings = {"strategy": "grid", "space": space, "cv": 2, "companions": None, "random_state": 0, "verbose": 0}
    return AutoRegressor(**{**settings, **options})


@pytest.fixture(scope="module")
def table():
    """Three numbers and a target that a small network learns."""
    draw = np.random.default_rng(0)
    X = pd.DataFrame(draw.normal(size=(N, 3)), columns=["a", "b", "c"])
    return X, 2 * X["a"].to_numpy() - X["b"].to_numpy() + 0.1 * draw.normal(size=N)


# Among scikit-learn's tools


def test_pipeline_with_a_float64_frame_and_one_dimensional_y(table):
    X, y = table
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), small(max_epochs=60)).fit(X, y)
    prediction = pipeline.predict(X)
    assert prediction.shape == (N,)
    assert prediction.dtype == np.float64
    assert pipeline.score(X, y) > 0.8
    assert pipeline[-1].feature_names_in_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("make", [small, search])
def test_a_column_transformer_that_gives_sparse_numbers(houses, make):
    columns = ColumnTransformer([("town", OneHotEncoder(), ["town"])], remainder="passthrough", sparse_threshold=1.0)
    X = houses[["area", "rooms", "town"]].fillna("none")
    assert sparse.issparse(columns.fit_transform(X))
    assert make_pipeline(columns, make()).fit(X, houses["price"]).predict(X).shape == (len(X),)


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
def test_sparse_and_dense_give_the_same(table, container):
    X, y = table[0].to_numpy().round(), table[1]
    dense = small().fit(X, y)
    assert np.array_equal(small().fit(container(X), y).predict(container(X)), dense.predict(X))


@pytest.mark.parametrize("make", [small, search])
def test_clone_and_fit_give_the_same_bits(table, make):
    model = make().fit(*table)
    again = clone(model)
    assert not hasattr(again, "model_")
    assert np.array_equal(again.fit(*table).predict(table[0]), model.predict(table[0]))


def test_grid_search_over_options_of_parts_and_names(table):
    grid = {"network__depth": [1, 2], "activation": ["relu", "tanh"], "network": ["mlp"]}
    found = GridSearchCV(small(network_options=None, max_epochs=5), grid, cv=2).fit(*table)
    assert len(found.cv_results_["params"]) == 4
    assert np.isfinite(found.cv_results_["mean_test_score"]).all()
    assert len(set(found.cv_results_["mean_test_score"])) == 4
    assert found.best_estimator_.get_params()["network__depth"] in (1, 2)


def test_randomized_search(table):
    space = {"learning_rate": stats.loguniform(1e-3, 1e-1), "network__width": stats.randint(8, 32)}
    found = RandomizedSearchCV(small(max_epochs=3), space, n_iter=3, cv=2, random_state=0).fit(*table)
    assert len(set(found.cv_results_["mean_test_score"])) == 3


@pytest.mark.parametrize("make", [small, search])
def test_cross_val_score(table, make):
    scores = cross_val_score(make(), *table, cv=2, scoring="neg_mean_absolute_error")
    assert scores.shape == (2,)
    assert (scores < 0).all()


def test_bagging(table):
    model = BaggingRegressor(small(), n_estimators=2, max_features=2, random_state=0).fit(*table)
    assert model.predict(table[0]).shape == (N,)


def test_transformed_target(table):
    X, y = table
    model = TransformedTargetRegressor(small(max_epochs=60), func=np.arcsinh, inverse_func=np.sinh).fit(X, y)
    assert model.score(X, y) > 0.5


def test_permutation_importance(table):
    model = small(max_epochs=60).fit(*table)
    importance = permutation_importance(model, *table, n_repeats=3, random_state=0).importances_mean
    assert importance.argmax() == 0
    assert importance[2] < importance[1]


def _by_pickle(model):
    return pickle.loads(pickle.dumps(model))


def _by_joblib(model):
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize("there_and_back", [_by_pickle, _by_joblib, copy.deepcopy])
@pytest.mark.parametrize("make", [small, search])
def test_pickle_keeps_every_bit(houses, make, there_and_back):
    X = houses[FEATURES]
    model = make().fit(X, houses["price"])
    before = model.predict(X)
    again = there_and_back(model)
    assert np.array_equal(again.predict(X), before)
    assert again.schema_ == model.schema_


# What comes in


def test_several_targets_keep_their_shape_and_names(table):
    X, y = table
    Y = pd.DataFrame({"first": y, "second": -3 * y + 1})
    for model in (small(max_epochs=60).fit(X, Y), search().fit(X, Y)):
        assert model.predict(X).shape == (N, 2)
        assert model.model_.manifest["targets"] == ["first", "second"]
        assert model.n_outputs_ == 2
    assert small(max_epochs=60).fit(X, Y).score(X, Y) > 0.8
    assert small().fit(X, Y.to_numpy()).model_.manifest["targets"] == ["target_0", "target_1"]


def test_one_target_as_a_column_stays_a_column(table):
    X, y = table
    as_column, flat = small().fit(X, y[:, None]), small().fit(X, y)
    assert as_column.predict(X).shape == (N, 1)
    assert np.array_equal(as_column.predict(X)[:, 0], flat.predict(X))


@pytest.mark.parametrize("make", [small, search])
def test_predictions_are_float32_for_a_float32_target(table, make):
    X, y = table
    single = make().fit(X, y.astype(np.float32))
    assert single.predict(X).dtype == np.float32
    assert make().fit(X, y).predict(X).dtype == np.float64
    frame = pd.DataFrame({"one": y, "two": y}).astype(np.float32)
    assert make().fit(X, frame).predict(X).dtype == np.float32


def test_a_target_of_any_container_gives_the_same(table):
    X, y = table
    expected = small().fit(X, y).predict(X)
    series = pd.Series(y, name="rent", index=range(100, 100 + N))
    for given in (series, list(y), polars.Series("rent", y), series.astype("float64[pyarrow]")):
        model = small().fit(X, given)
        assert np.array_equal(model.predict(X), expected)
    assert small().fit(X, series).model_.manifest["targets"] == ["rent"]
    assert np.array_equal(small().fit(X, pd.DataFrame({"rent": y})).predict(X)[:, 0], expected)


def test_weights_shift_the_prediction(table):
    X, y = table
    low = y < np.median(y)
    light, heavy = (small().fit(X, y, sample_weight=np.where(low, w, 1.0)).predict(X) for w in (0.1, 10))
    assert heavy.mean() < light.mean()
    scaled = small().fit(X, y, sample_weight=np.full(N, 7.0)).predict(X)
    np.testing.assert_allclose(scaled, small().fit(X, y).predict(X), atol=1e-5)


def test_early_stopping_watches_the_validation_rows(table):
    X, y = table
    train, valid = slice(0, 40), slice(40, N)
    options = {"max_epochs": 40, "early_stopping": True, "n_iter_no_change": 3, "learning_rate": 0.05}
    model = small(**options).fit(X[train], y[train], X_val=X[valid], y_val=y[valid])
    curve = model.validation_scores_
    assert model.n_iter_ == len(curve) == len(model.loss_curve_)
    assert model.n_iter_ < 40
    assert model.n_iter_ == np.argmax(curve) + 1 + 3
    # the weights are those of the best epoch
    error = np.sqrt(np.mean((model.predict(X[valid]) - y[valid]) ** 2))
    assert -error == pytest.approx(max(curve), rel=1e-5)
    other = small(**options).fit(X[train], y[train], X_val=X[valid], y_val=-y[valid])
    assert other.n_iter_ < model.n_iter_


def test_validation_rows_without_early_stopping_are_only_scored(table):
    X, y = table
    watched = small().fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:], sample_weight_val=np.ones(N - 40))
    assert np.array_equal(watched.predict(X), small().fit(X[:40], y[:40]).predict(X))
    assert len(watched.validation_scores_) >= 1
    assert small().fit(X, y).validation_scores_ == []


def test_early_stopping_sets_rows_aside(table):
    model = small(early_stopping=True, validation_fraction=0.25, max_epochs=8).fit(*table)
    assert len(model.validation_scores_) == model.n_iter_ == 8


def test_validation_rows_take_the_place_of_folds(table):
    X, y = table
    model = search(cv=None).fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:])
    assert model.n_splits_ == 1
    assert set(model.cv_results_) >= {"split0_test_score"}
    with pytest.raises(OptionError, match="X_val and y_val go together"):
        search().fit(X, y, X_val=X)


def mixed(houses, how):
    """The table of the fixture with its columns in another library's types."""
    X = houses[FEATURES]
    return {
        "pandas": lambda: X,
        "polars": lambda: polars.from_pandas(X),
        "categories": lambda: X.astype({"town": "category", "garden": "boolean"}),
        "nullable": lambda: X.convert_dtypes(),
        "arrow": lambda: X.convert_dtypes(dtype_backend="pyarrow"),
        "objects": lambda: X.astype(object),
    }[how]()


@pytest.mark.parametrize("how", ["polars", "categories", "nullable", "arrow", "objects"])
def test_tables_of_any_library_give_the_same(houses, how):
    X, y = houses[FEATURES], houses["price"]
    model = small().fit(X, y)
    other = small().fit(mixed(houses, how), y)
    assert [column.kind for column in other.schema_.columns] == [
        "number", "number", "number", "category", "boolean", "date",
    ]  # fmt: skip
    assert np.array_equal(other.predict(mixed(houses, how)), model.predict(X))
    assert np.array_equal(other.predict(X), model.predict(X))


def test_an_array_of_texts(houses):
    X = houses[["town", "rooms"]].fillna("none").astype(str).to_numpy(dtype=str)
    assert X.dtype.kind == "U"
    with pytest.warns(DataWarning, match="column 'x1': texts such as '5' are read as numbers"):
        model = small().fit(X, houses["price"])
    assert [column.kind for column in model.schema_.columns] == ["category", "number"]
    assert model.predict(X).shape == (len(X),)


# Columns


@pytest.mark.parametrize("make", [small, search])
def test_columns_are_found_by_name(houses, make):
    X = houses[FEATURES]
    model = make().fit(X, houses["price"])
    assert model.feature_names_in_.tolist() == FEATURES
    assert model.n_features_in_ == len(FEATURES)
    expected = model.predict(X)
    assert np.array_equal(model.predict(X[FEATURES[::-1]].assign(extra="x")), expected)
    with pytest.raises(SchemaError, match="'town'") as caught:
        model.predict(X.drop(columns="town").rename(columns={"area": "aera"}))
    assert "\n" not in str(caught.value)


def test_an_array_after_a_frame_warns_as_in_scikit_learn(table):
    X, y = table
    model = small().fit(X, y)
    with pytest.warns(UserWarning, match="X does not have valid feature names, but NeuralRegressor was fitted with"):
        prediction = model.predict(X.to_numpy())
    assert np.array_equal(prediction, model.predict(X))
    bare = small().fit(X.to_numpy(), y)
    assert not hasattr(bare, "feature_names_in_")
    with pytest.warns(UserWarning, match="X has feature names, but NeuralRegressor was fitted without feature names"):
        assert np.array_equal(bare.predict(X), prediction)
    with pytest.raises(ValueError, match="X has 2 features, but NeuralRegressor is expecting 3 features as input"):
        bare.predict(X.to_numpy()[:, :2])
    refitted = model.fit(X.to_numpy(), y)
    assert not hasattr(refitted, "feature_names_in_")


def test_names_that_are_no_texts_are_places(table):
    X, y = table[0].set_axis([7, 5, 6], axis=1), table[1]
    model = small().fit(X, y)
    assert not hasattr(model, "feature_names_in_")
    expected = model.predict(X)
    assert np.array_equal(model.predict(X.to_numpy()), expected)
    assert np.array_equal(model.predict(X.set_axis([1, 2, 3], axis=1)), expected)


def test_a_frame_after_an_array_keeps_its_types(houses):
    X = houses[["area", "sold", "town"]]
    model = small().fit(X.to_numpy(), houses["price"])
    assert [column.kind for column in model.schema_.columns] == ["number", "date", "category"]
    with pytest.warns(UserWarning, match="was fitted without feature names"):
        prediction = model.predict(X.astype({"town": "category"}))
    assert np.array_equal(prediction, model.predict(X.to_numpy()))


def test_a_pyarrow_table(houses):
    X, y = houses[FEATURES], houses["price"]
    arrow = pyarrow.Table.from_pandas(X)
    model = small().fit(arrow, pyarrow.Table.from_pandas(houses[["price"]]))
    assert model.feature_names_in_.tolist() == FEATURES
    assert model.model_.manifest["targets"] == ["price"]
    assert np.array_equal(model.predict(arrow)[:, 0], small().fit(X, y).predict(X))


def test_validation_rows_have_the_columns_of_the_training_rows(houses):
    X, y = houses[FEATURES], houses["price"]
    model = small(early_stopping=True)
    expected = model.fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:]).predict(X)
    turned = X[80:][FEATURES[::-1]].assign(more=1)
    assert np.array_equal(model.fit(X[:80], y[:80], X_val=turned, y_val=y[80:]).predict(X), expected)
    assert np.array_equal(model.fit(X[:80], y[:80], X_val=X[80:].to_numpy(), y_val=y[80:]).predict(X), expected)
    for options, message in (
        ({"X_val": X[80:].drop(columns="town"), "y_val": y[80:]}, "X_val lacks columns of X: 'town'"),
        ({"X_val": X[80:].to_numpy()[:, 1:], "y_val": y[80:]}, "X_val has 5 features, but X is expecting 6"),
        ({"X_val": X[80:], "y_val": houses[["price", "area"]][80:]}, "y_val has 2 targets, y 1"),
        ({"X_val": X[80:], "y_val": y[70:]}, "inconsistent numbers of samples"),
        ({"sample_weight_val": np.ones(40)}, "sample_weight_val is of the rows of X_val"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(X[:80], y[:80], **options)


# Routing


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("make", [small, search])
def test_weights_are_routed(table, make):
    X, y = table
    weight = np.where(y < np.median(y), 100.0, 1.0)
    results = {}
    for asks in (True, False):
        # one that scores with the weights takes them in any case
        model = make().set_fit_request(sample_weight=asks).set_score_request(sample_weight=True)
        done = cross_validate(model, X, y, cv=2, params={"sample_weight": weight}, return_estimator=True)
        results[asks] = done["estimator"][0].predict(X)
    assert results[True].mean() < results[False].mean()
    plain = cross_validate(make(), X, y, cv=2, return_estimator=True)["estimator"][0]
    assert np.array_equal(plain.predict(X), results[False])


@pytest.mark.usefixtures("routing")
def test_weights_are_routed_through_a_grid_search(table):
    X, y = table
    model = small(max_epochs=4).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    grid = GridSearchCV(model, {"network__depth": [1, 2]}, cv=2)
    weighted = grid.fit(X, y, sample_weight=np.where(y < 0, 10.0, 1.0)).cv_results_["mean_test_score"]
    even = grid.fit(X, y, sample_weight=np.ones(N)).cv_results_["mean_test_score"]
    assert not np.allclose(weighted, even)


@pytest.mark.usefixtures("routing")
def test_groups_are_routed(table):
    X, y = table
    groups = np.repeat([0, 1, 2], N // 3)
    model = search(cv=LeaveOneGroupOut()).set_fit_request(groups=True)
    assert make_pipeline(StandardScaler(), model).fit(X, y, groups=groups)[-1].n_splits_ == 3


# The search


def test_cv_as_scikit_learn_means_it(table):
    X, y = table
    groups = np.repeat(np.arange(6), N // 6)
    assert search(cv=3).fit(X, y).n_splits_ == 3
    assert search(cv=ShuffleSplit(4, random_state=0)).fit(X, y).n_splits_ == 4
    assert search(cv=GroupKFold(3)).fit(X, y, groups=groups).n_splits_ == 3
    splits = list(KFold(3).split(X))
    listed = search(cv=splits).fit(X, y)
    assert np.array_equal(listed.predict(X), search(cv=KFold(3)).fit(X, y).predict(X))
    assert np.array_equal(search(cv=iter(splits)).fit(X, y).predict(X), listed.predict(X))
    assert search(cv=None).fit(X, y).n_splits_ == 5
    assert search(cv=None).fit(X, y, groups=groups).n_splits_ == 5
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        search(cv=GroupKFold(3)).fit(X, y, groups=groups[:-1])


def test_row_numbers_of_cv_are_those_of_the_table_as_given(table):
    """Also where rows of weight zero are left out."""
    X, y = table
    weight = np.ones(N)
    weight[[3, 40]] = 0
    kept = np.flatnonzero(weight)
    weighted = search(cv=[(np.arange(30), np.arange(30, N))]).fit(X, y, weight)
    place = np.searchsorted(kept, [30])[0]
    left = search(cv=[(np.arange(place), np.arange(place, N - 2))]).fit(X.iloc[kept], y[kept], np.ones(N - 2))
    assert np.array_equal(weighted.predict(X), left.predict(X))
    with pytest.raises(DataError, match="fold 0 has no row of a weight above 0"):
        search(cv=[([3, 40], np.arange(50, N))]).fit(X, y, weight)


def test_scoring_by_name_and_by_function(table):
    X, y = table
    by_name = search(scoring="mae").fit(X, y)
    full = search(scoring="neg_mean_absolute_error").fit(X, y)
    own = search(scoring=make_scorer(mean_absolute_error, greater_is_better=False)).fit(X, y)
    for model in (full, own):
        np.testing.assert_allclose(model.cv_results_["mean_test_score"], by_name.cv_results_["mean_test_score"])
    assert by_name.best_score_ < 0
    assert "mae" in by_name.leaderboard().columns
    r2 = search(scoring="r2").fit(X, y)
    assert r2.best_score_ == max(r2.cv_results_["mean_test_score"]) > 0
    with pytest.raises(OptionError, match="rsme") as caught:
        search(scoring="rsme").fit(X, y)
    assert "'rmse'" in str(caught.value)


def test_results_of_a_search(table):
    X, y = table
    model = search().fit(X, y)
    results = model.cv_results_
    assert set(results) == {
        "mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time", "params", "param_learning_rate",
        "param_max_epochs", "param_network__depth", "param_network__width", "split0_test_score", "split1_test_score",
        "mean_test_score", "std_test_score", "rank_test_score",
    }  # fmt: skip
    assert (results["mean_test_score"] < 0).all()
    folds = np.stack([results["split0_test_score"], results["split1_test_score"]])
    np.testing.assert_allclose(results["mean_test_score"], folds.mean(0))
    np.testing.assert_allclose(results["std_test_score"], folds.std(0))
    assert sorted(results["rank_test_score"]) == [1, 2]
    assert model.best_index_ == results["rank_test_score"].argmin()
    assert model.best_score_ == results["mean_test_score"].max()
    assert model.best_params_ == results["params"][model.best_index_]
    assert model.best_params_["learning_rate"] == 0.01
    assert pd.DataFrame(results).shape == (2, 14)


def test_the_best_estimator_is_a_regressor_of_its_own(table):
    X, y = table
    model = search(ensemble=False).fit(X, y)
    best = model.best_estimator_
    assert isinstance(best, NeuralRegressor)
    assert np.array_equal(best.predict(X), model.predict(X))
    assert model.ensemble_score_ == model.best_score_
    assert best.get_params()["network__width"] == 16
    assert len(best.loss_curve_) == best.n_iter_ == 10
    again = clone(best).fit(X, y)
    assert again.score(X, y) == pytest.approx(best.score(X, y), abs=0.2)
    assert not {"leaderboard", "plan", "verdict"} & set(best.model_.manifest)


def test_columns_of_one_name_that_no_feature_has_are_not_looked_at(table):
    X, y = table
    model = NeuralRegressor(max_epochs=1).fit(X, y)
    more = pd.concat([X, pd.DataFrame({"day": ["a"] * len(X)}), pd.DataFrame({"day": ["b"] * len(X)})], axis=1)
    assert np.array_equal(model.predict(more), model.predict(X))
    with pytest.raises(DataError, match="'a'"):
        model.predict(pd.concat([more, X["a"]], axis=1))


def test_what_a_fit_without_a_result_leaves(table):
    X, y = table
    model = search()
    with pytest.raises(AutoregError):
        model.set_params(space={"learning_rate": [-1.0]}).fit(X, y)
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(NotFittedError):
        check_is_fitted(model)


def test_the_ensemble_has_a_score_of_its_own(table):
    X, y = table
    space = {"activation": ["relu", "tanh", "silu"], "max_epochs": [10], "learning_rate": [0.01]}
    model = search(space=space).fit(X, y)
    assert model.results_.ensemble is not None
    assert model.ensemble_score_ == model.results_.ensemble.score
    weights = model.results_.ensemble.facts["weights"]
    assert sum(weights.values()) == pytest.approx(1)
    parts = {part.candidate["activation"]: part for part in model.model_.parts}
    assert {row.candidate["activation"] for row in model.results_.candidates if row.index in weights} == set(parts)
    assert not np.array_equal(model.predict(X), model.best_estimator_.predict(X))


def test_leaderboard(table):
    X, y = table
    model = search(companions="compare").fit(X, y)
    board = model.leaderboard(X, y)
    assert {"rank", "model", "kind", "rmse", "rmse_std", "epoch", "seconds", "failure"} <= set(board.columns)
    assert board["rmse"].is_monotonic_increasing
    assert (board["rmse"] > 0).all()
    assert set(board["kind"]) == {"network", "companion"}
    assert board.attrs["test_score"] == model.score(X, y)
    assert model.results_.verdict
    networks = board[board["kind"] == "network"]
    assert set(networks["model"]) >= {"mlp(depth=1, width=16) relu lr 0.01", "mlp(depth=1, width=16) relu lr 0.001"}


def test_name_lists_restrict_the_search(table):
    space = {"max_epochs": [3]}
    model = search(space=space, activations=["tanh", nn.SiLU], losses=["huber"], optimizers=["sgd"]).fit(*table)
    found = model.cv_results_["params"]
    assert [p["activation"] for p in found] == ["tanh", nn.SiLU]
    assert {p["loss"] for p in found} == {"huber"}
    assert {p["optimizer"] for p in found} == {"sgd"}
    chosen = search(strategy="portfolio", effort="quick", space=space, networks=["linear"], n_candidates=2).fit(*table)
    assert {p["network"] for p in chosen.cv_results_["params"]} == {"linear"}


def test_values_of_a_space_come_in_any_container(table):
    space = {"learning_rate": np.array([0.01]), "max_epochs": range(1, 3), "activation": (n for n in ("relu", "tanh"))}
    found = search(space=space).fit(*table).cv_results_["params"]
    assert [(p["activation"], p["max_epochs"]) for p in found] == [("relu", 1), ("relu", 2), ("tanh", 1), ("tanh", 2)]


def test_a_strategy_of_the_user(table):
    from autoreg.space import Candidate

    def twice(space, results, n, seed):
        rates = [0.001, 0.01][len(results) :]
        return [Candidate({"learning_rate": rates[0], "max_epochs": 3})] if rates else []

    model = search(strategy=twice, space=None).fit(*table)
    assert [p["learning_rate"] for p in model.cv_results_["params"]] == [0.001, 0.01]


# Parameters


@pytest.mark.parametrize("make", [NeuralRegressor, AutoRegressor])
def test_arguments_are_stored_untouched(make):
    given = {name: object() for name in inspect.signature(make).parameters}
    model = make(**given)
    assert all(getattr(model, name) is value for name, value in given.items())
    assert vars(model) == given


def test_options_of_parts_are_read_and_set():
    options = {"depth": 3}
    model = NeuralRegressor(network_options=options)
    assert model.get_params()["network__depth"] == 3
    assert "network__depth" not in model.get_params(deep=False)
    model.set_params(network__depth=2, network__width=8, optimizer__weight_decay=0.1, learning_rate=0.5)
    assert options == {"depth": 3}
    assert model.network_options == {"depth": 2, "width": 8}
    assert model.optimizer_options == {"weight_decay": 0.1}
    assert model.learning_rate == 0.5
    assert clone(model).get_params()["network__width"] == 8
    with pytest.raises(ValueError, match="netwrk"):
        model.set_params(netwrk__depth=1)
    with pytest.raises(ValueError, match="netwrk"):
        model.set_params(netwrk="mlp")


# What is wrong is said in one line

WRONG = [
    (small, {"activation": "reluu"}, UnknownNameError, "no activation 'reluu'; did you mean 'relu'?"),
    (small, {"network": "mpl"}, UnknownNameError, "no network 'mpl'; did you mean 'mlp'?"),
    (small, {"loss": "squared"}, UnknownNameError, "no loss 'squared'; did you mean 'squared_error'?"),
    (small, {"optimizer": "adan"}, UnknownNameError, "no optimizer 'adan'; did you mean"),
    (small, {"encoding": "plian"}, UnknownNameError, "no encoding 'plian'; did you mean 'plain'?"),
    (small, {"schedule": "cosin"}, OptionError, "no schedule 'cosin'; did you mean 'cosine'?"),
    (small, {"target_scaling": "standart"}, OptionError, "no target scaling 'standart'; did you mean 'standard'?"),
    (small, {"activation": 3}, OptionError, "activation 3: give a name"),
    (small, {"network": 3}, OptionError, "network 3: give a name"),
    (small, {"loss": 3}, OptionError, "loss 3: give a name"),
    (small, {"optimizer": 3}, OptionError, "optimizer 3: give a name"),
    (small, {"network_options": [2]}, OptionError, "network_options=[2]: give a dict"),
    (small, {"network_options": {"depth": 0}}, OptionError, "network option depth=0: give a whole number"),
    (small, {"network_options": {"deep": 2}}, OptionError, "no option of network mlp 'deep'; did you mean 'depth'?"),
    (small, {"optimizer_options": {"momentun": 2}}, OptionError, "no option of optimizer adamw 'momentun';"),
    (small, {"loss": "huber", "loss_options": {"delta": -1}}, OptionError, "loss option delta=-1"),
    (small, {"loss_options": {"delta": 1}}, OptionError, "loss squared_error takes no options: remove 'delta'"),
    (small, {"learning_rate": 0}, OptionError, "learning_rate=0: give a number above 0"),
    (small, {"learning_rate": "fast"}, OptionError, "learning_rate='fast'"),
    (small, {"max_epochs": 0}, OptionError, "max_epochs=0: give a whole number of at least 1"),
    (small, {"max_epochs": 2.5}, OptionError, "max_epochs=2.5"),
    (small, {"batch_size": 0}, OptionError, "batch_size=0"),
    (small, {"batch_size": "big"}, OptionError, "batch_size='big'"),
    (small, {"subsample": 0}, OptionError, "subsample=0: give a number above 0 and at most 1"),
    (small, {"subsample": "half"}, OptionError, "subsample='half'"),
    (small, {"early_stopping": True, "validation_fraction": 2}, OptionError, "validation_fraction=2"),
    (small, {"early_stopping": True, "n_iter_no_change": 0}, OptionError, "n_iter_no_change=0"),
    (search, {"effort": "fast"}, OptionError, "no effort 'fast'; known: balanced, quick, thorough"),
    (search, {"strategy": "gird"}, UnknownNameError, "no strategy 'gird'; did you mean 'grid'?"),
    (search, {"companions": "all"}, OptionError, "no value of companions 'all'"),
    (search, {"space": {"learning_rat": [1]}}, OptionError, "did you mean 'learning_rate'?"),
    (search, {"space": {"learning_rate": 0.1}}, OptionError, "space learning_rate=0.1: give a non-empty list"),
    (search, {"space": {"learning_rate": []}}, OptionError, "space learning_rate=[]: give a non-empty list"),
    (search, {"space": {"learning_rate": stats.loguniform(0.1, 1)}}, OptionError, "strategy grid needs lists"),
    (search, {"space": {"activation": ["reluu"]}}, UnknownNameError, "no activation 'reluu'; did you mean 'relu'?"),
    (search, {"space": "learning_rate"}, OptionError, "space='learning_rate'"),
    (search, {"activations": "relu"}, OptionError, "activations='relu': give a list"),
    (search, {"activations": []}, OptionError, "activations=[]: give a list"),
    (search, {"n_candidates": 0}, OptionError, "n_candidates=0"),
    (search, {"precision": "half"}, OptionError, "no precision 'half'"),
    (search, {"space": {"early_stopping": [True]}}, OptionError, "this strategy runs all epochs; vary max_epochs"),
    (search, {"cv": 1}, OptionError, "cv"),
    (search, {"random_state": -1}, OptionError, "random_state=-1: give a whole number from 0"),
    (small, {"random_state": "one"}, OptionError, "random_state='one': give a whole number from 0"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "options", "error", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_arguments(table, make, options, error, message):
    model = make(**options)  # nothing is checked before fit
    with pytest.raises(error) as caught:
        model.fit(*table)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


# Parts that fail


class TooNarrow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x):
        return self.layer(x)


def raising(x, *_):
    raise RuntimeError("out of cheese\nsecond line")


def raising_when_made():
    raise RuntimeError("out of cheese")


def averaged(prediction, target):
    return ((prediction - target) ** 2).mean()


BROKEN = {
    "network": (TooNarrow, "takes 2 features, the encoding gives 3"),
    "network that is none": (lambda n_features, n_outputs: "a text", "must give an nn.Module"),
    "activation": (raising, "out of cheese"),
    "loss": (raising, "out of cheese"),
    "loss that averages": (averaged, "one value per row"),
    "optimizer": (raising_when_made, "out of cheese"),
    "schedule": (raising, "out of cheese"),
    "encoding": (raising, "out of cheese"),
}
GOOD = {
    "network": "mlp", "activation": "relu", "loss": "squared_error", "optimizer": "adam", "schedule": "cosine",
    "encoding": "plain",
}  # fmt: skip


@pytest.mark.parametrize("what", list(BROKEN))
def test_a_part_that_fails_takes_no_other_candidate_down(table, what):
    part, (broken, reason) = what.split()[0], BROKEN[what]
    model = search(space={part: [broken, GOOD[part]], "max_epochs": [3]}).fit(*table)
    assert model.best_params_[part] == GOOD[part]
    assert np.isfinite(model.predict(table[0])).all()
    board = model.leaderboard()
    (failure,) = board.loc[board["failure"] != "", "failure"]
    assert reason in failure
    assert "\n" not in failure
    assert np.isnan(model.cv_results_["mean_test_score"][0])
    assert model.cv_results_["rank_test_score"].tolist() == [2, 1]


@pytest.mark.parametrize("what", list(BROKEN))
def test_when_all_fail_the_reason_is_named(table, what):
    part, (broken, reason) = what.split()[0], BROKEN[what]
    with pytest.raises(SearchError, match=reason) as caught:
        search(space={part: [broken], "max_epochs": [3]}).fit(*table)
    assert "\n" not in str(caught.value)
    with pytest.raises(AutoregError, match=reason):
        small(**{part: broken, "network_options": None}).fit(*table)


def test_too_large_a_learning_rate_is_a_failed_candidate(table):
    space = {"learning_rate": [1e12, 0.01], "max_epochs": [5], "optimizer": ["sgd"]}
    model = search(space=space).fit(*table)
    assert model.best_params_["learning_rate"] == 0.01
    assert "a smaller learning rate may help" in model.results_.candidates[0].failure
    with pytest.raises(SearchError, match="a smaller learning rate may help"):
        small(learning_rate=1e12, optimizer="sgd").fit(*table)


# Odd tables


@pytest.mark.filterwarnings("ignore:target 'target' has one value only")
def test_a_constant_target_is_predicted(table):
    X, y = table[0], np.full(N, 42.0)
    for model in (small(), search()):
        np.testing.assert_allclose(model.fit(X, y).predict(X), 42.0, atol=0.5)


@pytest.mark.parametrize("make", [small, search])
def test_one_feature(table, make):
    X, y = table
    assert make().fit(X[["a"]], y).predict(X[["a"]]).shape == (N,)


@pytest.mark.filterwarnings("ignore:2 folds instead of 5")
@pytest.mark.parametrize("early_stopping", [False, True])
def test_two_rows(early_stopping):
    X, y = [[0.0, 1.0], [1.0, 0.0]], [1.0, 3.0]
    model = small(early_stopping=early_stopping).fit(X, y)
    assert np.isfinite(model.predict(X)).all()
    found = AutoRegressor(effort="quick", random_state=0, verbose=0, space={"max_epochs": [3]}).fit(X, y)
    assert np.isfinite(found.predict(X)).all()


def test_many_columns():
    draw = np.random.default_rng(0)
    X = draw.normal(size=(30, 2000))
    model = small(max_epochs=3).fit(X, X[:, 0])
    assert model.predict(X).shape == (30,)
    assert search().fit(X, X[:, 0]).n_features_in_ == 2000


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_targets_of_any_size(table, scale):
    X, y = table
    model = small(max_epochs=40).fit(X, scale * y)
    assert model.score(X, scale * y) == pytest.approx(small(max_epochs=40).fit(X, y).score(X, y), abs=1e-3)


def test_a_model_that_is_not_fitted(table):
    from sklearn.exceptions import NotFittedError

    for model in (small(), search()):
        with pytest.raises(NotFittedError):
            model.predict(table[0])
        with pytest.raises(NotFittedError):
            model.save("never.safetensors")


# Objects where names go


def test_objects_where_names_go(table):
    X, y = table
    options = {
        "network": nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1)),
        "loss": nn.SmoothL1Loss(beta=0.5),
        "optimizer": torch.optim.NAdam,
        "encoding": "standard",
        "random_state": 0,
    }
    model = NeuralRegressor(max_epochs=100, learning_rate=0.02, **options).fit(X, y)
    assert model.score(X, y) > 0.8
    before = [p.detach().clone() for p in options["network"].parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, options["network"].parameters(), strict=True))
    assert np.array_equal(clone(model).fit(X, y).predict(X), model.predict(X))


def test_silence(table, capfd):
    X, y = table
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(verbose=0).fit(X, y).predict(X)
        search(verbose=0, companions="compare").fit(X, y).predict(X)
    assert capfd.readouterr() == ("", "")
    search(verbose=1).fit(X, y)
    out, err = capfd.readouterr()
    assert out == ""
    assert err


def test_categories_of_training_rows_stay_categories_whatever_the_validation_rows_have(table):
    X, y = table
    number = pd.Series(np.arange(len(X)) % 4)
    train, valid = X[:40].assign(zip=number[:40].astype("category")), X[40:]
    for later in (number[40:].clip(0, 1).astype("category"), number[40:]):
        model = small().fit(train, y[:40], X_val=valid.assign(zip=later), y_val=y[40:])
        assert {column.name: column.kind for column in model.schema_.columns}["zip"] == "category"
    flags = (number < 2).astype("category")
    for later in (number, (number < 2)):
        model = small().fit(X[:40].assign(f=flags[:40]), y[:40], X_val=valid.assign(f=later[40:]), y_val=y[40:])
        assert {column.name: column.kind for column in model.schema_.columns}["f"] == "category"


@pytest.mark.filterwarnings("ignore::autoreg.errors.DataWarning")
def test_a_metric_without_a_value_for_some_predictions(table):
    X, _ = table
    counts = np.random.default_rng(0).poisson(0.8, len(X)).astype(float)
    log_error = {"scoring": "neg_root_mean_squared_log_error"}
    small = {"strategy": "portfolio", "effort": "quick", "n_candidates": 2, "space": {"max_epochs": [8]}}
    model = search(**log_error, **small).fit(X, counts)
    assert np.isfinite(model.best_score_)
    assert any(np.isnan(row.curve).any() for row in model.results_.candidates)
    linear = {"network": ["linear"], "learning_rate": [0.1], "max_epochs": [30]}
    with pytest.raises(SearchError, match="a loss with a log link"):
        search(**log_error, space=linear).fit(X, np.maximum(0, 10 * X["a"]))
    with pytest.raises(OptionError, match="does not take these targets"):
        search(scoring="neg_root_mean_squared_log_error").fit(X, counts - 5)
