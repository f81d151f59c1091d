"""What a search leaves on a real tracking server, read through its REST interface."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import Search

from autoreg.errors import SearchError


class Rest:
    """A server's REST interface, without MLflow's client."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.address}/api/2.0/mlflow/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def runs(self, experiment: str) -> list[dict[str, Any]]:
        """The runs of an experiment, oldest first, each with its parameters, metrics and tags as dicts."""
        number = self(f"experiments/get-by-name?experiment_name={experiment}")["experiment"]["experiment_id"]
        found = self("runs/search", {"experiment_ids": [number], "order_by": ["attributes.start_time ASC"]})
        return [
            {**run["info"], **{k: {one["key"]: one["value"] for one in run["data"].get(k, [])} for k in run["data"]}}
            for run in found.get("runs", [])
        ]

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """A metric as (step, value)."""
        found = self(f"metrics/get-history?run_id={run_id}&metric_key={metric}")
        return sorted((one.get("step", 0), one["value"]) for one in found["metrics"])


@pytest.fixture
def rest(server: str, monkeypatch: pytest.MonkeyPatch) -> Rest:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    return Rest(server)


def split(runs: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The search, and what is below it by name."""
    (top,) = (run for run in runs if run["tags"]["autoreg.kind"] == "search")
    below = {run["run_name"]: run for run in runs if run is not top}
    assert {run["tags"]["mlflow.parentRunId"] for run in below.values()} == {top["run_id"]}
    return top, below


def test_a_search_is_one_run_with_one_below_for_each_candidate_and_companion(
    rest: Rest, table: Any, search: Search, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "houses")
    model = search(companions="compare").fit(*table)
    told = capfd.readouterr()
    assert told.out == ""
    assert "INFO" not in told.err
    top, below = split(rest.runs("houses"))
    results = model.results_

    assert top["status"] == "FINISHED"
    assert top["run_name"] == "autoreg price"
    assert top["params"]["n_rows"] == "90"
    assert top["params"]["features"] == "area, rooms, town, class, garden, sold"
    assert top["params"]["scoring"] == "neg_root_mean_squared_error"
    assert top["params"]["best"] == results.best.name
    assert float(top["params"]["best.learning_rate"]) == model.best_params_["learning_rate"]
    assert top["metrics"]["cv_rmse"] == pytest.approx(-model.ensemble_score_)
    assert top["metrics"]["candidate_rmse"] == pytest.approx(-model.best_score_)
    assert results.verdict in top["tags"]["mlflow.note.content"]
    assert "| 1 | " in top["tags"]["mlflow.note.content"]
    steps = rest.history(top["run_id"], "best_rmse")
    assert steps[-1] == (2, pytest.approx(-model.best_score_))
    assert [value for _, value in steps] == sorted((value for _, value in steps), reverse=True)

    assert {*below} == {row.name for row in [*results.candidates, *results.companions]}
    for row in results.candidates:
        run = below[row.name]
        assert run["status"] == "FINISHED"
        assert float(run["params"]["learning_rate"]) == row.candidate["learning_rate"]
        assert run["params"]["optimizer"] == "adamw"  # a default
        assert run["metrics"]["cv_rmse"] == pytest.approx(-row.score)
        assert [run["metrics"][f"folds/rmse_{k}"] for k in range(2)] == pytest.approx([-s for s in row.scores])
        losses = [(epoch, pytest.approx(value)) for epoch, value in enumerate(row.train_curve, 1)]
        assert rest.history(run["run_id"], "curves/train_loss") == losses
        # a grid scores the last epoch alone
        assert rest.history(run["run_id"], "curves/validation_rmse") == [(3, pytest.approx(-row.curve[-1]))]
    for row in results.companions:
        assert below[row.name]["tags"]["autoreg.kind"] == "companion"
        assert below[row.name]["metrics"]["cv_rmse"] == pytest.approx(-row.score)
        assert top["metrics"][f"baselines/{row.name}_rmse"] == pytest.approx(-row.score)


def test_a_score_that_is_no_error_keeps_its_sign_and_long_curves_are_whole(
    rest: Rest, table: Any, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "long")
    space = {"network": ["linear"], "max_epochs": [450]}  # 900 points, and MLflow takes 800 figures at a time
    model = search(scoring="r2", strategy="portfolio", n_candidates=1, space=space, encodings=["plain"]).fit(*table)
    top, below = split(rest.runs("long"))
    (run,) = below.values()
    (row,) = model.results_.candidates
    assert top["metrics"]["cv_r2"] == pytest.approx(model.best_score_)
    assert run["metrics"]["cv_rmse"] == pytest.approx(np.mean(row.rmse))
    client = mlflow.MlflowClient()
    for name, curve in (("curves/validation_r2", row.curve), ("curves/train_loss", row.train_curve)):
        points = sorted((one.step, one.value) for one in client.get_metric_history(run["run_id"], name))
        assert points == [(epoch, pytest.approx(value)) for epoch, value in enumerate(curve, 1)]
        assert len(points) == 450


def test_below_an_active_run_and_in_its_experiment(
    server: str, table: Any, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_tracking_uri(server)
    with mlflow.start_run(experiment_id=mlflow.MlflowClient().create_experiment("active")) as outer:
        search().fit(*table)
        search(scoring="r2").fit(*table)
        assert mlflow.active_run().info.run_id == outer.info.run_id
    runs = [run for run in Rest(server).runs("active") if run["tags"].get("autoreg.kind") == "search"]
    assert len(runs) == 2
    assert {run["tags"]["mlflow.parentRunId"] for run in runs} == {outer.info.run_id}
    own = Rest(server)(f"runs/get?run_id={outer.info.run_id}")["run"]
    assert "params" not in own["data"]
    assert own["info"]["status"] == "FINISHED"


def test_below_the_run_that_mlflow_run_names(
    rest: Rest, table: Any, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = mlflow.MlflowClient()
    outer = client.create_run(client.create_experiment("project"))
    monkeypatch.setenv("MLFLOW_RUN_ID", outer.info.run_id)
    search().fit(*table)
    (top,) = (run for run in rest.runs("project") if run["tags"].get("autoreg.kind") == "search")
    assert top["tags"]["mlflow.parentRunId"] == outer.info.run_id


def test_what_fails_is_marked_as_failed(rest: Rest, table: Any, search: Search) -> None:
    def broken(prediction: Any, target: Any) -> Any:
        raise ArithmeticError("never")

    mlflow.set_experiment("failures")
    search(losses=["squared_error", broken], space={"network": ["linear"], "max_epochs": [1]}).fit(*table)
    top, below = split(rest.runs("failures"))
    assert top["status"] == "FINISHED"
    assert sorted(run["status"] for run in below.values()) == ["FAILED", "FINISHED"]
    (failed,) = (run for run in below.values() if run["status"] == "FAILED")
    assert failed["tags"]["autoreg.failure"] == "ArithmeticError: never"
    assert failed["params"]["loss"] == "broken"

    mlflow.set_experiment("failed")
    with pytest.raises(SearchError):
        search(losses=[broken], space={"network": ["linear"], "max_epochs": [1]}).fit(*table)
    top, _ = split(rest.runs("failed"))
    assert top["status"] == "FAILED"
    assert top["tags"]["autoreg.failure"].startswith("SearchError: none of 1 candidates could be trained")


def test_ctrl_c_leaves_no_run_behind_as_running(rest: Rest, table: Any, search: Search) -> None:
    def interrupted(prediction: Any, target: Any) -> Any:
        raise KeyboardInterrupt

    mlflow.set_experiment("interrupted")
    with pytest.raises(KeyboardInterrupt):
        search(losses=[interrupted], n_jobs=1).fit(*table)
    (top,) = rest.runs("interrupted")
    assert top["status"] == "KILLED"


def test_several_targets_and_names_of_any_kind(rest: Rest, search: Search) -> None:
    class Odd:
        """A score without a plain name."""

        __name__ = "mean error (in €)"

        def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
            return -float(np.abs(estimator.predict(X) - np.asarray(y)).mean())

    mlflow.set_experiment("names")
    draw = np.random.default_rng(1)
    X = pd.DataFrame({"größe | m² (netto)": draw.normal(size=40), "b": draw.normal(size=40)})
    y = pd.DataFrame({"oben/links: α": X["b"], "zwei": -X["b"]})
    search(scoring=Odd()).fit(X, y)
    top, below = split(rest.runs("names"))
    assert top["params"]["targets"] == "oben/links: α, zwei"
    assert top["metrics"]["cv_mean error _in __"] < 0
    assert len(below) == 2
