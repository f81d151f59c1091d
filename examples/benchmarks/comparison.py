"""What the lines of `accuracy.py` say: our systems beside the oracle of peers. Numbers in, Markdown out.

The *oracle of peers* has on each table the lowest error that any of the peers reached, each one's mean over the splits.
Splits of one table differ more than systems do. So the ratio of two systems is that of their means over the splits that
both have, and the ratio to the oracle is the largest of those to the peers. Where all have all splits, that is the
ratio to the lowest mean.

A system that failed on every split of a table has an infinite error there, and so ranks last; what was not measured
takes no part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from peers import PEERS

ORACLE = ("autogluon:medium_quality", "flaml", "catboost", "lightgbm", "hgb")
WORSE = 1.05
"""A ratio above this is listed: of the error to the oracle's, and of the held-out error to the reported one."""
LATE = 0.10
"""A fit that takes longer than its limit by more than this share is listed."""

Row = Mapping[str, Any]


def read_rows(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The lines of several files; of those about one job the last one counts.

    A peer that takes no time limit is at none, whatever its line says. A file that is not there is empty.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else (), 1):
            try:
                row = json.loads(line)
                timed = row["system"] not in PEERS or PEERS[row["system"]].timed
                row["budget"] = float(row["budget"]) if timed and row["budget"] else None
                rows[row["system"], row["set"], row["seed"], row["budget"], row["n"]] = row
            except (ValueError, KeyError, TypeError) as error:
                raise SystemExit(
                    f"{path}:{number} is no line of a benchmark: {type(error).__name__}: {error}"
                ) from error
    return list(rows.values())


def label(system: str, limit: float | None) -> str:
    """What the tables call a system: ``autoreg --companions include, 60 s``."""
    name = system.replace(":", " ")
    return name if limit is None else f"{name}, {limit:g} s"


def without_limit(label: str) -> str:
    """
    >>> without_limit("flaml, 60 s")
    'flaml'
    """
    return re.sub(r", \S+ s$", "", label)


def geometric_mean(ratios: Iterable[float]) -> float:
    """
    >>> geometric_mean([0.5, 2.0])
    1.0
    """
    values = np.asarray(list(ratios), float)
    return float(np.exp(np.log(values).mean())) if len(values) else float("nan")


def trimmed(ratios: Iterable[float]) -> list[float]:
    """All but the smallest and the largest.

    >>> trimmed([3.0, 1.0, 2.0])
    [2.0]
    """
    return sorted(ratios)[1:-1]


