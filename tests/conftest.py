"""What many tests start from."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import pandas as pd
    from strangers import Site

    from autoreg.registry import Registry

# Other people's plugins may be installed beside us; they have no part in our tests, nor in the processes these start.
os.environ["AUTOREG_PLUGINS"] = ""
# nor has what our user's cache knows
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="autoreg-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.fixture
def houses() -> pd.DataFrame:
    """120 rows of mixed columns and the target ``price``: numbers, a category, a boolean, a date, missing values."""
    import numpy as np
    import pandas as pd

    draw = np.random.default_rng(0)
    n = 120
    area = draw.uniform(30, 200, n).round(1)
    town = draw.choice(["Ahoy", "Bree", "Ciel"], n, p=[0.5, 0.3, 0.2])
    garden = draw.random(n) < 0.4
    days = draw.integers(0, 700, n)
    level = pd.Series(town).map({"Ahoy": 0.0, "Bree": 40.0, "Ciel": 90.0}).to_numpy()
    price = 50 + 2.5 * area + level + 30 * garden + 0.05 * days + draw.normal(0, 8, n)
    frame = pd.DataFrame(
        {
            "area": area,
            "rooms": np.clip(area // 25, 1, 6).astype("int64"),
            "built": draw.integers(1900, 2020, n).astype("float64"),
            "town": town,
            "garden": garden,
            "sold": pd.Timestamp("2022-01-01") + pd.to_timedelta(days, unit="D"),
            "price": price.round(1),
        }
    )
    frame.loc[draw.choice(n, 12, replace=False), "built"] = np.nan
    frame.loc[draw.choice(n, 9, replace=False), "town"] = None
    return frame


@pytest.fixture(scope="session")
def registry() -> Registry:
    """What the built-in plugins offer, and nothing else."""
    from autoreg.plugins import OURS, Plugins, installed

    plugins = Plugins()
    for point in installed():
        if point.dist is not None and point.dist.name == OURS:
            plugins.add_entry_point(point)
    return plugins.registry


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A folder to install strangers' distributions in; loaded at the next look-up, forgotten at the end."""
    from strangers import Site

    from autoreg.plugins import load_plugins

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = Site(tmp_path / "site", monkeypatch)
    load_plugins.cache_clear()
    yield found
    load_plugins.cache_clear()
