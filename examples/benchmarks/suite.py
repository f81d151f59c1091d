"""A folder of tables, and how each is split: what every system of `accuracy.py` has in common.

The peers' environments import this too, so it needs numpy, pandas and pyarrow only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Table:
    """One parquet file and the column to predict."""

    name: str
    path: str
    target: str

    def split(self, seed: int, cap: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Training and held-out rows.

        The rows are shuffled by `RandomState(seed)`, at most `cap` of them are taken (0: all), and the first fifth is
        held out.
        """
        frame = pd.read_parquet(self.path)
        order = np.random.RandomState(seed).permutation(len(frame))[: cap or None]
        held_out = len(order) // 5
        return tuple(frame.iloc[rows].reset_index(drop=True) for rows in (order[held_out:], order[:held_out]))  # type: ignore[return-value]

    @property
    def n_rows(self) -> int:
        from pyarrow.parquet import read_metadata

        return int(read_metadata(self.path).num_rows)


def read_suite(folder: Path, manifest: Path | None = None, names: Sequence[str] = (), most: int = 0) -> list[Table]:
    """The tables of a folder, in the order of its manifest.

    Parameters
    ----------
    folder : Path
        Holds ``NAME.parquet``.
    manifest : Path, optional
        A JSON list of objects with ``name`` and ``target``; ``manifest.json`` in the folder by default. Entries without
        a file are left out.
    names : sequence of str
        Only these.
    most : int
        Only tables of at most so many rows; 0 for all.
    """
    entries = json.loads((manifest or folder / "manifest.json").read_text(encoding="utf-8"))
    tables = [Table(entry["name"], str(folder / f"{entry['name']}.parquet"), entry["target"]) for entry in entries]
    tables = [table for table in tables if Path(table.path).exists()]
    unknown = set(names) - {table.name for table in tables}
    if unknown:
        raise SystemExit(
            f"no table {', '.join(sorted(unknown))} in {folder}: it has {', '.join(t.name for t in tables)}"
        )
    return [t for t in tables if (not names or t.name in names) and (not most or t.n_rows <= most)]


def spread_error(truth: pd.Series, prediction: np.ndarray) -> float:
    """RMSE over the standard deviation of the held-out target: 1 is as good as its mean."""
    y = truth.to_numpy(float)
    return float(np.sqrt(np.mean((np.asarray(prediction, float).ravel() - y) ** 2)) / y.std())
