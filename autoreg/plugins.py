"""Finding plugins and asking each, alone and guarded, what it offers."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pluggy

from autoreg import hookspecs
from autoreg.errors import PluginError, PluginLoadWarning
from autoreg.registry import KINDS, Owner, Registry

GROUP = "autoreg"
OURS = "autoreg-core"

_HOOK_OF = {
    kind: "register_" + {"loss": "losses", "activation": "activations", "strategy": "strategies"}.get(kind, kind + "s")
    for kind in KINDS
}


@dataclass(frozen=True)
class Problem:
    """A plugin that could not be used, and why."""

    owner: Owner
    reason: str


class Plugins:
    """The loaded plugins and what they offer.

    Attributes
    ----------
    registry : Registry
    owners : list of Owner
    problems : list of Problem
    """

    def __init__(self) -> None:
        self.registry = Registry()
        self.owners: list[Owner] = []
        self.problems: list[Problem] = []
        self.manager = _new_manager()

    def add(self, plugin: Any, owner: Owner) -> None:
        """Take a plugin in; one that is at fault is reported and left out."""
        trial = _new_manager()
        table = Registry()
        try:
            trial.register(plugin, name=owner.plugin)
            trial.check_pending()
            for kind, hook in _HOOK_OF.items():
                getattr(trial.hook, hook)(register=partial(_register, table, kind, owner))
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything; it must not stop ours
            self._report(owner, error)
            return
        for entry in table:
            self.registry.add(entry.kind, entry.name, entry.thing, owner, space=entry.space, **entry.facts)
        self.manager.register(plugin, name=owner.plugin)
        self.owners.append(owner)

    def add_entry_point(self, point: EntryPoint) -> None:
        """Import an installed plugin and take it in."""
        distribution = point.dist
        owner = Owner(
            point.name,
            distribution.name if distribution else "",
            distribution.version if distribution else "",
        )
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:  # as in `add`
            self._report(owner, error)
            return
        self.add(plugin, owner)

    def add_file(self, path: str) -> None:
        """Import a plugin from a file and take it in; the user asked for it, so one that is at fault is an error.

        Raises
        ------
        PluginError
        """
        stem = Path(path).stem
        owner = Owner(stem)
        if owner in self.owners:
            self.owners.remove(owner)
            self.manager.unregister(name=stem)
        known = len(self.problems)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PluginLoadWarning)
            try:
                spec = spec_from_file_location(f"autoreg_plugin_{stem}", path)
                if spec is None or spec.loader is None:
                    raise ImportError("its name does not end in .py")
                module = module_from_spec(spec)
                sys.modules[spec.name] = module
                spec.loader.exec_module(module)
            except (Exception, SystemExit) as error:  # as in `add`
                self._report(owner, error)
            else:
                self.add(module, owner)
        if len(self.problems) > known:
            raise PluginError(f"plugin '{path}': {self.problems.pop().reason}")

    def _report(self, owner: Owner, error: BaseException) -> None:
        first_line = (str(error).splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {first_line}"
        self.problems.append(Problem(owner, reason))
        warnings.warn(f"plugin '{owner.plugin}' ({owner}) is left out: {reason}", PluginLoadWarning, stacklevel=3)


def _new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("autoreg")
    manager.add_hookspecs(hookspecs)
    return manager


def _register(table: Registry, kind: str, owner: Owner, name: str, thing: Any, **facts: Any) -> None:
    table.add(kind, name, thing, owner, **facts)


def installed() -> list[EntryPoint]:
    """Entry points of our own and of allowed plugins, sorted so that the order is the same everywhere.

    ``AUTOREG_PLUGINS`` limits the others to a comma-separated list of distributions; empty means none.
    """
    points = sorted(entry_points(group=GROUP), key=lambda p: (_distribution(p) != OURS, _distribution(p), p.name))
    allowed = os.environ.get("AUTOREG_PLUGINS")
    if allowed is None:
        return points
    names = {name.strip() for name in allowed.split(",")}
    return [point for point in points if _distribution(point) == OURS or _distribution(point) in names]


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else ""


@cache
def load_plugins() -> Plugins:
    """Load the installed plugins, once, at the first look-up of a name."""
    plugins = Plugins()
    for point in installed():
        plugins.add_entry_point(point)
    return plugins


def registry() -> Registry:
    """The registry of all installed plugins."""
    return load_plugins().registry
