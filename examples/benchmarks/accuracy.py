"""Held-out error of `autoreg fit` and of its peers on a folder of tables: measured into a file, reported from it.

    python examples/benchmarks/accuracy.py RESULTS.jsonl --suite FOLDER [--environments FOLDER] [--systems NAME ...]
        [--sets NAME ...] [--seeds 0 1 2] [--limit 60 ...] [--replay]
    python examples/benchmarks/accuracy.py RESULTS.jsonl [MORE.jsonl ...] [--table FILE.md] [--plot FILE.svg]

With `--suite` every system runs on every table, split and time limit, one process at a time, and adds a line to the
first file. What is in one of the files is not run again, so an interrupted suite goes on where it stopped. A system
that fails is a line too, with its error; `--retry` runs those again. Nothing else should run on the machine.

FOLDER holds NAME.parquet and manifest.json, a list of objects with "name" and "target". Of a table, shuffled by
`RandomState(seed)` and cut to `--cap` rows, a fifth is held out. The error is the RMSE over the standard deviation of
the held-out target.

A system is one of those in `peers.py`, or `autoreg`, or `autoreg:` with options of `autoreg fit`, such as
"autoreg:--companions include". `--limit 0` leaves the time limit out. `--replay` trains each of our models a second
time, by `autoreg fit --replay MODEL`, and compares the tensors of the two files bit for bit.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from comparison import ORACLE, compare, read_rows
from peers import PEERS, Job
from running import NOT_INSTALLED, Run, cores, machine, python_of, run
from suite import read_suite, spread_error

OURS = ("autoreg:--companions none", "autoreg")
Row = dict[str, Any]


def fit_ours(job: Job, replay: bool) -> Row:
    """Fit, predict and show, each by a command; the seconds are those of the whole fit.

    `cv` is the cross-validated error that the model reports for what it predicts with, in the units of `nrmse`.
    """
    train, test = job.table.split(job.seed, job.cap)
    target = job.table.target
    limit = [] if job.limit is None else ["--time-limit", f"{job.limit:g}"]
    options = [*limit, "--seed", str(job.seed), "--jobs", str(job.cores), *shlex.split(job.system.partition(":")[2])]
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(Path(folder, name)) for name in ("train.parquet", "test.parquet", "predicted.csv", "model")}
        train.to_parquet(paths["train.parquet"])
        test.drop(columns=target).to_parquet(paths["test.parquet"])
        fit = ["fit", paths["train.parquet"], "--target", target, "--quiet"]
        done = _autoreg(*fit, *options, "-o", paths["model"])
        _autoreg("predict", paths["model"], paths["test.parquet"], "-o", paths["predicted.csv"])
        predicted = pd.read_csv(paths["predicted.csv"])[target]
        manifest = json.loads(_autoreg("show", paths["model"], "--json").output)
        row = {
            "nrmse": spread_error(test[target], predicted.to_numpy(float)),
            "cv": reported_error(manifest) / float(test[target].to_numpy(float).std()),
            "seconds": round(done.seconds, 1),
            "memory": done.memory,
            "version": manifest["version"],
        }
        if replay:
            again = str(Path(folder, "again"))
            second = _autoreg(*fit, "--replay", paths["model"], "-o", again)
            row |= {"replayed": same_tensors(paths["model"], again), "replay_seconds": round(second.seconds, 1)}
    return row


def _autoreg(*arguments: str) -> Run:
    done = run([sys.executable, "-m", "autoreg", *arguments])
    if done.failure:
        raise RuntimeError(f"autoreg {arguments[0]}: {done.failure}")
    return done


def reported_error(manifest: Row) -> float:
    """The RMSE that a model reports for what it predicts with, the mean over its folds."""
    from autoreg.recording import results_from_json

    chosen = results_from_json(manifest).chosen
    return sum(chosen.rmse) / len(chosen.rmse)


def same_tensors(one: str, other: str) -> bool:
    """Whether two model files hold the same tensors: names, types, shapes and bits."""
    from safetensors.numpy import load_file

    def content(path: str) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
        return {name: (str(a.dtype), a.shape, a.tobytes()) for name, a in load_file(path).items()}

    return content(one) == content(other)


def fit_peer(job: Job, environments: Path | None) -> Row:
    """The peer's process reads, trains and predicts; its seconds are all of these, imports too."""
    python = python_of(PEERS[job.system].environment, environments)
    command = [python, str(Path(__file__).with_name("peers.py")), json.dumps(asdict(job))]
    done = run(command, {"OMP_NUM_THREADS": str(job.cores)})
    if done.failure:
        raise RuntimeError(done.failure)
    return {**done.answer, "seconds": round(done.seconds, 1), "memory": done.memory}


def is_ours(system: str) -> bool:
    return system.partition(":")[0] == "autoreg"


