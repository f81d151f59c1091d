"""Grouping candidates into stacks: their members before training, and which of them train together."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

import torch
from torch import nn

from autoreg.errors import OptionError
from autoreg.guards import look_at
from autoreg.limits import check_candidate
from autoreg.parts import Recipe, resolve
from autoreg.problem import Problem
from autoreg.space import SEED, Candidate, short
from autoreg.specs import MemberSpec, StackSpec
from autoreg.stacking import mix, signature

STACK_BYTES = 1 << 29
"""Activations and parameters that one stack may hold; longer work is split into several stacks."""

GPU_STACK_BYTES = 1 << 32
"""The same on a GPU, which is idle for most of a step of a small stack."""


StopRule = Callable[[Candidate, Sequence[float]], bool]
"""``stop(candidate, curve)``: whether a candidate leaves before its time."""


@dataclass(frozen=True)
class Built:
    """A candidate's members before training."""

    index: int
    recipe: Recipe
    members: list[MemberSpec]

    @property
    def key(self) -> Hashable:
        """Equal for candidates that fit into one stack."""
        candidate = self.recipe.candidate
        return (
            candidate["max_epochs"],
            self.recipe.outputs_per_target,
            # 10 and 10.0 are equal, and mean different things
            repr(candidate["n_iter_no_change"]) if candidate["early_stopping"] else None,
            max(member.batch_size for member in self.members),
            candidate["subsample"],
            signature(self.members[0].module),
        )

    @property
    def bytes(self) -> int:
        module, batch = self.members[0].module, self.members[0].batch_size
        parameters = sum(parameter.numel() for parameter in module.parameters())
        widths = sum(layer.out_features for layer in module.modules() if isinstance(layer, nn.Linear))
        inputs = 3 * batch * int(module.encoding.n_features)  # type: ignore[arg-type]
        return len(self.members) * 4 * (8 * parameters + 8 * batch * widths * module.n_views + inputs)

    @property
    def work(self) -> float:
        """Products of parameters and rows that its training takes, to tell long from short."""
        module = self.members[0].module
        parameters = sum(parameter.numel() for parameter in module.parameters()) * module.n_views
        rows = sum(len(member.train) * member.subsample for member in self.members)
        return float(parameters) * rows * int(self.recipe.candidate["max_epochs"])


def recipe_of(candidate: Candidate, problem: Problem) -> Recipe:
    """A candidate's parts, once its options are known to go with the data.

    Raises
    ------
    OptionError
        When they do not. What a part itself raises comes through.
    """
    check_candidate(candidate)
    if candidate["early_stopping"] and not problem.choose_epoch:
        raise OptionError("early_stopping=True: this strategy runs all epochs; vary max_epochs instead")
    recipe = resolve(candidate)
    _check_range(recipe, problem)
    if recipe.log_target:
        problem.target_scale(0, log=True)
    return recipe


def build(index: int, candidate: Candidate, problem: Problem) -> Built:
    recipe = recipe_of(candidate, problem)
    look_at(recipe)
    start = int(candidate.parameters.get(SEED, problem.seed))
    members = []
    for k, fold in enumerate(problem.folds):
        seed = mix(start, candidate.fingerprint, k) if problem.own_seeds else start
        center, spread = problem.target_scale(k, recipe.log_target)
        if recipe.target_scaling != "standard":
            # a logarithm has to begin near what it is to predict: from a rate of 1 to one of 1e6 is a long way
            mean = center if recipe.target_scaling == "mean" else torch.zeros_like(center)
            center, spread = torch.zeros_like(center), torch.where(mean > 0, mean, 1.0)
        module = recipe.make_member(problem.statistics(k), center, spread, seed)
        members.append(
            MemberSpec(
                module.to(problem.dtype),
                index,
                fold.train,
                fold.valid,
                seed,
                recipe.loss,
                recipe.optimizer,
                float(candidate["learning_rate"]),
                recipe.schedule,
                batch_size(candidate["batch_size"], len(fold.train)),
                _encoding_key(candidate, k, module.encoding),
                float(candidate["subsample"]),
            )
        )
        # .to() rounded the target's scale to the members' precision
        module.center, module.spread = center, spread
    return Built(index, recipe, members)


def _check_range(recipe: Recipe, problem: Problem) -> None:
    least = float(problem.y.min()) if recipe.target_range else 0.0
    if least < 0 or (least == 0 and recipe.target_range == "above 0"):
        name = short(recipe.candidate["loss"])
        raise OptionError(f"loss {name} needs targets {recipe.target_range}, and the least is {least:g}")


