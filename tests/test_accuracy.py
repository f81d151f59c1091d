"""The accuracy benchmark: its report on made-up lines, and a suite of two tiny tables."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

# at the end: modules of the tests come first
sys.path.append(str(Path(__file__).parent.parent / "examples" / "benchmarks"))
accuracy, comparison, running = (importlib.import_module(name) for name in ("accuracy", "comparison", "running"))

OURS = "autoreg:--companions include"


def line(system: str, table: str, seed: int, nrmse: float | None, **more: Any) -> dict[str, Any]:
    timed = system in (OURS, "flaml")
    row = {"system": system, "set": table, "seed": seed, "budget": 60.0 if timed else None, "n": 80, "seconds": 50.0}
    return row | ({"error": "ValueError: no"} if nrmse is None else {"nrmse": nrmse}) | more


def made_up() -> list[dict[str, Any]]:
    return [
        *(line("catboost", "a", seed, nrmse) for seed, nrmse in enumerate((0.2, 0.4))),
        *(line("hgb", "a", seed, nrmse) for seed, nrmse in enumerate((0.1, 0.7))),
        line("catboost", "b", 0, 0.5),
        line("hgb", "b", 0, None),
        line("catboost", "c", 0, 0.5),
        line("hgb", "c", 0, 0.4),
        line("catboost", "d", 0, 0.5),
        line("hgb", "e", 0, 0.01),
        line("tabm", "a", 0, 0.01),
        *(line(OURS, "a", seed, nrmse, cv=0.3, replayed=True) for seed, nrmse in enumerate((0.1, 0.2))),
        line(OURS, "b", 0, 1.0, cv=0.5, seconds=67.0, replayed=False),
        line(OURS, "c", 0, 0.4, cv=0.4),
        line(OURS, "d", 0, 0.25, cv=0.25),
    ]


def test_the_oracle_is_the_lowest_mean_over_the_splits() -> None:
    (made,) = comparison.compare(made_up())
    assert made.oracle.to_dict() == pytest.approx({"a": 0.3, "b": 0.5, "c": 0.4, "d": 0.5})
    (ours,) = made.ours
    assert made.ratios(ours).to_dict() == pytest.approx({"a": 0.5, "b": 2.0, "c": 1.0, "d": 0.5})
    assert comparison.geometric_mean(made.ratios(ours)) == pytest.approx(0.5**0.25)
    assert made.ratios(ours, "catboost").to_dict() == pytest.approx({"a": 0.5, "b": 2.0, "c": 0.8, "d": 0.5})


def test_two_systems_are_compared_on_the_splits_that_both_have() -> None:
    hard = [line(system, "a", 9, nrmse) for system, nrmse in (("catboost", 9.0), (OURS, 6.0))]
    (made,) = comparison.compare([*made_up(), *hard])
    (ours,) = made.ours
    assert made.ratios(ours, "catboost")["a"] == pytest.approx(6.3 / 9.6)
    assert made.ratios(ours, "hgb")["a"] == pytest.approx(0.3 / 0.8)
    assert made.ratios(ours)["a"] == pytest.approx(6.3 / 9.6)
    assert made.ranks(ours).loc["a"].to_dict() == {ours: 1, "catboost": 2, "hgb": 3}


def test_a_failure_ranks_last_and_what_was_not_measured_takes_no_part() -> None:
    (made,) = comparison.compare(made_up())
    ranks = made.ranks(made.ours[0])
    assert list(ranks.index) == ["a", "b", "c"]
    assert ranks.loc["b"].to_dict() == {made.ours[0]: 2, "catboost": 1, "hgb": 3}
    assert "| b | 80 | 1.0000 | 0.5000 | failed |" in made.text()


def test_the_report_tells_of_optimism_lateness_and_replays() -> None:
    (made,) = comparison.compare(made_up())
    assert made.optimism(made.ours[0]).to_dict() == pytest.approx({"a": np.sqrt(2) / 3, "b": 2.0, "c": 1.0, "d": 1.0})
    text = made.text()
    assert "| held-out more than 5 % over reported | 1: b 2.000 |" in text
    assert "| more than 5 % worse than the oracle | 1: b 2.000 |" in text
    assert "b 0 +12%" in text
    assert "2 of 3" in text


def test_each_of_our_limits_is_compared_with_peers_at_the_same_limit_or_a_given_one() -> None:
    rows = [*made_up(), line("flaml", "a", 0, 0.1), line(OURS, "a", 0, 0.3, budget=300.0)]
    assert [made.limit for made in comparison.compare(rows)] == [60.0, 300.0]
    assert [made.oracle["a"] for made in comparison.compare(rows)] == pytest.approx([0.1, 0.3])
    assert [made.oracle["a"] for made in comparison.compare(rows, peer_limit=60.0)] == pytest.approx([0.1, 0.1])


def test_the_last_line_about_a_job_counts_and_a_peer_without_a_limit_has_none(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    rows = [line("hgb", "a", 0, None, budget=60), line("hgb", "a", 0, 0.5, budget=20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (row,) = comparison.read_rows([path, tmp_path / "none.jsonl"])
    assert (row["nrmse"], row["budget"]) == (0.5, None)
    path.write_text('{"system": "hgb"}\n')
    with pytest.raises(SystemExit, match=r"lines.jsonl:1 is no line of a benchmark: KeyError"):
        comparison.read_rows([path])


def write_suite(folder: Path) -> None:
    """Two tables with all kinds of columns; in the second nothing can be predicted, its target is text."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=100)
    good = pd.DataFrame({
        "number": np.where(x > 1.5, np.nan, x),
        "text": np.where(x > 1, None, np.where(x > 0, "high", "low")),
        "date": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(100), unit="D"),
        "flag": x > 0.5,
        "y": x + 0.1 * rng.normal(size=100),
    })  # fmt: skip
    good.to_parquet(folder / "good.parquet")
    good.assign(y="no number").to_parquet(folder / "bad.parquet")
    entries = [{"name": name, "target": "y"} for name in ("good", "bad", "absent")]
    (folder / "manifest.json").write_text(json.dumps(entries))


