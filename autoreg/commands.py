"""Commands that plugins bring: listed from the metadata of installed distributions, imported when called.

A distribution names a `click.Command` in the entry-point group ``autoreg.commands``; the entry's name is the command's.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

from autoreg.errors import DuplicateNameError, PluginError, PluginLoadWarning
from autoreg.installed import COMMANDS, installed, named_when_slow, owner_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_NAME = re.compile(r"[a-z][a-z0-9_-]*")

Offers = Mapping[str, Sequence["EntryPoint"]]


class Promise(click.Command):
    """What stands for a plugin's command until it is called: its name, and who offers it.

    Its arguments are not known without an import, so files are all that a shell can complete.
    """

    def __init__(self, name: str, points: Sequence[EntryPoint]) -> None:
        owners = " and ".join(str(owner_of(point)) for point in points)
        text = f"from {owners}" + (": uninstall one of them" if len(points) > 1 else "")
        super().__init__(
            name, short_help=text, help=f"A plugin's command, {text}.",
            params=[click.Argument(["arguments"], nargs=-1, type=click.Path())],
        )  # fmt: skip
        self.points = points

    def load(self) -> click.Command:
        """Import the command.

        Raises
        ------
        PluginError
            When it cannot be imported, or is no command; `DuplicateNameError` when two plugins offer it.
        """
        point, *others = self.points
        if others:
            owners = " and ".join(str(owner_of(point)) for point in self.points)
            raise DuplicateNameError(
                f"command '{self.name}' is offered by {owners}: uninstall one of them, or name those to use in "
                "AUTOREG_PLUGINS"
            )
        at_fault = f"command '{self.name}' of {owner_of(point)}"
        try:
            with named_when_slow(at_fault):
                found = point.load()
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything
            first_line = (str(error).splitlines() or [""])[0]
            what = f"{type(error).__name__}: {first_line}"
            raise PluginError(f"{at_fault} cannot be imported: {what}. Upgrade or uninstall it") from error
        if not isinstance(found, click.Command):
            kind = type(found).__name__
            raise PluginError(f"{at_fault}: {point.value} is of type {kind}, but has to be a click.Command")
        return found


def offers() -> dict[str, list[EntryPoint]]:
    """The commands of installed plugins that ``AUTOREG_PLUGINS`` allows, with who offers each; nothing is imported."""
    return _by_name(installed(COMMANDS))


def unknown_command(name: str, known: Sequence[str]) -> str:
    """Say that there is no such command, and what may have been meant.

    >>> unknown_command("srve", ["fit", "serve"])
    "No such command 'srve'; did you mean 'serve'?"
    """
    text = f"No such command '{name}'"
    left_out = _left_out(name)
    if left_out:
        return f"{text}: {owner_of(left_out[0])} offers it, which AUTOREG_PLUGINS leaves out."
    near = get_close_matches(name, known, n=1)
    return f"{text}; did you mean '{near[0]}'?" if near else f"{text}. Known: {', '.join(known)}."


def tell_of_shadowing(name: str, points: Sequence[EntryPoint]) -> None:
    """A built-in command keeps its name."""
    text = f"command '{name}' is autoreg's own; the one of {owner_of(points[0])} is left out"
    warnings.warn(text, PluginLoadWarning, stacklevel=2)


def _left_out(name: str) -> list[EntryPoint]:
    """Who offers a command although ``AUTOREG_PLUGINS`` does not list it."""
    if os.environ.get("AUTOREG_PLUGINS") is None:
        return []
    from importlib.metadata import entry_points

    try:
        return list(entry_points(group=COMMANDS, name=name))
    except Exception:  # damaged metadata of any distribution; this was for a hint only
        return []


def _by_name(points: Iterable[EntryPoint]) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in points:
        if _NAME.fullmatch(point.name):  # others could not be typed, or not be told from an option
            found.setdefault(point.name, []).append(point)
    return found
