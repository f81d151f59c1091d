"""What a person reads: leaderboard, verdict, progress."""

from __future__ import annotations

import copy
import math
import os
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from autoreg import AutoRegressor
from autoreg.errors import ModelFileError
from autoreg.report import leaderboard, progress
from autoreg.report.card import card, schema_text
from autoreg.report.labels import WIDTH, shortened
from autoreg.report.measures import held_out, held_out_text, measures
from autoreg.report.progress import show_progress
from autoreg.report.units import decimals, duration, is_error, label, number, plain
from autoreg.report.verdict import corrected_t_test, verdict
from autoreg.results import CandidateResult, Progress, SearchResults
from autoreg.scoring import SHORT, as_metric
from autoreg.space import Candidate
from autoreg.tasks import Roles, make_task

RMSE = "neg_root_mean_squared_error"
NAN = float("nan")


def network(index: int, scores: list[float], name: str = "", failure: str = "") -> CandidateResult:
    candidate = Candidate({"learning_rate": 0.001 * (index + 1)})
    return CandidateResult(
        index, candidate, name or candidate.label, tuple(scores), tuple(-s for s in scores), 12, 3.21, failure=failure
    )


def companion(index: int, scores: list[float], name: str = "ridge", failure: str = "") -> CandidateResult:
    return CandidateResult(index, None, name, tuple(scores), tuple(-s for s in scores), seconds=0.5, failure=failure)


def results(*rows: CandidateResult, scoring: str = RMSE, seconds: float = 9.0) -> SearchResults:
    networks = tuple(row for row in rows if not row.is_companion)
    companions = tuple(row for row in rows if row.is_companion)
    return SearchResults(networks, companions, scoring, len(rows[0].scores), seconds)


BOARD = results(
    network(0, [-10.0, -12.0]),
    network(1, [-8.0, -9.0]),
    network(2, [NAN, NAN], failure="ValueError: too wide"),
    companion(3, [-9.5, -9.5]),
    companion(4, [NAN, NAN], "trees", "ImportError: no trees"),
)


def test_frame() -> None:
    frame = leaderboard.frame(BOARD)
    names = ["rank", "model", "kind", "rmse", "rmse_std", "epoch", "seconds", "ms_per_row", "megabytes", "failure"]
    assert list(frame.columns) == names
    assert frame["kind"].tolist() == ["network", "companion", "network", "network", "companion"]
    assert frame["rmse"].tolist()[:3] == [8.5, 9.5, 11.0]
    assert frame["rmse_std"].tolist()[:3] == [0.5, 0.0, 1.0]
    assert frame["rank"].tolist()[:3] == [1, 2, 3]
    assert frame["rank"].isna().tolist() == [False] * 3 + [True] * 2
    assert frame["failure"].tolist()[3:] == ["ValueError: too wide", "ImportError: no trees"]
    assert frame["epoch"].tolist()[:2] == [12, 0]


def test_equal_scores_share_a_rank() -> None:
    frame = leaderboard.frame(results(network(0, [-1.0]), network(1, [-1.0]), network(2, [-2.0])))
    assert frame["rank"].tolist() == [1, 1, 3]


def test_a_score_keeps_its_sign() -> None:
    frame = leaderboard.frame(results(network(0, [0.5, 0.75]), companion(1, [0.25, 0.25]), scoring="r2"))
    assert frame["r2"].tolist() == [0.625, 0.25]


def test_text() -> None:
    lines = leaderboard.text(BOARD).splitlines()
    assert lines[0].split() == ["rank", "model", "kind", "rmse", "±", "std", "epoch", "seconds", "ms/row", "MB"]
    assert lines[1].split() == ["1", "mlp", "relu", "lr", "0.002", "network", "8.500", "0.500", "12", "3.2", "-", "-"]
    assert lines[2].split() == ["2", "ridge", "companion", "9.500", "0.000", "-", "0.5", "-", "-"]
    assert lines[4:] == ["failed: mlp relu lr 0.003: ValueError: too wide", "failed: trees: ImportError: no trees"]
    assert len({line.index("network") for line in lines[1:4] if "network" in line}) == 1


