"""What is installed: entry points of our groups, read from metadata, so that nothing is imported."""

from __future__ import annotations

import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from autoreg.errors import PluginLoadWarning
from autoreg.registry import Owner

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

GROUP, COMMANDS = "autoreg", "autoreg.commands"
OURS = "autoreg-core"


def is_on(variable: str) -> bool:
    """Whether an environment variable asks for something: set, and not to 0."""
    return os.environ.get(variable, "") not in ("", "0")


def installed(group: str = GROUP) -> list[EntryPoint]:
    """Entry points of our own and of allowed plugins, sorted so that the order is the same everywhere.

    ``AUTOREG_PLUGINS`` limits the others to a comma-separated list of distributions; empty means none.

    Parameters
    ----------
    group : str
        ``autoreg`` for plugins, ``autoreg.commands`` for commands.
    """
    allowed = allowed_distributions()
    points = [(owner_of(point), point) for point in _points(group)]
    points.sort(key=lambda item: (item[0].distribution != OURS, item[0].distribution.lower(), item[0].plugin))
    return [point for owner, point in points if is_allowed(owner.distribution, allowed)]


def allowed_distributions() -> frozenset[str] | None:
    """What ``AUTOREG_PLUGINS`` names, in the spelling of `normalized`; None when it is not set."""
    given = os.environ.get("AUTOREG_PLUGINS")
    return None if given is None else frozenset(normalized(name) for name in given.split(",") if name.strip())


def is_allowed(distribution: str, allowed: frozenset[str] | None) -> bool:
    """Whether a distribution's plugins are loaded; our own always are."""
    return distribution == OURS or allowed is None or normalized(distribution) in allowed


def owner_of(point: EntryPoint) -> Owner:
    """The plugin that an entry point names, and the distribution it came in."""
    return Owner(point.name) if point.dist is None else Owner(point.name, *_name_and_version(point.dist))


@lru_cache
def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    # a distribution reads and parses its metadata for either; damaged metadata may lack both
    return distribution.name or "", distribution.version or ""


def normalized(distribution: str) -> str:
    """A distribution's name as the package index compares it.

    >>> normalized(" Autoreg_Snake")
    'autoreg-snake'
    """
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def _points(group: str) -> list[EntryPoint]:
    # imported here: it takes as long as the rest of the command line together
    from importlib.metadata import distributions, entry_points

    try:
        return list(entry_points(group=group))
    except Exception:  # one distribution with damaged metadata; the others are read without it
        pass
    found: dict[str, list[EntryPoint]] = {}
    for distribution in distributions():
        try:
            points = list(distribution.entry_points.select(group=group))
            if points:
                found.setdefault(normalized(distribution.name), points)
        except Exception:
            continue
    return [point for points in found.values() for point in points]


PATIENCE = 5.0
"""Seconds after which an import that does not end is named on standard error."""


@contextmanager
def named_when_slow(what: str) -> Iterator[None]:
    """Say on standard error what is being loaded when that takes long, so that an import that hangs has a name."""

    def tell() -> None:
        print(
            f"Still loading {what} after {PATIENCE:g} seconds; Ctrl-C ends it, AUTOREG_PLUGINS says what is loaded",
            file=sys.stderr, flush=True,
        )  # fmt: skip

    timer = threading.Timer(PATIENCE, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def settings_kept(what: str) -> Iterator[None]:
    """Settings of torch that a stranger's code changes for everybody come back, with a warning that names it."""
    before = _settings()
    try:
        yield
    finally:
        torch = sys.modules.get("torch")
        changed = {name: value for name, value in _settings().items() if before.get(name, value) != value}
        if torch is not None and changed:
            torch.set_default_dtype(before["default dtype"])
            torch.set_grad_enabled(before["gradients"])
            names = " and ".join(f"{name} ({before[name]}, not {value})" for name, value in changed.items())
            warnings.warn(f"{what} changed torch's {names}: set back", PluginLoadWarning, stacklevel=3)


def _settings() -> dict[str, Any]:
    """Torch's own where it is not imported yet."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    return {"default dtype": torch.get_default_dtype(), "gradients": torch.is_grad_enabled()}
