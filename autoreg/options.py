"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import click

Command = Callable[..., Any]


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order of the help."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


reading = together(
    click.option("--sep", metavar="CHARACTER", help="What separates columns: found out where not given."),
    click.option("--text-encoding", "encoding", metavar="NAME", help="Such as utf-8 or latin-1: found out."),
    click.option("--decimal", metavar="CHARACTER", help="Decimal sign.  [default: .]"),
    click.option("--thousands", metavar="CHARACTER", help="What groups thousands: never guessed."),
    click.option(
        "--na-values", metavar="TEXT", multiple=True,
        help="A text that means missing, in place of NA, None, null and the like; may be repeated.",
    ),
)  # fmt: skip
plugin_option = click.option(
    "--plugin", "plugins", metavar="FILE.py", multiple=True, type=click.Path(exists=True, dir_okay=False),
    help="A plugin that is not installed; may be repeated.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
force_option = click.option("--force", is_flag=True, help="Replace an existing output.")


def reading_options(na_values: tuple[str, ...], **options: str | None) -> dict[str, Any]:
    """The options of `reading` as `autoreg.readers.read_table` takes them."""
    return {**options, "na_values": na_values or None}


def as_when_fitted(given: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Reading options of now, and where they are silent those that say what the cells of the model's table meant.

    >>> as_when_fitted({"sep": ";"}, {"reading": {"decimal": ","}})
    {'decimal': ',', 'thousands': None, 'na_values': None, 'sep': ';'}
    >>> as_when_fitted({"thousands": ","}, {"reading": {"decimal": ","}})["decimal"] is None
    True

    Raises
    ------
    ModelFileError
        When the manifest holds something else there.
    """
    from autoreg.manifest import damaged

    options: dict[str, Any] = {**dict.fromkeys((*MARKS, "na_values")), **given}
    told = manifest.get("reading", {})
    texts = told.get("na_values", []) if isinstance(told, Mapping) else None
    marks = [told[name] for name in MARKS if name in told] if isinstance(told, Mapping) else []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in [*texts, *marks]):
        raise damaged("reading is not how a table is written")
    before: dict[str, Any] = {**{name: told.get(name) for name in MARKS}, "na_values": tuple(texts) or None}
    if options["decimal"] == before["thousands"]:
        before["thousands"] = None  # a table written the other way
    if options["thousands"] == before["decimal"]:
        before["decimal"] = None
    return {**options, **{name: value for name, value in before.items() if options[name] is None}}


def to_remember(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of the reading options given, those that say what cells mean.

    >>> to_remember({"sep": ";", "decimal": ",", "thousands": None, "na_values": ("?",)})
    {'decimal': ',', 'na_values': ['?']}
    """
    told = {name: options[name] for name in MARKS if options[name]}
    return {**told, "na_values": list(options["na_values"])} if options["na_values"] else told


MARKS = ("decimal", "thousands")


def load_with(files: Sequence[str]) -> None:
    """Load the installed plugins and those in files."""
    from autoreg.plugins import load_plugins

    with redirect_stdout(sys.stderr):  # results go to standard output, and a plugin may print while it is imported
        plugins = load_plugins()
        for file in files:
            plugins.add_file(file)
