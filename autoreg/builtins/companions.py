"""Built-in companions: simple models that run on the same folds, so that a network has something to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyRegressor

from autoreg.builtins.additive import Additive, Constant, additive, constant
from autoreg.builtins.forests import MAX_CATEGORIES, SizedExtraTrees, forest_trees, hist_trees
from autoreg.encoding import TableLayout
from autoreg.hookspecs import hookimpl
from autoreg.scoring import Objective
from autoreg.trees import TreeEnsemble

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

ALPHAS = tuple(np.logspace(-2, 4, 7))
"""Penalties that ridge chooses from, by leave-one-out error."""

MANY_ROWS = 20_000
"""Rows beyond which ridge takes penalty 1: it hardly matters then, and choosing takes a multiple of the time."""

MANY_COLUMNS = 1500
"""Columns after one-hot coding beyond which ridge takes a penalty of as many and an iterative solver: choosing takes
time and memory with the square of the columns."""


def mean(layout: TableLayout, random_state: int, objective: Objective) -> DummyRegressor:
    """The mean of the training targets, whatever the row; their median or quantile where that is asked for."""
    level = 0.5 if objective.quantile is None else objective.quantile
    strategy = "mean" if objective.loss == "squared_error" else "quantile"
    return DummyRegressor(strategy=strategy, quantile=level)


class SizedRidge(RegressorMixin, BaseEstimator):
    """`RidgeCV` where the table's size allows it, otherwise `Ridge`."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SizedRidge:
        from sklearn.linear_model import Ridge, RidgeCV

        n_rows, n_columns = X.shape
        if n_columns > MANY_COLUMNS:
            self.model_ = Ridge(alpha=float(n_columns), solver="lsqr")
        else:
            many = Ridge(solver="lsqr" if issparse(X) else "auto")
            self.model_ = many if n_rows > MANY_ROWS else RidgeCV(alphas=ALPHAS)
        self.model_.fit(X, y, sample_weight=sample_weight)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        return self.model_.predict(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.input_tags.sparse = True
        return tags


def ridge(layout: TableLayout, random_state: int) -> Pipeline:
    """Ridge regression on imputed, scaled numbers and one-hot codes.

    Examples
    --------
    >>> X, y = np.array([[0.0, 2], [1.0, 2], [np.nan, 3], [3.0, 3]]), np.array([0.0, 1.0, 2.0, 3.0])
    >>> model = ridge(TableLayout(1, (True,), (4,)), 0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """
    # imported where needed: a search without companions would wait a tenth of a second for it
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    n_numbers, n_codes = layout.n_numbers, len(layout.n_codes)
    parts: list[tuple[str, Any, slice]] = []
    if n_numbers:
        impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        parts.append(("numbers", make_pipeline(impute, StandardScaler()), slice(0, n_numbers)))
    if n_codes:
        # rare categories share a column, so that the columns of all together stay bounded
        most = max(2, MANY_COLUMNS // (2 * n_codes))
        codes = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=most)
        parts.append(("codes", codes, slice(n_numbers, n_numbers + n_codes)))
    return Pipeline([("coded", ColumnTransformer(parts)), ("ridge", SizedRidge())])


def hist_gradient_boosting(layout: TableLayout, random_state: int, objective: Objective) -> Any:
    """Boosted trees with scikit-learn's defaults; codes are categories as far as the trees can take them."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    categories = [layout.n_numbers + i for i, n in enumerate(layout.n_codes) if n <= MAX_CATEGORIES]
    return HistGradientBoostingRegressor(
        loss=objective.loss, quantile=objective.quantile, categorical_features=categories or None,
        random_state=random_state,
    )  # fmt: skip


def extra_trees(layout: TableLayout, random_state: int, objective: Objective) -> SizedExtraTrees:
    """Extremely randomised trees, as many and as deep as the table's size allows."""
    return SizedExtraTrees(objective.loss, objective.quantile, random_state)


@hookimpl
def register_companions(register: Any) -> None:
    register("mean", mean, to_module=constant, module=Constant)
    register("ridge", ridge, to_module=additive, module=Additive)
    register("hist_gradient_boosting", hist_gradient_boosting, to_module=hist_trees, module=TreeEnsemble)
    register("extra_trees", extra_trees, to_module=forest_trees, module=TreeEnsemble)