@dataclass(frozen=True)
class Comparison:
    """Our systems at one time limit, the peers that make the oracle, and others that are only shown.

    `rows` has a line a job with `label` and `set`; the three groups hold labels.
    """

    limit: float | None
    rows: pd.DataFrame
    ours: Sequence[str]
    peers: Sequence[str]
    others: Sequence[str]

    @cached_property
    def splits(self) -> pd.DataFrame:
        """The error of each split of each table, a column a system: infinite for a failure, NaN where not measured."""
        rows = self.rows.set_index(["set", "seed", "label"])["nrmse"].fillna(np.inf)
        order = self.rows.groupby("set")["n"].max().sort_values(kind="stable").index
        return rows.unstack()[[*self.ours, *self.peers, *self.others]].reindex(order, level="set")

    @cached_property
    def errors(self) -> pd.DataFrame:
        """The mean over the splits that did not fail, a row a table, small ones first."""
        groups = {"sort": False, "level": "set"}
        mean = self.splits.where(np.isfinite(self.splits)).groupby(**groups).mean()
        return mean.fillna(self.splits.groupby(**groups).min())

    @cached_property
    def oracle(self) -> pd.Series:
        """The lowest error of a peer on each table."""
        return self.errors[list(self.peers)].min(axis=1)

    def pair(self, one: str, other: str) -> pd.DataFrame:
        """Errors of two systems, the means over the splits on which neither failed, as columns `one` and `other`."""
        both = pd.DataFrame({"one": self.splits[one], "other": self.splits[other]}).dropna()
        mean = both[np.isfinite(both).all(axis=1)].groupby("set", sort=False).mean()
        return mean.combine_first(both.groupby("set", sort=False).min()).reindex(self.errors.index)

    def ratios(self, system: str, other: str | None = None) -> pd.Series:
        """A system's errors over another's, or over the oracle's, on the tables that both have.

        Those where the other failed are left out.
        """
        if other is None:
            return self.over_peers(system).max(axis=1).dropna()
        pair = self.pair(system, other)
        return (pair["one"] / pair["other"].where(np.isfinite(pair["other"]))).dropna()

    def over_peers(self, system: str) -> pd.DataFrame:
        """A system's errors over each peer's, a column a peer."""
        return pd.DataFrame({peer: self.ratios(system, peer) for peer in self.peers}, index=self.errors.index)

    def ranks(self, system: str) -> pd.DataFrame:
        """The places of a system and the peers on the tables that all of them have, each compared with the system."""
        places = {system: pd.Series(1.0, self.errors.index)}
        for peer in self.peers:
            own, other = (self.pair(system, peer)[name] for name in ("one", "other"))
            places[peer] = (other / own).mask(np.isinf(own), np.where(np.isinf(other), 1.0, 0.0)).mask(other.isna())
        return pd.DataFrame(places).dropna().rank(axis=1)

    def optimism(self, system: str) -> pd.Series:
        """Held-out over reported error, the geometric mean over the splits of each table."""
        own = self.of(system).dropna(subset=["nrmse", "cv"])
        return (own["nrmse"] / own["cv"]).groupby(own["set"]).agg(geometric_mean)

    def lateness(self, system: str) -> pd.Series:
        """Seconds over the limit less one, of each fit, by table and split."""
        own = self.of(system).dropna(subset=["budget", "nrmse"])
        return (own["seconds"] / own["budget"] - 1).set_axis(own["set"] + " " + own["seed"].astype(str))

    def of(self, system: str) -> pd.DataFrame:
        return self.rows[self.rows["label"] == system]

    def seconds(self, system: str) -> float:
        """The mean over tables and splits."""
        return float(self.of(system).dropna(subset=["nrmse"])["seconds"].mean())

    def text(self) -> str:
        """The report, in Markdown."""
        title = "no limit" if self.limit is None else f"{self.limit:g} seconds"
        parts = [f"## {title}", self._splits(), "### Errors", self._errors()]
        if self.ours and self.peers:
            parts += [
                "### Over the oracle",
                self._ratios(),
                "### In short",
                self._figures(),
                "### Mean rank",
                self._ranks(),
            ]
        parts += ["### Times", self._times()]
        return "\n\n".join(parts)

    def _splits(self) -> str:
        lines = [f"Measured on: {where}." for where in self.rows["where"].dropna().unique()]
        for system in self.errors:
            own = self.of(system)
            seeds = " ".join(map(str, sorted(own["seed"].unique())))
            failed = int(own["nrmse"].isna().sum())
            lines.append(
                f"- {system}: {own['set'].nunique()} tables, splits {seeds}" + f", {failed} failed" * bool(failed)
            )
        return "\n".join(lines)

    def _errors(self) -> str:
        table = self.errors.assign(oracle=self.oracle)
        n = self.rows.groupby("set")["n"].max()
        lines = [[name, f"{n[name]}", *map(_error, row)] for name, *row in table.itertuples(name=None)]
        return markdown(["table", "training rows", *table], lines)

    def _ratios(self) -> str:
        """Each ratio to the oracle, and the peer that is the oracle there."""
        each = {system: self.over_peers(system) for system in self.ours}
        lines = []
        for table in self.errors.index:
            own = {system: over.loc[table].dropna() for system, over in each.items()}
            lines.append(
                [table, *(f"{row.max():.3f} {without_limit(row.idxmax())}" if len(row) else "" for row in own.values())]
            )
        return markdown(["table", *self.ours], lines)

    def _figures(self) -> str:
        figures: dict[str, list[str]] = {}

        def add(name: str, values: Iterable[str]) -> None:
            figures[name] = list(values)

        over = {system: self.ratios(system) for system in self.ours}
        reported = {system: self.optimism(system) for system in self.ours}
        add("tables", (f"{len(ratios)}" for ratios in over.values()))
        add("geometric mean over the oracle", (_ratio(geometric_mean(ratios)) for ratios in over.values()))
        add("without best and worst table", (_ratio(geometric_mean(trimmed(ratios))) for ratios in over.values()))
        plain = ((self.errors[s] / self.oracle)[over[s].index] for s in self.ours)
        add("geometric mean over the lowest mean, whatever its splits", (_ratio(geometric_mean(own)) for own in plain))
        add("more than 5 % worse than the oracle", map(_beyond, over.values()))
        for peer in (*self.peers, *self.others):
            add(f"geometric mean over {peer}", (_ratio(geometric_mean(self.ratios(s, peer))) for s in self.ours))
        add("held-out over reported error", (_ratio(geometric_mean(ratios)) for ratios in reported.values()))
        add("held-out more than 5 % over reported", map(_beyond, reported.values()))
        return markdown(["", *self.ours], [[name, *values] for name, values in figures.items()])

    def _ranks(self) -> str:
        ranks = {system: self.ranks(system) for system in self.ours}
        lines = [["this system", *(f"{own[system].mean():.2f}" for system, own in ranks.items())]]
        lines += [[peer, *(f"{own[peer].mean():.2f}" for own in ranks.values())] for peer in self.peers]
        lines.append(["tables", *(f"{len(own)}" for own in ranks.values())])
        return markdown(["", *self.ours], lines)

    def _times(self) -> str:
        lines = []
        for system in self.errors:
            own, late = self.of(system), self.lateness(system)
            over = [f"{name} {share:+.0%}" for name, share in late.items() if share > LATE]
            replayed = own["replayed"].dropna()
            memory = own["memory"].max()
            lines.append([
                system, f"{self.seconds(system):.1f}", f"{own['seconds'].max():.1f}",
                "" if np.isnan(memory) else f"{memory / 2**30:.2f}",
                f"{late.max():+.1%}" if len(late) else "", ", ".join(over),
                f"{int(replayed.sum())} of {len(replayed)}" if len(replayed) else "",
            ])  # fmt: skip
        header = ["", "mean seconds", "longest", "GB at most", "latest", "more than 10 % late", "replays of equal bits"]
        return markdown(header, lines)


