"""Does a search that is killed go on to the same result? Kill it at random moments, run it again, and compare.

    python examples/benchmarks/kills.py [--kills 50] [--folder FOLDER] [--seconds 300] [--seed 0]

A small table, a quick plan of several stacks, the command line as a user runs it. One run that nothing interrupts comes
first. Then each round starts the same search, kills its whole process group with SIGKILL at a random moment, and runs
the same command again to the end. A kill counts when the journal says that the search had begun and was not done. The
two model files must have the same bits in every tensor and the same manifest but for measured times, and no unit that
the journal held at the kill may be computed again.

With a folder the rounds are written to ``kills.jsonl`` in it, and a later call goes on from there; ``--seconds`` ends
a call early. The table and the histogram are of all rounds so far.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autoreg.persistence import read_model

ACTIVATIONS = ["relu", "tanh", "silu", "gelu"]
PLAN = [
    "table.csv", "--target", "y", "--effort", "quick", "--candidates", "8", "--folds", "3", "--space", "max_epochs=20",
    *(word for name in ACTIVATIONS for word in ("--activation", name)),
]  # fmt: skip


MEASURED = {"seconds", "ms_per_row"}
"""What two runs of one search differ in: it comes from a clock."""


def make_table(path: Path) -> None:
    draw = np.random.default_rng(0)
    X = draw.normal(size=(400, 6))
    y = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + draw.normal(0, 0.2, 400)
    pd.DataFrame(X, columns=list("abcdef")).assign(y=y).to_csv(path, index=False)


def start(output: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "autoreg", "fit", *PLAN, "-o", output, "--run-dir", f"{output}.run"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(
        command, cwd=folder, start_new_session=True, env={**os.environ, "AUTOREG_PLUGINS": ""}, **quiet
    )


def records(journal: Path) -> list[dict[str, Any]]:
    """The whole records of a journal, which may end in half a one."""
    found = []
    for line in journal.read_bytes().splitlines(keepends=True) if journal.exists() else []:
        if not line.endswith(b"\n") or int(line[:8], 16) != zlib.crc32(line[9:-1]):
            break
        found.append(json.loads(line[9:]))
    return found


def units(journal: Path) -> list[str]:
    return [record["key"] for record in records(journal) if record["kind"] == "unit"]


def planned(journal: Path) -> bool:
    """Whether the plan is made: stacks are in training, or done."""
    return any(record.get("name") == "stacks" for record in records(journal))


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_seconds(item) for key, item in value.items() if key not in MEASURED}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def differences(one: Path, other: Path) -> list[str]:
    """What two model files differ in, but for seconds."""
    (first, tensors), (second, others) = read_model(one), read_model(other)
    named = sorted(set(tensors) | set(others))
    found = [
        f"tensor {name}"
        for name in named
        if name not in tensors
        or name not in others
        or tensors[name].numpy().tobytes() != others[name].numpy().tobytes()
    ]
    first, second = without_seconds(first), without_seconds(second)
    return found + [f"manifest {key}" for key in {**first, **second} if first.get(key) != second.get(key)]


def one_round(folder: Path, moment: float, seed: int, span: float, n_units: int) -> dict[str, Any] | None:
    """Kill at a share `moment` of the time that training takes, resume, compare; None when nothing was killed."""
    output = f"{seed}.safetensors"
    journal = folder / f"{output}.run" / "journal"
    process = start(output, folder)
    while process.poll() is None and not planned(journal):
        time.sleep(0.002)
    time.sleep(moment * span)
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = units(journal)
    if ended or (folder / output).exists() or not planned(journal) or len(before) >= n_units:
        clear(folder, output)
        return None
    resumed = start(output, folder)
    found = differences(folder / output, folder / "whole.safetensors") if resumed.wait() == 0 else ["no model"]
    after = units(journal)
    if after[: len(before)] != before or len(after) != n_units or len(set(after)) != n_units:
        found.append("a finished unit was computed again")
    clear(folder, output)
    return {"seed": seed, "units": len(before), "different": found}


def clear(folder: Path, output: str) -> None:
    (folder / output).unlink(missing_ok=True)
    shutil.rmtree(folder / f"{output}.run", ignore_errors=True)


def uninterrupted(folder: Path) -> dict[str, Any]:
    """The search that nothing interrupts: how many units it has, and how long they take."""
    path, journal = folder / "whole.json", folder / "whole.safetensors.run" / "journal"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    make_table(folder / "table.csv")
    process, begin = start("whole.safetensors", folder), 0.0
    while process.poll() is None:
        begin = begin or (time.monotonic() if planned(journal) else 0.0)
        time.sleep(0.002)
    assert process.returncode == 0, "the search does not run"
    seen = units(journal)
    n_stacks = sum(key.startswith("stack ") for key in seen)
    found = {"seconds": time.monotonic() - begin, "stacks": n_stacks, "units": len(seen)}
    path.write_text(json.dumps(found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="kills-"))).resolve()
    folder.mkdir(exist_ok=True)
    end = time.monotonic() + options.seconds
    whole = uninterrupted(folder)
    log = folder / "kills.jsonl"
    rounds = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    seed = options.seed + (max(one["seed"] for one in rounds) + 1 if rounds else 0)
    while sum("units" in one for one in rounds) < options.kills and time.monotonic() < end:
        one = one_round(folder, random.Random(seed).random(), seed, whole["seconds"], whole["units"])
        rounds.append(one or {"seed": seed})
        with log.open("a") as file:
            file.write(json.dumps(rounds[-1]) + "\n")
        seed += 1
    tell(rounds, whole, options.kills)


def tell(rounds: list[dict[str, Any]], whole: dict[str, Any], kills: int) -> None:
    landed = [one for one in rounds if "units" in one]
    print(f"{whole['stacks']} stacks and {whole['units'] - whole['stacks']} companions; {len(rounds)} tries")
    counts = Counter(one["units"] for one in landed)
    print("\nunits done at the kill")
    for done in range(whole["units"]):
        print(f"{done:4d} {counts[done]:4d} {'#' * counts[done]}")
    for one in landed:
        if one["different"]:
            print(f"round {one['seed']}: {', '.join(one['different'])}")
    equal = sum(not one["different"] for one in landed)
    print(f"\n{equal} of {len(landed)} equal" + (f"; {kills - len(landed)} kills to go" if len(landed) < kills else ""))


if __name__ == "__main__":
    main()
