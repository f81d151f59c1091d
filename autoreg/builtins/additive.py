"""What the simple companions are saved as: sums over the columns of a coded table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from autoreg.encoding import TableLayout


class Constant(nn.Module):
    """The same prediction for every row.

    Parameters
    ----------
    n_outputs : int
    """

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.options = {"n_outputs": n_outputs}
        self.register_buffer("value", torch.zeros(n_outputs, dtype=torch.float64))

    value: Tensor

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Predict (B, O) float64."""
        return self.value.expand(len(numbers), -1)


class Additive(nn.Module):
    """A linear function of the numbers, a term for each that is missing, and one for each code.

    Parameters
    ----------
    n_numbers : int
    n_codes : list of int
        Codes of each category column.
    n_outputs : int
    """

    def __init__(self, n_numbers: int, n_codes: Sequence[int], n_outputs: int) -> None:
        super().__init__()
        self.options = {"n_numbers": n_numbers, "n_codes": list(n_codes), "n_outputs": n_outputs}
        shapes = {
            "fill": (n_numbers,), "center": (n_numbers,), "spread": (n_numbers,), "slope": (n_numbers, n_outputs),
            "missing": (n_numbers, n_outputs), "levels": (sum(n_codes), n_outputs), "intercept": (n_outputs,),
        }  # fmt: skip
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self._starts = np.cumsum([0, *n_codes])[:-1].tolist()

    fill: Tensor
    center: Tensor
    spread: Tensor
    slope: Tensor
    missing: Tensor
    levels: Tensor
    intercept: Tensor

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Predict (B, O) float64 from (B, Dn) numbers and (B, Dc) codes."""
        absent = torch.isnan(numbers)
        filled = torch.where(absent, self.fill, numbers.double())
        total = self.intercept + (filled - self.center) / self.spread @ self.slope + absent.double() @ self.missing
        for column, start in zip(codes.T, self._starts, strict=True):
            total = total + self.levels[column + start]
        return total

    def check(self, layout: TableLayout) -> None:
        """Raise `ValueError` unless the columns are the table's."""
        if (self.options["n_numbers"], self.options["n_codes"]) != (layout.n_numbers, list(layout.n_codes)):
            raise ValueError("its columns are not those of the table")
        if not bool((self.spread != 0).all()):
            raise ValueError("it divides by a spread of zero")


def constant(fitted: Any, layout: TableLayout) -> Constant:
    """A fitted `DummyRegressor` as a module."""
    value = np.asarray(fitted.constant_, dtype=np.float64).reshape(-1)
    module = Constant(len(value))
    module.value.copy_(torch.from_numpy(value))
    return module


def additive(fitted: Pipeline, layout: TableLayout) -> Additive:
    """The fitted pipeline of companion `ridge` as a module."""
    coded, linear = fitted[0], fitted[-1].model_
    slopes = np.asarray(linear.coef_, dtype=np.float64)
    slopes = slopes.reshape(-1, slopes.shape[-1]).T
    module = Additive(layout.n_numbers, layout.n_codes, slopes.shape[1])
    values = {"intercept": np.broadcast_to(np.asarray(linear.intercept_, dtype=np.float64), slopes.shape[1])}
    place = 0
    if layout.n_numbers:
        impute, scale = coded.named_transformers_["numbers"]
        n, absent = layout.n_numbers, impute.indicator_.features_
        flags = slice(n, n + len(absent))
        effect = slopes[flags] / scale.scale_[flags, None]
        missing = np.zeros((n, slopes.shape[1]))
        missing[absent] = effect
        values |= {
            "fill": impute.statistics_, "center": scale.mean_[:n], "spread": scale.scale_[:n], "slope": slopes[:n],
            "missing": missing, "intercept": values["intercept"] - scale.mean_[flags] @ effect,
        }  # fmt: skip
        place = n + len(absent)
    if layout.n_codes:
        values["levels"] = _levels(coded.named_transformers_["codes"], slopes[place:], layout)
    for name, value in values.items():
        getattr(module, name).copy_(torch.from_numpy(np.array(value, dtype=np.float64)))
    return module


def _levels(encoder: Any, slopes: np.ndarray[Any, Any], layout: TableLayout) -> np.ndarray[Any, Any]:
    """What each code adds: the encoder is asked about the codes of one column at a time, the others standing still."""
    found = []
    for column, n in enumerate(layout.n_codes):
        table = np.zeros((n, len(layout.n_codes)))
        table[:, column] = np.arange(n)
        coded = encoder.transform(table).tocsc()
        begin = int(sum(_widths(encoder)[:column]))
        own = slice(begin, begin + _widths(encoder)[column])
        found.append(coded[:, own] @ slopes[own])
    return np.concatenate(found)


def _widths(encoder: Any) -> list[int]:
    """Columns that each category column becomes: one for each frequent code, one for all rare ones."""
    rare = encoder.infrequent_categories_
    return [
        len(known) if few is None else len(known) - len(few) + 1
        for known, few in zip(encoder.categories_, rare, strict=True)
    ]