def test_text_shows_the_best_and_every_companion() -> None:
    rows = [network(i, [-1.0 - i, -1.1 - i]) for i in range(30)]
    lines = leaderboard.text(results(*rows, companion(30, [-99.0, -99.0]), companion(31, [-98.0, -98.0]))).splitlines()
    assert len(lines) == 12
    assert [line.split()[0] for line in lines[1:11]] == [*"12345678", "31", "32"]
    assert lines[-1] == "and 22 more networks"


def test_text_keeps_failures_short() -> None:
    rows = [network(0, [-1.0]), *(network(i, [NAN], failure="RuntimeError: no") for i in range(1, 30))]
    lines = leaderboard.text(results(*rows)).splitlines()
    assert len(lines) == 13
    assert lines[-1] == "and 19 more failed"


def test_text_of_failures_only() -> None:
    lines = leaderboard.text(results(network(0, [NAN], failure="RuntimeError: no"))).splitlines()
    assert lines[1] == "failed: mlp relu lr 0.001: RuntimeError: no"


def test_a_long_description_keeps_both_ends() -> None:
    name = "resnet(" + "width=1, " * 20 + ") lr 0.25"
    short = shortened(name)
    assert len(short) <= WIDTH
    assert short.startswith("resnet(width=1")
    assert short.endswith("lr 0.25")


@pytest.mark.parametrize("scoring", [*SHORT.values(), "r2", "explained_variance"])
def test_units_agree_with_the_metric(scoring: str) -> None:
    metric = as_metric(scoring)
    assert label(scoring) == metric.label
    assert is_error(scoring) == (metric.sign < 0)
    assert plain(-2.0 if is_error(scoring) else 2.0, scoring) == 2.0


@pytest.mark.parametrize(
    ("value", "others", "expected"),
    [(412.345, [], "412.3"), (31415.9, [], "31416"), (0.0123456, [], "0.01235"), (12.0, [0.5], "12.0000"),
     (0.0, [], "0"), (3e12, [], "3e+12"), (NAN, [1.0], "-"), (1e-20, [], "1e-20")],
)  # fmt: skip
def test_numbers_have_four_digits(value: float, others: list[float], expected: str) -> None:
    assert number(value, decimals([value, *others])) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "1 s"), (59.4, "59 s"), (59.6, "1 min"), (119, "1 min 59 s"), (600, "10 min"), (3560, "59 min"),
     (3599, "1 h"), (3600, "1 h"), (7290, "2 h 2 min"), (90000, "25 h")],
)  # fmt: skip
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_a_clear_difference() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=5)
    better = results(network(0, list(-10 + noise)), companion(1, list(-12 + noise + 0.01 * rng.normal(size=5))))
    sentence = verdict(better)
    assert sentence.startswith("The best network is better than the best baseline, ridge: rmse ")
    assert "% lower" in sentence
    assert "p < 0.001" in sentence
    worse = results(network(0, list(-12 + noise + 0.01 * rng.normal(size=5))), companion(1, list(-10 + noise)))
    assert verdict(worse).startswith("The best network is worse than the best baseline")
    assert "% higher" in verdict(worse)


def test_no_clear_difference() -> None:
    sentence = verdict(results(network(0, [-1.0, -2.0, -3.0]), companion(1, [-1.1, -1.8, -3.2])))
    assert sentence.startswith("There is no clear difference between the best network and the best baseline, ridge")
    assert "3 folds, corrected paired t-test, p = " in sentence
    assert "\n" not in sentence


def test_the_best_of_each_is_compared() -> None:
    rows = [network(0, [-5.0, -5.1]), network(1, [-1.0, -1.1]), companion(2, [-9.0, -9.0], "mean")]
    sentence = verdict(results(*rows, companion(3, [-4.0, -4.2]), companion(4, [NAN, NAN], "trees", "failed")))
    assert "baseline, ridge: rmse 1.050 against 4.100" in sentence


