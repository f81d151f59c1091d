"""The command ``autoreg plugins check``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from autoreg.completion import distributions
from autoreg.console import print_json
from autoreg.errors import OptionError
from autoreg.options import json_option, plugin_option

if TYPE_CHECKING:
    from autoreg.testing import Check

WIDTH = 120


@click.command("check")
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=distributions)
@plugin_option
@click.option("--observers", is_flag=True, help="Also call the hooks that look on, with a small search.")
@json_option
@click.pass_context
def check(ctx: click.Context, names: tuple[str, ...], plugins: tuple[str, ...], observers: bool, as_json: bool) -> None:
    """Check the plugins of distribution or plugin NAME, and all that they offer.

    The exit status is 1 when a check fails. What is reported is worth knowing and no fault.
    """
    if not names and not plugins:
        raise OptionError("nothing to check: give the NAME of an installed plugin, or --plugin FILE.py")
    with redirect_stdout(sys.stderr):  # a plugin may print
        from autoreg.testing import check_plugin
        from autoreg.testing.plugins import installed_points

        for name in names:  # all are looked up before one is tried
            installed_points(name)
        checks = [
            one for plugin in (*names, *plugins) for one in check_plugin(plugin, observers=observers, raises=False)
        ]
    counts = {status: sum(one.status == status for one in checks) for status in ("passed", "failed", "reported")}
    if as_json:
        print_json({**counts, "checks": [vars(one) for one in checks]})
    else:
        click.echo(checks_text(checks, counts))
    ctx.exit(1 if counts["failed"] else 0)


def checks_text(checks: Sequence[Check], counts: Mapping[str, int]) -> str:
    """The checks as a table, by part."""
    rows: list[tuple[str, str, str]] = [(one.name, one.status, one.detail) for one in checks]
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    lines: list[str] = []
    part: Any = None
    for one in checks:
        if one.part != part:
            lines.append(one.part)
            part = one.part
        start = f"  {one.name:<{widths[0]}}  {one.status:<{widths[1]}}  "
        text = textwrap.wrap(one.detail, WIDTH - len(start), break_long_words=False, break_on_hyphens=False) or [""]
        lines += [(start + text[0]).rstrip(), *(" " * len(start) + line for line in text[1:])]
    return "\n".join([*lines, "", ", ".join(f"{count} {status}" for status, count in counts.items())])
