"""Scores agree with scikit-learn's, for tables and for stacks."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from autoreg.errors import OptionError
from autoreg.scoring import as_metric


@pytest.mark.parametrize(
    ("name", "function", "sign"),
    [
        ("rmse", metrics.root_mean_squared_error, -1),
        ("mae", metrics.mean_absolute_error, -1),
        ("r2", metrics.r2_score, 1),
        ("mape", metrics.mean_absolute_percentage_error, -1),
        ("neg_mean_squared_error", metrics.mean_squared_error, -1),
        ("mean_poisson_deviance", metrics.mean_poisson_deviance, -1),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_scikit_learns(name, function, sign, weighted):
    rng = np.random.default_rng(0)
    y, p = rng.uniform(1, 2, (50, 1)), rng.uniform(1, 2, (50, 1))
    w = rng.uniform(size=50) if weighted else None
    metric = as_metric(name)
    expected = sign * function(y[:, 0], p[:, 0], sample_weight=w)
    assert metric.score(y, p, w) == pytest.approx(expected)
    weights = torch.ones(1, 50) if w is None else torch.from_numpy(w)[None]
    stacked = metric.over_members()(torch.from_numpy(y)[None], torch.from_numpy(p)[None], weights)
    assert stacked.tolist() == pytest.approx([expected])


def test_padding_does_not_count():
    y = torch.zeros(1, 3, 1, dtype=torch.float64)
    p = torch.tensor([[[1.0], [1.0], [50.0]]], dtype=torch.float64)
    w = torch.tensor([[1.0, 1.0, 0.0]])
    for name in ("rmse", "mae"):
        assert as_metric(name).over_members()(y, p, w).tolist() == [-1.0]


def test_a_users_scorer():
    def closeness(estimator, X, y):
        return -float(np.abs(estimator.predict(X) - y).max())

    assert as_metric(closeness).score(np.zeros((3, 1)), np.array([[1.0], [2.0], [-3.0]])) == -3.0


def test_an_unknown_name_says_what_is_near():
    with pytest.raises(OptionError, match="no metric 'rmsee'; did you mean 'rmse'"):
        as_metric("rmsee")


def test_prediction_that_is_not_finite_scores_nan():
    assert np.isnan(as_metric("mae").score(np.zeros((2, 1)), np.array([[np.nan], [1.0]])))


def test_a_scorer_without_weights_counts_all_rows_alike() -> None:
    y, prediction, weight = np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]), np.array([5.0, 1.0])
    plain = as_metric("max_error")
    assert plain.score(y, prediction, weight) == plain.score(y, prediction) == -2.0
    assert as_metric("mae").score(y, prediction, weight) != as_metric("mae").score(y, prediction)
    stacked = plain.over_members()(torch.tensor(y[None]), torch.tensor(prediction[None]), torch.tensor(weight[None]))
    assert stacked.tolist() == [-2.0]


def test_predictions_without_a_value_score_worst_and_targets_without_one_are_an_error() -> None:
    metric = as_metric("rmsle")
    y, weight = torch.ones(2, 4, 1), torch.ones(2, 4)
    prediction = torch.ones(2, 4, 1)
    prediction[1, 0] = -2
    assert metric.over_members()(y, prediction, weight).tolist() == [0, -np.inf]
    metric.check(np.array([[0.0], [3.0]]))
    with pytest.raises(
        OptionError, match=r"scoring='neg_root_mean_squared_log_error' does not take these targets: .*-1"
    ):
        metric.check(np.array([[1.0], [-2.0]]))

    with pytest.raises(OptionError, match=r"scoring='roc_auc' does not take these targets"):
        as_metric("roc_auc").check(np.array([[0.0], [3.0]]))
    # of a fold without any count, too
    counts = as_metric("mean_poisson_deviance").over_members()
    assert counts(torch.zeros(1, 4, 1), torch.tensor([[[1.0], [1], [1], [-1]]]), weight[:1]).tolist() == [-np.inf]

    def wrong(estimator, X, y):
        raise ValueError("of the user's own")

    with pytest.raises(ValueError, match="of the user's own"):
        as_metric(wrong).over_members()(y, prediction, weight)
