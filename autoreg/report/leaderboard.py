"""The leaderboard: candidates and companions, best first, as a DataFrame and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import pstdev
from typing import TYPE_CHECKING, Any

from autoreg.report.labels import short_names
from autoreg.report.units import decimals, label, number, plain
from autoreg.results import CandidateResult, SearchResults

if TYPE_CHECKING:
    import pandas as pd

LINES = 10
"""Rows that the terminal shows."""


def frame(results: SearchResults) -> pd.DataFrame:
    """The leaderboard as a table.

    Parameters
    ----------
    results : SearchResults

    Returns
    -------
    DataFrame
        One row a model, best first: `rank`, `model`, `kind` (network, ensemble or companion), the mean over the folds
        of the plain figure under its short name, such as `rmse`, its standard deviation under `rmse_std`, `epoch`,
        `seconds`, `ms_per_row` and `megabytes` of predicting with it, NaN where unknown, and, for one that failed, why
        in `failure`. Failed models have no rank.

    Examples
    --------
    >>> row = CandidateResult(0, None, "mean", (-2.0, -4.0), (2.0, 4.0))
    >>> frame(SearchResults((), (row,), "neg_root_mean_squared_error", 2, 1.0))[["model", "rmse", "rmse_std"]]
      model  rmse  rmse_std
    0  mean   3.0       1.0
    """
    import pandas as pd

    table = pd.DataFrame(rows(results))
    table["rank"] = table["rank"].astype("Int64")
    for name in ("model", "kind", "failure"):
        table[name] = table[name].astype("str")
    return table


def rows(results: SearchResults) -> list[dict[str, Any]]:
    """The leaderboard's rows as plain values, best first; the names are those of `frame`."""
    name, ranked = label(results.scoring), results.ranked
    return [
        {
            "rank": _rank(ranked, row),
            "model": row.name,
            "kind": _kind(row),
            name: plain(row.score, results.scoring),
            f"{name}_std": _spread(row),
            "epoch": row.epoch,
            "seconds": row.seconds,
            "ms_per_row": row.ms_per_row,
            "megabytes": row.megabytes,
            "failure": row.failure,
        }
        for row in ranked
    ]


def text(results: SearchResults, lines: int = LINES) -> str:
    """The leaderboard for the terminal: the best rows, every companion, and the failures with their reasons.

    Parameters
    ----------
    results : SearchResults
    lines : int
        Rows to show; companions always take part.

    Examples
    --------
    >>> row = CandidateResult(0, None, "mean", (-2.0, -4.0), (2.0, 4.0))
    >>> print(text(SearchResults((), (row,), "neg_root_mean_squared_error", 2, 1.0)))
    rank  model  kind        rmse    ± std  epoch  seconds  ms/row  MB
       1  mean   companion  3.000    1.000      -      0.0       -   -
    """
    ranked = results.ranked
    usable = [row for row in ranked if not row.failure]
    companions = [row for row in usable if row.is_companion]
    room = max(1, lines - len(companions))
    networks = [row for row in usable if not row.is_companion][:room]
    shown = [row for row in usable if any(row is other for other in [*networks, *companions])]
    scores = [plain(row.score, results.scoring) for row in shown]
    places = decimals(scores)
    common, names = short_names(ranked)
    header = ("rank", "model", "kind", label(results.scoring), "± std", "epoch", "seconds", "ms/row", "MB")
    cells = [
        (
            str(_rank(ranked, row)),
            names[row.index],
            _kind(row),
            number(score, places),
            number(_spread(row), places),
            str(row.epoch) if row.epoch else "-",
            f"{row.seconds:.1f}",
            _short(row.ms_per_row),
            _short(row.megabytes),
        )
        for row, score in zip(shown, scores, strict=True)
    ]
    out = aligned([header, *cells], left={1, 2})
    hidden = len(usable) - len(shown)
    if hidden:
        out.append(f"and {hidden} more network{'s' if hidden > 1 else ''}")
    failed = [row for row in ranked if row.failure]
    for row in failed[:lines]:
        out.append(f"failed: {names[row.index]}: {row.failure}")
    if len(failed) > lines:
        out.append(f"and {len(failed) - lines} more failed")
    if common:
        out.append(f"every network: {common}")
    return "\n".join(out)


def aligned(rows: Sequence[Sequence[str]], left: set[int]) -> list[str]:
    """Lines of a table whose columns have one width; columns in `left` begin at the left, the others end at the right.

    >>> aligned([("a", "n"), ("bcd", "10")], left={0})
    ['a     n', 'bcd  10']
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _short(value: float) -> str:
    """A figure that is measured once, with as many digits as that is worth.

    >>> _short(123.4), _short(0.0123), _short(0.00123), _short(0.0001), _short(math.nan)
    ('123', '0.012', '0.001', '0.00', '-')
    """
    if not math.isfinite(value):
        return "-"
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.2g}" if value >= 0.01 else f"{value:.3f}" if value >= 0.0005 else "0.00"


def _kind(row: CandidateResult) -> str:
    if row.is_ensemble:
        return "ensemble"
    return "companion" if row.is_companion else "network"


def _rank(ranked: Sequence[CandidateResult], row: CandidateResult) -> int | None:
    """1 for the best; equal scores share a rank; none for a failure."""
    if not math.isfinite(row.score):
        return None
    return 1 + sum(other.score > row.score for other in ranked)


def _spread(row: CandidateResult) -> float:
    return pstdev(row.scores) if row.scores and all(map(math.isfinite, row.scores)) else float("nan")
