"""CatBoost as a companion, its symmetric trees saved as tensors.

CatBoost itself is imported when one is fitted, never to load a model or to predict with one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from torch import Tensor, nn

from autoreg import hookimpl

MAX_ONE_HOT = 12
"""Codes of a column up to which each has a column of its own; missing and unseen are two of them."""

MAX_DEPTH = 16
"""What CatBoost allows; a tree has two to the power of it leaves."""


class CodedCatBoost(RegressorMixin, BaseEstimator):
    """`catboost.CatBoostRegressor` on a coded table.

    Parameters
    ----------
    n_numbers : int
    n_codes : tuple of int
    loss : str
        CatBoost's ``loss_function``.
    iterations : int
    random_state : int

    Attributes
    ----------
    model_ : CatBoostRegressor
    """

    def __init__(
        self,
        n_numbers: int,
        n_codes: tuple[int, ...] = (),
        loss: str = "RMSE",
        iterations: int = 1000,
        random_state: int = 0,
    ) -> None:
        self.n_numbers = n_numbers
        self.n_codes = n_codes
        self.loss = loss
        self.iterations = iterations
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CodedCatBoost:
        from catboost import CatBoostRegressor

        y = np.asarray(y, dtype=np.float64)
        # CatBoost refuses a constant target
        self.constant_ = float(y[0]) if (y == y[0]).all() else None
        if self.constant_ is None:
            self.model_ = CatBoostRegressor(
                loss_function=self.loss, iterations=self.iterations, random_seed=self.random_state, verbose=False,
                allow_writing_files=False, thread_count=joblib.effective_n_jobs(None),
            )  # fmt: skip
            self.model_.fit(self._columns(X), y, sample_weight=sample_weight)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        if self.constant_ is not None:
            return np.full(len(X), self.constant_)
        found: NDArray[np.float64] = self.model_.predict(self._columns(X))
        return found

    def _columns(self, X: Any) -> NDArray[np.float32]:
        X = np.asarray(X, dtype=np.float32)
        found = [X[:, : self.n_numbers]]
        for place, n in enumerate(self.n_codes, start=self.n_numbers):
            column = X[:, place : place + 1]
            found.append((column == np.arange(n)).astype(np.float32) if n <= MAX_ONE_HOT else column)
        return np.hstack(found)


class SymmetricTrees(nn.Module):
    """Trees whose splits of one level are the same, over a coded table.

    A leaf's number has one bit for each split: whether the value is above the border. A missing value never is.

    Parameters
    ----------
    n_trees, depth : int
    n_columns : int
        Columns that the trees see: numbers, then codes, those of few levels once for each of these.

    Examples
    --------
    >>> trees = SymmetricTrees(1, 1, 1)
    >>> trees.border.fill_(0.5), trees.leaves.copy_(torch.tensor([[10.0, 20.0]])), trees.source.fill_(0)
    (tensor([[0.5000]]), tensor([[10., 20.]], dtype=torch.float64), tensor([0], dtype=torch.int32))
    >>> trees(torch.tensor([[0.5], [0.6], [torch.nan]]), torch.zeros(3, 0, dtype=torch.long)).ravel()
    tensor([10., 20., 10.], dtype=torch.float64)
    """

    def __init__(self, n_trees: int, depth: int, n_columns: int) -> None:
        super().__init__()
        if not (isinstance(depth, int) and 1 <= depth <= MAX_DEPTH):
            raise ValueError(f"depth={depth!r}: a whole number from 1 to {MAX_DEPTH}")
        self.options = {"n_trees": n_trees, "depth": depth, "n_columns": n_columns}
        buffers = {
            # the table's column that each is made from, and the code it asks for; -1 where it is the column itself
            "source": torch.zeros(n_columns, dtype=torch.int32),
            "code": torch.full((n_columns,), -1, dtype=torch.int32),
            "column": torch.zeros(n_trees, depth, dtype=torch.int32),
            "border": torch.zeros(n_trees, depth),
            "leaves": torch.zeros(n_trees, 2**depth, dtype=torch.float64),
            "scale": torch.ones(1, dtype=torch.float64),
            "bias": torch.zeros(1, dtype=torch.float64),
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)

    source: Tensor
    code: Tensor
    column: Tensor
    border: Tensor
    leaves: Tensor
    scale: Tensor
    bias: Tensor

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Predict (B, 1) float64 from (B, Dn) numbers and (B, Dc) codes."""
        table = torch.cat([numbers.float(), codes.to(torch.float32)], dim=1).T
        seen = table[self.source.long()]
        asks = (self.code >= 0)[:, None]
        seen = torch.where(asks, (seen == self.code[:, None]).float(), seen)
        leaf = torch.zeros(len(self.column), len(numbers), dtype=torch.long, device=numbers.device)
        for level in range(self.column.shape[1]):
            above = seen[self.column[:, level].long()] > self.border[:, level, None]
            leaf |= above.long() << level
        values = self.leaves.gather(1, leaf)
        total = torch.zeros(len(numbers), dtype=torch.float64, device=numbers.device)
        # one by one: a row's sum does not depend on its place in the chunk
        for own in values:
            total = total + own
        return (self.scale * total + self.bias)[:, None]

    def check(self, layout: Any) -> None:
        """Raise `ValueError` when a number of a file points out of the table or of the tensors."""
        n_table = layout.n_numbers + len(layout.n_codes)
        for name, tensor, end in (("source", self.source, n_table), ("column", self.column, len(self.source))):
            if tensor.numel() and not bool(((tensor >= 0) & (tensor < end)).all()):
                raise ValueError(f"{name} holds a number that is not from 0 to {end - 1}")


