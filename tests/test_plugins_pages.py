"""The pages about plugins: what they show runs, and what they promise of hooks is kept."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from pages import DOCS, commands, run_page
from strangers import SNAKE, Site
from test_docs import HOOKS

from autoreg import hookspecs
from autoreg.cli import autoreg
from autoreg.plugins import load_plugins
from autoreg.scaffold import KINDS

ROOT = DOCS.parent


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a page registers."""
    load_plugins.cache_clear()
    yield
    load_plugins.cache_clear()


# ---------------------------------------------------------------- pages


def test_the_guide_to_writing_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_page("how-to/write-a-plugin.md") == 1
    load_plugins.cache_clear()
    monkeypatch.chdir(tmp_path)
    new = next(line for line in commands("how-to/write-a-plugin.md") if " plugins new " in line)
    shown = commands("how-to/write-a-plugin.md")[new]
    done = CliRunner().invoke(autoreg, shlex.split(new)[1:])
    assert (done.exit_code, done.stdout.strip()) == (0, shown.strip())


def test_every_kind_of_package_is_named() -> None:
    page = (DOCS / "how-to" / "write-a-plugin.md").read_text(encoding="utf-8")
    assert all(f"`{kind}`" in page for kind in KINDS)


def test_the_guide_to_choosing_runs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("autoreg-snake", source=SNAKE)
    site.put("autoreg-optuna", source=SNAKE.replace('"snake"', '"other"'))
    for line in commands("how-to/choose-plugins.md"):
        words = shlex.split(line)
        given = dict(word.split("=", 1) for word in words[: words.index("autoreg")])
        for name in ("AUTOREG_PLUGINS", "AUTOREG_TRACE_PLUGINS"):
            monkeypatch.setenv(name, given.get(name, ""))
        load_plugins.cache_clear()
        done = CliRunner().invoke(autoreg, words[words.index("autoreg") + 1 :])
        assert done.exit_code == 0, done.output
        assert ("not loaded yet" in done.stdout) == ("autoreg-snake" in line)
        assert ("register_losses(register)" in done.stderr) == ("TRACE" in line)


def test_the_guide_to_completion_names_what_click_asks_for() -> None:
    page = (DOCS / "how-to" / "complete-in-the-shell.md").read_text(encoding="utf-8")
    for shell in re.findall(r"_AUTOREG_COMPLETE=(\w+)_source", page):
        done = CliRunner().invoke(autoreg, [], prog_name="autoreg", env={"_AUTOREG_COMPLETE": f"{shell}_source"})
        assert done.exit_code == 0
        assert f"_AUTOREG_COMPLETE={shell}_complete" in done.stdout


# ---------------------------------------------------------------- hooks


def hooks_in(folder: str) -> set[str]:
    """The hooks that are implemented somewhere below a folder: functions marked ``hookimpl``."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        if "build" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                marks = [ast.unparse(mark.func if isinstance(mark, ast.Call) else mark) for mark in node.decorator_list]
                if {"hookimpl", "autoreg.hookimpl"} & set(marks):
                    found.add(node.name)
    return found


IN_PLUGINS = hooks_in("plugins") | hooks_in("autoreg/builtins")
OTHERS = [path for path in (ROOT / "tests").glob("test_*.py") if path != Path(__file__)]
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in OTHERS)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_has_a_real_plugin_that_uses_it(hook: str) -> None:
    assert hook in IN_PLUGINS, f"{hook}: no package of plugins/ and no built-in implements it"


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_has_a_test(hook: str) -> None:
    assert re.search(rf"\b{hook}\b", TESTS), f"{hook}: no test of tests/ speaks of it"


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_says_what_it_gives(hook: str) -> None:
    """Its docstring in the specification and its section of the page speak of the same arguments and facts."""
    text = getattr(hookspecs, hook).__doc__
    page = (DOCS / "reference" / "hooks.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {hook}(", 1)[1].split("\n## ", 1)[0]
    call = re.search(r"``register\(([^`]*)\)``", text)
    facts = re.findall(r"(\w+)=", call[1]) if call else []
    missing = [fact for fact in facts if f"`{fact}`" not in section]
    assert missing == [], f"{hook}: docs/reference/hooks.md says nothing of {missing}"
