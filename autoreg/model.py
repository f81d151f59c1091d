"""A finished model: a schema, and the parts whose mean it predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autoreg import blueprints, companion_blueprints
from autoreg.arithmetic import fast_products
from autoreg.blueprints import OwnCode, tell_other_versions
from autoreg.errors import OptionError
from autoreg.manifest import check_manifest, damaged
from autoreg.member import Point
from autoreg.modelparts import CHUNK, CompanionPart, ModelPart, Part, padded
from autoreg.strictjson import quoted
from autoreg.tables import CodedTable, Schema


class Ensemble(nn.Module):
    """The weighted mean of members, as a plain module over a coded table.

    Parameters
    ----------
    members : sequence of nn.Module
        Each predicts (B, O) in the target's units from a coded table.
    weights : sequence of float
    """

    def __init__(self, members: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64) / sum(weights))

    weights: Tensor

    def forward(self, numbers: Tensor, codes: Tensor | None = None) -> Tensor:
        """Predict (B, O), in the target's units, from (B, Dn) numbers and (B, Dc) codes."""
        if codes is None:
            codes = torch.zeros(len(numbers), 0, dtype=torch.long, device=numbers.device)
        total = torch.zeros((), dtype=torch.float64)
        for member, weight in zip(self.members, self.weights, strict=True):
            total = total + weight * member(numbers, codes)
        return total.to(numbers.dtype)


@dataclass
class FittedModel:
    """What a fit leaves behind: all that a prediction needs, and what is worth telling about the search.

    Attributes
    ----------
    schema : Schema
    parts : list of ModelPart
    manifest : dict
        Plain JSON values: targets, scoring, leaderboard, seeds, versions.
    """

    schema: Schema
    parts: list[ModelPart]
    manifest: dict[str, Any]

    def predict(self, frame: Any) -> NDArray[np.float64]:
        """Predict a table, (N, O)."""
        return self._predict(self.schema.encode(frame))

    def predict_coded(self, tables: Sequence[CodedTable]) -> list[NDArray[np.float64]]:
        """Predict coded tables in one go, (N, O) each; see `AutoRegressor.predict_coded`."""
        if not tables:
            return []
        numbers, codes = ([getattr(table, name) for table in tables] for name in ("numbers", "codes"))
        together = replace(tables[0], numbers=np.concatenate(numbers), codes=np.concatenate(codes))
        ends = np.cumsum([len(table) for table in numbers])
        return np.split(self._predict(together), ends[:-1])

    def _predict(self, table: CodedTable) -> NDArray[np.float64]:
        return self._mean(table, lambda part, *rows: part.predict(*rows), (len(self.manifest["targets"]),))

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
        return self._mean(table, lambda part, *rows: part.predict_outputs(*rows, link), shape)

    # whoever trains meanwhile in another thread would change the products' last bits
    @fast_products()
    @torch.inference_mode()
    def _mean(
        self, table: CodedTable, ask: Callable[[ModelPart, Tensor, Tensor], Tensor], shape: tuple[int, ...]
    ) -> NDArray[np.float64]:
        """The weighted mean of what all members answer to a coded table, (N, *shape), from chunks of one size."""
        numbers, codes = torch.from_numpy(table.numbers), torch.from_numpy(table.codes.astype(np.int64))
        weights = np.concatenate([np.full(part.n_members, part.weight / part.n_members) for part in self.parts])
        weights /= weights.sum()
        total = np.zeros((len(numbers), *shape))
        for start in range(0, len(numbers), CHUNK):
            rows = total[start : start + CHUNK]
            padded_rows = padded(numbers, start), padded(codes, start)
            answers = torch.cat([ask(part, *padded_rows) for part in self.parts])[:, : len(rows)]
            # summed one by one: a matrix product would add up a row in an order that depends on how many rows there are
            for weight, answer in zip(weights, answers.numpy(), strict=True):
                rows += weight * answer
        return total

    def to_torch(self) -> nn.Module:
        """The model as a plain module; see `NeuralRegressor.to_torch`."""
        part = self.parts[0]
        if len(self.parts) == part.n_members == 1 and isinstance(part, Part) and part.is_bare:
            return part.member(0).network
        members = [(module, part) for part in self.parts for module in part.predictors()]
        weights = [part.weight / part.n_members for _, part in members]
        return Ensemble([member for member, _ in members], weights).eval()

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
        n_targets = len(manifest["targets"])
        parts: list[ModelPart] = []
        for member, states in zip(described, held, strict=True):
            if "companion" in member:
                parts.append(companion_blueprints.rebuild(member, schema.layout, n_targets, states))
            else:
                parts.append(blueprints.rebuild(member, schema.layout, n_targets, states, own))
        rest = {key: value for key, value in manifest.items() if key not in ("schema", "layout", "members")}
        return cls(schema, parts, rest)


def _describe(part: ModelPart) -> dict[str, Any]:
    if isinstance(part, CompanionPart):
        return companion_blueprints.describe_part(part)
    assert isinstance(part, Part)
    return blueprints.describe_part(part)
