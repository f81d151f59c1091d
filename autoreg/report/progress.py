"""Progress on standard error, or in a notebook: a bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec

from autoreg.report.units import duration
from autoreg.results import OnProgress, Progress

PAUSE = 5.0
"""Seconds before the first plain line of a stage; each further one takes half as long again."""


@contextmanager
def show_progress(verbose: int) -> Iterator[OnProgress | None]:
    """Show what a search tells about itself, for the length of a ``with`` block.

    Parameters
    ----------
    verbose : int
        0 shows nothing.

    Yields
    ------
    function or None
        To be called with a `Progress` now and then; None when nothing is to be shown.

    Examples
    --------
    >>> with show_progress(0) as on_progress:
    ...     print(on_progress)
    None
    """
    if not verbose:
        yield None
        return
    from rich.console import Console

    console = Console(stderr=True)
    # in a notebook rich draws with ipywidgets
    if find_spec("ipywidgets") if console.is_jupyter else console.is_terminal:
        with _Bar(console) as bar:
            yield _while_it_can_be_seen(bar.show)
    else:
        yield _while_it_can_be_seen(_Lines().show)


def _while_it_can_be_seen(show: OnProgress) -> OnProgress:
    """A full disk, or a reader who is gone, ends what is shown and not the search."""
    seen = True

    def tell(progress: Progress) -> None:
        nonlocal seen
        if seen:
            try:
                show(progress)
            except (OSError, ValueError):  # of a closed stream
                seen = False

    return tell


def plan_line(progress: Progress) -> str:
    """How long the plan will take, from a `Progress` of the stage ``plan``.

    >>> plan_line(Progress("plan", 0.0, candidates_left=8, seconds_left=95))
    'Plan: 8 networks to train on each fold, about 1 min 35 s.'
    """
    count = progress.candidates_left
    text = f"Plan: {count} network{'s' if count != 1 else ''} to train on each fold"
    if math.isfinite(progress.seconds_left):
        text += f", about {duration(progress.seconds_left)}"
    return f"{text}."


def resume_line(progress: Progress) -> str:
    """What an earlier run left done, from a `Progress` of the stage ``resume``.

    >>> resume_line(Progress("resume", 0.4, candidates=3, candidates_left=5))
    'Resuming: 3 of 8 stacks of networks are done.'
    """
    done, all_of_them = progress.candidates, progress.candidates + progress.candidates_left
    return f"Resuming: {done} of {all_of_them} stacks of networks are done."


REFRESH = 0.1
"""Seconds between two pictures of a bar."""

LINES = {"plan": plan_line, "resume": resume_line}
"""Stages that are one line."""


def describe(progress: Progress) -> str:
    """Where a search stands, in a few words.

    >>> describe(Progress("networks", 0.5, candidates=4, candidates_left=4, best=12.345, seconds_left=61))
    '4/8 done  best 12.35  1 min 1 s left'
    """
    words = []
    if progress.candidates + progress.candidates_left:
        words.append(f"{progress.candidates}/{progress.candidates + progress.candidates_left} done")
    if math.isfinite(progress.best):
        words.append(f"best {progress.best:.4g}")
    if progress.fraction < 1 and math.isfinite(progress.seconds_left):
        words.append(f"{duration(progress.seconds_left)} left")
    return "  ".join(words)


class _Bar:
    """One bar for each stage, by rich."""

    def __init__(self, console: object) -> None:
        from rich import progress

        self.bars = progress.Progress(
            progress.TextColumn("{task.description:<10}"),
            progress.BarColumn(bar_width=30),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[words]}"),
            console=console,  # type: ignore[arg-type]
            # no thread of its own: a process with threads is not forked
            auto_refresh=False,
        )
        self.last = 0.0
        self.tasks: dict[str, progress.TaskID] = {}

    def __enter__(self) -> _Bar:
        with suppress(OSError, ValueError):  # of a terminal that is gone
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, ValueError):
            self.bars.stop()

    def show(self, progress: Progress) -> None:
        if progress.stage in LINES:
            self.bars.console.print(LINES[progress.stage](progress), highlight=False)
            return
        if progress.stage not in self.tasks:
            self.tasks[progress.stage] = self.bars.add_task(progress.stage, total=1.0, words="")
        self.bars.update(self.tasks[progress.stage], completed=progress.fraction, words=describe(progress))
        now = time.monotonic()
        if progress.fraction >= 1 or now - self.last > REFRESH:
            self.last = now
            self.bars.refresh()


class _Lines:
    """A line when a stage ends, and now and then before."""

    def __init__(self) -> None:
        self.stage = ""
        self.last = time.monotonic()
        self.pause = PAUSE
        self.ended = False

    def show(self, progress: Progress) -> None:
        if progress.stage in LINES:
            print(LINES[progress.stage](progress), file=sys.stderr, flush=True)
            return
        if progress.stage != self.stage:
            self.stage, self.pause, self.ended = progress.stage, PAUSE, False
        now = time.monotonic()
        ends = progress.fraction >= 1 and not progress.candidates_left and not self.ended
        if ends or (progress.fraction < 1 and now - self.last >= self.pause):
            self.last, self.pause, self.ended = now, 1.5 * self.pause, ends
            line = f"{progress.stage}: {progress.fraction:.0%}  {describe(progress)}".rstrip()
            print(line, file=sys.stderr, flush=True)
