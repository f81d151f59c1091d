"""How time and memory grow with rows, features, candidates and cores.

    python examples/benchmarks/scaling.py [--axes rows features candidates cores] [--plot FILE.png] [--json FILE]
                                          [--repeat 1] [--smoke]

Each point is a fit in a fresh process: a grid of learning rates on 5 folds, 2 x 64 units, batches of 256, one epoch.
Seconds are of the call of `fit`, memory is what the peak of the process and its forks grew by during it; torch itself
is in neither. The fastest of `--repeat` runs counts. Beside the memory stands the formula,
`expected_bytes`. It is looked at in `/proc`: on Linux only.

The exponent is that of the growth over an axis's last three points: 1 is linear. On the axis of cores the scores have
to be the same bits; there are ten epochs. The plot needs matplotlib.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from memory import of_family
from running import Run, machine, run


@dataclass(frozen=True)
class Point:
    """One fit."""

    rows: int = 8000
    features: int = 20
    candidates: int = 8
    cores: int = 2
    epochs: int = 1
    folds: int = 5
    batch: int = 256
    depth: int = 2
    width: int = 64


BASE = Point()
AXES: dict[str, list[Point]] = {
    "rows": [replace(BASE, rows=rows) for rows in (1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000)],
    "features": [replace(BASE, features=features) for features in (10, 30, 100, 300, 1000)],
    "candidates": [replace(BASE, candidates=2**k) for k in range(10)],
    "cores": [replace(BASE, candidates=64, epochs=10, cores=cores) for cores in (1, 2)],
}


Results = dict[str, tuple[list[Point], list[dict[str, Any]]]]
"""Of each axis the points and what was measured there."""


def expected_bytes(point: Point) -> dict[str, float]:
    """The memory that a fit with one encoding, one target and one shape of networks needs, term by term.

    N rows, D features, C candidates, K folds, B rows in a step, P parameters and W units of a network.
    """
    from autoreg.grouping import STACK_BYTES
    from autoreg.inputs import ENCODED_BYTES
    from autoreg.search import WORTH_FORKS
    from autoreg.training import VALIDATION_ELEMENTS

    n, d, c, k, b = point.rows, point.features, point.candidates, point.folds, point.batch
    sizes = [d, *[point.width] * point.depth, 1]
    parameters = sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
    units = sum(sizes[1:])
    # as the search cuts its stacks
    of_candidate = k * 4 * (8 * parameters + 8 * b * units)
    per_stack = max(1, min(STACK_BYTES // of_candidate, -(-c // 2)))
    stacks = -(-c // per_stack)
    at_once = min(point.cores, stacks)
    training = min(c, at_once * per_stack)
    encoded = 4.0 * k * n * d
    once = encoded <= ENCODED_BYTES
    chunk = min(training * n, at_once * VALIDATION_ELEMENTS)
    forks = at_once if at_once > 1 and c * parameters * n * (k - 1) * point.epochs > WORTH_FORKS else 0
    return {
        # the frame, its numbers, and the tensor of them; statistics of a fold's rows
        "table": 15.0 * n * d,
        # rows of each fold, and an epoch's row orders with their weights, once a stack
        "rows": n * (8.0 * k + 24 + 25 * (k - 1) * at_once),
        # what does not change in training, for each fold, once a stack
        "encoded": encoded * at_once if once else 0.0,
        # parameters, their gradients and updates, the optimizer's two averages, the best so far
        "parameters": training * k * 4.0 * 8 * parameters,
        # what the backward pass needs: inputs, and of each unit its value and its gradient
        "activations": training * k * 4.0 * b * (d + 2 * units),
        # rows, weights, targets and predictions of the held-out rows of all members, in double precision
        "scoring": 165.0 * training * n,
        # one chunk of held-out rows within the networks
        "chunk": 4.0 * chunk * (d * (2 if once else 4) + 2 * max(sizes[1:])),
        # first and last weights of each member, its module, and out-of-fold predictions; in a fork and on the way, too
        "kept": c * (k * (8.0 * parameters + 30_000) + 16 * n) * (2 if forks else 1),
        # Python's own pages, which counting references writes to
        "forks": forks * 25e6,
    }


def fit(point: Point) -> dict[str, Any]:
    """Train in this process; seconds, the memory that it held before, in bytes, and a digest of the scores."""
    from autoreg import AutoRegressor

    def search(candidates: int, epochs: int) -> AutoRegressor:
        space = {
            "network": ["mlp"], "network__depth": [point.depth], "network__width": [point.width],
            "optimizer": ["adam"], "max_epochs": [epochs], "batch_size": [point.batch],
            "learning_rate": np.geomspace(1e-4, 1e-2, candidates).tolist(),
        }  # fmt: skip
        return AutoRegressor(
            strategy="grid", space=space, cv=point.folds, companions=None, ensemble=False, n_jobs=point.cores,
            precision="float32", random_state=0, verbose=0,
        )  # fmt: skip

    rng = np.random.default_rng(0)
    X = rng.standard_normal((point.rows, point.features), dtype=np.float32)
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] + rng.standard_normal(point.rows, dtype=np.float32) / 2
    # what is imported at first use is no part of the growth
    search(2, 1).fit(X[:100], y[:100])
    model = search(point.candidates, point.epochs)
    before = of_family(os.getpid())
    begin = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - begin
    scores = np.array([model.cv_results_[f"split{k}_test_score"] for k in range(point.folds)])
    return {"seconds": seconds, "before": before, "scores": hashlib.sha256(scores.tobytes()).hexdigest()}


def run_point(point: Point, repeat: int) -> dict[str, Any]:
    """The fastest of several processes, and the memory of one more, which is looked at all the time."""
    answers = [_run_once(point).answer for _ in range(repeat)]
    looked_at = _run_once(point, looking=0.5)
    grown = looked_at.seen - looked_at.answer["before"]
    return {**min(answers, key=lambda answer: answer["seconds"]), "bytes": grown}


def _run_once(point: Point, **looking: float) -> Run:
    done = run([sys.executable, __file__, "--point", json.dumps(asdict(point))], **looking)
    if done.failure:
        raise SystemExit(f"{point} failed: {done.failure}")
    return done


def exponent(values: list[float], seconds: list[float]) -> float:
    """Slope of the logarithms over the last three points."""
    return float(np.polyfit(np.log(values[-3:]), np.log(seconds[-3:]), 1)[0])


def table(axis: str, points: list[Point], answers: list[dict[str, Any]]) -> str:
    """Markdown: one axis, and the exponent of its growth."""
    lines = [
        f"\n## {axis}\n",
        f"| {axis} | seconds | MB | formula | MB to formula |",
        "| --- | --- | --- | --- | --- |",
    ]
    for point, answer in zip(points, answers, strict=True):
        formula = sum(expected_bytes(point).values())
        cells = [
            f"{getattr(point, axis):,}", f"{answer['seconds']:.2f}", f"{answer['bytes'] / 1e6:.0f}",
            f"{formula / 1e6:.0f}", f"{answer['bytes'] / formula:.2f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    seconds = [answer["seconds"] for answer in answers]
    if axis == "cores":
        same = len({answer["scores"] for answer in answers}) == 1
        lines.append(f"\n{seconds[0] / seconds[-1]:.2f} times as fast, {'the same bits' if same else 'OTHER BITS'}")
    else:
        values = [float(getattr(point, axis)) for point in points]
        lines.append(f"\ntime grows with the power {exponent(values, seconds):.2f} of {axis}")
    return "\n".join(lines)


def plot(path: Path, results: Results) -> None:
    """Seconds above, memory with its formula below; one column an axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, len(results), figsize=(3.5 * len(results), 6), sharex="col", squeeze=False)
    for column, (axis, (points, answers)) in enumerate(results.items()):
        values = np.array([getattr(point, axis) for point in points], dtype=float)
        seconds = np.array([answer["seconds"] for answer in answers])
        top, bottom = panels[:, column]
        top.loglog(values, seconds, "o-", label="measured")
        power = -1 if axis == "cores" else 1
        top.loglog(values, seconds[-1] * (values / values[-1]) ** power, "k:", label="linear")
        bottom.loglog(values, [answer["bytes"] / 1e6 for answer in answers], "o-", label="measured")
        bottom.loglog(values, [sum(expected_bytes(point).values()) / 1e6 for point in points], "k:", label="formula")
        bottom.set_xlabel(axis)
    panels[0, 0].set_ylabel("seconds")
    panels[1, 0].set_ylabel("peak memory of the fit, MB")
    for panel in panels[:, 0]:
        panel.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def as_lists(results: Results) -> dict[str, list[dict[str, Any]]]:
    """Each axis's points with what was measured there."""
    return {
        axis: [{**asdict(point), **answer} for point, answer in zip(points, answers, strict=True)]
        for axis, (points, answers) in results.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="few small points, to see that everything runs")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(fit(Point(**json.loads(options.point)))))
        return
    if options.plot:
        import matplotlib  # noqa: F401, to hear of it before the runs
    print(machine())
    results: Results = {}
    for axis in options.axes:
        points = AXES[axis]
        if options.smoke:
            points = [replace(point, epochs=1, candidates=min(point.candidates, 8)) for point in points[:3]]
        results[axis] = points, [run_point(point, options.repeat) for point in points]
        print(table(axis, *results[axis]), flush=True)
        if options.json:
            options.json.write_text(json.dumps({"where": machine(), "axes": as_lists(results)}, indent=1))
    if options.plot:
        plot(options.plot, results)
    if len({answer["scores"] for answer in results.get("cores", ([], []))[1]}) > 1:
        raise SystemExit("the scores depend on the number of cores")


if __name__ == "__main__":
    main()
