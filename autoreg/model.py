"""A finished model: a schema, and the members whose mean it predicts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autoreg.arithmetic import fast_products
from autoreg.blueprints import OwnCode, describe_part, rebuild, tell_other_versions
from autoreg.errors import OptionError
from autoreg.manifest import check_manifest, damaged
from autoreg.member import Member, Point, has_views
from autoreg.parts import POINTS, Recipe
from autoreg.space import Candidate
from autoreg.stacking import stack_modules
from autoreg.strictjson import quoted
from autoreg.tables import CodedTable, Schema

CHUNK = 512
"""Rows predicted at once; the last chunk is padded, so that a row's prediction does not depend on its company."""


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
        point = POINTS[self.point] if isinstance(self.point, str) else self.point
        return self.stack.original_units(output, point, has_views(output, stacked=True))

    def predict_outputs(self, numbers: Tensor, codes: Tensor, link: Point | None) -> Tensor:
        """Each member's outputs for each target, (F, B, O, R) float64, for a chunk of rows."""
        output = self._output(numbers, codes)
        views = has_views(output, stacked=True)
        output = output.unflatten(-1, (-1, self.outputs_per_target))
        output = output if link is None else link(output)
        output = output.mean(-3) if views else output
        spread, center = (scale[:, None, :, None] for scale in (self.stack.spread, self.stack.center))
        return output.double() * spread + center

    def _output(self, numbers: Tensor, codes: Tensor) -> Tensor:
        many = self.n_members
        return self.stack(numbers.expand(many, *numbers.shape), codes.expand(many, *codes.shape))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stack": None}


class Ensemble(nn.Module):
    """The weighted mean of members, as a plain module over a coded table.

    Parameters
    ----------
    members : sequence of Member
    weights : sequence of float
    links : sequence of function or None
        From each member's output to its prediction.
    """

    def __init__(self, members: Sequence[Member], weights: Sequence[float], links: Sequence[Point | None]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.links = list(links)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64) / sum(weights))

    weights: Tensor

    def forward(self, numbers: Tensor, codes: Tensor | None = None) -> Tensor:
        """Predict (B, O), in the target's units, from (B, Dn) numbers and (B, Dc) codes."""
        if codes is None:
            codes = torch.zeros(len(numbers), 0, dtype=torch.long, device=numbers.device)
        total = torch.zeros((), dtype=torch.float64)
        for member, link, weight in zip(self.members, self.links, self.weights, strict=True):
            assert isinstance(member, Member)
            output = member(numbers, codes)
            total = total + weight * member.original_units(output, link, has_views(output, stacked=False))
        return total.to(numbers.dtype)


