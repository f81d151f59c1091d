"""Runs of the command line that are ended while they work, and what is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from autoreg.persistence import read_model

COMMAND = [sys.executable, "-m", "autoreg", "fit"]
SECONDS = {"seconds", "ms_per_row"}
"""What two runs of one search may differ in."""


def records(run_dir: Path) -> list[dict[str, Any]]:
    """All whole records of a journal that another process may be writing."""
    found = []
    try:
        lines = (run_dir / "journal").read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    for line in lines:
        if not line.endswith(b"\n") or int(line[:8], 16) != zlib.crc32(line[9:-1]):
            break
        found.append(json.loads(line[9:]))
    return found


def units(run_dir: Path, kind: str = "") -> list[str]:
    """The finished units of a journal, by key."""
    keys = [record["key"] for record in records(run_dir) if record["kind"] == "unit"]
    return [key for key in keys if key.startswith(kind)]


def planned(run_dir: Path) -> int:
    """How many stacks a journal says are planned."""
    facts = [record["value"] for record in records(run_dir) if record.get("name") == "stacks"]
    return sum(facts[-1].values()) if facts else 0


class Run:
    """A fit in a process group of its own."""

    def __init__(self, words: Sequence[object], folder: Path) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, words)], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, env={**os.environ, "AUTOREG_PLUGINS": ""},
        )  # fmt: skip

    def wait_for(self, holds: Callable[[], object], seconds: float = 120) -> bool:
        """Wait until something holds; False when the run ended before."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            if holds():
                return True
            assert time.monotonic() < end, "it takes too long"
            time.sleep(0.005)
        return False

    def send(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def end(self) -> tuple[int, str, str]:
        """The exit status, standard output and standard error."""
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.end()


def without_seconds(value: Any) -> Any:
    """A manifest without what was measured with a clock."""
    if isinstance(value, dict):
        return {key: without_seconds(item) for key, item in value.items() if key not in SECONDS}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def same_model(one: Path, other: Path) -> bool:
    """Whether two model files are equal, bit for bit, but for seconds."""
    first, first_tensors = read_model(one)
    second, second_tensors = read_model(other)
    bits = {name: tensor.numpy().tobytes() for name, tensor in first_tensors.items()}
    return without_seconds(first) == without_seconds(second) and bits == {
        name: tensor.numpy().tobytes() for name, tensor in second_tensors.items()
    }
