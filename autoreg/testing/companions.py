"""Checks of companions."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import has_fit_parameter
from torch import nn

import autoreg.testing.engine as engine
from autoreg.companions import FittedCompanion, fit_companion, make_estimator, module_class
from autoreg.encoding import TableLayout
from autoreg.modelparts import TargetModules
from autoreg.registry import Entry, Owner, option_names
from autoreg.scoring import Objective
from autoreg.strictjson import plain
from autoreg.testing.options import check_facts
from autoreg.testing.results import Check, Fault, Look, Report, concluded, look, told
from autoreg.testing.speed import beside

Floats = NDArray[np.float64]

N_ROWS = 60

TABLES = {
    "numbers and categories": TableLayout(3, (False, True, False), (5, 4)),
    "numbers only": TableLayout(2, (False, True), ()),
    "categories only": TableLayout(0, (), (5,)),
}


FACTS: dict[str, Callable[[Any], bool]] = {
    "to_module": callable,
    "module": lambda value: isinstance(value, type) and issubclass(value, nn.Module),
}


def check_companion(
    make: Callable[..., Any], *, name: str | None = None, raises: bool = True, **facts: Any
) -> list[Check]:
    """Check a companion against what `register_companions` asks for.

    Parameters
    ----------
    make : function
        As it is registered: ``make(layout, random_state)`` -> scikit-learn regressor.
    name : str, optional
        For the messages.
    raises : bool
        Raise when a check fails; otherwise the list says it.
    **facts
        As they are registered.

    Returns
    -------
    list of Check

    Raises
    ------
    ConformanceError
        An `AssertionError` that lists every failure.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> from autoreg.testing import check_companion
    >>> def linear(layout, random_state):
    ...     return LinearRegression()
    >>> print(*check_companion(linear, raises=False))
    failed    fit: expected no error; came ValueError: Input X contains NaN.; see reference/testing.md#companions
    """
    name = name or getattr(make, "__name__", "own").strip("<>").lower()
    subject = _Subject(make, name, facts)
    looks: list[tuple[str, Look]] = [
        ("fit", subject.fit),
        ("tables", subject.tables),
        ("targets", subject.targets),
        ("unchanged", subject.unchanged),
        ("rows", subject.rows),
        ("fresh", subject.fresh),
        ("repeatable", subject.repeatable),
        ("weights", subject.weights),
        ("unseen", subject.unseen),
        ("pickled", subject.pickled),
        ("objective", subject.objective),
        ("module", subject.module),
        ("saved", subject.saved),
        ("facts", partial(check_facts, facts, FACTS)),
        ("speed", subject.speed),
    ]
    return concluded(look(f"companion {name}", "companions", looks), raises)


def _table(layout: TableLayout, n_targets: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int32], Floats]:
    draw = np.random.default_rng(0)
    numbers = draw.normal(size=(N_ROWS, layout.n_numbers)).astype(np.float32)
    codes = np.zeros((N_ROWS, len(layout.n_codes)), dtype=np.int32)
    for column, n in enumerate(layout.n_codes):
        codes[:, column] = draw.integers(0, n, N_ROWS)
    y = draw.normal(size=(N_ROWS, n_targets)) + (numbers[:, :1] if layout.n_numbers else codes[:, :1])
    for column, missing in enumerate(layout.may_miss):
        if missing:
            numbers[:: 5 + column, column] = np.nan
    return numbers, codes, y.astype(np.float64)


@torch.inference_mode()
def _predicted(module: nn.Module, numbers: NDArray[np.float32], codes: NDArray[np.int32]) -> NDArray[Any]:
    found: NDArray[Any] = module(torch.from_numpy(numbers), torch.from_numpy(codes.astype(np.int64))).numpy()
    return found


class _Subject:
    def __init__(self, make: Callable[..., Any], name: str, facts: Mapping[str, Any]) -> None:
        self.entry = Entry("companion", name, make, Owner("checked"), facts=facts)

    def predict(self, layout: TableLayout, n_targets: int = 1, rows: Any = None) -> Floats:
        """Fitted on the first forty rows, as the engine fits it; predictions of all, or of some."""
        numbers, codes, y = _table(layout, n_targets)
        fitted = fit_companion(self.entry, numbers, codes, layout, y, None, np.arange(40), 0)
        rows = slice(None) if rows is None else rows
        return fitted.predict(numbers[rows], codes[rows])

    def fit(self) -> None:
        layout = TABLES["numbers and categories"]
        found = self.predict(layout)
        if found.shape != (N_ROWS, 1):
            raise Fault(f"predictions of shape {(N_ROWS, 1)}", f"{found.shape}")

    def tables(self) -> str:
        for what, layout in TABLES.items():
            try:
                self.predict(layout)
            except Exception as error:  # a stranger's code may raise anything
                raise Fault(f"a fit of a table of {what}, missing ones among the numbers", told(error)) from error
        return ", ".join(TABLES)

    def targets(self) -> None:
        found = self.predict(TABLES["numbers only"], n_targets=2)
        if found.shape != (N_ROWS, 2):
            raise Fault(f"predictions of shape {(N_ROWS, 2)} for two targets", f"{found.shape}")

    def unchanged(self) -> None:
        X, y = self._matrix()
        before = X.copy(), y.copy()
        estimator = make_estimator(self.entry, TABLES["numbers and categories"])
        estimator.fit(X, y)
        estimator.predict(X)
        for what, array, copy in zip(("X", "y"), (X, y), before, strict=True):
            if not np.array_equal(array, copy, equal_nan=True):
                raise Fault(f"{what} to stay as it is", "a change in place: copy it")

    @staticmethod
    def _matrix() -> tuple[Floats, Floats]:
        numbers, codes, y = _table(TABLES["numbers and categories"])
        return np.hstack([numbers, codes]).astype(np.float64), y[:, 0].copy()

    def rows(self) -> None:
        layout = TABLES["numbers and categories"]
        whole, few = self.predict(layout), self.predict(layout, rows=[3, 50])
        if not np.allclose(few, whole[[3, 50]], rtol=1e-9, atol=1e-9):
            raise Fault("a row's prediction to follow from the row alone", "another in other company")

    def fresh(self) -> None:
        layout = TABLES["numbers and categories"]
        if make_estimator(self.entry, layout) is make_estimator(self.entry, layout):
            raise Fault("a new regressor from every call", "the same object: folds would overwrite each other")

    def repeatable(self) -> None:
        layout = TABLES["numbers and categories"]
        state = str(np.random.get_state())
        first, second = self.predict(layout), self.predict(layout)
        if not np.array_equal(first, second):
            raise Fault("the same predictions with the same random_state", "others the second time")
        if state != str(np.random.get_state()):
            raise Fault("numpy's global random generator to stay as it is", "draws from it: use random_state")

    def weights(self) -> Report:
        estimator = make_estimator(self.entry, TABLES["numbers and categories"])
        last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
        takes = has_fit_parameter(last, "sample_weight")
        return Report("takes sample weights" if takes else "takes no sample weights; they are left out")

    def unseen(self) -> None:
        layout = TABLES["numbers and categories"]
        numbers, codes, y = _table(layout)
        codes[:40, 0] = np.minimum(codes[:40, 0], 3)
        fitted = fit_companion(self.entry, numbers, codes, layout, y, None, np.arange(40), 0)
        found = fitted.predict(np.full((2, 3), np.nan, dtype=np.float32), np.array([[0, 1], [4, 1]], dtype=np.int32))
        if not np.isfinite(found).all():
            raise Fault("finite predictions for rows of missing numbers and unseen codes", f"{found.ravel()}")

    def fitted(self, layout: TableLayout, n_targets: int = 1, objective: Objective | None = None) -> FittedCompanion:
        numbers, codes, y = _table(layout, n_targets)
        return fit_companion(self.entry, numbers, codes, layout, y, None, np.arange(40), 0, objective)

    def objective(self) -> Report | None:
        if "objective" not in (option_names(self.entry.thing, 2) or ()):
            return Report("follows no score: it has no argument 'objective'")
        layout = TABLES["numbers and categories"]
        for objective in (Objective("absolute_error"), Objective("quantile", 0.9)):
            try:
                self.fitted(layout, 1, objective).predict(*_table(layout)[:2])
            except Exception as error:  # a stranger's code may raise anything
                raise Fault(f"a fit for {objective}", told(error)) from error
        return None

    def module(self) -> Report | None:
        """The library's numbers, for all tables, for missing numbers and codes that no training row has."""
        if "to_module" not in self.entry.facts:
            return Report("cannot be part of a model: it was registered without to_module")
        for layout in TABLES.values():
            for n_targets in (1, 2):
                numbers, codes, _ = _table(layout, n_targets)
                numbers[-5:] = np.nan
                codes[-3:] = np.arange(3)[:, None]
                fitted = self.fitted(layout, n_targets)
                expected, found = fitted.predict(numbers, codes), _predicted(fitted.modules(), numbers, codes)
                if found.shape != expected.shape or found.dtype != np.float64:
                    raise Fault(f"a float64 tensor of shape {expected.shape}", f"{found.dtype} of {found.shape}")
                error = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
                if not error <= 1e-12:
                    raise Fault("the regressor's predictions from the module, to 1e-12", f"a difference of {error:.1e}")
        return None

    def saved(self) -> Report | None:
        """A module of the same options and tensors gives the same bits."""
        cls = module_class(self.entry)
        if cls is None:
            return Report("no module to save")
        layout = TABLES["numbers and categories"]
        numbers, codes, _ = _table(layout)
        made = self.fitted(layout).modules()
        again = TargetModules([cls(**plain(module.options, "options")) for module in made])
        again.load_state_dict(made.state_dict())
        for module in again:
            getattr(module, "check", lambda layout: None)(layout)
        if not np.array_equal(_predicted(made, numbers, codes), _predicted(again, numbers, codes)):
            raise Fault("the same bits from a module built from options and tensors", "others: is a number no buffer?")
        return None

    def pickled(self) -> Report | None:
        X, y = self._matrix()
        estimator = make_estimator(self.entry, TABLES["numbers and categories"]).fit(X, y)
        try:
            copy = pickle.loads(pickle.dumps(estimator))
        except Exception as error:  # pickle has no error of its own for what it cannot do
            return Report(f"cannot be pickled: {told(error)}")
        if not np.array_equal(copy.predict(X), estimator.predict(X)):
            raise Fault("the same predictions from the regressor pickled and read back", "others")
        return None

    def speed(self) -> Report:
        X, y = self._matrix()
        layout, ridge = TABLES["numbers and categories"], engine.registry().get("companion", "ridge")
        return beside(
            lambda: make_estimator(self.entry, layout).fit(X, y),
            lambda: make_estimator(ridge, layout).fit(X, y),
            "ridge",
        )