def test_the_ensemble_is_what_counts() -> None:
    ensemble = CandidateResult(9, None, "ensemble of 2", (-2.0, -2.1), (2.0, 2.1), is_ensemble=True)
    board = replace(results(network(0, [-1.0, -1.1]), companion(1, [-4.0, -4.2])), ensemble=ensemble)
    assert verdict(board).startswith("The ensemble of networks is better than the best baseline, ridge: rmse 2.050")
    assert leaderboard.frame(board)["kind"].tolist() == ["network", "ensemble", "companion"]
    assert leaderboard.text(board).splitlines()[2].split()[:5] == ["2", "ensemble", "of", "2", "ensemble"]


def test_scores_are_compared_with_their_sign() -> None:
    sentence = verdict(
        results(network(0, [0.9, 0.91, 0.9]), companion(1, [0.5, 0.51, 0.52]), scoring="r2"),
    )
    assert "better" in sentence
    assert "r2 0.9033 against 0.5100 (" in sentence


def test_no_verdict_where_there_is_nothing_to_compare() -> None:
    assert verdict(results(network(0, [-1.0, -2.0]))) == ""
    assert "Every baseline failed" in verdict(results(network(0, [-1.0]), companion(1, [NAN], failure="no")))
    assert "No network could be scored" in verdict(results(network(0, [NAN]), companion(1, [-1.0])))
    assert "One split cannot tell" in verdict(results(network(0, [-1.0]), companion(1, [-2.0])))
    assert "no clear difference" in verdict(results(network(0, [-1.0, -2.0]), companion(1, [-1.0, -2.0])))


def test_the_corrected_t_test() -> None:
    differences = np.random.default_rng(1).normal(0.3, 1, 10)
    naive = stats.ttest_1samp(differences, 0)
    statistic = naive.statistic / math.sqrt(1 + 10 / 9)
    assert corrected_t_test(list(differences)) == pytest.approx(2 * stats.t.sf(abs(statistic), 9))
    assert corrected_t_test([1.0, 1.0, 1.0]) == 0.0
    assert corrected_t_test([0.0, 0.0]) == 1.0


def test_the_corrected_t_test_is_careful_on_folds() -> None:
    """Two equally good models on the same folds: said to differ in about one of twenty tables, not far more often."""
    rng = np.random.default_rng(0)
    claims = 0
    for _ in range(300):
        y, a, b = rng.normal(size=(3, 50))
        folds = np.array_split(np.arange(50), 5)
        errors = [
            np.mean((y[fold] - np.polyval(np.polyfit(a[rest], y[rest], 1), a[fold])) ** 2)
            - np.mean((y[fold] - np.polyval(np.polyfit(b[rest], y[rest], 1), b[fold])) ** 2)
            for fold in folds
            for rest in [np.setdiff1d(np.arange(50), fold)]
        ]
        claims += corrected_t_test(errors) < 0.05
    assert claims / 300 < 0.08


def test_silence() -> None:
    with progress.show_progress(0) as on_progress:
        assert on_progress is None


