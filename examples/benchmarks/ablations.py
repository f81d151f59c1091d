"""What each ingredient of the portfolio's networks gives: one is changed at a time, on a folder of tables.

    python examples/benchmarks/ablations.py RESULTS.jsonl --suite FOLDER [--sets NAME ...] [--seeds 0 1 2]
        [--rows 2000] [--epochs 24] [--only NAME ...]
    python examples/benchmarks/ablations.py RESULTS.jsonl

The yardstick is the portfolio's first candidate. Of each table, shuffled by `RandomState(seed)`, `--rows` rows train in
five folds, and a fourth as many are held out: the error is the RMSE there of the mean of the five members, which were
not chosen by those rows. A figure is the error over the yardstick's on the same rows, the geometric mean over seeds;
the means of single seeds say what is noise. What is in the file is not run again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from running import cores, machine
from suite import Table, read_suite, spread_error

from autoreg.builtins.portfolio import COMMON, LISTED, _override
from autoreg.folds import make_folds
from autoreg.model import FittedModel
from autoreg.modelparts import ModelPart
from autoreg.plugins import load_plugins
from autoreg.problem import Problem
from autoreg.scoring import as_metric
from autoreg.search import evaluate
from autoreg.space import Candidate
from autoreg.tables import Schema, infer_schema

TABLES = ("concrete", "abalone", "kin8nm", "cpu_act", "bike_sharing_hour", "california_housing")
YARDSTICK = "as it is"
MLP = {"network": "mlp", "network__width": 128, "network__depth": 3, "network__dropout": 0.15}
CHANGES: dict[str, dict[str, Any]] = {
    YARDSTICK: {},
    "network__residual=False": {"network__residual": False},
    "network__parametric=False": {"network__parametric": False},
    "mlp, without NTP and scaling layer": MLP,
    "mlp, twice the learning rate": {**MLP, "learning_rate": 0.016},
    "relu": {"activation": "relu"},
    "mish": {"activation": "mish"},
    "encoding=standard": {"encoding": "standard"},
    "encoding=pbld, sigma 0.3": {"encoding": "pbld", "encoding__sigma": 0.3},
    "schedule=cosine": {"schedule": "cosine"},
    "schedule=constant": {"schedule": "constant"},
    "beta2=0.999": {"optimizer__beta2": 0.999},
    "weight_decay=0": {"optimizer__weight_decay": 0.0},
    "dropout=0": {"network__dropout": 0.0},
    "half the learning rate": {"learning_rate": 0.004},
    "twice the learning rate": {"learning_rate": 0.016},
}
Row = dict[str, Any]


def parameters_of(change: Mapping[str, Any]) -> dict[str, Any]:
    """The yardstick with a change, as the portfolio takes a user's values."""
    return _override({**COMMON, **LISTED[0][0]}, change)


@dataclass(frozen=True)
class Held:
    """A table's rows: those that are learned from, in five folds, and those that are held out."""

    schema: Schema
    problem: Problem
    test: pd.DataFrame
    target: str

    @classmethod
    def of(cls, table: Table, seed: int, n_rows: int) -> Held:
        train, test = table.split(seed, n_rows * 5 // 4)
        y = train.pop(table.target).to_numpy(float)
        schema = infer_schema(train)
        coded = schema.encode(train)
        folds = make_folds(None, len(y), y, random_state=seed)
        problem = Problem(
            coded.numbers, coded.codes, schema.layout, y[:, None], None, folds, as_metric(None), seed=seed
        )  # fmt: skip
        return cls(schema, problem, test, table.target)

    def error(self, parts: Sequence[ModelPart]) -> float:
        """Of a model of these parts, on the rows held out."""
        prediction = FittedModel(self.schema, list(parts), {"targets": [self.target]}).predict(self.test)
        return spread_error(self.test[self.target], prediction)


def measure(table: Table, names: Sequence[str], seed: int, options: argparse.Namespace) -> list[Row]:
    """The errors of some changes on one table's rows; they train side by side."""
    held = Held.of(table, seed, options.rows)
    candidates = [Candidate({**parameters_of(CHANGES[name]), "max_epochs": options.epochs}) for name in names]
    found = evaluate(candidates, held.problem, n_jobs=options.jobs)
    return [
        {
            "set": table.name,
            "change": name,
            "seed": seed,
            "rows": options.rows,
            "epochs": options.epochs,
            "error": held.error([item.part()]),
            "cv": float(np.mean(item.result.rmse) / held.problem.y.std()),
            "epoch": item.result.epoch,
            "where": machine(),
        }
        for name, item in zip(names, found, strict=True)
    ]


def table_of(rows: Sequence[Row]) -> str:
    """Markdown: ratios to the yardstick by table and by seed."""
    errors = {(row["set"], row["change"], row["seed"]): row["error"] for row in rows}
    sets, changes, seeds = (list(dict.fromkeys(row[key] for row in rows)) for key in ("set", "change", "seed"))

    def ratio(name: str, change: str, seed: int) -> float:
        both = errors.get((name, change, seed)), errors.get((name, YARDSTICK, seed))
        return float(np.log(both[0] / both[1])) if both[0] and both[1] else float("nan")

    lines = [
        f"| change | mean | of each seed | {' | '.join(sets)} |",
        f"| --- | --- | --- |{' --- |' * len(sets)}",
    ]
    for change in changes:
        logs = np.array([[ratio(name, change, seed) for seed in seeds] for name in sets])
        if change == YARDSTICK or np.isnan(logs).all():
            continue
        own = " ".join(f"{value:.3f}" for value in np.exp(np.nanmean(logs, axis=0)))
        by_set = " | ".join(f"{value:.3f}" for value in np.exp(np.nanmean(logs, axis=1)))
        mean = np.exp(np.nanmean(logs))
        lines.append(f"| {change} | {mean:.3f} | {own} | {by_set} |")
    return "\n".join([f"{rows[0]['where']}; seeds {', '.join(map(str, seeds))}", "", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument(
        "--suite", type=Path, help="a folder of parquet files and manifest.json; without it, only report"
    )
    parser.add_argument("--sets", nargs="+", default=list(TABLES), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--only", nargs="+", default=list(CHANGES), choices=list(CHANGES), metavar="NAME")
    parser.add_argument("--jobs", type=int, default=cores(), help="cores to use")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    if options.suite:
        load_plugins()
        done = {(row["set"], row["change"], row["seed"]) for row in rows}
        for table in read_suite(options.suite, names=options.sets):
            for seed in options.seeds:
                names = [name for name in [YARDSTICK, *options.only] if (table.name, name, seed) not in done]
                found = measure(table, list(dict.fromkeys(names)), seed, options) if names else []
                rows += found
                with options.results.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in found)
    print(table_of(rows))


if __name__ == "__main__":
    main()
