"""Checks of whole plugins: what is installed, what is in a file, or an object with hooks."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pluggy
from click.testing import CliRunner

import autoreg.testing.engine as engine
from autoreg import hookspecs
from autoreg.errors import PluginError, UnknownNameError, unknown
from autoreg.estimators import AutoRegressor
from autoreg.installed import COMMANDS, GROUP, OURS, normalized, owner_of
from autoreg.plugins import Plugins, load_plugins, registry
from autoreg.registry import Entry, Owner
from autoreg.testing.activations import check_activation
from autoreg.testing.companions import check_companion
from autoreg.testing.encodings import check_encoding
from autoreg.testing.importing import check_import
from autoreg.testing.losses import check_loss
from autoreg.testing.networks import check_network
from autoreg.testing.optimizers import check_optimizer
from autoreg.testing.results import Check, Fault, Look, Report, concluded, look
from autoreg.testing.strategies import check_strategy

CHECKS: dict[str, Callable[..., list[Check]]] = {
    "activation": check_activation,
    "loss": check_loss,
    "optimizer": check_optimizer,
    "network": check_network,
    "encoding": check_encoding,
    "strategy": check_strategy,
    "companion": check_companion,
}

OBSERVERS = ("search_started", "rung_finished", "search_finished", "search_failed")


@dataclass
class _Found:
    """A plugin as far as it could be loaded."""

    owner: Owner
    entries: list[Entry] = field(default_factory=list)
    plugin: Any = None


def check_plugin(plugin: Any, *, observers: bool = False, raises: bool = True) -> list[Check]:
    """Check a plugin and all that it offers.

    Parameters
    ----------
    plugin : str, Path, module or object
        The name of an installed distribution or of one of its plugins, the path of a file, or what has the hooks.
    observers : bool
        Also call the hooks that look on, with a small search; they do with it what they do with any.
    raises : bool
        Raise when a check fails; otherwise the list says it.

    Returns
    -------
    list of Check

    Raises
    ------
    ConformanceError
        An `AssertionError` that lists every failure.
    UnknownNameError
        When nothing of that name is installed.

    Examples
    --------
    >>> import torch
    >>> from types import ModuleType
    >>> from autoreg import hookimpl
    >>> from autoreg.testing import check_plugin
    >>> plugin = ModuleType("waves")
    >>> plugin.register_activations = hookimpl(lambda register: register("sine", torch.sin))
    >>> for check in check_plugin(plugin)[:3]:
    ...     print(check.part, check)
    plugin waves passed    hooks
    plugin waves passed    names: activation sine
    activation sine passed    shape
    """
    if isinstance(plugin, Path) or (isinstance(plugin, str) and plugin.endswith(".py")):
        checks = _check_file(str(plugin), observers)
    elif isinstance(plugin, str):
        checks = _check_installed(plugin, observers)
    else:
        name = plugin.__name__ if isinstance(plugin, (ModuleType, type)) else type(plugin).__name__
        checks = _check_offers(
            f"plugin {name}", partial(_load, lambda trial: trial.add(plugin, Owner(name))), observers
        )
    return concluded(checks, raises)


def installed_points(name: str) -> tuple[list[EntryPoint], list[EntryPoint]]:
    """The plugins and the commands that a distribution, or a plugin, of this name offers.

    Raises
    ------
    UnknownNameError
        When there is none.
    """
    # all that is installed, also what AUTOREG_PLUGINS leaves out
    known = [[*entry_points(group=group)] for group in (GROUP, COMMANDS)]
    found = [[point for point in points if name in _names(point)] for points in known]
    if not any(found):
        names = {one for points in known for point in points for one in _names(point)}
        raise UnknownNameError(unknown("plugin", name, sorted(names)))
    return found[0], found[1]


def _names(point: EntryPoint) -> set[str]:
    owner = owner_of(point)
    return {owner.plugin, *([owner.distribution, normalized(owner.distribution)] if owner.distribution else [])}


def _check_installed(name: str, observers: bool) -> list[Check]:
    plugins, commands = installed_points(name)
    checks: list[Check] = []
    for point in plugins:
        part = f"plugin {point.name}"
        checks += look(part, "plugins", [("import", partial(check_import, point.module))])
        if checks[-1].status != "failed":
            load = partial(_load, partial(_add_point, point))
            checks += _check_offers(part, load, observers)
    for point in commands:
        checks += _check_command(point)
    distribution = (plugins or commands)[0].dist
    if distribution is not None and normalized(distribution.name) != OURS:
        part = f"package {distribution.name}"
        checks += look(part, "plugins", [("requires", lambda: _check_requires(distribution.requires or []))])
    return checks


def _check_file(path: str, observers: bool) -> list[Check]:
    part, checks = f"plugin {Path(path).name}", list[Check]()
    checks += look(part, "plugins", [("import", partial(check_import, path, is_file=True))])
    if checks[-1].status == "failed":
        return checks

    def load() -> _Found:
        plugins = load_plugins()  # where a file finds them that calls autoreg.register
        before = plugins.manager.get_plugins()
        try:
            plugins.add_file(path)
        except PluginError as error:
            raise Fault("a plugin that can be taken in", str(error).removeprefix(f"plugin '{path}': ")) from error
        owner = Owner(Path(path).resolve().name)
        new = plugins.manager.get_plugins() - before
        return _Found(owner, [entry for entry in plugins.registry if entry.owner == owner], next(iter(new), None))

    return checks + _check_offers(part, load, observers)


def _add_point(point: EntryPoint, trial: Plugins) -> None:
    trial.add_entry_point(point)


def _load(add: Callable[[Plugins], None]) -> _Found:
    """A plugin by itself, apart from those that are in use."""
    trial = Plugins()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        add(trial)
    if trial.problems:
        raise Fault("a plugin that can be taken in", trial.problems[0].reason)
    (owner,) = trial.owners
    return _Found(owner, list(trial.registry), next(iter(trial.manager.get_plugins())))


def _check_offers(part: str, load: Callable[[], _Found], observers: bool) -> list[Check]:
    found: list[_Found] = []
    checks = look(part, "plugins", [("hooks", lambda: found.append(load()))])
    if not found:
        return checks
    looks: list[tuple[str, Look]] = [("names", partial(_check_names, found[0]))]
    watches = [name for name in OBSERVERS if hasattr(found[0].plugin, name)]
    if watches:
        looks.append(("observers", partial(_check_observers, found[0], watches, observers)))
    checks += look(part, "plugins", looks)
    for entry in found[0].entries:
        options = {"space": entry.space} if entry.space and entry.kind != "companion" else {}
        checks += CHECKS[entry.kind](entry.thing, name=entry.name, raises=False, **options, **entry.facts)
    return checks


def _check_names(found: _Found) -> Report | str:
    for entry in found.entries:
        others = [
            other for other in registry()
            if (other.kind, other.name) == (entry.kind, entry.name)
            and other.owner != found.owner
            and other.thing is not entry.thing  # the same plugin, checked as a module and installed
        ]  # fmt: skip
        if others:
            raise Fault(f"a name of its own for {entry.kind} '{entry.name}'", f"that of {others[0].owner}")
    names = [f"{entry.kind} {entry.name}" for entry in found.entries]
    return ", ".join(names) if names else Report("it offers no part")


def _check_observers(found: _Found, watches: list[str], called: bool) -> Report | str:
    what = ", ".join(watches)
    if not called:
        return Report(f"{what} not called: observers=True, or --observers, calls them with a small search")
    frame, y = engine.table()
    with _only(found.plugin, found.owner), _elsewhere(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            search = AutoRegressor(
                strategy="grid", space={"max_epochs": [1, 2], "network__width": [4]}, cv=2, companions=None,
                random_state=0, verbose=0,
            ).fit(frame, y)  # fmt: skip
    failures = [str(one.message) for one in told if "failed in" in str(one.message)]
    if failures:
        raise Fault(f"{what} to run without an error", failures[0])
    if len(search.results_.candidates) != 2:
        raise Fault("results to stay as they are", f"{len(search.results_.candidates)} candidates of 2")
    if printed.getvalue():
        return Report(f"prints '{printed.getvalue().splitlines()[0][:60]}', where --json prints its results")
    return f"{what} called"


@contextlib.contextmanager
def _only(plugin: Any, owner: Owner) -> Iterator[None]:
    """The plugin observes, and no other."""
    plugins = load_plugins()
    before, plugins.manager = plugins.manager, pluggy.PluginManager("autoreg")
    plugins.manager.add_hookspecs(hookspecs)
    plugins.manager.register(plugin, name=owner.plugin)
    try:
        yield
    finally:
        plugins.manager = before


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """In an empty directory, which goes away with what is written there."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        os.chdir(directory)
        try:
            yield
        finally:
            os.chdir(before)


def _check_command(point: EntryPoint) -> list[Check]:
    part, made = f"command {point.name}", list[Any]()

    def load() -> str | None:
        made.append(point.load())
        if not isinstance(made[0], click.Command):
            raise Fault("a click.Command", f"a {type(made[0]).__name__}")
        return None

    def show_help() -> str:
        result = CliRunner().invoke(made[0], ["--help"], prog_name=f"autoreg {point.name}")
        if result.exit_code != 0:
            raise Fault("status 0 from --help", f"{result.exit_code}")
        text = made[0].get_short_help_str(100)
        if not text:
            raise Fault("a sentence that says what the command does, as its docstring", "none")
        return text

    imported = look(part, "plugins", [("import", partial(check_import, point.module))])
    return (
        imported
        if imported[0].status == "failed"
        else imported + look(part, "plugins", [("command", load), ("help", show_help)])
    )


def _check_requires(requires: list[str]) -> Report | None:
    stated = any(normalized(one).startswith(OURS) for one in requires)
    return None if stated else Report(f"its metadata does not require {OURS}")
