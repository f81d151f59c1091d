"""The commands ``autoreg plugins ...``."""

from __future__ import annotations

import click

from autoreg.console import print_json
from autoreg.options import json_option, load_with, plugin_option


@click.group(invoke_without_command=True)
@click.pass_context
def plugins(ctx: click.Context) -> None:
    """List, check and start plugins."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(plugins_list, plugins=(), load=False, as_json=False)


@plugins.command("list")
@click.option("--load", is_flag=True, help="Import the plugins first, to see what they offer today.")
@plugin_option
@json_option
def plugins_list(plugins: tuple[str, ...], load: bool, as_json: bool) -> None:
    """List the plugins, what each offers, and what is wrong with those that are left out.

    Nothing is imported: what is shown is what each offered when it was last loaded, as every fit does.
    """
    from autoreg.report.catalogue import catalogue, catalogue_text, known_catalogue

    if load or plugins:
        from autoreg.plugins import load_plugins

        load_with(plugins)
        found = catalogue(load_plugins())
    else:
        found = known_catalogue()
    if as_json:
        print_json(found)
    else:
        click.echo(catalogue_text(found))
