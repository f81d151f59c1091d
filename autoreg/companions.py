"""Companions: models that are no networks, fitted on the same folds and scored alike."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter
from torch import nn

from autoreg.encoding import TableLayout
from autoreg.ensemble import ScoreFunction
from autoreg.errors import one_line
from autoreg.folds import Fold
from autoreg.guards import blame
from autoreg.journal import Unkept
from autoreg.libraries import quietly
from autoreg.modelparts import CompanionPart, TargetModules
from autoreg.problem import AllRows
from autoreg.recall import LACKING, as_kept
from autoreg.registry import Entry, option_names
from autoreg.results import CandidateResult, OnProgress, Progress
from autoreg.scoring import Objective, root_mean_squared_error

Floats = NDArray[np.float64]


@dataclass
class EvaluatedCompanion:
    """A companion after its fits.

    Attributes
    ----------
    result : CandidateResult
    oof : array, (N, O), or None
        Out-of-fold predictions: the mean where a row was held out several times, NaN where never. None for one that
        failed.
    members : list of TargetModules
        One a fold; empty where it cannot be made of tensors.
    obstacle : str
        Why it can be no part of a model; empty where it can.
    """

    result: CandidateResult
    entry: Entry
    oof: Floats | None = None
    members: list[TargetModules] = field(default_factory=list)
    obstacle: str = ""
    # libraries' settings of warnings and threads are the process's
    in_threads = False

    def part(self, weight: float = 1.0) -> CompanionPart:
        """The companion as part of a model."""
        assert self.members
        return CompanionPart(self.entry.name, self.entry.owner, self.members, weight)

    def on_all_rows(self, rows: AllRows) -> EvaluatedCompanion:
        """The companion fitted once more, on all rows; its result stays that of the folds.

        Raises
        ------
        ValueError
            When it predicts NaN. What the companion itself raises comes through.
        """
        whole = rows.whole
        train = whole.folds[0].train
        fitted = fit_companion(
            self.entry, whole.numbers, whole.codes, whole.layout, whole.y, whole.sample_weight, train, whole.seed,
            whole.metric.objective,
        )  # fmt: skip
        fitted.predict(whole.numbers[train[:100]], whole.codes[train[:100]])
        return replace(self, members=[fitted.modules()])

    def as_kept(self) -> dict[str, Any]:
        """What a journal keeps of it."""
        members = [
            {"options": [dict(cast(Any, module).options) for module in member], "state": member.state_dict()}
            for member in self.members
        ]
        return {"result": as_kept(self.result), "oof": self.oof, "members": members, "obstacle": self.obstacle}

    @classmethod
    def recalled(cls, entry: Entry, kept: Mapping[str, Any]) -> EvaluatedCompanion:
        """From what `as_kept` gave."""
        members = []
        for one in kept["members"]:
            member = TargetModules([module_class(entry)(**options) for options in one["options"]])  # type: ignore[misc]
            member.load_state_dict(one["state"])
            members.append(member.eval())
        result = CandidateResult(candidate=None, **kept["result"])
        return cls(result, entry, kept["oof"], members, kept["obstacle"])


def evaluate_companions(
    entries: Sequence[Entry],
    numbers: NDArray[np.float32],
    codes: NDArray[np.int32],
    layout: TableLayout,
    y: Floats,
    sample_weight: Floats | None,
    folds: Sequence[Fold],
    score: ScoreFunction,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    objective: Objective | None = None,
    journal: Unkept | None = None,
    enough: Callable[[], bool] | None = None,
) -> list[EvaluatedCompanion]:
    """Fit every companion on every fold.

    One that raises, or predicts NaN, is a failed result with the reason; the others go on.

    Parameters
    ----------
    entries : sequence of Entry
        From the registry; each thing is ``make(layout, random_state)`` -> scikit-learn regressor.
    numbers, codes : array, (N, Dn) and (N, Dc)
    layout : TableLayout
    y : array, (N, O)
    sample_weight : array, (N,), or None
        Handed to companions that take weights, and to `score`.
    folds : sequence of Fold
    score : function
        ``score(y, prediction, sample_weight)`` of (V, O) arrays; greater is better.
    seed : int
    on_progress : function, optional
    objective : Objective, optional
        What the metric asks for, told to companions that can follow it.
    journal : Unkept or None
        Where finished companions are kept, and recalled from instead of being fitted.
    enough : function or None
        Asked before each fit: whether to leave out what is not finished.

    Returns
    -------
    list of EvaluatedCompanion
        In the order of `entries`.
    """
    found: list[EvaluatedCompanion] = []
    journal, enough = journal or Unkept(), enough or (lambda: False)
    for index, entry in enumerate(entries):
        kept = journal.recall(f"companion {entry.name}")
        if kept is not None:
            found.append(EvaluatedCompanion.recalled(entry, kept))
            continue
        run = _OnFolds(entry, y, sample_weight, score)
        for k, fold in enumerate(folds):
            if on_progress is not None:
                done = (index + k / len(folds)) / len(entries)
                on_progress(Progress("companions", done, index, len(entries) - index))
            journal.beat()
            if enough():
                break
            try:
                fitted = fit_companion(entry, numbers, codes, layout, y, sample_weight, fold.train, seed, objective)
                run.add(fold.valid, fitted, numbers[fold.valid], codes[fold.valid])
            except (Exception, SystemExit) as error:  # a companion is a stranger's code and may raise anything
                run.failure = run.reason(error)
                break
            run.keep(fitted)
        if len(run.scores) < len(folds) and not run.failure:
            break
        found.append(run.evaluated(index, len(folds)))
        if not run.lacking:
            journal.note(f"companion {entry.name}", found[-1].as_kept())
    if on_progress is not None:
        on_progress(Progress("companions", 1.0, len(entries)))
    return found


class _OnFolds:
    """A companion on the folds, as far as it came.

    Attributes
    ----------
    scores : list of float
    failure, obstacle : str
        Why it has no score; why it can be no part of a model.
    lacking : bool
        Whether either was for what the machine lacked at the moment.
    """

    def __init__(self, entry: Entry, y: Floats, sample_weight: Floats | None, score: ScoreFunction) -> None:
        self.entry, self.y, self.sample_weight, self.score = entry, y, sample_weight, score
        self.scores: list[float] = []
        self.failure = self.obstacle = ""
        self.lacking = False
        self._rmse: list[float] = []
        self._members: list[TargetModules] = []
        self._total, self._count = np.zeros_like(y, dtype=np.float64), np.zeros(len(y))
        self._begin, self._ms_per_row = time.perf_counter(), 0.0

    def add(
        self, rows: NDArray[np.int64], fitted: FittedCompanion, numbers: NDArray[np.float32], codes: NDArray[np.int32]
    ) -> None:
        """Score it on a fold's held-out rows."""
        start = time.perf_counter()
        prediction = fitted.predict(numbers, codes)
        self._ms_per_row += 1000 * (time.perf_counter() - start) / max(1, len(rows))
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        self.scores.append(self.score(self.y[rows], prediction, weight))
        self._rmse.append(root_mean_squared_error(self.y[rows], prediction, weight))
        np.add.at(self._total, rows, prediction)
        np.add.at(self._count, rows, 1)

    def keep(self, fitted: FittedCompanion) -> None:
        """Make it a fold's member, of tensors; once that failed, no more."""
        if not self.obstacle:
            try:
                self._members.append(fitted.modules())
            except (Exception, SystemExit) as error:  # of a stranger's code, too
                self.obstacle = self.reason(error)

    def reason(self, error: BaseException) -> str:
        """An error as the result tells it, with whose companion it is."""
        self.lacking = isinstance(error, LACKING)
        return f"{one_line(error)}{blame([self.entry])}"

    def evaluated(self, index: int, n_folds: int) -> EvaluatedCompanion:
        """What came of it, as the search's result of that number."""
        scores, rmse, oof = self.scores, self._rmse, None
        if self.failure:
            scores = rmse = [float("nan")] * n_folds
        else:
            with np.errstate(invalid="ignore"):
                oof = self._total / self._count[:, None]
        result = CandidateResult(
            index, None, self.entry.name, tuple(scores), tuple(rmse), seconds=time.perf_counter() - self._begin,
            failure=self.failure, ms_per_row=self._ms_per_row if scores and not self.failure else float("nan"),
        )  # fmt: skip
        members = [] if self.obstacle or self.failure else self._members
        return EvaluatedCompanion(result, self.entry, oof, members, self.obstacle)


