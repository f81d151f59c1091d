"""Companions made of trees, and how their trees become tensors.

scikit-learn's tree classes are imported when one is fitted or taken apart, never to load or to predict.
"""

from __future__ import annotations

import math
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_array

from autoreg.encoding import TableLayout
from autoreg.trees import Tree, TreeEnsemble

MAX_CATEGORIES = 255
"""Categories that HistGradientBoostingRegressor can treat as such; codes of a longer column are numbers to it."""

MOST_TREES, FEWEST_TREES = 40, 8
"""Extremely randomised trees of a fold; the folds' forests are averaged, so 40 of five folds are 200."""

CELLS = 200_000
"""Rows times columns from which on a fold has fewer trees."""

LEAVES = 600_000
"""Leaves that a fold's forest may have: 25 bytes each, and 8 more for each further target."""

QUANTILE_LEAF = 20
"""Rows that a leaf needs before one of its quantiles says something."""


class SizedExtraTrees(RegressorMixin, BaseEstimator):
    """`sklearn.ensemble.ExtraTreesRegressor`, sized by the table.

    Geurts, Ernst and Wehenkel, "Extremely randomized trees", Machine Learning 63 (2006).

    A category is seen as the number of its code: levels are in the order of their names, and a random threshold splits
    off names that begin alike.

    Parameters
    ----------
    loss : {"squared_error", "absolute_error", "quantile"}
        For the last two a leaf gives the median, or the quantile, of its training rows instead of their mean; the trees
        are grown alike.
    quantile : float or None
    random_state : int

    Attributes
    ----------
    forest_ : ExtraTreesRegressor
    """

    def __init__(self, loss: str = "squared_error", quantile: float | None = None, random_state: int = 0) -> None:
        self.loss = loss
        self.quantile = quantile
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SizedExtraTrees:
        from sklearn.ensemble import ExtraTreesRegressor

        X = check_array(X, dtype=np.float32, ensure_all_finite="allow-nan")
        n_trees, leaf = forest_size(*X.shape)
        self.forest_ = ExtraTreesRegressor(
            n_trees, min_samples_leaf=max(leaf, QUANTILE_LEAF) if self.loss == "quantile" else leaf,
            max_depth=100, random_state=self.random_state, n_jobs=joblib.effective_n_jobs(None),
        )  # fmt: skip
        # far from zero the squares that splits are compared by would lose their digits
        y = np.asarray(y, dtype=np.float64)
        center = np.average(y, axis=0, weights=sample_weight)
        self.forest_.fit(X, y - center, sample_weight)
        for tree in self.forest_.estimators_:
            tree.tree_.value[:, :, 0] += center
        # with several threads trees would be added up in any order, and the last bits with them
        self.forest_.set_params(n_jobs=1)
        if self.loss != "squared_error":
            level = 0.5 if self.quantile is None else self.quantile
            leaves = self.forest_.apply(X)
            targets = np.asarray(y, dtype=np.float64).reshape(len(X), -1)
            weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
            for own, tree in zip(leaves.T, self.forest_.estimators_, strict=True):
                for o, target in enumerate(targets.T):
                    found, values = leaf_quantiles(own, target, weight, level)
                    tree.tree_.value[found, o, 0] = values
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        return self.forest_.predict(check_array(X, dtype=np.float32, ensure_all_finite="allow-nan"))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.input_tags.allow_nan = True
        return tags


def forest_size(n_rows: int, n_columns: int) -> tuple[int, int]:
    """Trees of a fold's forest and rows of a leaf, so that time and size grow slower than the table.

    >>> forest_size(1000, 10), forest_size(32_000, 10), forest_size(208_000, 30)
    ((40, 2), (33, 2), (9, 4))
    """
    cells = max(1, n_rows * n_columns)
    n_trees = round(min(MOST_TREES, max(FEWEST_TREES, MOST_TREES * (CELLS / cells) ** 0.42)))
    return n_trees, max(2, math.ceil(n_trees * n_rows / LEAVES))


