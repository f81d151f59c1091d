"""Finding plugins and asking each, alone and guarded, what it offers."""

from __future__ import annotations

import inspect
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from autoreg import hookspecs
from autoreg.errors import ContractError, DuplicateNameError, PluginError, PluginLoadWarning, one_line, unknown
from autoreg.installed import (
    COMMANDS,
    GROUP,
    OURS,
    allowed_distributions,
    installed,
    is_on,
    named_when_slow,
    normalized,
    owner_of,
    settings_kept,
)
from autoreg.names import Note, Offers, files_of, offers_of, remember
from autoreg.registry import KINDS, Owner, Registry
from autoreg.tracing import trace, trace_calls

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

SESSION = Owner("session")
"""Owner of what was registered by hand."""

HOOKS = tuple(name for name, value in vars(hookspecs).items() if hasattr(value, "autoreg_spec"))

_HOOK_OF = {
    kind: "register_" + {"loss": "losses", "activation": "activations", "strategy": "strategies"}.get(kind, kind + "s")
    for kind in KINDS
}


@dataclass(frozen=True)
class PluginProblem:
    """A plugin that could not be used, and why."""

    owner: Owner
    reason: str


class Plugins:
    """The loaded plugins and what they offer.

    Attributes
    ----------
    registry : Registry
    owners : list of Owner
    problems : list of PluginProblem
    """

    def __init__(self) -> None:
        self.registry = Registry()
        self.owners: list[Owner] = []
        self.problems: list[PluginProblem] = []
        self.manager = _new_manager()
        self._called: dict[Owner, str] = {}
        self.files: dict[Owner, Path] = {}
        self._speaking = SESSION

    def add(self, plugin: Any, owner: Owner) -> None:
        """Take a plugin in; one that is at fault is reported and left out."""
        table = Registry()
        try:
            with _watched(owner):
                self._ask(plugin, owner, table)
            self._check_names(table, owner)
            self._called[owner] = self._name_for(plugin, owner)
            self.manager.register(plugin, name=self._called[owner])
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything; it must not stop ours
            self._report(owner, error)
            return
        for entry in table:
            self.registry.add(entry.kind, entry.name, entry.thing, owner, space=entry.space, **entry.facts)
        if owner not in self.owners:
            self.owners.append(owner)

    def _ask(self, plugin: Any, owner: Owner, table: Registry) -> None:
        """Put what the plugin offers into the table."""
        hash(plugin)  # pluggy keeps sets of them
        trial = _new_manager()
        check_hooks(plugin, trial)
        trial.register(plugin, name=owner.plugin)
        for kind, hook in _HOOK_OF.items():
            getattr(trial.hook, hook)(register=_registrar(table, kind, owner))

    def _check_names(self, table: Registry, owner: Owner) -> None:
        """Our own names stay ours: with another thing under one of them, no fit would be what it was."""
        ours = {(entry.kind, entry.name) for entry in self.registry if entry.owner.distribution == OURS}
        for entry in table:
            if (entry.kind, entry.name) in ours and owner.distribution != OURS:
                raise DuplicateNameError(f"{entry.kind} '{entry.name}' is autoreg's own name: choose another")

    def _name_for(self, plugin: Any, owner: Owner) -> str:
        """What the manager calls the plugin: the name of its entry point, unless two distributions chose one name."""
        known = self.manager.get_name(plugin)
        if known is not None:
            raise PluginError(f"it is the module that plugin '{known}' names already")
        return f"{owner.plugin} of {owner}" if self.manager.has_plugin(owner.plugin) else owner.plugin

    def add_entry_point(self, point: EntryPoint) -> None:
        """Import an installed plugin and take it in."""
        owner = owner_of(point)
        trace(f"{owner.plugin} ({owner}): import {point.value}")
        try:
            with _watched(owner):
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
        place = Path(path).resolve()
        owner = Owner(place.name)
        if self.files.get(owner, place) != place:
            raise PluginError(f"plugin '{path}': {self.files[owner]} has the same name; rename one of them")
        self._forget(owner)
        known = len(self.problems)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PluginLoadWarning)
            self._run_file(place, owner)
        if len(self.problems) > known:
            self._forget(owner)
            raise PluginError(f"plugin '{path}': {self.problems.pop().reason}")
        self.files[owner] = place

    def _run_file(self, place: Path, owner: Owner) -> None:
        self._speaking = owner
        try:
            with _watched(owner):
                module = _module_of(place)
        except (Exception, SystemExit) as error:  # as in `add`
            self._report(owner, error)
            return
        finally:
            self._speaking = SESSION
        # what a notebook registers by hand may stand in a file as it is
        if not (owner in self.owners and not hooks_of(module, self.manager)):
            self.add(module, owner)

    def offer(self, kind: str, name: str, thing: Any, **facts: Any) -> None:
        """Register one thing by hand; once more replaces it.

        Raises
        ------
        DuplicateNameError
            When the name is a plugin's.
        """
        for entry in self.registry:
            if (entry.kind, entry.name) == (kind, name) and entry.owner != self._speaking:
                raise DuplicateNameError(f"{kind} '{name}' belongs to {entry.owner}: take another name")
        self.registry.add(kind, name, thing, self._speaking, **facts)
        if self._speaking not in self.owners:
            self.owners.append(self._speaking)

    def offers(self, owner: Owner) -> Offers:
        """What an owner's plugin offers: names with their options by kind, and the hooks by which it observes."""
        plugin = self.manager.get_plugin(self._called.get(owner, ""))
        callers = (self.manager.get_hookcallers(plugin) or []) if plugin is not None else []
        observes = [caller.name for caller in callers if caller.name not in _HOOK_OF.values()]
        watching: Offers = {"observer": {name: [] for name in sorted(observes)}} if observes else {}
        return {**offers_of(self.registry, owner), **watching}

    def notes(self, points: Iterable[EntryPoint]) -> list[Note]:
        """What is worth knowing in the next process of the plugins that these entry points name."""
        reasons = {problem.owner: problem.reason for problem in self.problems}
        found = []
        for point in points:
            owner = owner_of(point)
            if owner.distribution == OURS:  # known anyway
                continue
            offers, files, reason = self.offers(owner), files_of(point.value), reasons.get(owner, "")
            found.append(Note(owner.plugin, owner.distribution, owner.version, point.value, offers, reason, files))
        return found

    def _forget(self, owner: Owner) -> None:
        self.registry.remove(owner)
        if owner in self.owners:
            self.owners.remove(owner)
        if owner in self._called:
            self.manager.unregister(name=self._called.pop(owner))

    def _report(self, owner: Owner, error: BaseException) -> None:
        if is_on("AUTOREG_DEBUG"):
            traceback.print_exception(error)
        self.problems.append(PluginProblem(owner, one_line(error)))
        text = f"plugin '{owner.plugin}' ({owner}) is left out: {self.problems[-1].reason}"
        warnings.warn(text, PluginLoadWarning, stacklevel=3)


