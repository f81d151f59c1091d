"""The commands ``autoreg plugins ...``."""

from __future__ import annotations

import click

from autoreg.console import print_json
from autoreg.options import json_option, load_with, plugin_option


@click.group(invoke_without_command=True)
@click.pass_context
def plugins(ctx: click.Context) -> None:
    """Tell about plugins."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(plugins_list, plugins=(), as_json=False)


@plugins.command("list")
@plugin_option
@json_option
def plugins_list(plugins: tuple[str, ...], as_json: bool) -> None:
    """List the plugins, what each offers, and what is wrong with those that are left out."""
    from autoreg.plugins import load_plugins
    from autoreg.report.catalogue import catalogue, catalogue_text

    load_with(plugins)
    found = catalogue(load_plugins())
    if as_json:
        print_json(found)
    else:
        click.echo(catalogue_text(found))
