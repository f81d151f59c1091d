"""The guide to quantiles, where its plugin is installed: its code prints what is shown, its commands write columns."""

from __future__ import annotations

from pathlib import Path

import pytest
from environments import Environment
from exampletables import ROOT, lay_out
from pages import commands

PAGE = "how-to/predict-quantiles.md"
SHORT = " --candidates 2 --space max_epochs=2 --quiet"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment(tmp_path_factory.mktemp("user"))
    made.run(f"pip install --no-deps {ROOT / 'plugins' / 'autoreg-quantile'}", made.folder)
    return made


def test_the_code_prints_what_is_shown(environment: Environment, tmp_path: Path) -> None:
    lay_out(tmp_path, 10_000)
    script = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); from pages import run_page; run_page({PAGE!r})"
    environment.run(f'python -c "{script}"', tmp_path)


def test_the_commands_write_a_column_for_each_level(environment: Environment, tmp_path: Path) -> None:
    lay_out(tmp_path, 150)
    install, fit, *rest = commands(PAGE)
    assert install == "pip install autoreg-quantile"
    for command in (fit + SHORT, *rest):
        environment.run(command, tmp_path)
    heads = [(tmp_path / name).read_text(encoding="utf-8").split("\n")[0] for name in ("quantiles.csv", "ends.csv")]
    assert heads[0].split(",") == [f"speed_mph_q{k / 20:g}" for k in range(1, 20)]
    assert heads[1] == "speed_mph_q0.1,speed_mph_q0.9"