def leaf_quantiles(
    leaves: NDArray[Any], target: NDArray[np.float64], weight: NDArray[np.float64], level: float
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The weighted quantile of each leaf's rows: leaves that have rows, and a value for each.

    >>> leaf_quantiles(np.array([4, 2, 4, 4]), np.array([1.0, 7.0, 9.0, 2.0]), np.ones(4), 0.5)
    (array([2, 4]), array([7., 2.]))
    """
    kept = weight > 0
    leaves, target, weight = leaves[kept], target[kept], weight[kept]
    order = np.lexsort([target, leaves])
    leaves, target, weight = leaves[order], target[order], weight[order]
    found, first = np.unique(leaves, return_index=True)
    last = np.append(first[1:], len(leaves)) - 1
    upto = np.cumsum(weight)
    before = upto[first] - weight[first]
    # the first row up to which a leaf holds that share of its weight
    wanted = before + level * (upto[last] - before)
    place = np.clip(np.searchsorted(upto, wanted - 1e-9 * (upto[last] - before)), first, last)
    return found, target[place]


def hist_trees(fitted: Any, layout: TableLayout) -> TreeEnsemble:
    """A fitted `HistGradientBoostingRegressor` as a module."""
    seen = _as_seen(fitted, layout)
    trees = [_hist_tree(predictor, seen, layout) for (predictor,) in fitted._predictors]
    n_features = layout.n_numbers + len(layout.n_codes)
    return TreeEnsemble.from_trees(trees, n_features, base=fitted._baseline_prediction)


def _as_seen(fitted: Any, layout: TableLayout) -> dict[int, tuple[int, NDArray[np.float64] | None]]:
    """For each column that the trees see: the table's column, and what each of its codes is turned into.

    Categories stand first for them, each code as its place among those of the training rows; NaN is a code that these
    do not have.
    """
    n_features = layout.n_numbers + len(layout.n_codes)
    if fitted.is_categorical_ is None:
        return {column: (column, None) for column in range(n_features)}
    categorical = np.flatnonzero(fitted.is_categorical_)
    known = fitted._preprocessor.named_transformers_["encoder"].categories_
    seen: dict[int, tuple[int, NDArray[np.float64] | None]] = {}
    for place, (column, codes) in enumerate(zip(categorical, known, strict=True)):
        table = np.full(layout.n_codes[column - layout.n_numbers], np.nan)
        table[np.asarray(codes).astype(int)] = np.arange(len(codes))
        seen[place] = int(column), table
    for place, column in enumerate(np.flatnonzero(~fitted.is_categorical_), start=len(categorical)):
        seen[place] = int(column), None
    return seen


def _hist_tree(predictor: Any, seen: dict[int, tuple[int, NDArray[np.float64] | None]], layout: TableLayout) -> Tree:
    nodes = predictor.nodes
    leaf, by_category = nodes["is_leaf"] == 1, nodes["is_categorical"] == 1
    columns = np.array([seen[place][0] for place in range(len(seen))])
    subset = np.full(len(nodes), -1)
    subsets: list[NDArray[np.bool_]] = []
    width = max((n for n in layout.n_codes if n <= MAX_CATEGORIES), default=0)
    for node in np.flatnonzero(by_category & ~leaf):
        ordinals = seen[int(nodes["feature_idx"][node])][1]
        assert ordinals is not None
        bits = np.unpackbits(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]].view("u1"), bitorder="little")
        goes_left = np.full(len(ordinals), bool(nodes["missing_go_to_left"][node]))
        known = ~np.isnan(ordinals)
        goes_left[known] = bits[ordinals[known].astype(int)] == 1
        subset[node] = len(subsets)
        subsets.append(np.pad(goes_left, (0, width - len(goes_left))))
    return Tree(
        np.where(leaf, -1, nodes["left"].astype(np.int64)),
        np.where(leaf, -1, nodes["right"].astype(np.int64)),
        np.where(leaf, 0, columns[nodes["feature_idx"]]),
        np.where(leaf | by_category, 0.0, nodes["num_threshold"]),
        nodes["value"][:, None],
        nodes["missing_go_to_left"] == 1,
        subset if subsets else None,
        np.array(subsets) if subsets else None,
    )


def forest_trees(fitted: SizedExtraTrees, layout: TableLayout) -> TreeEnsemble:
    """A fitted `SizedExtraTrees` as a module."""
    trees = [_forest_tree(one.tree_) for one in fitted.forest_.estimators_]
    return TreeEnsemble.from_trees(trees, layout.n_numbers + len(layout.n_codes), average=True)


def _forest_tree(tree: Any) -> Tree:
    return Tree(
        tree.children_left, tree.children_right, tree.feature, tree.threshold, tree.value[:, :, 0],
        tree.missing_go_to_left == 1,
    )  # fmt: skip