def test_a_suite_runs_once_and_a_failure_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_suite(tmp_path)
    results = tmp_path / "results.jsonl"
    arguments = [str(results), "--suite", str(tmp_path), "--systems", "hgb", "--seeds", "0", "--jobs", "1"]
    accuracy.main(arguments)
    first = results.read_text()
    good, bad = map(json.loads, first.splitlines())
    assert (good["set"], good["n"], good["seed"], good["budget"]) == ("good", 80, 0, None)
    assert 0 < good["nrmse"] < 0.8
    assert (bad["set"], "nrmse" in bad) == ("bad", False)
    assert bad["error"].startswith("ValueError: ")
    assert f"| good | 80 | {good['nrmse']:.4f} |" in capsys.readouterr().out
    accuracy.main([*arguments, "--limit", "20", "60"])
    assert results.read_text() == first


def test_a_fit_of_ours_tells_its_held_out_and_its_reported_error(tmp_path: Path) -> None:
    write_suite(tmp_path)
    options = "--strategy grid --space max_epochs=40 --space learning_rate=0.02 --companions none"
    table = accuracy.read_suite(tmp_path, names=["good"])[0]
    row = accuracy.measure(accuracy.Job(f"autoreg:{options}", table, 0, 0, None, 1), None, False)
    assert "error" not in row, row
    assert 0 < row["nrmse"] < 0.8
    assert row["cv"] == pytest.approx(row["nrmse"], rel=0.5)
    assert row["cv"] != row["nrmse"]


def test_tensors_of_two_files_are_compared_bit_for_bit(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    one, other = tmp_path / "one", tmp_path / "other"
    save_file({"w": np.zeros(2, np.float32)}, one, {"seconds": "1"})
    save_file({"w": np.zeros(2, np.float32)}, other, {"seconds": "2"})
    assert accuracy.same_tensors(one, other)
    save_file({"w": np.array([0.0, -0.0], np.float32)}, other)
    assert not accuracy.same_tensors(one, other)


def test_a_command_that_fails_says_why_in_one_line() -> None:
    done = running.run([sys.executable, "-c", "raise ValueError('so')"])
    assert done.failure == "ValueError: so"
    assert running.run([sys.executable, "-c", "import nothing_of_this_name"]).failure == running.NOT_INSTALLED
    assert running.run(["./no/such/python"]).failure == running.NOT_INSTALLED
    assert running.run([sys.executable, "-c", "print('text'); print([1, 2])"]).answer == [1, 2]
