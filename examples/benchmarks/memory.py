"""The peak of a process's memory, together with that of the processes that it starts."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType

INTERVAL = 0.02
"""Seconds between two looks, where a look is quick."""

PROCESSES = Path("/proc")


class Watch:
    """Looks at a process and its descendants until it is left; on Linux, elsewhere ``peak`` stays 0.

    A page that several of them share counts once (the kernel's "proportional set size").

    Parameters
    ----------
    process : int
    share : float
        Of a core's time that looking may take: the kernel walks through all pages for it.

    Attributes
    ----------
    peak : int
        The largest sum seen so far, in bytes.
    """

    def __init__(self, process: int, share: float):
        self.peak, self.share = 0, share
        self._process = process
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        pause = 0.0
        while not self._over.wait(pause):
            begin = time.perf_counter()
            self.peak = max(self.peak, of_family(self._process))
            pause = max(INTERVAL, (time.perf_counter() - begin) / self.share)


def of_family(process: int) -> int:
    """Bytes that a process and its descendants hold now; 0 for one that has ended."""
    return _own(process) + sum(map(of_family, _children(process)))


def _own(process: int) -> int:
    lines = _read(PROCESSES / str(process) / "smaps_rollup").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _children(process: int) -> list[int]:
    """Those that any of its threads has started."""
    tasks = PROCESSES / str(process) / "task"
    try:
        threads = list(tasks.iterdir())
    except OSError:  # as below
        return []
    return [int(child) for thread in threads for child in _read(thread / "children").split()]


def _read(file: Path) -> str:
    try:
        return file.read_text()
    # it has ended meanwhile, or this is another system
    except OSError:
        return ""
