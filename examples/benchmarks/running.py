"""What the benchmarks share: running a command and measuring it, and what the machine is."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from memory import Watch

NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Run:
    """A command that has ended.

    `memory` is the peak of its processes together, in bytes (off Linux that of the largest of them), and None where the
    system does not tell; `seen` the largest that was seen while looking, 0 where nobody could; `failure` is why it
    failed, in one line.
    """

    seconds: float
    memory: int | None
    output: str
    failure: str = ""
    seen: int = 0

    @property
    def answer(self) -> Any:
        """The last line of what it printed, which is JSON."""
        return json.loads(self.output.splitlines()[-1])


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, looking: float = 0.02) -> Run:
    """Run a command to its end.

    Parameters
    ----------
    command : sequence of str
    environment : mapping, optional
        Variables that are added to the present ones.
    looking : float
        Share of a core's time for looking at its memory.
    """
    begin = time.perf_counter()
    # files, since a pipe that nobody reads stops the process
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output, tempfile.TemporaryFile("w+") as messages:
        try:
            process = subprocess.Popen(
                command, stdout=output, stderr=messages, env={**os.environ, **(environment or {})}
            )
        except FileNotFoundError:
            return Run(0.0, None, "", NOT_INSTALLED)
        with Watch(process.pid, looking) as watch:
            largest = _wait(process)
            seconds = time.perf_counter() - begin
        memory = largest and max(largest, watch.peak)
        output.seek(0)
        messages.seek(0)
        failure = _failure(process.returncode, messages.read().splitlines())
        return Run(seconds, memory, output.read(), failure, watch.peak)


def _wait(process: subprocess.Popen) -> int | None:
    """The peak of its largest process, once it has ended."""
    if not hasattr(os, "wait4"):
        process.wait()
        return None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _failure(status: int, messages: list[str]) -> str:
    if not status:
        return ""
    last = next((line for line in reversed(messages) if line.strip()), f"exit status {status}")
    return NOT_INSTALLED if last.startswith("ModuleNotFoundError") else last[:200]


def python_of(environment: str | None, environments: Path | None) -> str:
    """The interpreter of one of the environments that `environments.py` made; ours without one."""
    if environment is None or environments is None:
        return sys.executable
    return str(environments / environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def machine() -> str:
    """Processor, cores and versions in one line."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [
            line.split(":", 1)[1].strip() for line in information.read_text().splitlines() if line[:10] == "model name"
        ]
        model = names[0] if names else model
    return f"{model}, {cores()} cores, Python {platform.python_version()}, {date.today()}"


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
