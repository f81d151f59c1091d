"""Searches without training: a candidate's error is a formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from scipy import stats

from autoreg.results import CandidateResult
from autoreg.space import Candidate, Space

SPACE = Space(
    (
        {
            "learning_rate": stats.loguniform(1e-4, 1.0),
            "network__depth": [1, 2, 3, 4],
            "activation": ["relu", "silu", "tanh"],
            "max_epochs": [4],
        },
    ),
    {"n_rows": 100},
    scoring="neg_root_mean_squared_error",
)


def error(candidate: Candidate) -> float:
    """Least at a learning rate of 0.01, depth 3 and silu."""
    miss = (math.log10(candidate["learning_rate"]) + 2) ** 2 + abs(candidate["network__depth"] - 3)
    return 1 + miss + (candidate["activation"] != "silu")


def trained(index: int, candidate: Candidate, **changes: Any) -> CandidateResult:
    """What a search would report of a candidate."""
    value = error(candidate)
    curve = tuple(-value * factor for factor in (4, 3, 2, 1))
    result = {"scores": (-value, -value), "rmse": (value, value), "epoch": 4, "seconds": 0.1, "curve": curve, **changes}
    return CandidateResult(index, candidate, candidate.label, **result)


def failed(index: int, candidate: Candidate) -> CandidateResult:
    nan = (float("nan"),) * 2
    return trained(index, candidate, scores=nan, rmse=nan, curve=(), failure="not finite in epoch 1")


def search(
    strategy: Callable[..., list[Candidate]],
    n: int | None,
    seed: int = 0,
    space: Space = SPACE,
    report: Callable[[int, Candidate], CandidateResult] = trained,
    rounds: int = 1000,
    **options: Any,
) -> list[CandidateResult]:
    """All results, after so many rounds at most."""
    results: list[CandidateResult] = []
    for _ in range(rounds):
        proposed = strategy(space, tuple(results), n, seed, **options)
        if not proposed:
            break
        results += [report(len(results) + i, candidate) for i, candidate in enumerate(proposed)]
    return results


def parameters(results: list[CandidateResult]) -> list[dict[str, Any]]:
    return [dict(result.candidate.parameters) for result in results]
