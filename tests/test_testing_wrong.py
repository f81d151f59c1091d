"""Deliberately wrong plugins: the checks name the fault, and a fit with each of them installed ends well."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from strangers import Site
from wrong_plugins.cases import CASES, HERE, Case
from wrong_plugins.running import distribution_of, failed_checks, fit_with, table

NAMES = [case.name for case in CASES]


def test_every_file_is_in_the_table() -> None:
    helpers = {"cases", "conftest", "running", "table"}
    assert sorted(NAMES) == sorted(path.stem for path in HERE.glob("*.py") if path.stem not in helpers)
    assert len(CASES) >= 20


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_checks_name_the_fault(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    importing = importlib.import_module("autoreg.testing.importing")
    monkeypatch.setattr(importing, "SECONDS", 2.0)
    failed = failed_checks(case)
    assert failed, "nothing failed"
    assert failed[0].name == case.check
    assert case.said in failed[0].detail
    assert failed[0].detail.startswith("expected ")
    assert "; came " in failed[0].detail
    assert "; see reference/testing.md#" in failed[0].detail


@pytest.mark.parametrize("case", [case for case in CASES if case.fit != "not tried"], ids=lambda case: case.name)
def test_a_fit_with_it_installed_ends_well(case: Case, tmp_path: Path) -> None:
    fit = fit_with(case, tmp_path)
    assert fit.status == case.fit, fit.said
    assert case.fit_said in fit.said
    if case.fit in ("failed", "refused"):
        assert f"{distribution_of(case)} 1.0" in fit.said
    elif case.fit in ("left out", "noted"):
        assert case.name in fit.said
    if case.fit == "refused":
        return
    rows = [*fit.search.results_.candidates, *fit.search.results_.companions]
    others = [row for row in rows if case.name not in row.name]
    assert [row.failure for row in others if row.failure] == []
    assert np.isfinite(fit.search.predict(table()[0])).all()


def test_the_command_with_several_of_them_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out is named on standard error, what failed in the leaderboard, and the exit status is 0."""
    site = Site(tmp_path / "site", monkeypatch)
    chosen = [
        case for case in CASES
        if case.name in ("exits_at_import", "misspelt_hook", "mixes_members", "raises_in_step_7", "exits_in_fit",
                         "predicts_nan", "observer_raises", "name_of_a_builtin", "never_ends")
    ]  # fmt: skip
    for case in chosen:
        site.put(
            distribution_of(case), source=case.path.read_text(), **{case.name: distribution_of(case).replace("-", "_")}
        )
    frame, y = table()
    frame.assign(y=y).to_csv(tmp_path / "table.csv", index=False)
    result = site.run(
        "fit", str(tmp_path / "table.csv"), "--target", "y", "-o", str(tmp_path / "model.safetensors"), "--folds", "2",
        "--strategy", "grid", "--activation", "relu", "--activation", "mixes_members", "--activation",
        "raises_in_step_7", "--space", "max_epochs=4", "--space", "batch_size=4", "--jobs", "1",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for case in chosen:
        if case.fit in ("left out", "noted") and case.kind == "plugin":
            assert case.name in result.stderr
        elif case.fit == "failed":
            assert f"is from {distribution_of(case)} 1.0" in result.stdout
    assert "mlp relu" in result.stdout
    assert (tmp_path / "model.safetensors").exists()
    shown = site.run("show", str(tmp_path / "model.safetensors"), "--json")
    assert json.loads(shown.stdout)["targets"] == ["y"]
