"""Scores and times as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence

LABELS = {
    "neg_root_mean_squared_error": "rmse",
    "neg_mean_squared_error": "mse",
    "neg_mean_absolute_error": "mae",
    "neg_median_absolute_error": "medae",
    "neg_mean_absolute_percentage_error": "mape",
    "neg_mean_squared_log_error": "msle",
    "neg_root_mean_squared_log_error": "rmsle",
}
"""scikit-learn's scorers by the short name of the plain figure."""


NAMES = ("rmse", "mae", "r2")
"""The figures that predictions are measured by, beside the search's own."""


def label(scoring: str) -> str:
    """The plain figure's name.

    >>> label("neg_root_mean_squared_error"), label("neg_max_error"), label("r2")
    ('rmse', 'max_error', 'r2')
    """
    return LABELS.get(scoring, scoring.removeprefix("neg_"))


def is_error(scoring: str) -> bool:
    """Whether less of the plain figure is better."""
    return scoring.startswith("neg_")


def plain(score: float, scoring: str) -> float:
    """A scorer's value as a plain figure: errors are positive.

    >>> plain(-2.5, "neg_root_mean_squared_error"), plain(0.9, "r2")
    (2.5, 0.9)
    """
    return -score if is_error(scoring) else score


def decimals(values: Sequence[float | None], digits: int = 4) -> int:
    """Decimals that show the smallest of the values, zeros left out, with so many digits.

    >>> decimals([412.34, 1200.0]), decimals([0.01234]), decimals([31415.9, float("nan")])
    (1, 5, 0)
    """
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    return min(12, max(0, digits - 1 - math.floor(math.log10(min(sizes))))) if sizes else 0


def number(value: float | None, places: int = 4) -> str:
    """A figure with so many decimals; very large and very small ones with an exponent.

    None is what a file has for NaN.

    >>> number(412.34, 1), number(1.5e12, 0), number(float("nan"))
    ('412.3', '1.5e+12', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.4g}" if abs(value) >= 1e9 or places > 9 else f"{value:.{places}f}"


def duration(seconds: float) -> str:
    """A time to the accuracy that matters.

    >>> duration(0.4), duration(75), duration(900), duration(5000)
    ('1 s', '1 min 15 s', '15 min', '1 h 23 min')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if whole < 3570:
        return f"{round(whole / 60)} min"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