@dataclass(frozen=True)
class FittedCompanion:
    """A companion that was fitted on some rows.

    Attributes
    ----------
    estimator : regressor
        As scikit-learn has them, fitted; of several targets it may be a `MultiOutputRegressor`.
    """

    entry: Entry
    estimator: Any
    layout: TableLayout
    n_targets: int

    def predict(self, numbers: NDArray[np.float32], codes: NDArray[np.int32]) -> Floats:
        """Predict (N, O) from (N, Dn) numbers and (N, Dc) codes.

        Raises
        ------
        ValueError
            When it predicts NaN or infinity, or another shape than the targets'.
        """
        # a forest that adds up its trees in threads does so in any order
        with quietly(numbers.size + codes.size), joblib.parallel_config("threading", n_jobs=1):
            prediction = np.asarray(self.estimator.predict(_matrix(numbers, codes)), dtype=np.float64)
        prediction = prediction.reshape(len(numbers), self.n_targets)
        if not np.isfinite(prediction).all():
            raise ValueError("it predicts NaN or infinite values")
        return prediction

    def modules(self) -> TargetModules:
        """The same as modules of tensors.

        Raises
        ------
        ValueError
            When the companion was registered without ``to_module``. Whatever that raises comes through.
        """
        to_module, cls = self.entry.facts.get("to_module"), module_class(self.entry)
        if to_module is None or cls is None:
            raise ValueError("it was registered without to_module and module")
        several = isinstance(self.estimator, MultiOutputRegressor)
        fitted = self.estimator.estimators_ if several else [self.estimator]
        made = [to_module(one, self.layout) for one in fitted]
        for module in made:
            if type(module) is not cls:
                raise ValueError(f"to_module gives a {type(module).__name__}, and its module is {cls.__name__}")
            json.dumps(dict(cast(Any, module).options))  # as a file holds them
        return TargetModules(made).eval()