def measure(job: Job, environments: Path | None, replay: bool) -> Row:
    """A job's line of the file."""
    row: Row = {
        "system": job.system, "set": job.table.name, "seed": job.seed, "budget": job.limit, "cap": job.cap,
        "n": n_train(job), "where": machine(),
    }  # fmt: skip
    try:
        return row | (fit_ours(job, replay) if is_ours(job.system) else fit_peer(job, environments))
    except Exception as error:  # whatever a system does, the others run
        return {**row, "error": str(error)[:300]}


def n_train(job: Job) -> int:
    """The training rows of a job."""
    rows = min(job.table.n_rows, job.cap or job.table.n_rows)
    return rows - rows // 5


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Every job of the suite, once: a system that takes no time limit has one for all limits."""
    tables = read_suite(options.suite, options.manifest, options.sets, options.largest)
    seen = set()
    for seed, table, limit, system in product(options.seeds, tables, options.limit, options.systems):
        timed = is_ours(system) or PEERS[system].timed
        job = Job(system, table, seed, options.cap, limit or None if timed else None, options.jobs)
        if job in seen or (system == "flaml" and job.limit is None):  # which has no other end
            continue
        seen.add(job)
        yield job


def is_done(job: Job, rows: Iterable[Row], replay: bool, retry: bool) -> bool:
    """Whether a line of the files is about this job, and tells all that is asked for."""
    key = (job.system, job.table.name, job.seed, job.limit, n_train(job))
    wanted = [row for row in rows if (row["system"], row["set"], row["seed"], row["budget"], row["n"]) == key]
    if retry:
        wanted = [row for row in wanted if "error" not in row]
    return any("error" in row or "replayed" in row or not (replay and is_ours(job.system)) for row in wanted)


def run_suite(options: argparse.Namespace) -> None:
    """Run what the files do not hold yet, and add it to the first."""
    left = [job for job in jobs(options) if not is_done(job, read_rows(options.results), options.replay, options.retry)]
    missing: set[str] = set()
    for i, job in enumerate(left, 1):
        if job.system in missing:
            continue
        row = measure(job, options.environments, options.replay)
        outcome = row.get("error") or f"{row['nrmse']:.4f} in {row['seconds']:.0f} s"
        print(f"{i} of {len(left)}: {row['set']}, {row['system']}, seed {row['seed']}: {outcome}", file=sys.stderr)
        if outcome == NOT_INSTALLED:
            missing.add(job.system)
            continue
        options.results[0].parent.mkdir(parents=True, exist_ok=True)
        with options.results[0].open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="JSON lines; the first file takes what is measured")
    parser.add_argument("--suite", type=Path, help="a folder of parquet files; without it, only report")
    parser.add_argument("--manifest", type=Path, help="the list of tables  [default: manifest.json in the suite]")
    parser.add_argument("--environments", type=Path, help="the folder that environments.py filled")
    parser.add_argument("--systems", nargs="+", default=[*OURS, *PEERS], metavar="NAME",
                        help=", ".join([*PEERS, "autoreg", "autoreg:OPTIONS"]))  # fmt: skip
    parser.add_argument("--sets", nargs="+", default=[], metavar="NAME", help="only these tables")
    parser.add_argument("--largest", type=int, default=0, metavar="ROWS", help="only tables of at most so many rows")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--limit", nargs="+", type=float, default=[60.0], metavar="SECONDS")
    parser.add_argument("--cap", type=int, default=50_000, metavar="ROWS", help="take at most so many; 0: all")
    parser.add_argument("--jobs", type=int, default=cores(), help="cores to use")
    parser.add_argument("--replay", action="store_true", help="train each of our models twice")
    parser.add_argument("--retry", action="store_true", help="run again what failed")
    parser.add_argument(
        "--oracle", nargs="+", default=list(ORACLE), metavar="NAME", help="the peers to be compared with"
    )
    parser.add_argument("--peer-limit", type=float, metavar="SECONDS", help="the peers' time limit  [default: ours]")
    parser.add_argument("--table", type=Path, help="write the report here as well")
    parser.add_argument("--plot", type=Path, help="a picture, .svg or .png; needs matplotlib")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.systems if name not in PEERS and not is_ours(name)]
    if unknown:
        parser.error(f"no system {unknown[0]!r}: known are {', '.join(PEERS)}, autoreg, autoreg:OPTIONS")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.plot:
        import matplotlib  # noqa: F401, to hear of it before the runs
    if options.suite:
        run_suite(options)
    comparisons = compare(read_rows(options.results), options.oracle, options.peer_limit)
    text = "\n\n".join(comparison.text() for comparison in comparisons)
    print(text)
    if options.table:
        options.table.write_text(text + "\n", encoding="utf-8")
    if options.plot:
        from comparison_plot import plot

        plot(options.plot, comparisons)


if __name__ == "__main__":
    main()