def test_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.show_progress(1) as on_progress:
        assert on_progress is not None
        on_progress(Progress("plan", 0.0, candidates_left=4, seconds_left=75))
        for i in range(101):
            on_progress(Progress("networks", i / 100, i // 26, 4 - i // 26, best=2.5, seconds_left=100.0 - i))
        on_progress(Progress("networks", 1.0, 4, 0, best=2.5))
        on_progress(Progress("companions", 0.5))
        on_progress(Progress("companions", 1.0, 3))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "Plan: 4 networks to train on each fold, about 1 min 15 s.",
        "networks: 100%  4/4 done  best 2.5",
        "companions: 100%  3/3 done",
    ]


def test_plain_lines_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    with progress.show_progress(1) as on_progress:
        assert on_progress is not None
        on_progress(Progress("networks", 0.25, 1, 3, best=2.5, seconds_left=90))
    assert capsys.readouterr().err == "networks: 25%  1/4 done  best 2.5  1 min 30 s left\n"


@pytest.mark.parametrize("installed", [False, True])
def test_a_notebook_has_a_bar_where_it_can(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(progress, "find_spec", lambda name: object() if installed else None)
    drawn: list[str] = []

    class Bar:
        def __init__(self, console: object) -> None:
            self.show = lambda progress: drawn.append(progress.stage)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(progress, "_Bar", Bar)
    with progress.show_progress(1) as on_progress:
        assert on_progress is not None
        on_progress(Progress("networks", 1.0, 1, 0))
    assert drawn == (["networks"] if installed else [])


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with progress.show_progress(1) as on_progress:
        assert on_progress is not None
        on_progress(Progress("plan", 0.0, candidates_left=1))
        on_progress(Progress("networks", 0.5, 1, 1, best=2.5, seconds_left=30))
        on_progress(Progress("companions", 1.0, 3))
    out, err = capsys.readouterr()
    assert out == ""
    assert "Plan: 1 network to train on each fold." in err
    assert "networks" in err
    assert "best 2.5" in err
    assert "companions" in err


def test_figures_that_a_file_has_no_number_for() -> None:
    rows = [{"model": "autoreg", "rmse": 0.5, "mae": 0.25, "r2": None, "failure": ""}]
    assert held_out_text(rows, RMSE).splitlines()[1].split() == ["autoreg", "0.5000", "0.2500", "-"]
    assert math.isnan(measures(np.ones(3), np.zeros(3))["r2"])


def test_measures_of_huge_targets() -> None:
    y = np.array([1e200, 3e200])
    assert measures(y, y[::-1])["rmse"] == pytest.approx(2e200)
    assert measures(y, y) == {"rmse": 0.0, "mae": 0.0, "r2": 1.0}


MANIFEST: dict[str, Any] = {
    "version": "0.1.0",
    "targets": ["rent"],
    "n_rows": 100,
    "seed": 0,
    "seconds": 12.5,
    "schema": {"columns": [{"name": "size", "kind": "number", "minimum": 1.0, "maximum": 2.5}], "notices": ["odd"]},
    "members": [
        {
            "label": "mlp relu lr 0.001", "weight": 1.0, "n_members": 5, "outputs_per_target": 1, "point": None,
            "parameters": {"encoding": "plain", "network": "mlp", "activation": "relu"},
            "owners": {
                "network": {"name": "mlp", "plugin": "networks", "distribution": "autoreg-core", "version": "1"}
            },
        }
    ],
    "held_out": {
        "n_rows": 20, "scoring": "r2",
        "models": [
            {"model": "autoreg", "rmse": 1.5, "mae": 1.25, "r2": 0.75, "failure": ""},
            {"model": "trees", "failure": "ImportError: no trees"},
        ],
    },
}  # fmt: skip


def test_card() -> None:
    lines = card(MANIFEST).splitlines()
    assert lines[:5] == [
        "predicts     rent",
        "fitted on    100 rows, 1 columns used, 0 ignored",
        "took         12 s, seed 0, autoreg 0.1.0",
        "consists of  100% mlp relu lr 0.001 x 5 folds",
        "parts from   autoreg-core 1",
    ]
    assert lines[-3:] == [
        "model       r2   rmse    mae", "autoreg  0.750  1.500  1.250", "failed: trees: ImportError: no trees",
    ]  # fmt: skip
    assert schema_text(MANIFEST).splitlines()[1:] == ["size    number  1 to 2.5", "note: odd"]


def test_what_a_stranger_wrote_commands_no_terminal() -> None:
    odd = {**MANIFEST, "targets": ["rent\x1b]0;mine\x07"], "verdict": "\x1b[2Jnothing"}
    odd["schema"] = {**MANIFEST["schema"], "notices": ["odd\x9b"]}
    for text in (card(odd), schema_text(odd)):
        assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert "rent\\x1b]0;mine\\x07" in card(odd)


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [1], [{}], {"columns": 1}, {"n_rows": 1}, True, 1e400])
@pytest.mark.parametrize("path", [(name,) for name in MANIFEST] + [
    ("schema", "columns"), ("schema", "notices"), ("schema", "columns", 0), ("schema", "columns", 0, "name"),
    ("schema", "columns", 0, "kind"), ("schema", "columns", 0, "minimum"), ("members", 0), ("members", 0, "label"),
    ("members", 0, "weight"), ("members", 0, "n_members"), ("members", 0, "owners"),
    ("members", 0, "owners", "network"),
    ("held_out", "n_rows"), ("held_out", "scoring"), ("held_out", "models"), ("held_out", "models", 0),
    ("held_out", "models", 0, "rmse"), ("held_out", "models", 0, "model"), ("held_out", "models", 1, "failure"),
], ids=str)  # fmt: skip
def test_a_manifest_is_shown_or_refused(path: tuple[str | int, ...], value: Any) -> None:
    hostile = copy.deepcopy(MANIFEST)
    place: Any = hostile
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    for show in (card, schema_text):
        shown = ""
        try:
            shown = show(hostile)
        except ModelFileError as error:
            shown = "" if "\n" in str(error) else str(error)
        assert shown


