"""The search's ablations: what follows from candidates trained to the end is what a search ends with."""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from autoreg import AutoRegressor
from autoreg.builtins.portfolio import RUNGS, portfolio
from autoreg.plugins import load_plugins
from autoreg.rounds import space_of
from autoreg.search import evaluate
from autoreg.selection import select
from autoreg.space import Candidate

# at the end: modules of the tests come first
sys.path.append(str(Path(__file__).parent.parent / "examples" / "benchmarks"))
ablations, suite = importlib.import_module("ablations_of_search"), importlib.import_module("suite")

EPOCHS = 18


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> suite.Table:
    path = tmp_path_factory.mktemp("suite") / "small.parquet"
    draw = np.random.default_rng(0)
    X = draw.normal(size=(200, 4))
    y = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + draw.normal(0, 0.2, 200)
    pd.DataFrame(X, columns=list("abcd")).assign(y=y).to_parquet(path)
    return suite.Table("small", path, "y")


def test_as_it_is_is_what_the_search_ends_with(table: suite.Table) -> None:
    load_plugins()
    rows = {
        row["change"]: row
        for row in ablations.measure(table, 0, Namespace(rows=160, epochs=EPOCHS, candidates=8, jobs=2))
    }
    held = ablations.Held.of(table, 0, 160)
    problem = replace(held.problem, rungs=RUNGS)
    proposed = portfolio(space_of(AutoRegressor(), problem), (), 8, 0)
    found = evaluate([Candidate({**one.parameters, "max_epochs": EPOCHS}) for one in proposed], problem, n_jobs=2)
    assert rows[ablations.YARDSTICK]["error"] == pytest.approx(held.error(select(found, [], problem).parts), rel=1e-4)
    assert rows[ablations.YARDSTICK]["epochs"] == sum(len(item.result.curve) for item in found)
    assert any(item.result.facts.get("pruned") for item in found)
    assert rows["without both"]["epochs"] == 8 * EPOCHS
