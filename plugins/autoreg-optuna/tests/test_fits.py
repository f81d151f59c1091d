"""Real fits: in Python, on the command line, and what Optuna's dashboard shows of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from autoreg_optuna import gp, stop, tpe
from click.testing import CliRunner
from optuna_dashboard import wsgi
from scipy import stats

from autoreg import AutoRegressor
from autoreg.cli import autoreg
from autoreg.testing import check_strategy

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = X @ [1.0, 2.0, 3.0] + 0.1 * RNG.normal(size=60)
SHORT = {"network__width": [8], "network__depth": [1, 2], "max_epochs": [6], "schedule": ["constant"]}


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/trials.db"


def fit(strategy: str, n: int, space: Any = None, **options: Any) -> AutoRegressor:
    return AutoRegressor(
        strategy=strategy, strategy_options=options, n_candidates=n, space=space or SHORT, cv=2, companions=None,
        random_state=0, verbose=0, ensemble=False,
    ).fit(X, Y)  # fmt: skip


@pytest.mark.parametrize("strategy", [tpe, gp], ids=["tpe", "gp"])
def test_keeps_what_a_strategy_promises(strategy: Any) -> None:
    check_strategy(strategy, own_seeds=True, choose_epoch=True, half=True, stop=stop)


@pytest.mark.parametrize("strategy", ["tpe", "gp"])
def test_a_fit_tries_as_many_as_asked_for(strategy: str, storage: str) -> None:
    model = fit(strategy, 7, batch=3, startup=3, storage=storage, study="own")
    rows = model.results_.candidates
    assert [row.failure for row in rows] == [""] * 7
    assert {row.candidate["encoding"] for row in rows} <= {"ple", "pbld"}
    trials = optuna.load_study(study_name="own", storage=storage).trials
    pairs = [(-row.score, trial.value) for row, trial in zip(rows, trials, strict=True) if not row.facts]
    assert len(pairs) >= 4
    assert all(score == pytest.approx(value) for score, value in pairs)
    assert model.best_score_ == max(row.score for row in rows)


def test_a_pruned_candidate_leaves_early_and_is_pruned_in_the_study(storage: str) -> None:
    rates = {"learning_rate": [0.1, 0.09, 0.08, 0.07, 0.06, 1e-6, 2e-6, 3e-6, 4e-6], "network": ["linear"]}
    space = {**{name: SHORT[name] for name in ("max_epochs", "schedule")}, **rates, "encoding": ["standard"]}
    rows = fit("tpe", 9, space, batch=1, startup=9, storage=storage, study="own").results_.candidates
    trials = optuna.load_study(study_name="own", storage=storage).trials
    trials = [trial for trial in trials if "same_as" not in trial.user_attrs]
    assert [trial.state.name == "PRUNED" for trial in trials] == [bool(row.facts) for row in rows]
    pruned = [row for row in rows if row.facts]
    assert pruned
    assert all(row.index >= 4 and row.candidate["learning_rate"] < 1e-5 for row in pruned)
    assert all(row.facts["pruned"] == len(row.curve) < 6 for row in pruned)


def test_options_on_the_command_line(tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pd.DataFrame(X, columns=list("abc")).assign(y=Y).to_csv("table.csv", index=False)
    words = "fit table.csv --target y --folds 2 --companions none --quiet --strategy tpe --candidates 3 --json"
    short = ["--space", "max_epochs=2", "--space", "network__width=8", "--encoding", "standard"]
    options = ["--strategy-option", f"storage={storage}", "--strategy-option", "study=own"]
    result = CliRunner().invoke(autoreg, [*words.split(), *short, *options])
    assert result.exit_code == 0, result.output
    assert len(optuna.load_study(study_name="own", storage=storage).trials) == 3
    result = CliRunner().invoke(autoreg, [*words.split(), "--force", "--strategy-option", "storge=x"])
    assert result.exit_code == 2
    assert "no option of strategy tpe 'storge'; did you mean 'storage'?" in result.output


def get(app: Any, path: str) -> Any:
    """What the dashboard's own page asks its server for."""
    status = []
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "localhost",
        "SERVER_PORT": "80", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(), "wsgi.url_scheme": "http",
    }  # fmt: skip
    body = b"".join(app(environ, lambda line, headers, error=None: status.append(line)))
    assert status == ["200 OK"], (status, body)
    return json.loads(body)


def test_the_dashboard_lists_the_trials(storage: str) -> None:
    short = {**SHORT, "encoding": ["standard"]}
    space = [
        {**short, "network": ["mlp"], "learning_rate": stats.loguniform(1e-3, 1e-1), "activation": ["relu", "silu"]},
        {**short, "network": ["resnet"], "learning_rate": stats.loguniform(1e-3, 1e-1)},
    ]
    fit("tpe", 6, space, batch=3, storage=storage, study="own")
    app = wsgi(storage)
    (summary,) = get(app, "/api/studies")["study_summaries"]
    assert (summary["study_name"], summary["directions"]) == ("own", ["minimize"])
    study = get(app, f"/api/studies/{summary['study_id']}")
    assert len(study["trials"]) == 6
    for trial in study["trials"]:
        assert trial["state"] in ("Complete", "Pruned")
        assert len(trial["intermediate_values"]) <= 6
        assert all(np.isfinite(float(value)) for value in trial["values"])
        kinds = {param["name"]: param["distribution"] for param in trial["params"]}
        assert kinds["network"]["type"] == "CategoricalDistribution"
        assert kinds["learning_rate"]["type"] == "FloatDistribution"
        assert kinds["learning_rate"]["log"]
        assert kinds["network__depth"]["type"] == "IntDistribution"
        assert ("activation" in kinds) == (param_of(trial, "network") == "mlp")
    whole = {param["name"] for param in study["union_search_space"]}
    assert {"network", "learning_rate", "network__depth", "activation"} <= whole
    assert {"network", "learning_rate", "network__depth"} <= {p["name"] for p in study["intersection_search_space"]}


def param_of(trial: Any, name: str) -> str:
    return next(param["param_external_value"] for param in trial["params"] if param["name"] == name)
