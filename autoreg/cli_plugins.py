"""The commands ``autoreg plugins ...``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from autoreg.console import print_json, say
from autoreg.options import json_option, load_with, plugin_option
from autoreg.scaffold import KINDS, write_package


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


@plugins.command("new")
@click.argument("name", metavar="NAME")
@click.option("--kind", required=True, type=click.Choice(list(KINDS)), help="What it offers.")
@click.option("-o", "--output", metavar="FOLDER", type=click.Path(path_type=Path), help="[default: autoreg-NAME]")
@click.pass_context
def plugins_new(ctx: click.Context, name: str, kind: str, output: Path | None) -> None:
    """Write a package of a plugin called NAME: one module that works, its tests, a README and a pyproject.toml."""
    root = ctx.find_root()
    taken = root.command.list_commands(root) if isinstance(root.command, click.Group) else []
    paths = write_package(name, kind, output, taken)
    for path in paths:
        click.echo(path)
    folder = shlex.quote(str(paths[0].parent))
    say(f"Next: pip install --editable {folder}, then autoreg plugins list --load, and python -m pytest {folder}")
