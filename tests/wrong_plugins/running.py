"""What the checks say to a wrong plugin, and what a fit does with it when it is installed."""

from __future__ import annotations

import contextlib
import importlib
import io
import random
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from strangers import Site
from wrong_plugins.cases import Case

import autoreg.testing.plugins as checking
from autoreg import AutoRegressor, installed
from autoreg.errors import AutoregError, DataWarning
from autoreg.plugins import load_plugins
from autoreg.testing import Check, check_plugin

PARTS = {"activation": "relu", "loss": "squared_error", "optimizer": "sgd", "network": "linear", "encoding": "plain"}
"""A good part of the same kind, which trains beside the wrong one."""


def distribution_of(case: Case) -> str:
    return f"wrong-{case.name}"


def failed_checks(case: Case) -> list[Check]:
    """All that the checks find. Only where the fault is in the import is it tried in another process."""
    with pytest.MonkeyPatch.context() as patch:
        if case.check != "import":
            patch.setattr(checking, "check_import", lambda *arguments, **options: None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checks = check_plugin(case.path, observers=True, raises=False)
        load_plugins.cache_clear()
    return [check for check in checks if check.status == "failed"]


@dataclass(frozen=True)
class Fit:
    """What became of a fit: how it treated the plugin, what it said of it, and the fitted estimator if there is one."""

    status: str
    said: str
    search: Any = None


def fit_with(case: Case, folder: Path) -> Fit:
    """A small search with the plugin installed, and with what it offers where it offers something.

    Parameters
    ----------
    case : Case
    folder : Path
        An empty one.
    """
    if case.fit == "not tried":
        return Fit("not tried", "")
    with _installed(case, folder) as stderr, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            search = _search(case)
        except AutoregError as error:
            return Fit("refused", str(error))
    mine = [str(one.message) for one in told if case.name in str(one.message) and one.category is not DataWarning]
    mine += [line for line in stderr.getvalue().splitlines() if case.name in line]
    rows = [*search.results_.candidates, *search.results_.companions]
    failures = [row.failure for row in rows if row.failure]
    if failures:
        return Fit("failed", failures[0], search)
    if mine:
        return Fit("left out" if "is left out" in mine[0] else "noted", mine[0], search)
    used = any(case.name in row.name for row in rows)
    return Fit("ranked" if used and case.fit == "ranked" else "unharmed", "", search)


@contextlib.contextmanager
def _installed(case: Case, folder: Path) -> Iterator[io.StringIO]:
    """The plugin as a distribution; what is written on standard error. Settings come back afterwards."""
    dtype, torchs, numpys, pythons = (
        torch.get_default_dtype(), torch.get_rng_state(), np.random.get_state(), random.getstate(),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()) as stderr:
        site = Site(folder / "site", patch)
        site.put(distribution_of(case), source=case.path.read_text(encoding="utf-8"), **{case.name: _module(case)})
        patch.setenv("AUTOREG_PLUGINS", distribution_of(case))
        patch.setattr(installed, "PATIENCE", 0.05)
        wait = time.sleep
        patch.setattr(time, "sleep", lambda seconds: wait(min(seconds, 0.4)))  # what hangs for ever, for a moment
        importlib.invalidate_caches()
        load_plugins.cache_clear()
        try:
            yield stderr
        finally:
            load_plugins.cache_clear()
            torch.set_default_dtype(dtype)
            torch.set_rng_state(torchs)
            np.random.set_state(numpys)
            random.setstate(pythons)


def _module(case: Case) -> str:
    return distribution_of(case).replace("-", "_")


def table() -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Numbers, some missing, and a target that follows from them."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(36, 3)), columns=["a", "b", "c"])
    y = (frame["a"] - frame["b"] + 0.1 * draw.normal(size=36)).to_numpy()
    frame.loc[::5, "b"] = np.nan
    return frame, y


def _search(case: Case) -> AutoRegressor:
    space: dict[str, Any] = {"max_epochs": [4], "batch_size": [4]}
    strategy = "grid"
    if case.kind in PARTS:
        space[case.kind] = [PARTS[case.kind], case.name]
    elif case.kind == "strategy":
        strategy = case.name
    companions = "compare" if case.kind == "companion" else None
    search = AutoRegressor(
        strategy=strategy, space=space, cv=2, companions=companions, random_state=0, n_jobs=1, verbose=0
    )
    return search.fit(*table())
