"""What a strategy is told, what it may be given, and how it takes candidates out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from exampletables import lay_out
from scipy import stats

from autoreg import AutoRegressor, fitting, rounds
from autoreg.cli import autoreg
from autoreg.errors import OptionError, SearchError
from autoreg.plugins import load_plugins, registry
from autoreg.registry import Owner
from autoreg.results import CandidateResult
from autoreg.rounds import let_go
from autoreg.space import Candidate, Space

RATES = [1e-5, 3e-3, 3e-2, 1e-2]
SHORT = {"network": "linear", "max_epochs": 8, "schedule": "constant"}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = X @ [1.0, 2.0, 3.0] + 0.1 * RNG.normal(size=60)


def in_rounds(
    space: Space, results: Sequence[CandidateResult], n: int | None, seed: int, batch: int = 2, scale: float = 1.0
) -> list[Candidate]:
    """The rates one batch after the other."""
    return [Candidate({**SHORT, "learning_rate": rate * scale}) for rate in RATES[len(results) :][:batch]]


def bad_after_three(
    space: Space, results: Sequence[CandidateResult], candidate: Candidate, curve: Sequence[float],
    batch: int = 2, scale: float = 1.0,
) -> bool:  # fmt: skip
    """Whether a candidate is worse than the worst of earlier rounds was at that epoch, asked from the third on."""
    earlier = [result.curve[len(curve) - 1] for result in results if len(result.curve) >= len(curve)]
    return len(curve) >= 3 and candidate["learning_rate"] < 1e-2 and curve[-1] < max(earlier, default=0.0)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    plugins = load_plugins()
    registry().add("strategy", "in_rounds", in_rounds, Owner("test"), stop=bad_after_three)
    yield
    for name in ("in_rounds",):
        plugins.registry._entries.pop(("strategy", name))


def search(**options: Any) -> AutoRegressor:
    settings = {"cv": 2, "companions": None, "ensemble": False, "random_state": 0, "verbose": 0}
    return AutoRegressor(**{**settings, **options}).fit(X, Y)


def test_a_candidate_that_leaves_keeps_its_best_epoch_and_says_when_it_left() -> None:
    own = [Candidate({**SHORT, "learning_rate": rate}) for rate in (3e-2, 1e-3)]

    def propose(space: Space, results: Any, n: int | None, seed: int) -> list[Candidate]:
        return own[len(results) :][:1]

    def stop(space: Space, results: Any, candidate: Candidate, curve: Sequence[float]) -> bool:
        return len(curve) == 3 and len(results) == 1 and curve[-1] < results[0].curve[2]

    registry().add("strategy", "in_rounds", propose, Owner("test"), stop=stop)
    stopped = search(strategy="in_rounds").results_.candidates
    whole = search(strategy=propose).results_.candidates
    assert [len(row.curve) for row in stopped] == [8, 3]
    assert [dict(row.facts) for row in stopped] == [{}, {"pruned": 3}]
    assert stopped[1].epoch == 3
    assert stopped[1].score == pytest.approx(stopped[1].curve[2])
    assert stopped[1].curve == whole[1].curve[:3]
    assert stopped[0].curve == whole[0].curve


def test_stop_sees_the_rounds_before_and_not_the_cores() -> None:
    curves = {}
    for jobs in (1, 2):
        rows = search(strategy="in_rounds", n_jobs=jobs).results_.candidates
        curves[jobs] = [row.curve for row in rows]
        assert [bool(row.facts) for row in rows] == [True, True, False, False]
    assert curves[1] == curves[2]


def test_a_stop_that_raises_fails_its_candidates_and_no_others() -> None:
    def stop(space: Space, results: Any, candidate: Candidate, curve: Sequence[float]) -> bool:
        if candidate["learning_rate"] == RATES[0]:
            raise RuntimeError("out of cheese")
        return False

    registry().add("strategy", "in_rounds", in_rounds, Owner("test"), stop=stop)
    rows = search(strategy="in_rounds").results_.candidates
    assert [row.failure for row in rows] == ["RuntimeError: out of cheese", "", "", ""]


def test_options_reach_propose_and_stop() -> None:
    rows = search(strategy="in_rounds", strategy_options={"batch": 4, "scale": 2.0}).results_.candidates
    assert [row.candidate["learning_rate"] for row in rows] == [2 * rate for rate in RATES]
    assert [bool(row.facts) for row in rows] == [True, True, False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "in_rounds", "strategy_options": {"bach": 3}}, "no option of strategy in_rounds 'bach'; did you"),
        ({"strategy": "grid", "strategy_options": {"batch": 3}}, "strategy grid takes no options: remove 'batch'"),
        ({"strategy": in_rounds, "strategy_options": [3]}, r"strategy_options=\[3\]: give a dict of options"),
    ],
)
def test_options_that_a_strategy_does_not_have(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        search(**options)


def test_options_on_the_command_line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, 60)
    monkeypatch.chdir(tmp_path)
    words = "fit examples/data/flights.csv --target speed_mph --folds 2 --companions none --quiet --strategy in_rounds"
    result = CliRunner().invoke(autoreg, [*words.split(), "--strategy-option", "batch=1", "--json"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(autoreg, [*words.split(), "--strategy-option", "batch", "--force"])
    assert result.exit_code == 2
    assert "option 'batch': write NAME=VALUE" in result.output


@pytest.mark.parametrize("what", ["option", "candidate", "nothing"])
def test_what_a_strangers_strategy_refuses_is_heard_before_anything_is_fitted(
    what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    def picky(space: Space, results: Sequence[CandidateResult], n: int | None, seed: int) -> list[Candidate]:
        if what == "option":
            raise OptionError("storage='nowhere': give an address")
        return [] if what == "nothing" else [Candidate({**SHORT, "loss": "poisson"})]

    monkeypatch.setattr(fitting, "evaluate_companions", lambda *given, **named: pytest.fail("companions were fitted"))
    search = AutoRegressor(strategy=picky, companions="compare", run_dir=tmp_path / "run", verbose=0)
    with pytest.raises((OptionError, SearchError), match=r"storage='nowhere'|loss poisson|proposed no candidate"):
        search.fit(X, Y)
    assert not (tmp_path / "run").exists()


def test_a_strategy_is_asked_once_for_each_round() -> None:
    asked: list[int] = []

    def counting(space: Space, results: Sequence[CandidateResult], n: int | None, seed: int) -> list[Candidate]:
        asked.append(len(results))
        return in_rounds(space, results, n, seed)

    AutoRegressor(strategy=counting, companions=None, cv=2, random_state=0, verbose=0).fit(X, Y)
    assert asked == [0, 2, 4]


def test_every_strategy_is_offered_what_stands_around_the_portfolio() -> None:
    seen = []

    def propose(space: Space, results: Any, n: int | None, seed: int) -> list[Candidate]:
        seen.append(space)
        return [] if results else [Candidate(SHORT)]

    search(strategy=propose, space={"learning_rate": [0.1], "encoding": ["plain", "pbld"]}, scoring="mae")
    assert seen[0].scoring == "neg_mean_absolute_error"
    plain, pbld = sorted(seen[0].full(8), key=lambda one: "encoding__sigma" in one)
    assert plain["encoding"] == ["plain"]
    assert pbld["encoding"] == ["pbld"]
    assert {"max_epochs", "schedule", "network__dropout"} <= plain.keys()
    assert all(one["learning_rate"] == [0.1] for one in (plain, pbld))


def test_the_full_space_without_a_prior_is_what_is_given() -> None:
    given = ({"network": ["mlp"], "learning_rate": stats.loguniform(1e-3, 1e-1)}, {"network": ["linear"]})
    assert Space(given, {}).full(3) == given


def test_seeds_stay_what_they_were() -> None:
    """They follow from the fingerprint, so a new parameter must not change that of candidates without it."""
    assert Candidate({}).fingerprint == 17110202100222663945
    assert Candidate({"subsample": 1.0}).fingerprint == Candidate({}).fingerprint
    assert Candidate({"subsample": 0.5}).fingerprint != Candidate({}).fingerprint


def test_encodings_of_the_users_last_for_more_rounds_than_one() -> None:
    space = {"encoding": ["none"], "network__width": [8], "network__depth": [1], "max_epochs": [2]}
    model = AutoRegressor(n_candidates=12, space=space, companions=None, cv=2, random_state=0, verbose=0).fit(X, Y)
    rows = model.results_.candidates
    assert len(rows) == 12
    assert [row.failure for row in rows] == [""] * 12


def test_only_the_best_networks_are_kept_and_the_rest_stays_on_the_leaderboard(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[list[int]] = []

    def keep_two(done: Sequence[Any]) -> None:
        let_go(done, 2)
        kept.append([item.result.index for item in done if item.states])

    monkeypatch.setattr(rounds, "let_go", keep_two)
    model = AutoRegressor(strategy="in_rounds", companions=None, cv=2, random_state=0, verbose=0).fit(X, Y)
    rows = model.results_.candidates
    best = sorted(range(4), key=lambda i: -rows[i].score)[:2]
    assert [len(indices) for indices in kept] == [2, 2]
    assert sorted(kept[-1]) == sorted(best)
    assert len(model.leaderboard()) >= 4
    assert set(model.results_.ensemble.facts["weights"] if model.results_.ensemble else best) <= set(best)
    assert np.isfinite(model.predict(X)).all()
