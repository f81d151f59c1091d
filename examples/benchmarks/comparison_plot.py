"""The picture of `accuracy.py`: ratios to the oracle by table, mean ranks, and error against seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from comparison import WORSE, Comparison, geometric_mean, without_limit

OURS = ("#d1495b", "#e08a1e", "#7d4fa8", "#00798c")
THEIRS = "#8a8f98"
MARKERS = "osD^vP*X"


def plot(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Draw the comparisons into a file: a row of panels for each time limit, then error against seconds over all."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [comparison for comparison in comparisons if comparison.ours and comparison.peers]
    if not shown:
        raise SystemExit("nothing to draw: no line of ours, or none of the oracle's peers at the same time limit")
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"})
    heights = [1.8 + 0.25 * len(comparison.errors) for comparison in shown]
    figure = plt.figure(figsize=(11, sum(heights) + 4.2), layout="constrained")
    grid = figure.add_gridspec(len(shown) + 1, 2, height_ratios=[*heights, 4.2], width_ratios=[2.4, 1])
    for i, comparison in enumerate(shown):
        _ratios(figure.add_subplot(grid[i, 0]), comparison)
        _ranks(figure.add_subplot(grid[i, 1]), comparison)
    _seconds(figure.add_subplot(grid[len(shown), :]), shown)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _ratios(axes: Any, comparison: Comparison) -> None:
    """A line a table: each system's error over the oracle's; ours are filled."""
    tables = list(comparison.errors.index)
    heights = dict(zip(tables, range(len(tables), 0, -1), strict=True))
    for system, style in _styles(comparison).items():
        ratios = comparison.ratios(system)
        ratios = ratios[np.isfinite(ratios)]
        axes.plot(ratios, [heights[name] for name in ratios.index], linestyle="", label=system, **style)
    axes.axvline(1, color="black", linewidth=0.8, zorder=0)
    axes.axvline(WORSE, color="black", linewidth=0.8, linestyle=":", zorder=0)
    _logarithmic(axes, "x", [*np.arange(0.5, 1.5, 0.1), 1.6, 1.8, 2, 2.5, 3, 4, 5, 7, 10])
    axes.set_yticks(list(heights.values()), tables)
    axes.grid(axis="y", alpha=0.3)
    limit = "no limit" if comparison.limit is None else f"{comparison.limit:g} s"
    axes.set_title(f"{limit}: error over the oracle of peers (dotted: {WORSE:g})", loc="left")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.06), ncols=2, frameon=False)


def _ranks(axes: Any, comparison: Comparison) -> None:
    """Bars: the mean rank of each of ours among the peers, and beside it those of the peers."""
    styles = _styles(comparison)
    bars = []
    for system in comparison.ours:
        means = comparison.ranks(system).mean()
        bars += [(system, means[system], styles[system]["color"])]
    peers = comparison.ranks(comparison.ours[0]).mean()
    bars += [(peer, peers[peer], THEIRS) for peer in comparison.peers]
    bars.sort(key=lambda bar: -bar[1])
    drawn = axes.barh([bar[0] for bar in bars], [bar[1] for bar in bars], color=[bar[2] for bar in bars], height=0.6)
    axes.bar_label(drawn, fmt="%.2f", padding=3)
    axes.set_title(f"mean rank of {len(comparison.peers) + 1}", loc="left")
    axes.margins(x=0.12)


def _seconds(axes: Any, comparisons: Sequence[Comparison]) -> None:
    """Geometric mean over the oracle of the first comparison against mean seconds; a line joins a system's limits."""
    rows = pd.concat([comparison.rows for comparison in comparisons]).drop_duplicates(["label", "set", "seed"])
    systems = dict.fromkeys(system for comparison in comparisons for system in comparison.errors)
    peers = comparisons[0].peers
    whole = Comparison(None, rows, [], peers, [system for system in systems if system not in peers])
    points: dict[str, list[tuple[float, float]]] = {}
    ours: dict[str, None] = {}
    for comparison in comparisons:
        for system in comparison.errors:
            point = comparison.seconds(system), geometric_mean(whole.ratios(system))
            name = without_limit(system)
            if np.isfinite(point).all() and point not in points.setdefault(name, []):
                points[name].append(point)
            if system in comparison.ours:
                ours[name] = None
    for k, (name, own) in enumerate(points.items()):
        color = OURS[list(ours).index(name) % len(OURS)] if name in ours else THEIRS
        x, y = zip(*sorted(own), strict=True)
        axes.plot(x, y, marker=MARKERS[k % len(MARKERS)], color=color, linewidth=1.2)
        # peers below their points, so that both can be read where they are close
        offset = (6, 4) if name in ours else (6, -10)
        axes.annotate(name, (x[-1], y[-1]), xytext=offset, textcoords="offset points", color=color, fontsize=8)
    axes.axhline(1, color="black", linewidth=0.8, zorder=0)
    _logarithmic(axes, "x", [step * 10.0**power for power in range(-1, 5) for step in (1, 2, 5)])
    axes.margins(x=0.15, y=0.1)
    axes.set_xlabel("seconds of a fit, mean over tables and splits")
    at = "" if comparisons[0].limit is None else f" at {comparisons[0].limit:g} s"
    axes.set_title(f"geometric mean of the error over the oracle's{at}, against seconds", loc="left")


def _styles(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """How each system is drawn; peers first, so that ours lie above them."""
    peers = [*comparison.peers, *comparison.others]
    styles: dict[str, dict[str, Any]] = {
        name: {"marker": MARKERS[k % len(MARKERS)], "color": THEIRS, "markerfacecolor": "none", "markersize": 5}
        for k, name in enumerate(peers)
    }
    for k, name in enumerate(comparison.ours):
        styles[name] = {"marker": "o", "color": OURS[k % len(OURS)], "markersize": 7}
    return styles


def _logarithmic(axes: Any, which: str, ticks: Sequence[float]) -> None:
    """A logarithmic axis with these ticks, where they are in view, as people write numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