def check_hooks(plugin: Any, manager: pluggy.PluginManager) -> None:
    """Check that what a plugin marks as a hook is one, and that it marks one.

    Raises
    ------
    PluginError

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from autoreg import hookimpl
    >>> plugin = SimpleNamespace(register_loses=hookimpl(lambda register: None))
    >>> check_hooks(plugin, pluggy.PluginManager("autoreg"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    autoreg.errors.PluginError: no hook 'register_loses'; did you mean 'register_losses'? known: ...
    """
    marked = hooks_of(plugin, manager)
    for name, hook in marked.items():
        if hook not in HOOKS:
            raise PluginError(unknown("hook", hook, HOOKS))
        _check_arguments(hook, getattr(plugin, name))
    for hook in HOOKS:
        if hook not in marked and callable(getattr(plugin, hook, None)):
            raise PluginError(f"{hook} is not marked: put @autoreg.hookimpl above it")
    if not marked:
        raise PluginError("it has no hook: mark a function with @autoreg.hookimpl")


def hooks_of(plugin: Any, manager: pluggy.PluginManager) -> dict[str, str]:
    """The functions that a plugin marks, by name, with the hook that each means."""
    options = {name: manager.parse_hookimpl_opts(plugin, name) for name in dir(plugin)}
    return {name: marked.get("specname") or name for name, marked in options.items() if marked is not None}


