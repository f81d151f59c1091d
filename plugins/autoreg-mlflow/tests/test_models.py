"""A logged model, loaded from the server and from a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import autoreg_mlflow
import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import Search

import autoreg
from autoreg import AutoRegressor, NeuralRegressor


def test_a_logged_search_is_loaded_from_the_server_as_pyfunc_and_as_itself(
    server: str, table: Any, search: Search, tmp_path: Path
) -> None:
    X, y = table
    mlflow.set_tracking_uri(server)
    number = mlflow.set_experiment("models").experiment_id
    model = search().fit(X, y)
    (top,) = mlflow.search_runs([number], "tags.`autoreg.kind` = 'search'", output_format="list")
    uri = f"runs:/{top.info.run_id}/model"
    loaded = mlflow.pyfunc.load_model(uri)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    itself = autoreg_mlflow.load_model(uri)
    assert isinstance(itself, AutoRegressor)
    np.testing.assert_array_equal(itself.predict(X), model.predict(X))
    assert itself.results_.best.name == model.results_.best.name

    (logged,) = mlflow.search_logged_models([number], output_format="list")
    assert logged.source_run_id == top.info.run_id
    assert logged.status == "READY"
    # the figures of baselines are not the model's
    assert {one.key: one.value for one in logged.metrics} == {"cv_rmse": pytest.approx(-model.ensemble_score_)}
    assert logged.params["learning_rate"] == str(model.best_params_["learning_rate"])
    folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path)))
    assert [str(p.relative_to(folder)) for p in folder.rglob("*.*") if p.suffix in (".pkl", ".pickle", ".py")] == []
    assert (folder / "data" / "model.safetensors").exists()
    needed = (folder / "requirements.txt").read_text().split()
    assert f"autoreg-core=={autoreg.__version__}" in needed
    assert any(line.startswith("autoreg-mlflow==") for line in needed)
    assert any(line.startswith("torch==") and "+" not in line for line in needed)


def test_the_example_comes_from_the_schema_and_is_no_training_row(table: Any, search: Search, tmp_path: Path) -> None:
    X, y = table
    model = search().fit(X, y)
    autoreg_mlflow.save_model(model, tmp_path / "model")
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    example = loaded.input_example
    assert list(example.columns) == [name for name in X.columns if name != "constant"]
    assert loaded.predict(example).shape == (1,)
    assert not np.isin(example["area"], X["area"]).any()
    assert isinstance(example["rooms"].iloc[0], np.integer)
    served = json.loads((tmp_path / "model" / "serving_input_example.json").read_text())
    from mlflow.pyfunc.scoring_server import _split_data_and_params, infer_and_parse_data

    sent, _ = _split_data_and_params(served)
    np.testing.assert_array_equal(loaded.predict(infer_and_parse_data(sent)), loaded.predict(example))


def test_tables_that_autoreg_takes_pass_mlflows_checks(table: Any, search: Search, tmp_path: Path) -> None:
    X, y = table
    model = search().fit(X, y)
    autoreg_mlflow.save_model(model, tmp_path / "model")
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    variants = [
        X[list(reversed(X.columns))].assign(more="x"),
        X.drop(columns="constant"),
        X.astype({"area": "int64", "rooms": "float64", "town": "object", "class": "object"}),
        X.assign(rooms=np.nan, town=None, sold=pd.NaT, area=None),
        X.assign(town="never seen", garden=X["garden"].astype("boolean")),
        X.assign(sold=X["sold"].dt.strftime("%Y-%m-%d")),
        X.iloc[5:6],
    ]
    for variant in variants:
        np.testing.assert_array_equal(loaded.predict(variant), model.predict(variant))
    with pytest.raises(mlflow.MlflowException, match="missing inputs \\['area'\\]"):
        loaded.predict(X.drop(columns="area"))


def test_a_model_of_an_array_takes_arrays(search: Search, tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    model = search().fit(X, X[:, :2])
    autoreg_mlflow.save_model(model, tmp_path / "model")
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_array_equal(loaded.predict(pd.DataFrame(X)), model.predict(X))
    assert loaded.metadata.signature.outputs.inputs[0].shape == (-1, 2)


def test_one_network_is_logged_by_hand(server: str, table: Any) -> None:
    X, y = table
    mlflow.set_tracking_uri(server)
    model = NeuralRegressor(network="linear", max_epochs=1, random_state=0).fit(X, y)
    with pytest.raises(autoreg_mlflow.LogError, match="no run is active"):
        autoreg_mlflow.log_model(model)
    with mlflow.start_run() as run:
        address = autoreg_mlflow.log_model(model, "single")
    for uri in (address, f"runs:/{run.info.run_id}/single"):
        np.testing.assert_array_equal(mlflow.pyfunc.load_model(uri).predict(X), model.predict(X))
        assert isinstance(autoreg_mlflow.load_model(uri), NeuralRegressor)


@pytest.mark.filterwarnings("ignore::autoreg.errors.DataWarning")
def test_cells_of_every_kind_of_column_make_an_example(tmp_path: Path, search: Search) -> None:
    n = 40
    days = pd.Timestamp("2020-03-01") + pd.to_timedelta(range(n), unit="D")
    X = pd.DataFrame(
        {
            "german": days.strftime("%d.%m.%Y"),
            "iso": days.strftime("%Y-%m-%dT%H:%M:%S"),
            "epoch": days.astype("int64") // 10**9 if days.dtype == "datetime64[ns]" else days.astype("int64"),
            "yes": np.where(np.arange(n) % 2, "yes", "no"),
            "mass": [f"{i + 1} kg" for i in range(n)],
            "code": pd.Categorical(np.arange(n) % 3),
            "share": [f"{i}%" for i in range(n)],
        }
    )
    model = search().fit(X, np.arange(n, dtype=float))
    autoreg_mlflow.save_model(model, tmp_path / "model")
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert list(loaded.input_example.columns) == list(X.columns)
    assert np.isfinite(loaded.predict(loaded.input_example)).all()
