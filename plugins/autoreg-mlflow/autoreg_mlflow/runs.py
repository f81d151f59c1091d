"""A search as runs of MLflow."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

import autoreg
from autoreg_mlflow import SWITCH, LogError, models
from autoreg_mlflow.bounds import bounded

PATIENCE = 120.0
"""Seconds that MLflow may take at one point of a search. A fit waits no longer for a log."""

FACTS = ("strategy", "effort", "scoring", "precision", "seed", "n_rows", "n_folds", "max_epochs")
PARAMETERS = (
    "network", "activation", "loss", "optimizer", "encoding", "learning_rate", "schedule", "max_epochs", "batch_size",
    "subsample",
)  # fmt: skip
"""Logged of every candidate, also where it takes the default."""


class SearchLog:
    """One search as a run of MLflow, and one run below it for each candidate and companion.

    When MLflow fails, the log is silent until the search has ended; then it tries once more to log all.

    Attributes
    ----------
    run_id : str or None
        None before the run is open.
    silent : bool
    """

    def __init__(self, scoring: str) -> None:
        self.run_id: str | None = None
        self.silent = False
        self._told = False
        self.metric, self.sign = plain_metric(scoring)
        self._experiment = ""
        self._tags: dict[str, str] = {}
        self._runs: dict[int, str] = {}
        self._logged: set[int] = set()
        self._client: Any = None
        self._deadline = math.inf

    def open(self, plan: Any) -> None:
        """Open the run of the search, below the active run if there is one."""
        with self._speaking():
            self._open(plan)

    def add(self, results: Any) -> None:
        """Log candidates that are not logged yet, and the best score so far."""
        with self._speaking():
            self._add(results.candidates)
            self._batch(self.run_id, [(f"best_{self.metric}", self.sign * results.best.score, len(results.candidates))])

    def finish(self, results: Any, model: Any) -> None:
        """Log all that is not logged yet, the model with it, and close the run."""
        with self._speaking():
            if self.run_id is None:
                self._open(results.plan)
            try:
                if not self._told:
                    self._tell_plan(results.plan)
                self._add([*results.candidates, *results.companions])
                self._summarise(results, model)
                score = {f"cv_{self.metric}": self.sign * results.chosen.score}
                parameters = {k: text_of(v) for k, v in parameters_of(results.best.candidate).items()}
                self._ask(models.log, self._client, model, "model", self.run_id, score, parameters)
            except BaseException:
                with suppress(Exception):
                    self._close("FAILED")
                raise
            self._close("FINISHED")

    def fail(self, error: BaseException) -> None:
        """Close the run with the reason."""
        with self._speaking():
            reason = f"{type(error).__name__}: {error}"[:5000]
            self._batch(self.run_id, [], tags={"autoreg.failure": reason})
            self._close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")

    def _open(self, plan: Any) -> None:
        import mlflow
        from mlflow.tracking.context.registry import resolve_tags

        self._client = mlflow.MlflowClient()
        outer = mlflow.active_run()
        outer_id = outer.info.run_id if outer else os.environ.get("MLFLOW_RUN_ID")
        if outer is None and outer_id:
            outer = self._ask(self._client.get_run, outer_id)
        self._experiment = outer.info.experiment_id if outer else self._ask(_experiment, self._client)
        self._tags = resolve_tags({"autoreg.version": autoreg.__version__})
        tags = {**self._tags, "autoreg.kind": "search", **({"mlflow.parentRunId": outer_id} if outer_id else {})}
        name = f"autoreg {', '.join(plan.targets)}"[:200]
        run = self._ask(self._client.create_run, self._experiment, tags=tags, run_name=name)
        self.run_id = run.info.run_id
        self._tell_plan(plan)

    def _tell_plan(self, plan: Any) -> None:
        facts = {name: getattr(plan, name) for name in FACTS}
        facts |= {"targets": ", ".join(plan.targets), "features": ", ".join(plan.features)}
        self._batch(self.run_id, [], {**facts, "n_features": len(plan.features)})
        self._told = True

    def _add(self, rows: Sequence[Any]) -> None:
        for row in rows:
            if row.index not in self._logged:
                self._child(row)
                self._logged.add(row.index)

    def _child(self, row: Any) -> None:
        """One candidate or companion as a run."""
        end = models.now_ms()
        tags = {**self._tags, "mlflow.parentRunId": self.run_id}
        tags["autoreg.kind"] = "companion" if row.is_companion else "candidate"
        if row.failure:
            tags["autoreg.failure"] = row.failure[:5000]
        if row.facts.get("pruned"):
            tags["autoreg.pruned"] = f"after epoch {row.facts['pruned']}"
        if row.index not in self._runs:  # a second try goes on with the run of the first
            begin = end - round(1000 * row.seconds)
            run = self._ask(self._client.create_run, self._experiment, begin, tags=tags, run_name=row.name[:200])
            self._runs[row.index] = run.info.run_id
        run_id = self._runs[row.index]
        metrics = [(name, value, 0) for name, value in scores_of(row, self.metric, self.sign).items()]
        first = 1 + len(row.train_curve) - len(row.curve)  # some strategies score the last epoch alone
        metrics += [(f"curves/validation_{self.metric}", self.sign * v, e) for e, v in enumerate(row.curve, first)]
        metrics += [("curves/train_loss", value, epoch) for epoch, value in enumerate(row.train_curve, start=1)]
        self._batch(run_id, metrics, parameters_of(row.candidate) if row.candidate else {})
        status = "FAILED" if row.failure else "FINISHED"
        self._ask(self._client.set_terminated, run_id, status, end)

    def _summarise(self, results: Any, model: Any) -> None:
        best = {f"best.{name}": value for name, value in parameters_of(results.best.candidate).items()}
        metrics = [(name, value, 0) for name, value in self._summary(results).items()]
        steps = len(results.candidates)
        metrics.append((f"best_{self.metric}", self.sign * results.best.score, steps))
        facts = {"n_candidates": steps, "best": results.best.name}
        self._batch(self.run_id, metrics, {**facts, **best}, {"mlflow.note.content": note(results, model)})

    def _summary(self, results: Any) -> dict[str, float]:
        """What the search ends with: scores of what predicts, of the best candidate and of each companion."""
        found = {
            f"cv_{self.metric}": self.sign * results.chosen.score,
            f"candidate_{self.metric}": self.sign * results.best.score,
            "seconds": results.seconds,
        }
        for row in results.companions:
            found[f"baselines/{_key(row.name)}_{self.metric}"] = self.sign * row.score
        return found

    def _batch(
        self,
        run_id: str | None,
        metrics: Sequence[tuple[str, float, int]],
        parameters: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Log metrics as (name, value, step), parameters and tags in as few requests as MLflow allows."""
        from mlflow.entities import Metric, Param, RunTag

        now = models.now_ms()
        many = [Metric(_key(name), float(v), now, step) for name, v, step in metrics if math.isfinite(v)]
        given = [Param(_key(name), text_of(value)) for name, value in (parameters or {}).items()]
        said = [RunTag(name, text) for name, text in (tags or {}).items()]
        while many or given or said:
            self._ask(self._client.log_batch, run_id, many[:800], given[:100], said[:100])
            many, given, said = many[800:], given[100:], said[100:]

    def _close(self, status: str) -> None:
        self._ask(self._client.set_terminated, self.run_id, status)

    def _ask(self, request: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Make one request, unless MLflow has taken too long already."""
        if time.monotonic() > self._deadline:
            raise TimeoutError(f"MLflow took longer than {PATIENCE:g} seconds")
        return request(*arguments, **options)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Speak to MLflow within bounds; what goes wrong is told in one line, once."""
        self._deadline = time.monotonic() + PATIENCE
        try:
            with bounded():
                yield
        except Exception as error:
            self.silent = True
            said = f"{_where()} did not take the search: {_reason(error)}"
            raise LogError(f"{said}; {SWITCH}=0 switches the logging off") from error


def plain_metric(scoring: str) -> tuple[str, int]:
    """A score as people read it: its name, and the factor that makes an error positive.

    >>> plain_metric("neg_root_mean_squared_error"), plain_metric("r2")
    (('rmse', -1), ('r2', 1))
    """
    plain = scoring.removeprefix("neg_")
    short = {"root_mean_squared_error": "rmse", "mean_absolute_error": "mae", "mean_squared_error": "mse"}
    return _key(short.get(plain, plain)), -1 if plain != scoring else 1


def scores_of(row: Any, metric: str, sign: int) -> dict[str, float]:
    """The figures of a candidate or companion."""
    scores = [sign * score for score in row.scores]
    found = {f"cv_{metric}": sign * row.score, f"cv_{metric}_std": float(np.std(scores)) if scores else math.nan}
    # what stands before a slash is a section of MLflow's page
    found |= {f"folds/{metric}_{k}": score for k, score in enumerate(scores)}
    if metric != "rmse" and row.rmse:
        found["cv_rmse"] = float(np.mean(row.rmse))
    return {**found, "epoch": row.epoch, "seconds": row.seconds}


def parameters_of(candidate: Any) -> dict[str, Any]:
    """A candidate's parameters, and those that it leaves at their defaults."""
    return {**{name: candidate[name] for name in PARAMETERS}, **candidate.parameters}


def text_of(value: Any) -> str:
    """A parameter as text; a class or a function by its name.

    >>> text_of(0.5), text_of(None), text_of(text_of)
    ('0.5', 'None', 'text_of')
    """
    value = value.item() if isinstance(value, np.generic) else value
    return str(getattr(value, "__name__", value))[:500]


def note(results: Any, model: Any) -> str:
    """The verdict and the upper part of the leaderboard, in Markdown: the run's description."""
    board = model.leaderboard().head(10)
    lines = [[str(name) for name in board.columns], ["---"] * board.shape[1]]
    lines += [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row] for row in board.itertuples(index=False)]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    return f"{results.verdict}\n\n{table}".strip()[:7500]


def _experiment(client: Any) -> str:
    """Where MLflow's variables say, else the default experiment; `mlflow.set_experiment` sets them too."""
    number, name = os.environ.get("MLFLOW_EXPERIMENT_ID"), os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if number or not name:
        return number or "0"
    known = client.get_experiment_by_name(name)
    return str(known.experiment_id if known else client.create_experiment(name))


def _key(name: str) -> str:
    """A name as MLflow allows it."""
    return re.sub(r"[^\w\-./ ]", "_", name)[:200]


def _where() -> str:
    mlflow = sys.modules.get("mlflow")
    return f"MLflow at {mlflow.get_tracking_uri()}" if mlflow else "MLflow"


def _reason(error: BaseException) -> str:
    """What lies at the bottom of an error, where that is the network; otherwise the error."""
    bottom = error
    while bottom.__cause__ or bottom.__context__:
        bottom = bottom.__cause__ or bottom.__context__  # type: ignore[assignment]
    chosen = bottom if isinstance(bottom, OSError) else error
    return " ".join(str(chosen).split())[:300] or type(chosen).__name__
