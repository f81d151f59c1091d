"""What the shell completes: names that are known without importing a plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from autoreg.installed import COMMANDS, GROUP, installed, owner_of
from autoreg.names import recall
from autoreg.space import DEFAULTS, PARTS

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem[Any]]]


def names_of(kind: str) -> Complete:
    """Completes the names of one kind of part, and says whose they are."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
        return _items(_names(kind), incomplete)

    return complete


def dimensions(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
    """Completes ``--space``: the dimension, and the names where it is a part."""
    name, equals, values = incomplete.partition("=")
    if equals:
        listed, comma, last = values.rpartition(",")
        before = f"{name}={listed}{comma}"
        return (
            _items([(before + value, owner) for value, owner in _names(name)], before + last) if name in PARTS else []
        )
    options = [
        (f"{part}__{option}=", f"of {name}")
        for note in recall() for part in PARTS
        for name, options in note.offers.get(part, {}).items() for option in options
    ]  # fmt: skip
    return _items([*((f"{name}=", "") for name in DEFAULTS), *options], incomplete)


def distributions(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
    """Completes the distributions that plugins and commands came in."""
    owners = [owner_of(point) for group in (GROUP, COMMANDS) for point in installed(group)]
    return _items([(owner.distribution, owner.version) for owner in owners if owner.distribution], incomplete)


def _names(kind: str) -> list[tuple[str, str]]:
    return [
        (name, f"{note.distribution} {note.version}") for note in recall() for name in sorted(note.offers.get(kind, ()))
    ]


def _items(words: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem[Any]]:
    from click.shell_completion import CompletionItem

    # a shell shows equal words once for each time they come
    found = {word: text for word, text in words if word.startswith(incomplete)}
    return [CompletionItem(word, help=text or None) for word, text in found.items()]