def test_repeated_folds_are_no_more_rows() -> None:
    differences = np.random.default_rng(0).normal(1, 3, 100).tolist()
    n, mean, variance = 100, np.mean(differences), np.var(differences, ddof=1)
    for given, ratio in ((None, 1 / 99), (0.25, 0.25)):
        expected = 2 * stats.t.sf(mean / np.sqrt(variance * (1 / n + ratio)), n - 1)
        assert corrected_t_test(differences, given) == pytest.approx(expected)


@pytest.mark.parametrize("closed", [False, True])
def test_what_nobody_can_see_is_not_shown(closed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        if closed:
            full = open(os.devnull, "w")  # noqa: SIM115
            full.close()
        monkeypatch.setattr(sys, "stderr", full)
        with show_progress(1) as show:
            assert show is not None
            for _ in range(3):
                show(Progress("plan", 0.0, candidates_left=2))
        with suppress(OSError):
            full.close()


def test_a_terminal_that_is_gone_ends_the_bar_only(monkeypatch: pytest.MonkeyPatch) -> None:
    main, terminal = os.openpty()
    stream = os.fdopen(terminal, "w")
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with show_progress(1) as show:
        assert show is not None
        show(Progress("networks", 0.1, candidates_left=2))
        os.close(main)
        for fraction in (0.5, 1.0):
            show(Progress("networks", fraction, candidates_left=2))
    with suppress(OSError):
        stream.close()


def test_companions_on_held_out_rows_are_left_out_where_they_failed_or_time_is_up() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=["a", "b"]).assign(y=lambda t: t["a"] + t["b"])
    task = make_task(frame, Roles(("y",)))
    model = AutoRegressor(
        effort="quick", n_candidates=1, space={"max_epochs": [1]}, companions="compare", random_state=0, verbose=0
    ).fit(task.X, task.y)
    rows = {row["model"]: row["failure"] for row in held_out(model, task, task)}
    assert set(rows) == {"autoreg", "mean", "ridge", "hist_gradient_boosting", "extra_trees"}
    assert set(rows.values()) == {""}
    mean = next(row for row in model.results_.companions if row.name == "mean")
    failed = tuple(replace(row, failure="broken") if row is mean else row for row in model.results_.companions)
    model.results_ = replace(model.results_, companions=failed)
    model.time_limit = model.results_.seconds / 2
    rows = {row["model"]: row["failure"] for row in held_out(model, task, task)}
    assert rows.pop("autoreg") == ""
    assert rows.pop("mean") == "broken"
    assert set(rows.values()) == {"no time was left for it"}
