"""Search strategies at equal candidates on a folder of tables: the best candidate's error and the ensemble's.

    python examples/benchmarks/strategies.py FOLDER MANIFEST --sets a,b --strategies portfolio,tpe --out fits.jsonl

FOLDER holds parquet files, MANIFEST (JSON) names each one's target. The last fifth of a shuffled table, or of so many
of its rows, is held out (`RandomState(0)`). All strategies get the same number of candidates, folds, epochs and the
same seed. Errors are divided by the standard deviation of the held-out target. A fit that stands in the output file is
not made again, so a run that was ended goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autoreg import AutoRegressor

KEY = ("set", "strategy", "candidates", "rows", "effort", "epochs", "seed")


def one_fit(frame: pd.DataFrame, target: str, strategy: str, options: argparse.Namespace) -> dict[str, float]:
    """Search on four fifths, score on the rest."""
    frame = frame.dropna(subset=[target])
    order = np.random.RandomState(0).permutation(len(frame))[: options.rows]
    n = len(order) // 5
    test, train = (frame.iloc[part].reset_index(drop=True) for part in (order[:n], order[n:]))
    search = AutoRegressor(
        strategy=strategy,
        n_candidates=options.candidates,
        effort=options.effort,
        space={"max_epochs": [options.epochs]} if options.epochs else None,
        companions=None,
        random_state=options.seed,
        verbose=0,
    )
    begin = time.perf_counter()
    search.fit(train.drop(columns=target), train[target])
    seconds = time.perf_counter() - begin
    y = test[target].to_numpy(float)
    x = test.drop(columns=target)
    best, whole = (rmse(y, model.predict(x)) for model in (search.best_estimator_, search))
    rows = search.results_.candidates
    return {
        "cv_best": -search.best_score_ / y.std(),
        "best": best / y.std(),
        "ensemble": whole / y.std(),
        "epochs_in_all": sum(len(row.train_curve) for row in rows),
        "found_at": 1 + search.best_index_,
        "failed": sum(bool(row.failure) for row in rows),
        "seconds": seconds,
    }


def rmse(y: np.ndarray, prediction: np.ndarray) -> float:
    return float(np.sqrt(np.mean((y - prediction) ** 2)))


def text_of(rows: list[dict[str, Any]]) -> str:
    """The rows as a table, and each strategy's errors beside those of the first."""
    lines = [
        "| set | strategy | CV of the best | best, held out | ensemble, held out | found at | epochs | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r['set']} | {r['strategy']} | {r['cv_best']:.4f} | {r['best']:.4f} | {r['ensemble']:.4f} "
        f"| {r['found_at']} | {r['epochs_in_all']} | {r['seconds']:.0f} |"
        for r in rows
    ]
    errors = {(r["set"], r["strategy"]): r for r in rows}
    strategies = list(dict.fromkeys(r["strategy"] for r in rows))
    for other in strategies[1:]:
        both = [s for s in dict.fromkeys(r["set"] for r in rows) if {(s, strategies[0]), (s, other)} <= {*errors}]
        if both:
            lines += ["", f"{other} / {strategies[0]}, geometric mean of {len(both)} sets:"]
            for name in ("cv_best", "best", "ensemble"):
                ratios = [errors[s, other][name] / errors[s, strategies[0]][name] for s in both]
                lower = sum(ratio < 1 for ratio in ratios)
                lines.append(f"- {name} {np.exp(np.mean(np.log(ratios))):.3f}; lower on {lower}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--sets", required=True)
    parser.add_argument("--strategies", default="portfolio,tpe")
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--effort", default="quick")
    parser.add_argument("--epochs", type=int, help="[default: as the effort says]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    targets = {entry["name"]: entry["target"] for entry in json.loads(options.manifest.read_text(encoding="utf-8"))}
    known = []
    if options.out.exists():
        known = [json.loads(line) for line in options.out.read_text(encoding="utf-8").splitlines()]
    done = {tuple(row[key] for key in KEY): row for row in known}
    rows = []
    for name in options.sets.split(","):
        for strategy in options.strategies.split(","):
            key = (name, strategy, options.candidates, options.rows, options.effort, options.epochs, options.seed)
            if key not in done:
                frame = pd.read_parquet(options.folder / f"{name}.parquet")
                done[key] = {
                    **dict(zip(KEY, key, strict=True)),
                    **one_fit(frame, targets[name], strategy, options),
                }
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(done[key]) + "\n")
            rows.append(done[key])
    print(text_of(rows))


if __name__ == "__main__":
    main()
