"""What a model consists of: parts that predict, each with its share.

A part is a candidate's networks or a companion's modules, one member a fold. Whoever predicts, weighs, saves or counts
them uses what `ModelPart` says and asks for no kind.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from autoreg.errors import OptionError
from autoreg.member import Member, Point, has_views
from autoreg.parts import POINTS, Recipe
from autoreg.registry import Owner
from autoreg.space import Candidate
from autoreg.stacking import stack_modules

CHUNK = 512
"""Rows predicted at once; the last chunk is padded, so that a row's prediction does not depend on its company."""


class ModelPart(Protocol):
    """What a model asks of its parts.

    Attributes
    ----------
    weight : float
        Its share of the prediction.
    outputs_per_target : int
        Numbers that each member gives for a target.
    """

    weight: float
    outputs_per_target: int

    @property
    def n_members(self) -> int: ...

    @property
    def states(self) -> Mapping[str, Tensor]:
        """All its numbers by name."""

    def predict(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Each member's prediction, (F, B, O) float64, for a chunk of (B, Dn) numbers and (B, Dc) codes."""

    def predict_outputs(self, numbers: Tensor, codes: Tensor, link: Point | None) -> Tensor:
        """Each member's outputs for each target, (F, B, O, R) float64, for a chunk of rows."""

    def predictors(self) -> list[nn.Module]:
        """Each member as a plain module ``(numbers, codes) -> (B, O)`` in the target's units."""


@dataclass
class Part:
    """Members of one candidate, one per fold.

    Attributes
    ----------
    candidate : Candidate
    template : Member
        A single member of the right shapes; its numbers do not matter.
    states : dict of Tensor, each (F, ...)
        The members' parameters and buffers, stacked.
    point : str or None or function
        The loss's link from output to prediction; a name of `POINTS` where it has one.
    weight : float
        Its share of the prediction.
    """

    candidate: Candidate
    template: Member
    states: dict[str, Tensor]
    point: str | Point | None = None
    outputs_per_target: int = 1
    weight: float = 1.0
    _stack: Member | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_members(
        cls, recipe: Recipe, template: Member, states: Sequence[Mapping[str, Tensor]], weight: float = 1.0
    ) -> Part:
        """From trained members of one candidate."""
        names = list(template.state_dict())
        stacked = {name: torch.stack([state[name] for state in states]) for name in names}
        point = next((name for name, link in POINTS.items() if link is recipe.loss.point), recipe.loss.point)
        return cls(recipe.candidate, copy.deepcopy(template), stacked, point, recipe.outputs_per_target, weight)

    @property
    def n_members(self) -> int:
        return len(next(iter(self.states.values())))

    @property
    def link(self) -> Point | None:
        """The function from output to prediction."""
        return POINTS[self.point] if isinstance(self.point, str) else self.point

    @property
    def is_bare(self) -> bool:
        """Whether nothing stands around the network."""
        return self.candidate["encoding"] is None and self.candidate["target_scaling"] is None and self.point is None

    def member(self, m: int) -> Member:
        """One member as a plain module of its own."""
        module = copy.deepcopy(self.template)
        module.load_state_dict({name: tensor[m] for name, tensor in self.states.items()})
        # load_state_dict keeps the template's precision
        module.center, module.spread = self.states["center"][m].clone(), self.states["spread"][m].clone()
        for layer in module.modules():
            if "seed" in layer._buffers:
                # torch's own random numbers, for a user who trains on
                layer._buffers["seed"].fill_(-1)  # type: ignore[union-attr]
        return module.eval()

    @property
    def stack(self) -> Member:
        """All members as one module, built when first needed."""
        if self._stack is None:
            stack = stack_modules([self.member(m) for m in range(self.n_members)])
            assert isinstance(stack, Member)
            self._stack = stack.eval()
        return self._stack

    def predict(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Each member's prediction, (F, B, O) float64, for a chunk of (B, Dn) numbers and (B, Dc) codes."""
        output = self._output(numbers, codes)
        return self.stack.original_units(output, self.link, has_views(output, stacked=True))

    def predict_outputs(self, numbers: Tensor, codes: Tensor, link: Point | None) -> Tensor:
        """Each member's outputs for each target, (F, B, O, R) float64, for a chunk of rows."""
        output = self._output(numbers, codes)
        views = has_views(output, stacked=True)
        output = output.unflatten(-1, (-1, self.outputs_per_target))
        output = output if link is None else link(output)
        output = output.mean(-3) if views else output
        side_by_side = output.transpose(-1, -2).flatten(1, 2)
        return self.stack.unscaled(side_by_side).unflatten(1, (output.shape[1], -1)).transpose(-1, -2)

    def predictors(self) -> list[nn.Module]:
        """Each member as a plain module ``(numbers, codes) -> (B, O)`` in the target's units."""
        return [Linked(self.member(m), self.link) for m in range(self.n_members)]

    def _output(self, numbers: Tensor, codes: Tensor) -> Tensor:
        many = self.n_members
        return self.stack(numbers.expand(many, *numbers.shape), codes.expand(many, *codes.shape))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stack": None}


class Linked(nn.Module):
    """A member with the link from its output to the prediction."""

    def __init__(self, member: Member, link: Point | None) -> None:
        super().__init__()
        self.member, self.link = member, link

    @property
    def network(self) -> nn.Module:
        """What stands between the encoding and the target's units."""
        return self.member.network

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Predict (B, O) float64 in the target's units."""
        output = self.member(numbers, codes)
        return self.member.original_units(output, self.link, has_views(output, stacked=False))


@dataclass
class CompanionPart:
    """A companion as modules, one per fold.

    Attributes
    ----------
    name : str
        As it is registered.
    owner : Owner
        Whose it is.
    members : list of TargetModules
    weight : float
        Its share of the prediction.
    """

    name: str
    owner: Owner
    members: list[TargetModules]
    weight: float = 1.0
    outputs_per_target: int = 1

    @property
    def n_members(self) -> int:
        return len(self.members)

    @property
    def states(self) -> dict[str, Tensor]:
        """The modules' parameters and buffers by fold and name."""
        return states_of(self.members)

    def predict(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Each member's prediction, (F, B, O) float64, for a chunk of (B, Dn) numbers and (B, Dc) codes."""
        return torch.stack([member(numbers, codes) for member in self.members])

    def predict_outputs(self, numbers: Tensor, codes: Tensor, link: Point | None) -> Tensor:
        """The prediction as a target's one output, (F, B, O, 1).

        Raises
        ------
        OptionError
            With a link: that is for what networks give.
        """
        if link is not None:
            raise OptionError(
                f"the ensemble holds companion '{self.name}', which has no outputs of a network to link: "
                f"fit with companions='compare'"
            )
        return self.predict(numbers, codes).unsqueeze(-1)

    def predictors(self) -> list[nn.Module]:
        """Each member as a plain module ``(numbers, codes) -> (B, O)`` in the target's units."""
        return [copy.deepcopy(member) for member in self.members]


class TargetModules(nn.ModuleList):
    """A companion's modules of one fold: one for all targets, or one for each."""

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Predict (B, O) float64 from (B, Dn) numbers and (B, Dc) codes."""
        return torch.cat([module(numbers, codes).double() for module in self], dim=1)


def padded(table: Tensor, start: int) -> Tensor:
    """A chunk of a table's rows, filled up with copies of its first."""
    rows = table[start : start + CHUNK]
    missing = CHUNK - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, -1)]) if missing else rows


def states_of(members: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Parameters and buffers by a member's place and their name."""
    return {f"{m}.{name}": tensor for m, member in enumerate(members) for name, tensor in member.state_dict().items()}