@dataclass
class FittedModel:
    """What a fit leaves behind: all that a prediction needs, and what is worth telling about the search.

    Attributes
    ----------
    schema : Schema
    parts : list of Part
    manifest : dict
        Plain JSON values: targets, scoring, leaderboard, seeds, versions.
    """

    schema: Schema
    parts: list[Part]
    manifest: dict[str, Any]

    def predict(self, frame: Any) -> NDArray[np.float64]:
        """Predict a table, (N, O)."""
        return self._mean(self.predict_members(frame))

    def predict_members(self, frame: Any) -> NDArray[np.float64]:
        """Every member's prediction, (F, N, O)."""
        return self._members(self.schema.encode(frame))

    def predict_coded(self, tables: Sequence[CodedTable]) -> list[NDArray[np.float64]]:
        """Predict coded tables in one go, (N, O) each; see `AutoRegressor.predict_coded`."""
        if not tables:
            return []
        numbers, codes = ([getattr(table, name) for table in tables] for name in ("numbers", "codes"))
        together = replace(tables[0], numbers=np.concatenate(numbers), codes=np.concatenate(codes))
        ends = np.cumsum([len(table) for table in numbers])
        return np.split(self._mean(self._members(together)), ends[:-1])

    def _members(self, table: CodedTable) -> NDArray[np.float64]:
        return self._in_chunks(table, Part.predict, (len(self.manifest["targets"]),))

    def predict_outputs(self, frame: Any, link: Point | None = None) -> NDArray[np.float64]:
        """All that the networks give for each target, in its units, (N, O, R): see `AutoRegressor.predict_outputs`."""
        counts = sorted({part.outputs_per_target for part in self.parts})
        if len(counts) > 1:
            raise OptionError(
                f"the ensemble holds networks with {' and '.join(map(str, counts))} outputs a target, which have no "
                f"common mean: fit with one loss (losses=[...], --loss)"
            )
        # one row of what the link makes of the outputs says how many numbers it leaves
        blank = torch.zeros(1, len(self.manifest["targets"]), counts[0])
        shape = tuple((blank if link is None else link(blank)).shape[1:])
        table = self.schema.encode(frame)
        return self._mean(self._in_chunks(table, lambda part, *rows: part.predict_outputs(*rows, link), shape))

    def _mean(self, members: NDArray[np.float64]) -> NDArray[np.float64]:
        """The members' weighted mean, (F, ...) to (...)."""
        weights = np.concatenate([np.full(part.n_members, part.weight / part.n_members) for part in self.parts])
        # summed one by one: a matrix product would add up a row in an order that depends on how many rows there are
        total = np.zeros(members.shape[1:])
        for weight, member in zip(weights / weights.sum(), members, strict=True):
            total += weight * member
        return total

    # whoever trains meanwhile in another thread would change the products' last bits
    @fast_products()
    @torch.inference_mode()
    def _in_chunks(
        self, table: CodedTable, ask: Callable[[Part, Tensor, Tensor], Tensor], shape: tuple[int, ...]
    ) -> NDArray[np.float64]:
        """What all parts answer to a coded table, (F, N, *shape), from chunks of one size."""
        numbers, codes = torch.from_numpy(table.numbers), torch.from_numpy(table.codes.astype(np.int64))
        n = len(numbers)
        chunks = []
        for start in range(0, n, CHUNK):
            part_numbers, part_codes = _padded(numbers, start), _padded(codes, start)
            chunks.append(torch.cat([ask(part, part_numbers, part_codes) for part in self.parts]))
        members = sum(part.n_members for part in self.parts)
        if not chunks:
            return np.zeros((members, 0, *shape))
        return torch.cat(chunks, dim=1)[:, :n].numpy()

    def to_torch(self) -> nn.Module:
        """The model as a plain module; see `NeuralRegressor.to_torch`."""
        members = [(part.member(m), part) for part in self.parts for m in range(part.n_members)]
        module, part = members[0]
        bare = part.candidate["encoding"] is None and part.candidate["target_scaling"] is None and part.point is None
        if len(members) == 1 and bare:
            return module.network
        weights = [part.weight / part.n_members for _, part in members]
        links = [POINTS[part.point] if isinstance(part.point, str) else part.point for _, part in members]
        return Ensemble([member for member, _ in members], weights, links).eval()

    def tensors(self) -> dict[str, Tensor]:
        """All numbers of the model by name."""
        return {f"{i}.{name}": tensor for i, part in enumerate(self.parts) for name, tensor in part.states.items()}

    def to_manifest(self) -> dict[str, Any]:
        """The manifest that goes into the file with `tensors`."""
        return {
            **self.manifest,
            "schema": self.schema.to_json(),
            "layout": self.schema.layout.to_json(),
            "members": [describe_part(part) for part in self.parts],
        }

    @classmethod
    def from_file(
        cls, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], network: Any = None, activation: Any = None
    ) -> FittedModel:
        """Rebuild a model from what `persistence.read_model` returns, and trust nothing.

        Parameters
        ----------
        manifest, tensors : mapping
        network : nn.Module class, instance or factory, or a list of them, optional
            The user's own network, where the file holds only its numbers and a label. Of a list each part takes the
            one that fits.
        activation : nn.Module class, instance or function, or a list of them, optional
            The user's own activation, likewise.

        Raises
        ------
        ModelFileError
            When the manifest is damaged, a part is missing or a tensor does not fit it.
        """
        check_manifest(manifest)
        tell_other_versions(manifest["members"])
        schema = Schema.from_json(manifest.get("schema"))  # type: ignore[arg-type]
        if manifest.get("layout") != schema.layout.to_json():
            raise damaged("its layout is not that of its schema")
        own, described = OwnCode.of(network, activation), manifest["members"]
        held: list[dict[str, Tensor]] = [{} for _ in described]
        for name, tensor in tensors.items():
            place, _, own_name = name.partition(".")
            if not place.isdecimal() or int(place) >= len(held):
                raise damaged(f"no member has a tensor {quoted(name)}")
            held[int(place)][own_name] = tensor
        parts = []
        for member, states in zip(described, held, strict=True):
            rebuilt = rebuild(member, schema.layout, len(manifest["targets"]), states, own)
            parts.append(
                Part(
                    rebuilt.candidate, rebuilt.template, states, rebuilt.point, member["outputs_per_target"],
                    float(member["weight"]),
                )
            )  # fmt: skip
        rest = {key: value for key, value in manifest.items() if key not in ("schema", "layout", "members")}
        return cls(schema, parts, rest)


def _padded(table: Tensor, start: int) -> Tensor:
    rows = table[start : start + CHUNK]
    missing = CHUNK - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, -1)]) if missing else rows
