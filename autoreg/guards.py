"""A short look at the parts of plugins before they are trained, and at what came of it.

It finds what would spoil other members, or the saved model, without a word: a part that mixes members or rows, that
changes its arguments, keeps numbers where nobody finds them. `autoreg.testing` looks longer. Parts of our own are
tested elsewhere, and not looked at.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoreg.encoding import FoldStatistics
from autoreg.errors import AutoregError, ContractError, OptionError, PluginError, PluginLoadWarning, one_line
from autoreg.gradients import Role, Tensors
from autoreg.installed import OURS
from autoreg.limits import check_candidate
from autoreg.member import has_views
from autoreg.parts import Recipe
from autoreg.plugins import registry
from autoreg.problem import Problem
from autoreg.registry import Entry
from autoreg.results import CandidateResult
from autoreg.space import PARTS, Candidate, Space, check_parameter
from autoreg.specs import MemberSpec
from autoreg.stacking import drawing, stack_modules

MEMBERS, ROWS = 2, 3


def strangers(candidate: Candidate) -> list[Entry]:
    """The candidate's parts that are not our own.

    >>> strangers(Candidate({"activation": "relu"}))
    []
    """
    found = []
    for kind in PARTS:
        if isinstance(candidate[kind], str):
            try:
                entry = registry().get(kind, candidate[kind])
            except PluginError:  # said where the name is looked up
                continue
            if entry.owner.distribution != OURS:
                found.append(entry)
    return found


def blame(entries: Sequence[Entry]) -> str:
    """Whose parts were used, to stand behind the reason of a failure.

    >>> from autoreg.registry import Owner
    >>> blame([Entry("loss", "pinball", len, Owner("quantile", "autoreg-quantile", "0.1"))])
    " (loss 'pinball' is from autoreg-quantile 0.1)"
    """
    named = [f"{e.kind} '{e.name}' is from {e.owner}" for e in entries if e.owner.distribution != OURS]
    return f" ({', '.join(named)})" if named else ""


def look_at(recipe: Recipe) -> None:
    """Try the activation, the loss and the optimizer of plugins on a few numbers.

    Raises
    ------
    ContractError
        When one would spoil others in silence. What a part itself raises comes through.
    """
    for entry in strangers(recipe.candidate):
        label = f"{entry.kind} '{entry.name}'"
        if entry.kind == "activation":
            _look_at_activation(recipe, label)
        elif entry.kind == "loss":
            _look_at_loss(recipe, label)
        elif entry.kind == "optimizer":
            _look_at_optimizer(recipe, label)


class Asked:
    """A strategy whose answers are looked at.

    Parameters
    ----------
    propose : function
    name : str
    entry : Entry or None
        None for a function of the user's own.
    """

    def __init__(self, propose: Callable[..., Any], name: str, entry: Entry | None) -> None:
        self.propose, self.ours = propose, entry is not None and entry.owner.distribution == OURS
        self.label = f"strategy '{name}'" + ("" if self.ours or entry is None else f" of {entry.owner}")
        self.shown: list[CandidateResult] = []

    def __call__(self, space: Space, results: Sequence[CandidateResult], n: int | None, seed: int) -> list[Candidate]:
        """What it proposes, at most `n` in all; nothing once it proposes nothing new.

        Raises
        ------
        PluginError
            When it raises what is none of our errors, or answers something else than candidates.
        OptionError
            When it proposes what cannot be trained.
        """
        # it may change what it is shown
        self.shown += [_copy_of(result) for result in results[len(self.shown) :]]
        try:
            found = self.propose(space, tuple(self.shown), n, seed)
        except AutoregError:  # such as a space that it does not take
            raise
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything
            raise PluginError(f"{self.label} failed: {one_line(error)}") from error
        self._check(found)
        found = list(found) if n is None else list(found[: max(0, n - len(results))])
        if n is None and found and {result.candidate for result in results}.issuperset(found):
            text = f"{self.label} proposes the same candidates again: the search ends without asking for more"
            warnings.warn(text, PluginLoadWarning, stacklevel=3)
            return []
        return found

    def _check(self, found: Any) -> None:
        others = [x for x in found if not isinstance(x, Candidate)] if isinstance(found, (list, tuple)) else [found]
        if others:
            kind = type(others[0]).__name__
            raise ContractError(f"{self.label} must propose a list of autoreg.space.Candidate, and proposes a {kind}")
        for candidate in () if self.ours else found:
            try:
                for name in candidate.parameters:
                    check_parameter(name)
                check_candidate(candidate)
            except OptionError as error:
                raise OptionError(f"{self.label} proposes what cannot be trained: {error}") from error


def _copy_of(result: CandidateResult) -> CandidateResult:
    assert result.candidate is not None
    return replace(result, candidate=Candidate(dict(result.candidate.parameters)), facts=dict(result.facts))


def _numbers(*shape: int, seed: int = 0) -> Tensor:
    with drawing(seed):
        return torch.randn(shape)


def check_finite(states: Sequence[Tensors], predictions: Sequence[NDArray[np.float64]] = ()) -> None:
    """Predictions are finite, and trained numbers, where they need not be and no file would hold them.

    Raises
    ------
    ContractError
    """
    for state in states:
        for name, tensor in state.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise ContractError(f"'{name}' is not finite after training, though the predictions are")
    if not all(np.isfinite(prediction).all() for prediction in predictions):
        raise ContractError("it predicts NaN or infinite values")


def _look_at_activation(recipe: Recipe, label: str) -> None:
    with drawing(0), torch.no_grad():
        stack = stack_modules([recipe.make_activation() for _ in range(MEMBERS)]).eval()
        x = _numbers(MEMBERS, ROWS, 4)
        before = x.clone()
        out = stack(x)
        _check_tensor(out, tuple(x.shape), torch.float32, label)
        if not torch.equal(x, before):
            raise ContractError(f"{label} changes its argument in place: it must give a new tensor")
        if not torch.equal(out, stack(x)):
            raise ContractError(f"{label} gives other numbers for the same input")
        _check_mixing(lambda given: stack(given), x, label)


def _look_at_loss(recipe: Recipe, label: str) -> None:
    outputs, point, loss = recipe.outputs_per_target, recipe.loss.point, recipe.loss.function
    if outputs > 1 and point is None:
        raise ContractError(f"{label} reads {outputs} outputs a target: it needs a point, which predicts from them")
    prediction, target = _numbers(MEMBERS, ROWS, outputs), _numbers(MEMBERS, ROWS, 1, seed=1).exp()
    with torch.no_grad():
        out = loss(prediction, target)
        shape = (MEMBERS, ROWS)
        if not isinstance(out, Tensor) or tuple(out.shape) != shape:
            found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ContractError(
                f"{label} gives {found} for {MEMBERS} members of {ROWS} rows: one value per row is asked"
            )
        _check_mixing(lambda given: loss(given, target), prediction, label)
        if point is not None:
            _check_tensor(point(prediction), (*shape, 1), torch.float32, f"the point of {label}")


def _check_tensor(out: object, shape: tuple[int, ...], dtype: torch.dtype, label: str) -> None:
    if not isinstance(out, Tensor) or tuple(out.shape) != shape or out.dtype != dtype:
        found = f"{out.dtype} of shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
        raise ContractError(f"{label} gives {found}, it must be {dtype} of shape {shape}")


def _check_mixing(function: Callable[[Tensor], Tensor], x: Tensor, label: str) -> None:
    whole = function(x)
    for axis, what in ((0, "member"), (1, "row")):
        for factor in (-2.0, 30.0):  # a sum shows any change, a maximum only a large one
            changed = x.clone()
            changed.select(axis, 0).mul_(factor).add_(0.5)
            rest = function(changed).movedim(axis, 0)[1:]
            if not torch.allclose(rest, whole.movedim(axis, 0)[1:], equal_nan=True):
                raise ContractError(f"{label} mixes {what}s: what it gives for one depends on another {what}")


def _look_at_optimizer(recipe: Recipe, label: str) -> None:
    make = recipe.optimizer.make
    params = {"weight": _numbers(MEMBERS, 3, 2), "bias": _numbers(MEMBERS, 3, seed=1)}
    roles = {"weight": Role("matrix"), "bias": Role("bias", decay=0.0)}
    if make(**recipe.optimizer.options).elementwise:
        params, roles = {"flat": torch.cat([p.flatten(1) for p in params.values()], 1)}, {"flat": Role("mixed")}

    def run(members: slice, steps: int, state: Any = None, start: Tensors | None = None) -> tuple[Tensors, Any]:
        transform = make(**recipe.optimizer.options)
        now = {name: p[members].clone() for name, p in params.items()} if start is None else start
        state = transform.init(now) if state is None else state
        rate = torch.full((len(next(iter(now.values()))),), 0.01)
        for _ in range(steps):
            gradients = {name: 0.3 * p + 0.1 for name, p in now.items()}
            before = {name: p.clone() for name, p in now.items()}
            changes, state = transform.update(gradients, state, now, rate, roles)
            for name, p in now.items():
                if not torch.equal(p, before[name]):
                    raise ContractError(f"{label} changes parameters in place: it must give changes to add to them")
            now = {name: p + changes[name] for name, p in now.items()}
        return now, state

    with torch.no_grad():
        half, state = run(slice(None), 2)
        for leaf in _leaves(state):
            if not isinstance(leaf, Tensor) or not leaf.ndim or len(leaf) != MEMBERS:
                raise ContractError(f"{label} keeps {leaf!r:.40} in its state: tensors of first axis M are asked")
        _check_same(run(slice(0, 1), 2)[0], half, 1, f"{label} moves a member otherwise than when it is alone")
        whole = run(slice(None), 3)[0]
        # the engine makes it anew when members leave, and goes on with their part of the state
        rest = run(slice(None), 1, state, half)[0]
        _check_same(rest, whole, MEMBERS, f"{label} keeps something outside of the state")


def _check_same(found: Tensors, wanted: Tensors, members: int, message: str) -> None:
    if not all(torch.allclose(found[name], wanted[name][:members], rtol=1e-4, atol=1e-6) for name in wanted):
        raise ContractError(message)


def _leaves(state: Any) -> Iterator[Any]:
    if isinstance(state, dict):
        state = list(state.values())
    if isinstance(state, (list, tuple)):
        for inner in state:
            yield from _leaves(inner)
    elif state is not None:
        yield state


@torch.no_grad()
def check_rebuilt(
    recipe: Recipe,
    member: MemberSpec,
    state: Tensors,
    predictions: Sequence[NDArray[np.float64]],
    problem: Problem,
) -> None:
    """A member with parts of plugins predicts the same when it is made anew, as from a file, and for fewer rows.

    Parameters
    ----------
    recipe : Recipe
    member : MemberSpec
        A candidate's first.
    state : dict of Tensor
        Its trained numbers.
    predictions : sequence of array, (V, O)
        Of each member's validation rows; empty without.
    problem : Problem

    Raises
    ------
    ContractError
        When it does not. What its parts raise when they are made anew comes through.
    """
    if not strangers(recipe.candidate):
        return
    copy.deepcopy(member.module)  # as the model will hold it
    blank = FoldStatistics.blank(problem.layout)
    module = recipe.make_member(blank, state["center"], state["spread"], seed=1).to(problem.dtype)
    module.load_state_dict({name: state[name] for name in module.state_dict()})
    module.center, module.spread = state["center"], state["spread"]
    if not predictions:
        return
    rows = member.valid[:5]
    numbers, codes = torch.from_numpy(problem.numbers[rows]), torch.from_numpy(problem.codes[rows].astype(np.int64))
    output = module.eval()(numbers.to(problem.dtype), codes)
    found = module.original_units(output, recipe.loss.point, has_views(output, stacked=False)).numpy()
    size = float(np.abs(predictions[0]).max())
    if not np.allclose(found, predictions[0][: len(rows)], rtol=1e-3, atol=1e-3 * size):
        raise ContractError(
            "it would predict otherwise once it is saved and loaded, or for fewer rows: its numbers must be parameters "
            "or buffers, and a row's prediction its own"
        )