def batch_size(value: int | str, n_rows: int) -> int:
    """Rows in a step; ``auto`` grows with the fold, as RealMLP's does (pytabkit).

    >>> batch_size("auto", 5000), batch_size(512, 300)
    (128, 300)
    """
    if value == "auto":
        for rows, size in ((1024, 64), (8192, 128), (30_000, 256), (100_000, 512)):
            if n_rows <= rows:
                return min(size, n_rows)
        return 1024
    return max(1, min(int(value), n_rows))


def _encoding_key(candidate: Candidate, fold: int, module: nn.Module) -> Hashable:
    encoding = candidate["encoding"]
    options = tuple(sorted((name, repr(value)) for name, value in candidate.options("encoding").items()))
    # an encoding may have drawn its buffers under the member's seed
    buffers = sha256(b"".join(buffer.numpy().tobytes() for buffer in module.buffers())).digest()
    return (encoding if isinstance(encoding, str) or encoding is None else id(encoding), options, fold, buffers)


def stacks_of(built: Sequence[Built], share: bool = True, device: str = "cpu") -> list[list[Built]]:
    """Candidates of one program together, in pieces that fit into memory and that two cores share evenly.

    Smaller stacks take longer for each network. So the largest is cut only while one of two cores would otherwise idle
    for much of the time; how many cores there are does not matter, so that the numbers are the same everywhere.
    Without `share` none is cut for that, and none on a GPU, where stacks train one after another.
    """
    room = STACK_BYTES if device == "cpu" else GPU_STACK_BYTES
    share = share and device == "cpu"
    groups: dict[Hashable, list[Built]] = {}
    for item in built:
        groups.setdefault(item.key, []).append(item)
    stacks = []
    for group in groups.values():
        most = max(1, room // max(1, group[0].bytes))
        stacks += _cut(group, -(-len(group) // most))
    while share and stacks and _longest_of_two(stacks) > UNEVEN * sum(map(work_of, stacks)) / 2:
        largest = max(range(len(stacks)), key=lambda place: work_of(stacks[place]))
        if len(stacks[largest]) < 2:
            break
        stacks[largest : largest + 1] = _cut(stacks[largest], 2)
    return stacks


UNEVEN = 1.3
"""From how many times its even share on one core on a plan is cut further."""


def _cut(stack: list[Built], pieces: int) -> list[list[Built]]:
    """A stack in near-equal pieces."""
    bounds = [len(stack) * piece // pieces for piece in range(pieces + 1)]
    return [stack[start:stop] for start, stop in pairwise(bounds)]


def work_of(stack: Sequence[Built]) -> float:
    return sum(item.work for item in stack)


def _longest_of_two(stacks: Sequence[Sequence[Built]]) -> float:
    """The longer part when each stack, the largest first, goes to the one of two cores that is free."""
    cores = [0.0, 0.0]
    for work in sorted(map(work_of, stacks), reverse=True):
        cores[cores.index(min(cores))] += work
    return max(cores)


def spec_of(stack: Sequence[Built], problem: Problem, stop: StopRule | None = None) -> StackSpec:
    candidate = stack[0].recipe.candidate
    candidates = {item.index: item.recipe.candidate for item in stack}
    return StackSpec(
        [member for item in stack for member in item.members],
        int(candidate["max_epochs"]),
        problem.metric.over_members(),
        problem.choose_epoch,
        candidate["n_iter_no_change"] if candidate["early_stopping"] else None,
        problem.dtype,
        problem.half,
        None if stop is None else lambda index, curve: stop(candidates[index], curve),
        problem.rungs,
    )


def lengths_of(stacks: Sequence[Sequence[Built]], problem: Problem) -> list[tuple[int, int, int]]:
    """Each stack's number, its epochs, and how many more it may have."""
    epochs = [int(stack[0].recipe.candidate["max_epochs"]) for stack in stacks]
    return [(stack[0].index, n, max(n, problem.most_epochs)) for stack, n in zip(stacks, epochs, strict=True)]


def by_names(candidate: Candidate) -> bool:
    """Whether a candidate's parts are named, and no objects."""
    return all(
        isinstance(value, (str, numbers.Real, list, tuple, type(None))) for value in candidate.parameters.values()
    )
