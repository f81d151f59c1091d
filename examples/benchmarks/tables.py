"""Held-out error, time and memory of `autoreg fit` on a folder of tables, beside HistGradientBoosting's.

    python examples/benchmarks/tables.py FOLDER MANIFEST [--sets a,b] [--effort quick] [--quick nyc_flights] [--out F]

FOLDER holds parquet files, MANIFEST (JSON) names each one's target. The last fifth of a shuffled table is held out
(`RandomState(0)`). Every fit is a process of its own with no option but the target; errors are divided by the standard
deviation of the held-out target.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd


def run(command: list[str]) -> tuple[float, float]:
    """Run a command; its seconds and its peak memory in GB."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    messages = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed:\n{messages}")
    return time.perf_counter() - begin, usage.ru_maxrss / 2**20


def one_table(frame: pd.DataFrame, target: str, effort: str) -> dict[str, float]:
    """Fit on four fifths, score on the rest, both ways."""
    order = np.random.RandomState(0).permutation(len(frame))
    n = len(frame) // 5
    parts = {"test": frame.iloc[order[:n]], "train": frame.iloc[order[n:]]}
    tool = str(Path(sys.executable).parent / "autoreg")
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(Path(folder, f"{name}.parquet")) for name in parts}
        for name, part in parts.items():
            part.reset_index(drop=True).to_parquet(paths[name])
        model, out = str(Path(folder, "m.safetensors")), str(Path(folder, "p.csv"))
        seconds, memory = run([tool, "fit", paths["train"], "--target", target, "--effort", effort, "-o", model])
        run([tool, "predict", model, paths["test"], "-o", out])
        prediction = pd.read_csv(out)[target].to_numpy(float)
        manifest = json.loads(subprocess.run([tool, "show", model, "--json"], capture_output=True, text=True).stdout)
    y = parts["test"][target].to_numpy(float)
    begin = time.perf_counter()
    trees = boosted_trees(parts["train"], parts["test"], target)
    rows = [row for row in manifest["leaderboard"] if not row["failure"]]
    networks = [row for row in rows if row["parameters"] is not None or row.get("is_ensemble")]
    return {
        "rows": len(frame),
        "held_out": rmse(y, prediction) / y.std(),
        "cv": -max(row["score"] for row in networks) / y.std(),
        "trees": rmse(y, trees) / y.std(),
        "seconds": seconds,
        "trees_seconds": time.perf_counter() - begin,
        "memory": memory,
    }


def rmse(y: np.ndarray, prediction: np.ndarray) -> float:
    return float(np.sqrt(np.mean((y - prediction) ** 2)))


def boosted_trees(train: pd.DataFrame, test: pd.DataFrame, target: str) -> np.ndarray:
    """scikit-learn's HistGradientBoosting on the same coded table that autoreg reads."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    from autoreg.tables import infer_schema

    schema = infer_schema(train.drop(columns=target).reset_index(drop=True))
    coded = [schema.encode(part.drop(columns=target).reset_index(drop=True)) for part in (train, test)]
    few = [j for j, n in enumerate(schema.layout.n_codes) if n <= 254]
    x = [np.hstack([table.numbers, table.codes.astype(np.float32)]) for table in coded]
    flags = [schema.layout.n_numbers + j for j in few]
    model = HistGradientBoostingRegressor(categorical_features=flags or None, random_state=0)
    return model.fit(x[0], train[target]).predict(x[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--sets")
    parser.add_argument("--effort", default="balanced")
    parser.add_argument("--quick", default="", help="sets to fit with --effort quick")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    import sklearn
    import torch

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ")
    print(f"torch {torch.__version__}, scikit-learn {sklearn.__version__}\n")
    print("| set | rows | autoreg | its CV | boosted trees | ratio | seconds | trees' | GB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    ratios = []
    for entry in json.loads(options.manifest.read_text()):
        name = entry["name"]
        path = options.folder / f"{name}.parquet"
        if not path.exists() or (options.sets and name not in options.sets.split(",")):
            continue
        effort = "quick" if name in options.quick.split(",") else options.effort
        row = one_table(pd.read_parquet(path), entry["target"], effort)
        ratios.append(row["held_out"] / row["trees"])
        print(
            f"| {name} | {row['rows']} | {row['held_out']:.4f} | {row['cv']:.4f} | {row['trees']:.4f} "
            f"| {ratios[-1]:.3f} | {row['seconds']:.0f} | {row['trees_seconds']:.1f} | {row['memory']:.2f} |",
            flush=True,
        )
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps({"set": name, "effort": effort, **row}) + "\n")
    print(f"\ngeometric mean of the ratios: {np.exp(np.mean(np.log(ratios))):.3f}")


if __name__ == "__main__":
    main()
