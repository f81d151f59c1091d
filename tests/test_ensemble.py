"""Greedy selection never does worse than the best single candidate on the rows it selects on."""

import numpy as np
import pytest
from sklearn.model_selection import RepeatedKFold

from autoreg import AutoRegressor
from autoreg.ensemble import cross_fitted, greedy_weights
from autoreg.scoring import as_metric


@pytest.fixture
def candidates():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(300, 1))
    return y, np.stack([y + s * rng.normal(size=y.shape) for s in (0.5, 0.6, 0.7, 3.0)])


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2"])
def test_the_ensemble_is_at_least_as_good_as_the_best(candidates, metric):
    y, predictions = candidates
    score = as_metric(metric).score
    weights = greedy_weights(predictions, y, None, score)
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0).all()
    assert score(y, np.tensordot(weights, predictions, axes=1)) >= max(score(y, p) for p in predictions)
    assert weights[3] < 0.1


def test_equal_candidates_give_one(candidates):
    y, predictions = candidates
    assert greedy_weights(np.stack([predictions[0]] * 3), y, None, as_metric("rmse").score).tolist() == [1, 0, 0]


def test_weights_for_a_part_do_not_see_its_target(candidates):
    y, predictions = candidates
    parts = np.array_split(np.arange(300), 5)
    score = as_metric("rmse").score
    before, _, _ = cross_fitted(predictions, y, None, score, parts)
    changed = y.copy()
    changed[parts[2]] += 100
    after, _, _ = cross_fitted(predictions, changed, None, score, parts)
    np.testing.assert_array_equal(before[2], after[2])


def test_one_part_is_cross_fitted_too():
    rng = np.random.default_rng(0)
    y, predictions = rng.normal(size=(40, 1)), rng.normal(size=(30, 40, 1))
    (prediction,), (found,), _ = cross_fitted(predictions, y, None, as_metric("rmse").score, [np.arange(40)])
    assert np.isfinite(prediction).all()
    # nothing to be found in noise: selected and scored on the same rows it would look far better than zero
    weights = greedy_weights(predictions, y, None, as_metric("rmse").score)
    zero = as_metric("rmse").score(y, 0 * y)
    assert as_metric("rmse").score(y, np.tensordot(weights, predictions, axes=1)) > zero > found


def test_validation_rows_of_weight_zero_take_no_part():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2))
    y, weight = X[:, 0] + rng.normal(size=120), np.tile([0.0, 1.0], 30)
    search = AutoRegressor("grid", space={"learning_rate": [0.01, 0.1], "max_epochs": [3]}, scoring="mae",
                           companions=None, random_state=0, verbose=0)  # fmt: skip
    given = search.fit(X[:60], y[:60], X_val=X[60:], y_val=y[60:], sample_weight_val=weight).ensemble_score_
    assert given == search.fit(X[:60], y[:60], X_val=X[61::2], y_val=y[61::2]).ensemble_score_


def test_an_undefined_metric_leaves_the_first():
    weights = greedy_weights(np.zeros((3, 1, 1)), np.zeros((1, 1)), None, lambda y, p, w=None: float("nan"))
    assert weights.tolist() == [1, 0, 0]


def test_cross_fitted_predicts_every_row_once(candidates):
    y, predictions = candidates
    parts = np.array_split(np.arange(300), 5)
    found, scores, weights = cross_fitted(predictions, y, None, as_metric("rmse").score, parts)
    assert [own.shape for own in found] == [(len(part), 1) for part in parts]
    assert np.isfinite(np.concatenate(found)).all()
    assert len(scores) == 5
    assert weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("metric", ["rmse", "neg_mean_squared_error"])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_errors_products_select_what_the_rows_select(metric, n_outputs):
    rng = np.random.default_rng(1)
    y, weight = rng.normal(size=(200, n_outputs)), rng.uniform(0, 2, size=200)
    predictions = np.stack([y + s * rng.normal(size=y.shape) for s in (0.5, 0.6, 0.7, 0.8, 3.0)])
    metric = as_metric(metric)
    by_rows = greedy_weights(predictions, y, weight, metric.score)
    np.testing.assert_allclose(
        by_rows, greedy_weights(predictions, y, weight, metric.score, of_squares=metric.of_squares)
    )


