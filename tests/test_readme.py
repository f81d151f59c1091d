"""The README: its code and its commands run, its plugin registers and trains, its links lead somewhere.

It is run here on the first rows of its tables; its numbers come from all of them.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner
from exampletables import ROOT, lay_out
from pages import commands

from autoreg.cli import autoreg
from autoreg.persistence import read_manifest
from autoreg.plugins import GROUP, Plugins

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = commands("../README.md")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


def python(*, plugin: bool) -> str:
    (found,) = [block for block in blocks("python") if ("hookimpl" in block) == plugin]
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lay_out(tmp_path, 150)
    (tmp_path / "snake.py").write_text(python(plugin=True), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def entries(leaderboard: str) -> list[list[str]]:
    """What a leaderboard lists, in no order; of what ensembles consist depends on the rows."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in leaderboard.split("\n\n")[0].splitlines()]
    return sorted([*row[1:3]][: len(row)] for row in rows if "ensemble" not in row)


def test_fit_and_predict_print_what_is_shown(folder: Path) -> None:
    fit, predict = [command for command in COMMANDS if command.startswith("autoreg ") and "--plugin" not in command]
    result = CliRunner().invoke(autoreg, shlex.split(fit)[1:])
    assert result.exit_code == 0, result.output
    shown = COMMANDS[fit]
    assert entries(result.stdout) == entries(shown)
    table, verdict = shown.strip().split("\n\n")
    figures = re.findall(r"rmse ([\d.]+) against ([\d.]+)", verdict)
    assert figures
    assert all(figure in table for figure in figures[0])
    assert result.stdout.strip().splitlines()[-3].startswith("every network: ")

    result = CliRunner().invoke(autoreg, shlex.split(predict)[1:])
    assert (result.exit_code, result.stdout) == (0, COMMANDS[predict])
    (head,) = [command for command in COMMANDS if command.startswith("head ")]
    *_, count, file = shlex.split(head)
    shown_lines = COMMANDS[head].strip().splitlines()
    found = (folder / file).read_text(encoding="utf-8").splitlines()[: int(count)]
    assert (found[0], len(found)) == (shown_lines[0], len(shown_lines))
    assert all(abs(float(one) - float(other)) < 200 for one, other in zip(found[1:], shown_lines[1:], strict=True))


def test_the_python_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(python(plugin=False), "README.md", "exec"), {})
    assert "the best baseline" in capsys.readouterr().out


def test_the_plugin_trains_from_its_file(folder: Path) -> None:
    (command,) = [command for command in COMMANDS if "--plugin" in command]
    # a process of its own: the activation would stay in the registry of this one
    words = [sys.executable, "-m", *shlex.split(command), "--space", "max_epochs=2"]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    networks = [row for row in read_manifest("speed_mph.safetensors")["leaderboard"] if row["parameters"]]
    assert networks
    assert all(row["parameters"]["activation"] == "snake" and not row["failure"] for row in networks)


def test_the_plugin_registers_by_its_entry_point(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    (toml,) = blocks("toml")
    ((name, module),) = tomllib.loads(toml)["project"]["entry-points"][GROUP].items()
    plugins = Plugins()
    plugins.add_entry_point(EntryPoint(name, module, GROUP))
    monkeypatch.delitem(sys.modules, module)
    assert plugins.problems == []
    assert plugins.registry.names("activation") == ["snake"]


def test_the_other_commands_are_there() -> None:
    rest = [shlex.split(command) for command in COMMANDS if command.split()[0] not in ("autoreg", "head")]
    assert [words[0] for words in rest] == ["pip", "make", "make"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{words[1]}:" in makefile for words in rest if words[0] == "make")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert ["pip", "install", project["name"]] in rest


def test_its_links_lead_somewhere_and_it_stays_short() -> None:
    for target in re.findall(r"\]\((?!https:)([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    assert len(TEXT.splitlines()) <= 105