def compare(rows: Sequence[Row], oracle: Sequence[str] = ORACLE, peer_limit: float | None = None) -> list[Comparison]:
    """One comparison for each of our time limits, on the tables that we have there.

    Parameters
    ----------
    rows : sequence of mapping
        As `read_rows` gives them.
    oracle : sequence of str
        The systems that make the oracle.
    peer_limit : float, optional
        The time limit of peers that take one; by default ours, where they were measured at it.
    """
    if not rows:
        return []
    columns = ["system", "set", "seed", "budget", "n", "nrmse", "seconds", "cv", "memory", "replayed", "where"]
    frame = pd.DataFrame(list(rows)).reindex(columns=columns)
    numbers = ["budget", "nrmse", "seconds", "cv", "memory"]
    frame[numbers] = frame[numbers].astype(float)
    # one table cut to several lengths is several tables
    several = frame.groupby("set")["n"].transform("nunique") > 1
    frame["set"] = frame["set"].where(~several, frame["set"] + " (" + frame["n"].astype(str) + ")")
    limits = [None if np.isnan(limit) else float(limit) for limit in frame["budget"]]
    frame["label"] = [label(system, limit) for system, limit in zip(frame["system"], limits, strict=True)]
    ours = frame["system"].str.partition(":")[0] == "autoreg"
    found = []
    for limit in sorted({limits[i] for i in np.flatnonzero(ours if ours.any() else ~ours)}, key=lambda x: x or 0.0):
        at = pd.Series([own == limit for own in limits])
        theirs = pd.Series([own in (None, limit if peer_limit is None else peer_limit) for own in limits])
        own = frame[ours & at]
        peers = frame[~ours & theirs & (frame["set"].isin(own["set"]) | (not len(own)))]
        in_oracle = peers["system"].isin(oracle)
        labels = [list(dict.fromkeys(part["label"])) for part in (own, peers[in_oracle], peers[~in_oracle])]
        found.append(Comparison(limit, pd.concat([own, peers]), *labels))
    return found


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """
    >>> print(markdown(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])


def _error(value: float) -> str:
    return "" if np.isnan(value) else "failed" if np.isinf(value) else f"{value:.4f}"


def _ratio(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"


def _beyond(ratios: pd.Series) -> str:
    """How many ratios are above `WORSE`, and where."""
    names = [f"{name} {ratio:.3f}" for name, ratio in ratios.items() if ratio > WORSE]
    return ": ".join([str(len(names)), *([", ".join(names)] if names else [])])
