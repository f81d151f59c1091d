"""One sentence: do the networks beat the best companion?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoreg.report.labels import shortened
from autoreg.report.units import decimals, is_error, label, number, plain
from autoreg.results import CandidateResult, SearchResults

LEVEL = 0.05
"""Probability of a difference as large by chance, below which one of the two is called better."""


def verdict(results: SearchResults, ratio: float | None = None) -> str:
    """Say whether the networks beat the best companion, from their paired differences on the folds.

    The networks are judged by their ensemble, or the best one where there is none. Where companions are part of the
    model, a second sentence says what it reaches with them.

    Parameters
    ----------
    results : SearchResults
    ratio : float, optional
        Validation rows of a fold over its training rows; that of K folds where not given.

    Returns
    -------
    str
        Empty without a companion to compare with.

    Examples
    --------
    >>> from autoreg.space import Candidate
    >>> net = CandidateResult(0, Candidate({}), "mlp", (-1.0, -1.1, -0.9), (1.0, 1.1, 0.9))
    >>> mean = CandidateResult(1, None, "mean", (-3.0, -3.2, -2.9), (3.0, 3.2, 2.9))
    >>> verdict(SearchResults((net,), (mean,), "neg_root_mean_squared_error", 3, 1.0))
    'The best network is better than the best baseline, mean: rmse 1.000 against 3.033, 67 % lower (3 folds,
    corrected paired t-test, p < 0.001).'
    """
    if not results.companions:
        return ""
    companion = next((row for row in results.ranked if row.is_companion and math.isfinite(row.score)), None)
    network = _network(results)
    if companion is None:
        return "Every baseline failed: there is nothing to compare the networks with."
    if network is None:
        return f"No network could be scored; the best baseline is {companion.name}.{_with_companions(results)}"
    name = "ensemble of networks" if network.is_ensemble else "best network"
    figures = _figures(network, companion, results.scoring)
    other = f"the best baseline, {shortened(companion.name)}"
    if len(network.scores) < 2:
        return f"One split cannot tell whether the {name} beats {other}: {figures}.{_with_companions(results)}"
    differences = [ours - theirs for ours, theirs in zip(network.scores, companion.scores, strict=True)]
    probability = corrected_t_test(differences, ratio)
    test = f"({len(differences)} folds, corrected paired t-test, p {_chance(probability)})"
    if probability >= LEVEL:
        return (
            f"There is no clear difference between the {name} and {other}: {figures} {test}.{_with_companions(results)}"
        )
    word = "better" if sum(differences) > 0 else "worse"
    return f"The {name} is {word} than {other}: {figures} {test}.{_with_companions(results)}"


def _network(results: SearchResults) -> CandidateResult | None:
    """The networks' ensemble where there is one, though another may have a slightly better score; or the best."""
    ensemble = results.network_ensemble if results.has_companions else results.ensemble
    rows = [row for row in results.ranked if row.candidate is not None]
    return next((row for row in [*([ensemble] if ensemble else []), *rows] if math.isfinite(row.score)), None)


def _with_companions(results: SearchResults) -> str:
    if not results.has_companions:
        return ""
    score = plain(results.chosen.score, results.scoring)
    return f" The model is the {results.chosen.name}: {label(results.scoring)} {number(score, decimals([score]))}."


def corrected_t_test(differences: Sequence[float], ratio: float | None = None) -> float:
    """Probability of differences as large between equally good models on K folds, both directions.

    Folds share training rows, so their differences vary less than those on fresh samples would. The variance is
    therefore taken (1/K + ratio) times instead of 1/K times: the resampled t-test as corrected by Nadeau and Bengio
    (Machine Learning 52, 2003), with the ratio of validation to training rows; K folds have 1/(K-1).

    Examples
    --------
    >>> round(corrected_t_test([1.0, 2.0, 3.0]), 3)
    0.16
    """
    from scipy.stats import t

    n = len(differences)
    average = math.fsum(differences) / n
    variance = math.fsum((value - average) ** 2 for value in differences) / (n - 1)
    if variance == 0:
        return 1.0 if average == 0 else 0.0
    statistic = average / math.sqrt(variance * (1 / n + (1 / (n - 1) if ratio is None else ratio)))
    return float(2 * t.sf(abs(statistic), n - 1))


def _figures(network: CandidateResult, companion: CandidateResult, scoring: str) -> str:
    ours, theirs = plain(network.score, scoring), plain(companion.score, scoring)
    places = decimals([ours, theirs])
    text = f"{label(scoring)} {number(ours, places)} against {number(theirs, places)}"
    if not is_error(scoring) or theirs == 0 or not 0 < ours / theirs < 10 or ours == theirs:
        return text
    change = 100 * abs(ours / theirs - 1)
    share = f"{change:.0f}" if change >= 10 else f"{change:.2g}"
    return f"{text}, {share} % {'lower' if ours < theirs else 'higher'}"


def _chance(probability: float) -> str:
    return f"= {probability:.2g}" if probability >= 0.001 else "< 0.001"
