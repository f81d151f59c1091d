"""The stacked engine beside other ways to train the same networks: one run, one table for each size.

    python examples/benchmarks/environments.py FOLDER skorch pytabkit
    python examples/benchmarks/engine.py --environments FOLDER [--sizes 2x64 3x256] [--systems NAME ...]
                                         [--rates 8] [--repeat 3] [--json FILE] [--smoke]

The job is cross-validation of a grid: 8 learning rates, or `--rates`, on 5 folds, 20 epochs each, batches of 256, 8,000
rows of 20 features. `systems.py` says how each system is told to do it. Each runs in a fresh process, `--repeat` takes
them in turns and prints medians. Nothing else should run on the machine. Those on a GPU run where they are named.

A row gives the seconds of the whole call; how many times as long that is as ours in float32 and in bfloat16; the rate
of its arithmetic (only products of matrices count, forward and backward) and that rate over the rate of one large
float32 product on the same cores; the RMSE, the mean over folds and learning rates, and how far it is from the loop's.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from running import cores, machine, python_of, run
from systems import SYSTEMS, Job

TITLES = {
    "autoreg float32": "autoreg, float32",
    "autoreg bfloat16": "autoreg, bfloat16",
    "autoreg cuda float32": "autoreg, GPU, float32",
    "autoreg cuda bfloat16": "autoreg, GPU, bfloat16",
    "drop-in": "GridSearchCV(NeuralRegressor)",
    "loop": "plain PyTorch loop in processes",
    "sklearn": "GridSearchCV(MLPRegressor)",
    "skorch": "GridSearchCV(skorch)",
    "pytabkit": "pytabkit RealMLP, threads",
    "pytabkit processes": "pytabkit RealMLP, processes",
}
ENVIRONMENT_OF = {"skorch": "skorch", "pytabkit": "pytabkit", "pytabkit processes": "pytabkit"}
THREADED = ("autoreg float32", "autoreg bfloat16", "autoreg cuda float32", "autoreg cuda bfloat16", "pytabkit", "limit")
"""These share the cores by threads; the others by processes of one thread each."""
ON_PROCESSORS = [name for name in SYSTEMS if "cuda" not in name]


def run_system(system: str, job: Job, environments: Path | None) -> dict[str, Any]:
    """What the system's process answers, or why there is no answer."""
    command = [
        python_of(ENVIRONMENT_OF.get(system), environments), str(Path(__file__).with_name("systems.py")), system,
        json.dumps(asdict(job)),
    ]  # fmt: skip
    done = run(command, {"OMP_NUM_THREADS": str(job.jobs if system in THREADED else 1)})
    return {"failure": done.failure} if done.failure else done.answer


def measure(job: Job, systems: list[str], repeat: int, environments: Path | None) -> dict[str, Any]:
    """All systems in turns; medians of seconds, the best rate of the machine."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in ("limit", *systems)}
    for turn in range(repeat):
        for name, own in answers.items():
            if not any("failure" in answer for answer in own):
                print(f"{job.depth} x {job.width}, {turn + 1} of {repeat}: {name}", file=sys.stderr, flush=True)
                own.append(run_system(name, job, environments))
    limits = [answer["limit"] for answer in answers.pop("limit")]
    rows = {}
    for name, own in answers.items():
        if "failure" in own[-1]:
            rows[name] = own[-1]
            continue
        seconds = [answer["seconds"] for answer in own]
        rows[name] = {**own[0], "seconds": median(seconds), "all_seconds": seconds}
    limit = {kind: max(rates[kind] for rates in limits) for kind in limits[0]}
    return {"job": asdict(job), "flops": job.flops, "limit": limit, "rows": rows}


def table(measured: dict[str, Any]) -> str:
    """Markdown: the systems, the machine's limits, and each learning rate's score."""
    job, rows = measured["job"], measured["rows"]
    lines = [
        f"\n## {job['depth']} x {job['width']}: {measured['flops'] / 1e9:,.0f} GFLOP\n",
        "| system | seconds | to float32 | to bfloat16 | GFLOP/s | of sgemm | RMSE | to the loop |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        if "failure" in row:
            lines.append(f"| {TITLES[name]} | {row['failure']} | | | | | | |")
        else:
            lines.append(_line(TITLES[name], row["seconds"], measured, float(np.mean(row["rmse"]))))
    for kind, rate in measured["limit"].items():
        lines.append(_line(f"limit: {kind}", measured["flops"] / rate / 1e9, measured))
    return "\n".join([*lines, "", scores(measured)])


def _line(title: str, seconds: float, measured: dict[str, Any], rmse: float | None = None) -> str:
    rows, rate = measured["rows"], measured["flops"] / seconds / 1e9
    cells = [title, f"{seconds:.2f}"]
    for ours in ("autoreg float32", "autoreg bfloat16"):
        known = "seconds" in rows.get(ours, {})
        cells.append(f"{seconds / rows[ours]['seconds']:.2f}" if known else "")
    cells += [f"{rate:.0f}", f"{rate / measured['limit']['sgemm']:.0%}", "" if rmse is None else f"{rmse:.4f}"]
    compared = rmse is not None and "rmse" in rows.get("loop", {})
    cells.append(f"{rmse / np.mean(rows['loop']['rmse']) - 1:+.2%}" if compared else "")
    return f"| {' | '.join(cells)} |"


def scores(measured: dict[str, Any]) -> str:
    """Each learning rate's RMSE, the mean over its folds."""
    rows = {name: row for name, row in measured["rows"].items() if "rmse" in row}
    rates = measured["job"]["rates"]
    lines = ["| RMSE at learning rate | " + " | ".join(f"{rate:g}" for rate in rates) + " |"]
    lines.append("| --- |" + " --- |" * len(rates))
    for name, row in rows.items():
        lines.append(f"| {TITLES[name]} | " + " | ".join(f"{rmse:.4f}" for rmse in np.mean(row["rmse"], axis=1)) + " |")
    if {"autoreg float32", "drop-in"} <= set(rows):
        both = [np.mean(rows[name]["rmse"], axis=1) for name in ("autoreg float32", "drop-in")]
        lines.append(
            f"\nLargest difference of a score to GridSearchCV(NeuralRegressor): {np.abs(both[0] - both[1]).max():.1e}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, help="the folder that environments.py filled")
    parser.add_argument("--sizes", nargs="+", default=["2x64", "3x256"], help="layers x units")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=ON_PROCESSORS, metavar="NAME",
                        help=", ".join(SYSTEMS))  # fmt: skip
    parser.add_argument("--rates", type=int, default=8, metavar="N", help="learning rates of the grid")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=cores(), help="cores to use")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true", help="a tiny job, to see that everything runs")
    options = parser.parse_args()
    rates = tuple(float(f"{rate:.2g}") for rate in np.geomspace(1e-3, 3e-2, options.rates))
    results = []
    for size in options.sizes:
        depth, width = map(int, size.split("x"))
        job = Job(depth, width, rates=rates, jobs=options.jobs)
        if options.smoke:
            job = replace(job, rows=640, epochs=2, batch=64, rates=rates[::4])
        results.append(measure(job, options.systems, options.repeat, options.environments))
    versions: dict[str, str] = {}
    for row in (row for measured in results for row in measured["rows"].values()):
        versions.update(row.get("versions", {}))
    where = f"{machine()}\n" + ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    print(where)
    for measured in results:
        print(table(measured))
    if options.json:
        options.json.write_text(json.dumps({"where": where, "results": results}, indent=1))


if __name__ == "__main__":
    main()
