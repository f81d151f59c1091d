"""The guide's examples run and print what they show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from autoreg_optuna import tpe
from autoreg_optuna.strategies import TRIALS
from exampletables import lay_out
from pages import DOCS, run_page


def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, 200)
    monkeypatch.chdir(tmp_path)
    assert run_page("how-to/search-with-optuna.md") == 4


def test_the_guide_knows_every_option_and_the_number_of_candidates() -> None:
    text = (DOCS / "how-to" / "search-with-optuna.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ", text.split("## Options")[1], flags=re.MULTILINE)
    assert sorted(rows) == sorted((tpe.func.__kwdefaults__ or {}).keys())
    assert "{quick}, {balanced} or {thorough}.".format(**TRIALS) in text
