"""Logs the searches of autoreg to MLflow.

The observers below are the plugin. `log_model`, `save_model` and `load_model` are for whoever logs by hand. MLflow is
imported when something is logged, not before.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import autoreg
from autoreg import hookimpl

if TYPE_CHECKING:
    from pathlib import Path

    from autoreg_mlflow.runs import SearchLog

__all__ = ["load_model", "log_model", "save_model"]

SWITCH = "AUTOREG_MLFLOW"
POINTERS = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")
"""Variables by which a user tells MLflow where to log."""

_LOGS: WeakKeyDictionary[Any, SearchLog] = WeakKeyDictionary()
"""The log of each search that goes on, by its plan."""


class LogError(Exception):
    """Something could not be logged."""


@hookimpl
def search_started(plan: Any) -> None:
    """Open a run, where MLflow is switched on."""
    if switched_on():
        from autoreg_mlflow.runs import SearchLog

        log = _LOGS[plan] = SearchLog(plan.scoring)
        log.open(plan)


@hookimpl
def rung_finished(results: Any) -> None:
    """Log the candidates that have ended since the last time."""
    log = _LOGS.get(results.plan)
    if log is not None and not log.silent:
        log.add(results)


@hookimpl
def search_finished(results: Any, model: Any) -> None:
    """Log the rest, the summary and the model, and close the run."""
    log = _LOGS.pop(results.plan, None)
    if log is not None:
        log.finish(results, model)


@hookimpl
def search_failed(plan: Any, error: BaseException) -> None:
    """Close the run as failed, or as killed by Ctrl-C."""
    log = _LOGS.pop(plan, None)
    if log is not None and log.run_id is not None:
        log.fail(error)


def switched_on() -> bool:
    """Whether searches are logged: where ``AUTOREG_MLFLOW`` says so, or MLflow was told where to log."""
    switch = os.environ.get(SWITCH, "")
    if switch not in ("", "0", "1"):
        raise LogError(f"{SWITCH}={switch!r}: set it to 1 or 0, or not at all")
    if switch:
        return switch == "1"
    if any(os.environ.get(name) for name in POINTERS):
        return True
    # a program that has not imported MLflow has told it nothing
    mlflow = sys.modules.get("mlflow")
    return mlflow is not None and (mlflow.is_tracking_uri_set() or mlflow.active_run() is not None)


def save_model(model: Any, path: str | Path) -> None:
    """Write a fitted model as a folder of MLflow's form: our file, a signature, an example and requirements. No pickle.

    Parameters
    ----------
    model : AutoRegressor or NeuralRegressor
        Fitted.
    path : str or Path
        A folder that does not exist yet, or is empty.
    """
    from autoreg_mlflow import models

    models.save(model, path)


def log_model(model: Any, name: str = "model", run_id: str | None = None) -> str:
    """Log a fitted model to a run.

    Parameters
    ----------
    model : AutoRegressor or NeuralRegressor
        Fitted.
    name : str
    run_id : str, optional
        Without it, the active run.

    Returns
    -------
    str
        The model's address, ``models:/...``; ``runs:/<run_id>/<name>`` leads there too.
    """
    import mlflow

    from autoreg_mlflow import models

    active = mlflow.active_run()
    run_id = run_id or (active.info.run_id if active else None)
    if run_id is None:
        raise LogError("no run is active: log within `with mlflow.start_run():`, or give run_id")
    return models.log(mlflow.MlflowClient(), model, name, run_id)


def load_model(model_uri: str) -> Any:
    """Load a logged model as what it was, an `AutoRegressor` or `NeuralRegressor`.

    Parameters
    ----------
    model_uri : str
        ``runs:/<run_id>/model``, ``models:/...`` or a folder.
    """
    from mlflow.artifacts import download_artifacts

    from autoreg_mlflow.models import FILE

    return autoreg.load(f"{download_artifacts(model_uri)}/data/{FILE}")


def _load_pyfunc(path: str) -> Any:
    """What `mlflow.pyfunc.load_model` calls with our file."""
    return autoreg.load(path)
