"""Name -> thing, with the plugin that owns it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from autoreg.errors import ContractError, DuplicateNameError, OptionError, UnknownNameError, unknown
from autoreg.space import as_dimensions

KINDS = ("activation", "loss", "optimizer", "network", "encoding", "strategy", "companion")

GIVEN = {"loss": 2, "optimizer": 0, "network": 3, "encoding": 1, "strategy": 4, "companion": 3}
"""How many arguments of a thing come from us; the others are its options."""

_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]*$")


@dataclass(frozen=True)
class Owner:
    """The plugin that offers a thing, and the distribution it came in."""

    plugin: str
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip() or self.plugin


@dataclass(frozen=True)
class Entry:
    """One registered thing."""

    kind: str
    name: str
    thing: Any
    owner: Owner
    space: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> list[str] | None:
        """The names of the options that the thing takes; None where it takes any, or does not say.

        >>> Entry("activation", "bent", lambda x, slope=0.1: x * slope, Owner("mine")).options
        ['slope']
        """
        # an activation is a class of its options, or a function of the tensor and its options
        given = int(not isinstance(self.thing, type)) if self.kind == "activation" else GIVEN[self.kind]
        found = option_names(self.thing, given)
        if found is None or self.kind != "activation":
            return found
        # torch's own classes have it; what stands before an activation may be read again
        return [name for name in found if name != "inplace"]


def option_names(thing: Callable[..., Any], given: int) -> list[str] | None:
    """The names of a thing's arguments after those given; None where it takes any, or does not say."""
    try:
        parameters = list(inspect.signature(thing).parameters.values())
    except (TypeError, ValueError):  # some built-in functions have no signature
        return None
    if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters):
        return None
    return [p.name for p in parameters[given:]]


def _check_space(entry: Entry) -> None:
    """Raise `ContractError` unless a search can draw from the entry's space."""
    options = entry.options
    for option, values in entry.space.items():
        if options is not None and option not in options:
            raise ContractError(unknown(f"option of {entry.kind} {entry.name}", option, options))
        try:
            as_dimensions({f"{entry.kind}__{option}": values})
        except OptionError as error:
            raise ContractError(f"{entry.kind} '{entry.name}' from {entry.owner}: {error}") from error


class Registry:
    """All things that plugins offer.

    Examples
    --------
    >>> registry = Registry()
    >>> registry.add("activation", "half", lambda x: x / 2, Owner("mine"))
    >>> registry.get("activation", "half").thing(4.0)
    2.0
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], list[Entry]] = {}

    def add(
        self,
        kind: str,
        name: str,
        thing: Any,
        owner: Owner,
        *,
        space: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> None:
        """Put a thing under a name. A second owner of the name is noted and fails when the name is asked for."""
        if kind not in KINDS:
            raise ContractError(unknown("kind of part", kind, KINDS))
        if not isinstance(name, str) or not _NAME.match(name):
            raise ContractError(f"{kind} name {name!r} from {owner}: use lower-case letters, digits, '-' and '_'")
        if not callable(thing):
            raise ContractError(f"{kind} '{name}' from {owner}: {thing!r} is not callable")
        if space is not None and not isinstance(space, Mapping):
            raise ContractError(f"{kind} '{name}' from {owner}: space={space!r} is not a dict of lists")
        entry = Entry(kind, name, thing, owner, dict(space or {}), facts)
        _check_space(entry)
        entries = self._entries.setdefault((kind, name), [])
        entries[:] = [entry for entry in entries if entry.owner != owner]
        entries.append(entry)

    def remove(self, owner: Owner) -> None:
        """Forget all that an owner offers."""
        for key, entries in list(self._entries.items()):
            entries[:] = [entry for entry in entries if entry.owner != owner]
            if not entries:
                del self._entries[key]

    def get(self, kind: str, name: str) -> Entry:
        """Look a name up.

        Raises
        ------
        UnknownNameError
            When no plugin offers it.
        DuplicateNameError
            When two do.
        """
        entries = self._entries.get((kind, name), [])
        if not entries:
            raise UnknownNameError(unknown(kind, name, self.names(kind)))
        if len(entries) > 1:
            same = len({str(entry.owner) for entry in entries}) < len(entries)
            named = [f"plugin '{e.owner.plugin}' of {e.owner}" if same else str(e.owner) for e in entries]
            raise DuplicateNameError(
                f"{kind} '{name}' is offered by {' and '.join(named)}: uninstall one of them, or name those to load "
                f"in AUTOREG_PLUGINS"
            )
        return entries[0]

    def names(self, kind: str) -> list[str]:
        """All names of a kind, sorted."""
        return sorted(name for k, name in self._entries if k == kind)

    def in_order(self, kind: str) -> list[str]:
        """All names of a kind in the order in which they were offered, ours first."""
        return [name for k, name in self._entries if k == kind]

    def __iter__(self) -> Iterator[Entry]:
        for entries in self._entries.values():
            yield from entries
