"""A finished model: a schema, and the members whose mean it predicts."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autoreg.describe import build_module, describe_module
from autoreg.encoding import FoldStatistics, TableLayout
from autoreg.errors import ModelFileError, UnknownNameError
from autoreg.member import Member, Point, has_views
from autoreg.parts import POINTS, Recipe, resolve
from autoreg.plugins import registry
from autoreg.registry import Owner
from autoreg.space import Candidate, short
from autoreg.stacking import stack_modules
from autoreg.tables import Schema

CHUNK = 512
"""Rows predicted at once; the last chunk is padded, so that a row's prediction does not depend on its company."""

KEPT = ("encoding", "network", "activation")
"""The parts of a candidate that a saved model needs to compute a prediction."""


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
        stack = self.stack
        many = self.n_members
        output = stack(numbers.expand(many, *numbers.shape), codes.expand(many, *codes.shape))
        point = POINTS[self.point] if isinstance(self.point, str) else self.point
        return stack.original_units(output, point, has_views(output, stacked=True))

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
        members = self.predict_members(frame)
        weights = np.concatenate([np.full(part.n_members, part.weight / part.n_members) for part in self.parts])
        return np.tensordot(weights / weights.sum(), members, axes=1)

    @torch.inference_mode()
    def predict_members(self, frame: Any) -> NDArray[np.float64]:
        """Every member's prediction, (F, N, O)."""
        table = self.schema.encode(frame)
        numbers, codes = torch.from_numpy(table.numbers), torch.from_numpy(table.codes.astype(np.int64))
        n = len(numbers)
        chunks = []
        for start in range(0, n, CHUNK):
            part_numbers, part_codes = _padded(numbers, start), _padded(codes, start)
            chunks.append(torch.cat([part.predict(part_numbers, part_codes) for part in self.parts]))
        n_targets = len(self.manifest["targets"])
        members = sum(part.n_members for part in self.parts)
        if not chunks:
            return np.zeros((members, 0, n_targets))
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
            "members": [_describe(part) for part in self.parts],
        }

    @classmethod
    def from_file(cls, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], network: Any = None) -> FittedModel:
        """Rebuild a model from what `persistence.read_model` returns.

        Parameters
        ----------
        manifest, tensors : mapping
        network : nn.Module class, instance or factory, optional
            The user's own network, where the file holds only its numbers and a label.

        Raises
        ------
        ModelFileError
            When a part is missing or a tensor does not fit it.
        """
        try:
            schema = Schema.from_json(manifest["schema"])
            layout = TableLayout.from_json(manifest["layout"])
            n_targets = len(manifest["targets"])
            parts = []
            for i, described in enumerate(manifest["members"]):
                own = {name[len(f"{i}.") :]: t for name, t in tensors.items() if name.startswith(f"{i}.")}
                parts.append(_rebuild(described, layout, n_targets, own, network))
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ModelFileError(f"the model's manifest is damaged: {type(error).__name__} {error}") from error
        rest = {key: value for key, value in manifest.items() if key not in ("schema", "layout", "members")}
        return cls(schema, parts, rest)


def _padded(table: Tensor, start: int) -> Tensor:
    rows = table[start : start + CHUNK]
    missing = CHUNK - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, -1)]) if missing else rows


def _describe(part: Part) -> dict[str, Any]:
    """A part of the model as JSON: names with their owners, options, shapes."""
    candidate = part.candidate
    parameters, owners = {}, {}
    for name, value in candidate.parameters.items():
        parameters[name] = as_json(value)
    for kind in (*KEPT, "loss", "optimizer"):
        value = candidate[kind]
        if isinstance(value, str):
            owner = registry().get(kind, value).owner
            owners[kind] = {"name": value, "plugin": owner.plugin, "distribution": owner.distribution,
                            "version": owner.version}  # fmt: skip
        parameters.setdefault(kind, as_json(value))
    if not isinstance(candidate["network"], str):
        described = describe_module(part.template.network)
        parameters["network"] = {"module": described} if described else {"label": short(candidate["network"])}
    if not isinstance(candidate["activation"], str) and candidate["activation"] is not None:
        parameters["activation"] = _described_activation(candidate["activation"])
    return {
        "label": candidate.label,
        "parameters": parameters,
        "owners": owners,
        "weight": part.weight,
        "n_members": part.n_members,
        "outputs_per_target": part.outputs_per_target,
        "point": part.point if isinstance(part.point, (str, type(None))) else {"loss": as_json(candidate["loss"])},
    }


