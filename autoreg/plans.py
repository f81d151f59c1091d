"""The plan of a search that was run, as a model keeps it: what was proposed, and when stacks ended.

With it the same search can be run again, without its strategy being asked and without a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from autoreg.errors import ModelFileError, OptionError
from autoreg.manifest import as_json, has_label, is_count, is_object, is_texts, is_whole, read_field
from autoreg.pace import AsBefore, Moves
from autoreg.results import CandidateResult
from autoreg.space import Candidate, Space


@dataclass
class RanPlan:
    """What a search did.

    Attributes
    ----------
    rounds : list of list of Candidate
        What the strategy proposed, each time that it was asked.
    companions : list of str
        Those that there was time for.
    precision : str
        ``bfloat16`` or ``float32``.
    moves : Moves
        Where the clock moved the ends of stacks.
    time_limit : float or None
        Seconds.
    skipped : list of int
        Stacks that were not begun, since the search was ended early.
    ended_early : bool
        Whether it was.
    keeps_folds : bool
        Whether the folds' members were kept where what was chosen should have been fitted on all rows.
    seed : int or None
        The search's, which a model keeps beside its plan.

    Examples
    --------
    >>> plan = RanPlan([[Candidate({"learning_rate": 0.1})]], ["mean"], "float32", {0: [(7, 9)]}, 60.0)
    >>> RanPlan.from_json(plan.to_json()) == plan
    True
    >>> [c.parameters for c in plan.propose(Space(({},), {}), [], None, 0)], plan.pace.after(0, 7)
    ([{'learning_rate': 0.1}], 9)
    """

    rounds: list[list[Candidate]] = field(default_factory=list)
    companions: list[str] = field(default_factory=list)
    precision: str = "float32"
    moves: Moves = field(default_factory=dict)
    time_limit: float | None = None
    skipped: list[int] = field(default_factory=list)
    ended_early: bool = False
    keeps_folds: bool = False
    seed: int | None = None

    @property
    def pace(self) -> AsBefore:
        """Stacks end as they did."""
        return AsBefore(self.moves, self.skipped, shares=self.time_limit is None)

    def propose(self, space: Space, results: Sequence[CandidateResult], n: int | None, seed: int) -> list[Candidate]:
        """A strategy: the next of the rounds."""
        begin = 0
        for candidates in self.rounds:
            if begin == len(results):
                return list(candidates)
            begin += len(candidates)
        return []

    def to_json(self) -> dict[str, Any]:
        return {
            "rounds": [[as_json(dict(candidate.parameters)) for candidate in one] for one in self.rounds],
            "companions": list(self.companions),
            "precision": self.precision,
            "moves": [[stack, [list(move) for move in own]] for stack, own in sorted(self.moves.items())],
            "time_limit": self.time_limit,
            "skipped": list(self.skipped),
            "ended_early": self.ended_early,
            "keeps_folds": self.keeps_folds,
        }

    @classmethod
    def from_json(cls, data: Any) -> RanPlan:
        """Read what `to_json` wrote.

        Raises
        ------
        ModelFileError
            When it is not of that form.
        OptionError
            When a candidate held an object of the user's own, which no file has.
        """
        rounds = read_field(data, "rounds", _is_rounds, "lists of candidates")
        if has_label(rounds):
            raise OptionError("the model's search used parts given as objects, which its file does not hold")
        moves = read_field(data, "moves", _is_moves, "pairs of epochs by stack")
        return cls(
            [[Candidate(parameters) for parameters in one] for one in rounds],
            read_field(data, "companions", is_texts, "a list of names"),
            read_field(data, "precision", lambda v: v in ("float32", "bfloat16"), "float32 or bfloat16"),
            {stack: [(epoch, last) for epoch, last in own] for stack, own in moves},
            read_field(data, "time_limit", lambda v: v is None or isinstance(v, (int, float)), "a number of seconds"),
            read_field(data, "skipped", lambda v: isinstance(v, list) and all(map(is_count, v)), "a list of numbers"),
            read_field(data, "ended_early", lambda v: isinstance(v, bool), "true or false"),
            read_field(data, "keeps_folds", lambda v: isinstance(v, bool), "true or false"),
        )


def plan_of(manifest: Mapping[str, Any]) -> RanPlan:
    """The plan that a model's manifest holds.

    Raises
    ------
    ModelFileError
        When it holds none, as that of a single network, or a damaged one.
    """
    if manifest.get("plan") is None:
        raise ModelFileError("the model holds no plan to repeat: it is a single network, or of an older version")
    plan = RanPlan.from_json(manifest["plan"])
    return replace(plan, seed=read_field(manifest, "seed", is_whole, "a whole number"))


def _is_rounds(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, list) and all(is_object(parameters) for parameters in one) for one in value
    )


def _is_moves(value: Any) -> bool:
    def is_pair(move: Any) -> bool:
        return isinstance(move, list) and len(move) == 2 and all(map(is_count, move))

    return isinstance(value, list) and all(
        isinstance(one, list) and len(one) == 2 and is_count(one[0]) and isinstance(one[1], list)
        and all(map(is_pair, one[1]))
        for one in value
    )  # fmt: skip
