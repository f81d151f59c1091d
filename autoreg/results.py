"""What a search found, as small frozen values. No tensors here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autoreg.space import Candidate


@dataclass(frozen=True)
class CandidateResult:
    """How one candidate, or one companion, did on the folds.

    Attributes
    ----------
    index : int
        Its place in the order of proposal; companions come after the candidates.
    candidate : Candidate or None
        None for a companion.
    name : str
        What a person reads: the companion's name, or the candidate's short description.
    scores : tuple of float, (K,)
        One score a fold, scikit-learn's sign (greater is better); NaN for a failed candidate.
    rmse : tuple of float, (K,)
        Root mean squared error a fold, in the target's units.
    epoch : int
        The epoch chosen jointly over the folds; 0 for a companion.
    seconds : float
        Its share of the fitting time.
    curve : tuple of float
        Mean validation score after each epoch, scikit-learn's sign; where a strategy has all epochs run, after the last
        alone. Empty for a companion.
    train_curve : tuple of float
        Mean training loss in each epoch; empty for a companion.
    failure : str
        Why it failed; empty when it did not.
    is_ensemble : bool
        Whether this is the weighted mean of several candidates; its scores are cross-fitted.
    ms_per_row : float
        Milliseconds that predicting a row takes, all folds' members together, as measured once on this machine; NaN
        where it was not.
    megabytes : float
        Size of all its numbers; NaN where they are no tensors. Neither figure counts when results are compared.
    facts : mapping
        Further figures, such as an ensemble's weights; ``pruned`` is the epoch after which a rung, or the
        strategy's ``stop``, took the candidate out.
    """

    index: int
    candidate: Candidate | None
    name: str
    scores: tuple[float, ...]
    rmse: tuple[float, ...]
    epoch: int = 0
    seconds: float = 0.0
    curve: tuple[float, ...] = ()
    train_curve: tuple[float, ...] = ()
    failure: str = ""
    is_ensemble: bool = False
    ms_per_row: float = field(default=float("nan"), compare=False)
    megabytes: float = field(default=float("nan"), compare=False)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """Mean score over the folds."""
        return sum(self.scores) / len(self.scores) if self.scores else float("nan")

    @property
    def is_companion(self) -> bool:
        return self.candidate is None and not self.is_ensemble


@dataclass(frozen=True, eq=False)
class SearchPlan:
    """What a search is about to do. Two plans are equal only if they are one.

    Attributes
    ----------
    candidates : tuple of Candidate
        What the strategy proposed first; one that learns from results will propose more.
    features, targets : tuple of str
        Names of the columns in use.
    n_rows, n_folds : int
    scoring : str
        Name of the scikit-learn score.
    strategy, effort, precision : str
    seed : int

    Examples
    --------
    >>> from autoreg.space import Candidate
    >>> candidates = (Candidate({"max_epochs": 20}), Candidate({}))
    >>> plan = SearchPlan(candidates, ("size",), ("price",), 200, 5, "r2", "grid", "balanced", "float32", 0)
    >>> plan.max_epochs
    100
    """

    candidates: tuple[Candidate, ...]
    features: tuple[str, ...]
    targets: tuple[str, ...]
    n_rows: int
    n_folds: int
    scoring: str
    strategy: str
    effort: str
    precision: str
    seed: int

    @property
    def max_epochs(self) -> int:
        """The most epochs that one of `candidates` may take."""
        return max((int(candidate["max_epochs"]) for candidate in self.candidates), default=0)


@dataclass(frozen=True)
class SearchResults:
    """All candidates and companions of a search, best first within `ranked`.

    Attributes
    ----------
    candidates, companions : tuple of CandidateResult
    scoring : str
        Name of the scikit-learn score.
    n_folds : int
    seconds : float
    verdict : str
        Whether the networks beat the companions, in one sentence; empty without companions.
    ensemble : CandidateResult or None
        What the model predicts with, where that is more than the best candidate.
    network_ensemble : CandidateResult or None
        The ensemble of networks alone, where `ensemble` has companions in it.
    plan : SearchPlan or None
        None for the results of a model that was loaded.
    """

    candidates: tuple[CandidateResult, ...]
    companions: tuple[CandidateResult, ...]
    scoring: str
    n_folds: int
    seconds: float
    verdict: str = ""
    ensemble: CandidateResult | None = None
    network_ensemble: CandidateResult | None = None
    plan: SearchPlan | None = field(default=None, repr=False, compare=False)

    @property
    def ranked(self) -> list[CandidateResult]:
        """Candidates, companions and the ensemble by mean score, failures last."""
        ensembles = [row for row in (self.network_ensemble, self.ensemble) if row]
        rows = [*self.candidates, *self.companions, *ensembles]
        return sorted(rows, key=lambda row: (row.score != row.score, -row.score, row.index))

    @property
    def best(self) -> CandidateResult:
        """The best candidate (a network)."""
        return next(row for row in self.ranked if row.candidate is not None)

    @property
    def networks(self) -> CandidateResult:
        """What networks alone reach: their ensemble, or the best candidate."""
        return (self.network_ensemble if self.has_companions else self.ensemble) or self.best

    @property
    def has_companions(self) -> bool:
        """Whether the model predicts with companions too."""
        weights = self.ensemble.facts.get("weights", {}) if self.ensemble else {}
        return bool({str(row.index) for row in self.companions} & {str(index) for index in weights})

    @property
    def chosen(self) -> CandidateResult:
        """What the model predicts with: the ensemble, or the best candidate."""
        return self.ensemble or self.best


@dataclass(frozen=True)
class Progress:
    """Where a search stands, as told to a progress bar."""

    stage: str
    fraction: float
    candidates: int = 0
    candidates_left: int = 0
    best: float = float("nan")
    seconds_left: float = float("nan")


OnProgress = Callable[[Progress], None]