def _described_activation(value: Any) -> dict[str, Any]:
    module = value() if inspect.isclass(value) and issubclass(value, nn.Module) else value
    described = describe_module(module) if isinstance(module, nn.Module) else None
    return {"module": described} if described else {"label": short(value)}


def as_json(value: Any) -> Any:
    """A plain value as it is; anything else by its label."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    return {"label": short(value)}


def _rebuild(
    described: Mapping[str, Any],
    layout: TableLayout,
    n_targets: int,
    tensors: Mapping[str, Tensor],
    network: Any,
) -> Part:
    parameters = dict(described["parameters"])
    _check_owners(described["owners"])
    for kind in KEPT:
        parameters[kind] = _part_from_json(kind, parameters[kind], network)
    if not isinstance(parameters["network"], str) and "module" in (described["parameters"]["network"] or {}):
        parameters = {name: value for name, value in parameters.items() if not name.startswith("network__")}
    point = described["point"]
    kept = {n: v for n, v in parameters.items() if n.split("__")[0] in KEPT}
    if isinstance(point, dict):
        point = registry().get("loss", point["loss"]).facts["point"]
    elif point is not None and point not in POINTS:
        raise ModelFileError(f"the model names an unknown link '{point}'; known: {', '.join(POINTS)}")
    if any(isinstance(v, int) and v > sum(t.numel() for t in tensors.values()) for v in kept.values()):
        raise ModelFileError(f"the model's options {kept} are larger than its tensors")
    per_target = int(described["outputs_per_target"])
    recipe = replace(resolve(Candidate(kept)), outputs_per_target=per_target)
    scale = torch.zeros(n_targets, dtype=torch.float64), torch.ones(n_targets, dtype=torch.float64)
    with torch.device("meta"):
        # shapes first, without memory: a hostile file may ask for a huge network
        outline = recipe.make_member(FoldStatistics.blank(layout), *scale, 0)
    _check_shapes(outline, tensors, int(described["n_members"]))
    template = recipe.make_member(FoldStatistics.blank(layout), *scale, 0)
    candidate = Candidate({**kept, **_readable(parameters)})
    return Part(candidate, template, dict(tensors), point, per_target, float(described["weight"]))


def _readable(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that a loaded model tells about but does not need."""
    return {n: v for n, v in parameters.items() if n.split("__")[0] not in KEPT}


def _part_from_json(kind: str, value: Any, network: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if "module" in value:
        # a template: its numbers are about to be replaced
        return build_module(value["module"])
    if kind == "network" and network is not None:
        return network
    raise ModelFileError(
        f"the model holds the numbers of {kind} '{value.get('label')}' but not its code: "
        f"load it with load(path, network=...)" if kind == "network" else
        f"the model holds the name of {kind} '{value.get('label')}' but not its code: register it in a plugin"
    )  # fmt: skip


def _check_owners(owners: Mapping[str, Mapping[str, str]]) -> None:
    """Say what to install when a part's plugin is not here. Losses and optimizers are not needed."""
    for kind in KEPT:
        if kind not in owners:
            continue
        wanted = owners[kind]
        owner = Owner(wanted["plugin"], wanted["distribution"], wanted["version"])
        try:
            registry().get(kind, wanted["name"])
        except UnknownNameError as error:
            install = f": pip install {owner.distribution}" if owner.distribution else ""
            raise ModelFileError(
                f"{kind} '{wanted['name']}' came from {owner}, which is not installed{install}"
            ) from error


def _check_shapes(outline: Member, tensors: Mapping[str, Tensor], n_members: int) -> None:
    expected = {name: (n_members, *tensor.shape) for name, tensor in outline.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted({*expected, *found}):
        if found.get(name) != expected.get(name):
            raise ModelFileError(
                f"the model's tensor '{name}' has shape {found.get(name)}, its network needs {expected.get(name)}"
            )
