"""A model in MLflow's form: our own file, and around it what MLflow wants to know."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import autoreg
from autoreg_mlflow.bounds import bounded

FILE = "model.safetensors"


def save(model: Any, path: str | Path, description: Any = None) -> None:
    """Write a fitted model as a folder; `description`, an `mlflow.models.Model`, says what else is known."""
    from mlflow import pyfunc
    from mlflow.models import Model

    description = Model() if description is None else description
    with bounded(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        model.save(file)
        description.add_flavor("autoreg", autoreg_version=autoreg.__version__, data=f"data/{FILE}")
        example = example_of(model)
        logger = logging.getLogger("mlflow.pyfunc")  # says that it validates the example
        level = logger.level
        logger.setLevel(logging.WARNING)
        try:
            pyfunc.save_model(
                path, loader_module="autoreg_mlflow", data_path=str(file), mlflow_model=description,
                input_example=example, signature=signature_of(model, example), pip_requirements=requirements_of(file),
            )  # fmt: skip
        finally:
            logger.setLevel(level)


def log(
    client: Any, model: Any, name: str, run_id: str, metrics: dict[str, float] | None = None,
    parameters: dict[str, str] | None = None,
) -> str:  # fmt: skip
    """Log a fitted model to a run, with figures and parameters of its own; returns its address."""
    from mlflow.entities import LoggedModelOutput, Metric
    from mlflow.models import Model

    run = client.get_run(run_id)
    logged = client.create_logged_model(
        run.info.experiment_id, name, source_run_id=run_id, params=parameters, model_type="autoreg"
    )
    try:
        description = Model(
            artifact_path=logged.artifact_location, model_uuid=logged.model_id, run_id=run_id, model_id=logged.model_id
        )
        with tempfile.TemporaryDirectory() as folder:
            save(model, Path(folder) / "model", description)
            client.log_model_artifacts(logged.model_id, str(Path(folder) / "model"))
    except BaseException:
        with suppress(Exception):
            client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    values = {key: float(value) for key, value in (metrics or {}).items() if math.isfinite(value)}
    if values:  # shown beside the model as well
        own = [Metric(key, value, now_ms(), 0, model_id=logged.model_id) for key, value in values.items()]
        client.log_batch(run_id, own)
    return f"models:/{logged.model_id}"


def signature_of(model: Any, example: pd.DataFrame | None) -> Any:
    """The columns that the model needs, and the form of what it predicts.

    Columns have no types here: MLflow refuses whole numbers for a column of fractions, and a missing value in a column
    of whole numbers. autoreg checks the kinds itself, and takes both.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    inputs: list[ColSpec | TensorSpec] = [ColSpec(AnyType()) for _ in model.schema_.columns]
    if named(model):
        # declared as well, or MLflow would call a table's further columns surplus at every prediction
        inputs = [ColSpec(AnyType(), column.name, column.kind != "ignored") for column in model.schema_.columns]
    predicted = np.zeros(1) if example is None else model.predict(example)
    outputs = TensorSpec(predicted.dtype, (-1, *predicted.shape[1:]))
    return ModelSignature(Schema(inputs), Schema([outputs]))


def example_of(model: Any) -> pd.DataFrame | None:
    """A row from the middle of what the schema knows, none of the training rows; None where there is no such row."""
    columns = [column for column in model.schema_.columns if column.kind != "ignored" or not named(model)]
    names = [column.name for column in columns] if named(model) else range(len(columns))
    example = pd.DataFrame({name: [example_cell(column)] for name, column in zip(names, columns, strict=True)})
    try:
        model.predict(example)
    except Exception:  # a kind of column that is new here must not keep a model from being logged
        return None
    return example


def named(model: Any) -> bool:
    """Whether the table had column names."""
    return hasattr(model, "feature_names_in_")


def example_cell(column: Any) -> Any:
    """A cell that a column could hold."""
    if column.kind == "category":
        return column.levels[0]
    if column.kind == "boolean":
        return True
    if column.minimum is None:
        return None
    middle = (column.minimum + column.maximum) / 2
    if column.kind == "date":
        form = column.formats[0] if column.formats else ""
        day = pd.Timestamp(round(middle), unit="s").normalize()
        return day.strftime(form) if "%" in form else day.strftime("%Y-%m-%d")
    whole = column.dtype.lower().startswith(("int", "uint"))
    return round(middle) if whole else float(f"{middle:.4g}")


def requirements_of(file: Path) -> list[str]:
    """What has to be installed to load our file: autoreg, torch, this module and the plugins whose parts it names."""
    from autoreg.persistence import read_manifest

    needed = {"autoreg-core": autoreg.__version__, "autoreg-mlflow": version("autoreg-mlflow")}
    needed["torch"] = version("torch").partition("+")[0]
    for member in read_manifest(file)["members"]:
        for owner in member["owners"].values():
            if owner["distribution"]:
                needed.setdefault(owner["distribution"], owner["version"])
    return [f"{name}=={number}" for name, number in needed.items()]


def now_ms() -> int:
    return time.time_ns() // 1_000_000
