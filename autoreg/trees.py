"""Ensembles of binary trees as one module of tensors, for companions that are made of trees.

The trees stand side by side in flat tensors and are walked level by level, all trees and rows of a chunk at once. The
numbers are those of the library that grew the trees: a comparison of a float32 with a float64 threshold has the same
answer as one with the threshold rounded down to float32, and leaves are added up in float64, tree by tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autoreg.encoding import TableLayout

MAX_DEPTH = 256
"""Splits from a root to a leaf that a tree may have: what a row of a file from a stranger may cost."""

MANY_STEPS = 1 << 20
"""Trees times rows that are walked at once."""

WORD = 32
"""Codes that one integer of a subset speaks for."""


@dataclass(frozen=True)
class Tree:
    """One tree as arrays over its n nodes: the root first, children after their parent.

    Attributes
    ----------
    left, right : array of int, (n,)
        Children; -1 in a leaf.
    feature : array of int, (n,)
        Column of the coded table, numbers first, that a split looks at.
    threshold : array, (n,)
        A value of at most this goes left.
    value : array, (n, O)
        What a leaf gives.
    missing_left : array of bool, (n,)
        Whether a missing value goes left.
    subset : array of int, (n,), optional
        The row of `subsets` that says which codes go left; -1 in a split by threshold.
    subsets : array of bool, (S, n_codes), optional
    """

    left: NDArray[Any]
    right: NDArray[Any]
    feature: NDArray[Any]
    threshold: NDArray[Any]
    value: NDArray[Any]
    missing_left: NDArray[Any]
    subset: NDArray[Any] | None = None
    subsets: NDArray[np.bool_] | None = None


class TreeEnsemble(nn.Module):
    """The sum, or the mean, of binary trees over a coded table.

    Parameters
    ----------
    n_features : int
        Columns of the table, numbers and codes.
    n_trees, n_splits, n_leaves : int
        Of all trees together.
    n_outputs : int
    n_subsets, n_words : int
        Sets of codes that splits by category have, and integers in each.
    average : bool
        Whether the trees' mean is taken, or their sum.

    Examples
    --------
    >>> stump = Tree(np.array([1, -1, -1]), np.array([2, -1, -1]), np.zeros(3, int), np.array([0.5, 0, 0]),
    ...              np.array([[0.0], [1.0], [2.0]]), np.array([True, False, False]))
    >>> trees = TreeEnsemble.from_trees([stump], n_features=1)
    >>> trees(torch.tensor([[0.5], [0.6], [torch.nan]]), torch.zeros(3, 0, dtype=torch.long)).ravel()
    tensor([1., 2., 1.], dtype=torch.float64)
    """

    def __init__(
        self,
        n_features: int,
        n_trees: int,
        n_splits: int,
        n_leaves: int,
        n_outputs: int = 1,
        n_subsets: int = 0,
        n_words: int = 0,
        average: bool = False,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {
            "n_features": n_features, "n_trees": n_trees, "n_splits": n_splits, "n_leaves": n_leaves,
            "n_outputs": n_outputs, "n_subsets": n_subsets, "n_words": n_words, "average": average,
        }  # fmt: skip
        if min(n_features, n_splits, n_subsets, n_words) < 0 or min(n_trees, n_leaves, n_outputs) < 1:
            raise ValueError("a tree ensemble has at least one tree, one leaf and one output")

        def buffer(name: str, dtype: torch.dtype, *shape: int) -> None:
            self.register_buffer(name, torch.zeros(shape, dtype=dtype))

        # a pointer is the number of a split, or -1 - the number of a leaf
        buffer("roots", torch.int32, n_trees)
        buffer("branches", torch.int32, n_splits, 2)
        buffer("feature", torch.int32, n_splits)
        buffer("threshold", torch.float32, n_splits)
        buffer("missing_left", torch.bool, n_splits)
        buffer("values", torch.float64, n_leaves, n_outputs)
        buffer("base", torch.float64, n_outputs)
        if n_subsets:
            buffer("subset", torch.int32, n_splits)
            buffer("subsets", torch.int32, n_subsets, n_words)
        self.average = average
        self._walked: _Walk | None = None

    roots: Tensor
    branches: Tensor
    feature: Tensor
    threshold: Tensor
    missing_left: Tensor
    values: Tensor
    base: Tensor
    subset: Tensor
    subsets: Tensor

    @classmethod
    def from_trees(
        cls, trees: Sequence[Tree], n_features: int, base: Any = None, average: bool = False
    ) -> TreeEnsemble:
        """From a library's trees.

        Parameters
        ----------
        trees : sequence of Tree
            Their order is the order in which leaves are added up.
        n_features : int
        base : array, (O,), optional
            What is added first.
        average : bool

        Raises
        ------
        ValueError
            When a tree is deeper than `MAX_DEPTH`, or a node stands before its parent.
        """
        inner = [np.asarray(tree.left) >= 0 for tree in trees]
        splits = np.cumsum([0, *(own.sum() for own in inner)])
        leaves = np.cumsum([0, *((~own).sum() for own in inner)])
        sets = [tree.subsets for tree in trees if tree.subsets is not None and len(tree.subsets)]
        words = -(-max((found.shape[1] for found in sets), default=0) // WORD)
        first = np.asarray(trees[0].value)
        made = cls(
            n_features, len(trees), int(splits[-1]), int(leaves[-1]), first.shape[1], sum(map(len, sets)), words,
            average,
        )  # fmt: skip
        columns: dict[str, list[NDArray[Any]]] = {name: [] for name, _ in made.named_buffers() if name != "base"}
        n_sets = 0
        for i, (tree, own) in enumerate(zip(trees, inner, strict=True)):
            pointer = np.where(own, splits[i] + np.cumsum(own) - 1, -1 - leaves[i] - (np.cumsum(~own) - 1))
            columns["roots"].append(pointer[:1])
            left, right = np.asarray(tree.left)[own], np.asarray(tree.right)[own]
            columns["branches"].append(np.stack([pointer[left], pointer[right]], axis=1))
            columns["feature"].append(np.asarray(tree.feature)[own])
            columns["threshold"].append(_rounded_down(np.asarray(tree.threshold)[own]))
            columns["missing_left"].append(np.asarray(tree.missing_left, dtype=bool)[own])
            columns["values"].append(np.asarray(tree.value, dtype=np.float64)[~own])
            if sets:
                own_sets = np.zeros((0, 1), dtype=bool) if tree.subsets is None else tree.subsets
                place = np.full(own.sum(), -1) if tree.subset is None else np.asarray(tree.subset)[own]
                columns["subset"].append(np.where(place >= 0, place + n_sets, -1))
                columns["subsets"].append(_words(own_sets, words))
                n_sets += len(own_sets)
        for name, found in columns.items():
            tensor = getattr(made, name)
            tensor.copy_(torch.from_numpy(np.concatenate(found)).reshape(tensor.shape))
        if base is not None:
            made.base.copy_(torch.as_tensor(np.asarray(base, dtype=np.float64).reshape(-1)))
        made.check_structure()
        return made

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Predict (B, O) float64 from (B, Dn) numbers, NaN where missing, and (B, Dc) codes."""
        # one column after the other: what a split looks at then lies side by side
        table = torch.cat([numbers.float(), codes.to(torch.float32)], dim=1).T.contiguous()
        total = self.base.expand(len(numbers), -1)
        at_once = max(1, MANY_STEPS // max(1, len(numbers)))
        for first in range(0, len(self.roots), at_once):
            # one by one, as the libraries do it: a row's sum then does not depend on its place in the chunk
            for own in self._leaves(table, slice(first, first + at_once)):
                total = total + self.values.index_select(0, own)
        return total / len(self.roots) if self.average else total

    def _leaves(self, table: Tensor, trees: slice = slice(None)) -> Tensor:
        """The leaf of each of some trees that each row ends in, (T, B), from a table (D, B)."""
        n_rows, n_splits = table.shape[1], self.options["n_splits"]
        if self._walked is None or self._walked.start.device != self.values.device:
            self._walked = _Walk.of(self)
        walk = self._walked
        start = walk.start[trees]
        rows = torch.arange(n_rows, device=table.device).repeat(len(start))
        at = start.repeat_interleave(n_rows)
        flat = table.reshape(-1)
        any_missing = bool(torch.isnan(flat).any())
        while not bool((at >= n_splits).all()):
            value = flat.index_select(0, walk.feature.index_select(0, at) * n_rows + rows)
            left = value <= walk.threshold.index_select(0, at)
            if any_missing:
                left |= torch.isnan(value) & walk.missing_left.index_select(0, at)
            if walk.subset is not None:
                left = torch.where(walk.by_subset.index_select(0, at), self._in_subset(at, value), left)
            at = walk.branches.index_select(0, 2 * at + (~left).long())
        return (at - n_splits).view(len(start), n_rows)

    def _in_subset(self, at: Tensor, code: Tensor) -> Tensor:
        assert self._walked is not None
        assert self._walked.subset is not None
        n_words = self.options["n_words"]
        # a threshold's values may be anything; what comes of them here is not looked at
        code = torch.nan_to_num(code).clamp(0, WORD * n_words - 1).long()
        place = self._walked.subset.index_select(0, at) * n_words + code // WORD
        return (self.subsets.reshape(-1).index_select(0, place) >> (code % WORD)) & 1 != 0

    def check(self, layout: TableLayout) -> None:
        """Look at numbers that a stranger may have written.

        Raises
        ------
        ValueError
            When a walk would leave the tensors, or might not end.
        """
        n_columns = layout.n_numbers + len(layout.n_codes)
        if self.options["n_features"] != n_columns:
            raise ValueError(f"the trees look at {self.options['n_features']} columns, and the table has {n_columns}")
        self.check_structure()
        if self.options["n_subsets"]:
            _check_range("subset", self.subset, -1, self.options["n_subsets"])
            chosen = self.feature[self.subset >= 0].unique().tolist()
            most = WORD * self.options["n_words"]
            if any(c < layout.n_numbers or layout.n_codes[c - layout.n_numbers] > most for c in chosen):
                raise ValueError("a set of codes stands for a column that has others")

    def check_structure(self) -> None:
        """Check that every pointer leads to a split below or to a leaf, and that no path is too long."""
        n_splits, n_leaves = self.options["n_splits"], self.options["n_leaves"]
        _check_range("feature", self.feature, 0, self.options["n_features"])
        _check_range("roots", self.roots, -n_leaves, n_splits)
        _check_range("branches", self.branches, -n_leaves, n_splits)
        if bool((self.branches.amax(dim=1) >= 0).any()):
            parent = torch.arange(n_splits)[:, None]
            if bool(((self.branches >= 0) & (self.branches <= parent)).any()):
                raise ValueError("a split stands before the one that leads to it")
        pointers = torch.cat([self.roots, self.branches.reshape(-1)])
        if not torch.equal(pointers[pointers >= 0].sort().values, torch.arange(n_splits, dtype=torch.int32)):
            raise ValueError("a split has no place in its tree, or several")
        level = self.roots[self.roots >= 0]
        for _ in range(MAX_DEPTH):
            if not len(level):
                break
            below = self.branches[level.long()].reshape(-1)
            level = below[below >= 0]
        if len(level):
            raise ValueError(f"a tree is deeper than {MAX_DEPTH} splits")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_walked": None}


@dataclass(frozen=True)
class _Walk:
    """The trees with leaves as nodes behind the splits, each its own child: so a walk needs no question who is done."""

    start: Tensor
    feature: Tensor
    threshold: Tensor
    missing_left: Tensor
    branches: Tensor
    subset: Tensor | None
    by_subset: Tensor

    @classmethod
    def of(cls, trees: TreeEnsemble) -> _Walk:
        n_splits, n_leaves = trees.options["n_splits"], trees.options["n_leaves"]

        def nodes(pointer: Tensor) -> Tensor:
            return torch.where(pointer >= 0, pointer, n_splits - 1 - pointer).long()

        def longer(tensor: Tensor, value: float) -> Tensor:
            return torch.cat([tensor, tensor.new_full((n_leaves,), value)])

        leaves = torch.arange(n_splits, n_splits + n_leaves, device=trees.roots.device)
        subset = longer(trees.subset, -1).long() if trees.options["n_subsets"] else None
        return cls(
            nodes(trees.roots),
            longer(trees.feature, 0).long(),
            longer(trees.threshold, 0.0),
            longer(trees.missing_left, False),
            torch.cat([nodes(trees.branches).reshape(-1), leaves.repeat_interleave(2)]),
            None if subset is None else subset.clamp(min=0),
            leaves if subset is None else subset >= 0,
        )


def _rounded_down(threshold: NDArray[Any]) -> NDArray[np.float32]:
    """The largest float32 up to each threshold; the largest of all stands for infinity."""
    limit = np.finfo(np.float32).max
    threshold = np.clip(threshold, -limit, limit)
    rounded = threshold.astype(np.float32)
    return np.where(rounded > threshold, np.nextafter(rounded, np.float32(-limit)), rounded)


def _words(sets: NDArray[np.bool_], n_words: int) -> NDArray[np.int32]:
    """Sets of codes, (S, C) truth values, as bits of (S, n_words) integers, the first code lowest."""
    wide = np.zeros((len(sets), n_words * WORD), dtype=bool)
    wide[:, : sets.shape[1]] = sets
    return np.packbits(wide, axis=1, bitorder="little").view("<i4").reshape(len(sets), n_words).astype(np.int32)


def _check_range(name: str, tensor: Tensor, low: int, high: int) -> None:
    if tensor.numel() and not bool(((tensor >= low) & (tensor < high)).all()):
        raise ValueError(f"{name} holds a number that is not from {low} to {high - 1}")
