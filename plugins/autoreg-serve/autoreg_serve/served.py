"""A loaded model, and what may be told of it: columns, examples, where it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autoreg import load

TOLD_LEVELS = 5
"""Levels of a category that are told; a list of all may be as long as the table, and hold names."""


@dataclass(frozen=True)
class Served:
    """A model and its file.

    Attributes
    ----------
    estimator : AutoRegressor or NeuralRegressor
    name : str
        Of the file, without its folder.
    sha256 : str
        Of the file.
    """

    estimator: Any
    name: str
    sha256: str

    @classmethod
    def open(cls, path: str) -> Served:
        """Load a model and let it predict once, so that the first request finds it ready.

        Raises
        ------
        AutoregError
            When the file is no model, damaged, or needs a plugin that is not installed.
        """
        estimator = load(path)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        served = cls(estimator, Path(path).name, digest)
        import pandas as pd

        estimator.predict(pd.DataFrame([served.example()]))
        return served

    @property
    def manifest(self) -> Mapping[str, Any]:
        manifest: Mapping[str, Any] = self.estimator.model_.manifest
        return manifest

    @property
    def targets(self) -> list[str]:
        return list(self.manifest["targets"])

    @property
    def columns(self) -> list[Any]:
        """The columns that the model needs."""
        return [column for column in self.estimator.schema_.columns if column.kind != "ignored"]

    @property
    def aside(self) -> list[str]:
        """Names that a table may have beside the schema's."""
        return [*self.targets, *self.manifest.get("not_features", ())]

    @property
    def has_intervals(self) -> bool:
        return callable(getattr(self.estimator, "predict_interval", None))

    def example(self) -> dict[str, Any]:
        """A row as a client might send it, made from ranges and levels; no row of any table."""
        return {column.name: example_of(column) for column in self.columns}

    def card(self) -> dict[str, Any]:
        """What the service tells of the model: no paths, no settings, no rows."""
        manifest = self.estimator.model_.to_manifest()
        total = sum(member["weight"] for member in manifest["members"]) or 1.0
        told = ("targets", "n_rows", "n_folds", "scoring", "seed", "seconds", "verdict", "held_out")
        return {
            "file": self.name,
            "sha256": self.sha256,
            "autoreg_version": manifest["version"],
            **{name: manifest.get(name) for name in told},
            "columns": [_told(column) for column in self.columns],
            "ignored_columns": [column.name for column in self.estimator.schema_.columns if column.kind == "ignored"],
            "members": [
                {"label": member["label"], "share": member["weight"] / total, "n_folds": member["n_members"]}
                for member in manifest["members"]
            ],
            "leaderboard": [
                {name: row[name] for name in ("name", "scores", "seconds") if name in row}
                for row in manifest.get("leaderboard", ())
            ],
        }


def example_of(column: Any) -> Any:
    """A value that a column may hold: the middle of its range, its first level.

    Examples
    --------
    >>> from autoreg.tables import Column
    >>> example_of(Column("size", "number", minimum=30.0, maximum=45.0, dtype="float64"))
    37.5
    >>> example_of(Column("town", "category", levels=("Bonn", "Ulm")))
    'Bonn'
    >>> example_of(Column("day", "date", parts=("day",), minimum=0.0, maximum=172800.0, formats=("%d.%m.%Y",)))
    '02.01.1970'
    """
    if column.kind == "category":
        return column.levels[0] if column.levels else "a"
    if column.kind == "boolean":
        return True
    if column.minimum is None or column.maximum is None:
        return 0
    middle = column.minimum + (column.maximum - column.minimum) / 2
    if column.kind == "date":
        return _date(column, middle)
    if column.dtype.lower().startswith(("int", "uint")):
        return int(middle)
    short = float(f"{middle:.4g}")
    return short if column.minimum <= short <= column.maximum else middle


def _date(column: Any, seconds: float) -> Any:
    form = column.formats[0] if column.formats else "ISO8601"
    if form.startswith("epoch"):
        return int(seconds * {"epoch:s": 1, "epoch:ms": 1e3, "epoch:us": 1e6, "epoch:ns": 1e9}.get(form, 1))
    when = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    if form != "ISO8601":
        return when.strftime(form)
    whole_days = not {"hour", "minute", "second"} & set(column.parts)
    return when.date().isoformat() if whole_days else when.isoformat(timespec="seconds")


def _told(column: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"name": column.name, "kind": column.kind, "example": example_of(column)}
    if column.kind == "number":
        told |= {"minimum": column.minimum, "maximum": column.maximum}
    if column.kind == "category":
        told |= {"n_levels": len(column.levels), "levels": list(column.levels[:TOLD_LEVELS])}
    return told