def catboost(layout: Any, random_state: int, objective: Any) -> CodedCatBoost:
    """CatBoost with its default settings, fitted to what is scored."""
    losses = {"squared_error": "RMSE", "absolute_error": "MAE", "quantile": f"Quantile:alpha={objective.quantile}"}
    return CodedCatBoost(
        layout.n_numbers, tuple(layout.n_codes), losses[objective.loss], random_state=random_state
    )  # fmt: skip


def to_module(fitted: CodedCatBoost, layout: Any) -> SymmetricTrees:
    """A fitted `CodedCatBoost` as tensors, from the JSON that CatBoost writes of itself."""
    source, code = _sources(fitted.n_numbers, fitted.n_codes)
    described: dict[str, Any] = {"oblivious_trees": [], "scale_and_bias": [1.0, [fitted.constant_]]}
    if fitted.constant_ is None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.json")
            fitted.model_.save_model(str(path), format="json")
            described = json.loads(path.read_text(encoding="utf-8"))
    trees: Sequence[Any] = described["oblivious_trees"]
    flat = [feature["flat_feature_index"] for feature in described.get("features_info", {}).get("float_features", ())]
    depth = max([1, *(len(tree["splits"] or ()) for tree in trees)])
    module = SymmetricTrees(len(trees), depth, len(source))
    module.source.copy_(torch.tensor(source))
    module.code.copy_(torch.tensor(code))
    # what a missing split would be above of: nothing
    module.border.fill_(torch.finfo(torch.float32).max)
    for t, tree in enumerate(trees):
        for level, split in enumerate(tree["splits"] or ()):
            if split["split_type"] != "FloatFeature":
                raise ValueError(f"a split of type {split['split_type']} is no comparison with a border")
            module.column[t, level] = flat[split["float_feature_index"]]
            module.border[t, level] = split["border"]
        leaves = torch.tensor(tree["leaf_values"], dtype=torch.float64)
        module.leaves[t, : len(leaves)] = leaves
    scale, bias = described["scale_and_bias"]
    module.scale.fill_(scale)
    module.bias.fill_(bias[0])
    return module


def _sources(n_numbers: int, n_codes: Sequence[int]) -> tuple[list[int], list[int]]:
    """For each column that the trees see, the table's column, and the code that it asks for.

    >>> _sources(1, (2, 50))
    ([0, 1, 1, 2], [-1, 0, 1, -1])
    """
    source, code = list(range(n_numbers)), [-1] * n_numbers
    for place, n in enumerate(n_codes, start=n_numbers):
        asked = list(range(n)) if n <= MAX_ONE_HOT else [-1]
        source += [place] * len(asked)
        code += asked
    return source, code


@hookimpl
def register_companions(register: Callable[..., None]) -> None:
    register("catboost", catboost, to_module=to_module, module=SymmetricTrees)
