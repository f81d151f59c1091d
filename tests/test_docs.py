"""The reference says everything there is, and its examples run."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from itertools import chain
from pathlib import Path
from types import ModuleType

import click
import pytest
from numpydoc.docscrape import NumpyDocString

import autoreg
from autoreg import errors, hookspecs
from autoreg.plugins import Plugins, load_plugins
from autoreg.registry import Owner

DOCS = Path(__file__).parent.parent / "docs"

HOOKS = [name for name, function in vars(hookspecs).items() if hasattr(function, "autoreg_spec")]
ERRORS = [
    name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == "autoreg.errors"
]


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands below a heading of the second level."""
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def signature(hook: str) -> str:
    return f"{hook}({', '.join(inspect.signature(getattr(hookspecs, hook)).parameters)})"


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_is_documented_with_an_example_that_loads(hook: str) -> None:
    text = section(page("reference/hooks.md"), signature(hook))
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert blocks, f"no example below {signature(hook)}"
    for block in blocks:
        plugin = ModuleType("example")
        exec(compile(block, f"hooks.md, {hook}", "exec"), plugin.__dict__)
        plugins = Plugins()
        plugins.add(plugin, Owner("example"))
        assert plugins.problems == []
        assert list(plugins.registry) or not hook.startswith("register_")


def test_no_hook_is_documented_that_is_not_there() -> None:
    headings = re.findall(r"^## (\w+)\(", page("reference/hooks.md"), flags=re.M)
    assert sorted(headings) == sorted(HOOKS)


@pytest.mark.parametrize("name", autoreg.__all__)
def test_public_name_is_documented(name: str) -> None:
    assert f":: autoreg.{name}\n" in page("reference/python.md")


@pytest.mark.parametrize("name", [name for name in autoreg.__all__ if name != "hookimpl"])
def test_every_parameter_is_documented(name: str) -> None:
    thing = getattr(autoreg, name)
    documented = NumpyDocString(inspect.getdoc(thing) or "")["Parameters"]
    names = {name.strip(" *") for parameter in documented for name in parameter.name.split(",")}
    assert {*inspect.signature(thing).parameters} - names == set()


@pytest.mark.parametrize("name", ERRORS)
def test_error_is_documented(name: str) -> None:
    assert f"| `{name}` |" in page("reference/errors.md")
    assert name in (errors.__doc__ or "")


def test_no_error_is_documented_that_is_not_there() -> None:
    assert sorted(re.findall(r"^\| `(\w+)` \|", page("reference/errors.md"), flags=re.M)) == sorted(ERRORS)


def test_every_command_and_option_is_on_the_page_and_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    cli_page = importlib.import_module("cli_page")
    text = cli_page.render()
    for context in cli_page.commands(cli_page.command_line(), "autoreg"):
        command = context.command
        assert command.help, f"'{context.command_path}' has no help"
        assert f"## {context.command_path}\n" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.help, f"'{context.command_path} {parameter.opts[0]}' has no help"
                assert all(option in section("\n" + text, context.command_path) for option in parameter.opts)
    assert "generated/cli.txt" in page("reference/cli.md")


def test_every_dependency_has_a_line() -> None:
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    names = {re.match(r"[\w-]+", item)[0].lower() for item in listed} - {"autoreg-core"}  # type: ignore[index]
    text, pinned = page("explanation/dependencies.md"), (DOCS.parent / "constraints.txt").read_text(encoding="utf-8")
    assert sorted(name for name in names if not re.search(rf"(^\| |, ){name}[ ,]", text, flags=re.M)) == []
    assert sorted(name for name in names if not re.search(rf"^{name}==", pinned, flags=re.M)) == []


PARTS = page("reference/parts.md")


@pytest.mark.parametrize("kind", ["network", "encoding", "loss", "optimizer"])
def test_built_in_parts_and_their_defaults_are_on_their_page(kind: str) -> None:
    registry = load_plugins().registry
    ours = {name: registry.get(kind, name) for name in registry.in_order(kind)}
    table = PARTS.split(f"| {kind} |", 1)[1].split("\n\n", 1)[0]
    rows = {name: row for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(rows) == {name for name, entry in ours.items() if entry.owner.distribution == "autoreg-core"}
    for name, row in rows.items():
        parameters = inspect.signature(ours[name].thing).parameters
        for option, default in re.findall(r"`(\w+)=([^`]+)`", row.rsplit("|", 2)[1]):
            assert repr(parameters[option].default) == default.replace('"', "'"), (name, option)
