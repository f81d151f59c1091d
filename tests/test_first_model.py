"""The first tutorial: its commands exist, its code runs, and what it shows has the form of what is printed.

It is run here on the first rows of its tables; its numbers come from all of them.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from pages import commands, run_page

from autoreg.cli import autoreg

PAGE = "tutorials/first-model.md"
DATA = Path(__file__).parent.parent / "examples" / "data"


@pytest.fixture
def small_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example's tables with few rows, where the page looks for them."""
    (tmp_path / "examples" / "data").mkdir(parents=True)
    for name in ("flights.csv", "new_flights.csv"):
        lines = (DATA / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / "examples" / "data" / name).write_text("".join(lines[:151]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def columns(text: str) -> list[list[str]]:
    """The first words of each paragraph: the heads of its tables."""
    return [paragraph.splitlines()[0].split()[:3] for paragraph in text.strip().split("\n\n") if paragraph.strip()]


def test_the_commands_run_and_print_tables_of_the_form_that_is_shown(small_data: Path) -> None:
    shown = {command: text for command, text in commands(PAGE).items() if command.startswith("autoreg ")}
    assert len(shown) >= 4
    for command, text in shown.items():
        result = CliRunner().invoke(autoreg, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}: {result.output}"
        heads = columns(text)
        found = columns(result.stdout)
        assert len(heads) == len(found), command
        if command.startswith("autoreg fit"):
            assert heads[0] == found[0]
        if "--schema" in command:
            assert [line.split()[:2] for line in text.splitlines()] == [
                line.split()[:2] for line in result.stdout.splitlines() if not line.startswith("note:")
            ]
    assert (small_data / "predictions.csv").read_text(encoding="utf-8").startswith("date,carrier,speed_mph\n")


def test_the_python_runs(small_data: Path) -> None:
    assert run_page(PAGE, compare=False) == 1