def module_class(entry: Entry) -> type[nn.Module] | None:
    """The class of the modules that a companion is saved as; None where it cannot be saved."""
    cls = entry.facts.get("module")
    return cls if isinstance(cls, type) and issubclass(cls, nn.Module) else None


def make_estimator(entry: Entry, layout: TableLayout, seed: int = 0, objective: Objective | None = None) -> Any:
    """A companion's regressor before its fit; it is told the objective where it asks for it."""
    told = {"objective": objective or Objective()} if "objective" in (option_names(entry.thing, 2) or ()) else {}
    return entry.thing(layout, seed, **told)


def fit_companion(
    entry: Entry,
    numbers: NDArray[np.float32],
    codes: NDArray[np.int32],
    layout: TableLayout,
    y: Floats,
    sample_weight: Floats | None,
    rows: NDArray[np.int64],
    seed: int = 0,
    objective: Objective | None = None,
) -> FittedCompanion:
    """Fit one companion on the given rows.

    Parameters
    ----------
    entry : Entry
    numbers, codes, layout, y, sample_weight, seed, objective
        As for `evaluate_companions`.
    rows : array of int

    Raises
    ------
    Exception
        Whatever the companion itself raises.
    """
    n_targets = y.shape[1]
    estimator = make_estimator(entry, layout, seed, objective)
    if n_targets > 1 and not get_tags(estimator).target_tags.multi_output:
        estimator = MultiOutputRegressor(estimator, n_jobs=1)
    target = y[rows, 0] if n_targets == 1 else y[rows]
    weights = {} if sample_weight is None else _weight_argument(estimator, sample_weight[rows])
    with quietly(len(rows) * (numbers.shape[1] + codes.shape[1])):
        estimator.fit(_matrix(numbers[rows], codes[rows]), target, **weights)
    return FittedCompanion(entry, estimator, layout, n_targets)


def _matrix(numbers: NDArray[np.float32], codes: NDArray[np.int32]) -> Floats:
    """One float matrix, numbers first."""
    matrix = np.empty((len(numbers), numbers.shape[1] + codes.shape[1]))
    matrix[:, : numbers.shape[1]] = numbers
    matrix[:, numbers.shape[1] :] = codes
    return matrix


def _weight_argument(estimator: Any, weight: Floats) -> Mapping[str, Floats]:
    """How this estimator's `fit` takes weights; empty when it cannot."""
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return {f"{name}__sample_weight": weight} if has_fit_parameter(last, "sample_weight") else {}
    inner = estimator.estimator if isinstance(estimator, MultiOutputRegressor) else estimator
    return {"sample_weight": weight} if has_fit_parameter(inner, "sample_weight") else {}