def _check_arguments(hook: str, function: Any) -> None:
    takes = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    asked = inspect.signature(function).parameters.values()
    # pluggy fills by name, and leaves arguments with a default alone
    needed = [p.name for p in asked if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    further = [name for name in needed if name not in takes]
    if further:
        raise PluginError(f"hook {hook} takes {', '.join(takes)}: no argument '{further[0]}'")
    if "register" in takes and "register" not in needed:
        raise PluginError(f"hook {hook} offers nothing without its argument 'register'")


def _module_of(path: Path) -> ModuleType:
    """The module in a file; it is known to `sys.modules`, so that what it defines can be pickled."""
    spec = spec_from_file_location(f"autoreg_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError("its name does not end in .py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


@contextmanager
def _watched(owner: Owner) -> Iterator[None]:
    """While a stranger's code runs: it is named when it takes long, and settings of torch come back."""
    if owner.distribution == OURS:  # ours import torch, which may take long on a cold disk and is not at fault
        yield
        return
    what = f"plugin '{owner.plugin}' ({owner})"
    with named_when_slow(what), settings_kept(what):
        yield


def _registrar(table: Registry, kind: str, owner: Owner) -> Callable[..., None]:
    """The function that a plugin is handed: it knows who is speaking."""

    def register(name: str, thing: Any, *, space: Mapping[str, Any] | None = None, **facts: Any) -> None:
        trace(f"  {kind} {name!r}")
        if name in table.names(kind):
            raise ContractError(f"{kind} '{name}' is registered twice")
        table.add(kind, name, thing, owner, space=space, **facts)

    return register


def _new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("autoreg")
    manager.add_hookspecs(hookspecs)
    trace_calls(manager)
    return manager


class _Once:
    """Loads the installed plugins at the first look-up of a name, whatever thread makes it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._loading = False
        self._loaded: Plugins | None = None

    def __call__(self) -> Plugins:
        if self._loaded is not None:
            return self._loaded
        with self._lock:
            if self._loading:
                raise PluginError("plugins are just being loaded: ask for names when they are used, not at import")
            if self._loaded is None:
                self._loading = True
                try:
                    self._loaded = _load()
                finally:
                    self._loading = False
            return self._loaded

    def cache_clear(self) -> None:
        """Load anew at the next look-up, as in a new process."""
        self._loaded = None


def _load() -> Plugins:
    plugins = Plugins()
    points = installed(GROUP)
    for point in points:
        plugins.add_entry_point(point)
    known = {owner.distribution for owner in [*plugins.owners, *(problem.owner for problem in plugins.problems)]}
    known |= {owner_of(point).distribution for point in installed(COMMANDS)}
    for name in sorted(allowed_distributions() or ()):
        if not any(normalized(distribution) == name for distribution in known):
            text = unknown("plugin", name, sorted(known - {OURS}))
            warnings.warn(f"AUTOREG_PLUGINS: {text}", PluginLoadWarning, stacklevel=2)
    remember(plugins.notes(points))
    return plugins


load_plugins: _Once = _Once()


def registry() -> Registry:
    """The registry of all installed plugins."""
    return load_plugins().registry


def register(kind: str, name: str, thing: Any = None, *, space: Mapping[str, Any] | None = None, **facts: Any) -> Any:
    """Offer something under a name for as long as this process lives, as a plugin would.

    For notebooks, and for what is not worth a package. Registering a name again replaces what it stood for, so that a
    cell may run twice. A model that was saved with the name loads once the name is registered again.

    Parameters
    ----------
    kind : {"activation", "loss", "optimizer", "network", "encoding", "strategy", "companion"}
    name : str
        Lower-case letters, digits, ``_`` and ``-``; not one that a plugin offers.
    thing : function or class, optional
        What the hook of that kind asks for. Without it, a decorator is returned.
    space : dict, optional
        Options of the thing -> lists or scipy distributions that a search draws from by default.
    **facts
        Facts about the thing that the hook of that kind names.

    Returns
    -------
    The thing.

    Raises
    ------
    DuplicateNameError
        When a plugin offers the name.
    ContractError
        When it cannot be registered.

    Examples
    --------
    >>> import autoreg, torch
    >>> @autoreg.register("activation", "half_sine")
    ... def half_sine(x):
    ...     return torch.sin(x) / 2
    >>> autoreg.NeuralRegressor(activation="half_sine", max_epochs=1).fit([[0.0], [1.0]], [0.0, 1.0]).n_iter_
    1
    """
    if thing is None:
        return partial(register, kind, name, space=space, **facts)
    load_plugins().offer(kind, name, thing, space=space, **facts)
    return thing
