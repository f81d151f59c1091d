"""What a stack is before training, and what becomes of its candidates."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoreg.member import Member, Point
from autoreg.parameters import Snapshot
from autoreg.schedules import Schedule
from autoreg.updates import OptimizerPart

LossFunction = Callable[[Tensor, Tensor], Tensor]

Score = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LossPart:
    """A loss as the engine takes it: ``function(prediction, target) -> (..., B)``, and what its output predicts."""

    function: LossFunction
    point: Point | None = None
    key: Hashable = None


@dataclass(frozen=True)
class MemberSpec:
    """One member before training.

    Attributes
    ----------
    module : Member
        Initialised under the member's seed.
    candidate : int
        Members of one candidate stop together, and their best epoch is chosen together.
    train, valid : array of int
        The fold's rows; `valid` may be empty.
    encoding_key : hashable
        Equal for members whose encodings without parameters give the same numbers.
    subsample : float
        Share of the training rows that an epoch takes.
    """

    module: Member
    candidate: int
    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    seed: int
    loss: LossPart
    optimizer: OptimizerPart
    learning_rate: float
    schedule: Schedule
    batch_size: int
    encoding_key: Hashable = None
    subsample: float = 1.0


@dataclass(frozen=True)
class StackSpec:
    """A stack before training.

    Attributes
    ----------
    members : sequence of MemberSpec
        All members of a candidate, side by side.
    max_epochs : int
    score : function
        ``score(y, prediction, weight) -> (M,)``, greater is better; y, prediction (M, V, O), weight (M, V) with
        zeros for padding.
    choose_epoch : bool
        Keep the weights of the epoch with the best mean score over a candidate's members, instead of the last.
    patience : int, float or None
        A candidate leaves after this many epochs without a better score; a float is a multiple of the best epoch,
        and at least a fifth of all epochs.
    half : bool
        Matrix products in bfloat16.
    stop : function or None
        ``stop(candidate, curve)``, asked after each epoch but the last: whether the candidate leaves before its time.
        Only with `choose_epoch`.
    rungs : sequence of (float, float)
        Points of progress in (0, 1), each with the share of the stack's candidates that there is room for from there
        on: the best so far. Only with `choose_epoch`.
    """

    members: Sequence[MemberSpec]
    max_epochs: int
    score: Score
    choose_epoch: bool = True
    patience: float | None = None
    dtype: torch.dtype = torch.float32
    half: bool = False
    stop: Callable[[int, Sequence[float]], bool] | None = None
    rungs: Sequence[tuple[float, float]] = ()


@dataclass
class CandidateOutcome:
    """What became of a candidate.

    Attributes
    ----------
    states : list of dict
        Each member's parameters and buffers at the chosen epoch.
    predictions : list of array, each (V, O) float64
        Of each member's validation rows, at the chosen epoch.
    pruned : int
        The epoch after which `stop` or a rung took it out; 0 when none did.
    """

    candidate: int
    epoch: int = 0
    score: float = -np.inf
    states: list[dict[str, Tensor]] = field(default_factory=list)
    predictions: list[NDArray[np.float64]] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    train_curve: list[float] = field(default_factory=list)
    seconds: float = 0.0
    failure: str = ""
    snapshot: Snapshot | None = None
    pruned: int = 0


OnEpoch = Callable[[int, dict[int, CandidateOutcome]], int | None]