def test_parts_that_overlap_are_scored_on_their_own_rows(candidates):
    """As the folds of repeated cross-validation do."""
    y, predictions = candidates
    rng = np.random.default_rng(0)
    parts = [np.sort(part) for _ in range(4) for part in np.array_split(rng.permutation(300), 5)]
    y, predictions = y + np.linspace(0, 50, 300)[:, None], predictions + np.linspace(0, 50, 300)[:, None]
    r2 = as_metric("r2").score
    found, scores, _ = cross_fitted(predictions, y, None, r2, parts)
    assert [own.shape for own in found] == [(60, 1)] * 20
    for part, own, score in zip(parts, found, scores, strict=True):
        assert score == r2(y[part], own)
        assert score >= max(r2(y[part], one[part]) for one in predictions) - 0.01


def test_the_ensembles_folds_are_those_of_its_members():
    """In a sorted table, blocks of rows would have errors of their own."""
    X = np.linspace(0, 1, 120)[:, None]
    cv = RepeatedKFold(n_splits=3, n_repeats=3, random_state=0)
    search = AutoRegressor("grid", space={"learning_rate": [0.01, 0.1], "max_epochs": [20]}, scoring="r2", cv=cv,
                           companions="compare", random_state=0, verbose=0).fit(X, 100 * X[:, 0])  # fmt: skip
    assert len(search.results_.ensemble.scores) == 9
    assert search.ensemble_score_ == pytest.approx(search.best_score_, abs=0.1)


def test_where_a_score_looks_at_all_rows_only_the_best_are_selected_from():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 1))
    predictions = np.stack([y + scale * rng.normal(size=y.shape) for scale in np.linspace(2, 0.5, 100)])
    asked = 0

    def score(y, prediction, weight=None):
        nonlocal asked
        asked += 1
        return -float(np.abs(y - prediction).mean())

    weights = greedy_weights(predictions, y, None, score)
    assert asked == 100 + 40 * 30
    assert weights[:50].sum() == 0
    assert weights.sum() == pytest.approx(1)


def test_nothing_is_selected_on_the_rows_that_score_it():
    """Splits with one set of validation rows leave none to select on."""
    rng = np.random.default_rng(1)
    y, predictions = rng.normal(size=(40, 1)), rng.normal(size=(60, 40, 1))
    score = as_metric("rmse").score
    for parts in ([np.arange(40)] * 2, [np.arange(40), np.arange(36)]):
        _, scores, _ = cross_fitted(predictions, y, None, score, parts)
        assert all(found < score(y[part], 0 * y[part]) for part, found in zip(parts, scores, strict=True))


def test_repeated_folds_are_judged_by_equal_means(monkeypatch):
    """An ensemble's scores are those of mean predictions there: so are all others that it is compared with."""
    judged = []
    monkeypatch.setattr("autoreg.fitting.verdict", lambda results, ratio: judged.append((results, ratio)) or "said")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2))
    cv = RepeatedKFold(n_splits=3, n_repeats=4, random_state=0)
    search = AutoRegressor("grid", space={"learning_rate": [0.01], "max_epochs": [2]}, cv=cv, companions="compare",
                           random_state=0, verbose=0).fit(X, X[:, 0] + rng.normal(size=120))  # fmt: skip
    ((results, ratio),) = judged
    assert ratio == pytest.approx(0.5)
    of_trees = [next(c for c in found.companions if c.name == "extra_trees") for found in (results, search.results_)]
    assert len(of_trees[0].scores) == len(of_trees[1].scores) == 12
    assert of_trees[0].score > of_trees[1].score
