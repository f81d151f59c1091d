"""What can be asked of any function of tensors: same bits twice, inputs as they were, gradients, no mixing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from autoreg.stacking import drawing
from autoreg.testing.results import Fault

Function = Callable[..., Tensor]

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.05}
"""How far two results of one computation may lie apart, relative to their size."""


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draws that are the same on every machine and in every precision.

    >>> normal(2, 3).shape
    torch.Size([2, 3])
    """
    with drawing(seed):
        return torch.randn(shape, dtype=torch.float64).to(dtype)


def check_tensor(out: object, shape: Sequence[int], dtype: torch.dtype, given: str) -> Tensor:
    """The output, when it is a tensor of this shape and dtype."""
    if not isinstance(out, Tensor):
        raise Fault(f"a tensor for {given}", f"a {type(out).__name__}")
    if tuple(out.shape) != tuple(shape):
        raise Fault(f"shape {tuple(shape)} for {given}", f"shape {tuple(out.shape)}")
    if out.dtype != dtype:
        raise Fault(f"{dtype} for {given}", f"{out.dtype}")
    return out


def check_finite(out: Tensor, given: str, what: str = "finite numbers") -> None:
    """Raise `Fault` for NaN or infinity."""
    if not torch.isfinite(out).all():
        bad = out[~torch.isfinite(out)][0].item()
        raise Fault(f"{what} for {given}", f"{bad}")


def check_same(found: Tensor, wanted: Tensor, expected: str, came: str, tolerance: float | None = None) -> None:
    """Raise `Fault` where two tensors differ by more than the tolerance of their dtype."""
    limit = TOLERANCE[wanted.dtype] if tolerance is None else tolerance
    worst = difference(found, wanted)
    if not worst <= limit:
        raise Fault(expected, f"{came} (largest relative difference {worst:.2g})")


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the size of what is wanted; NaN at the same places counts as equal.

    >>> difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5])), difference(torch.zeros(0), torch.zeros(0))
    (0.2, 0.0)
    """
    if not wanted.numel():
        return 0.0
    found, wanted = found.detach().double(), wanted.detach().double()
    both = found.isnan() & wanted.isnan()
    size = wanted.abs().nan_to_num(0.0, 0.0, 0.0).max().clamp_min(1e-3)
    return float(((found - wanted).abs() / size).masked_fill(both, 0.0).max())


def check_unchanged(function: Function, inputs: Sequence[Tensor]) -> None:
    """The function leaves its inputs as they are."""
    before = [x.clone() for x in inputs]
    versions = [x._version for x in inputs]
    function(*inputs)
    for place, (x, copy, version) in enumerate(zip(inputs, before, versions, strict=True)):
        if x._version != version or not torch.equal(x.nan_to_num(), copy.nan_to_num()):
            which = "its argument" if len(inputs) == 1 else f"argument {place + 1}"
            raise Fault(f"{which} to stay as it is", "a change in place: compute a new tensor")


def check_repeats(function: Function, inputs: Sequence[Tensor]) -> None:
    """Equal inputs give equal bits, and nothing is drawn from torch's generator."""
    state = torch.get_rng_state()
    first = function(*inputs)
    if not torch.equal(torch.get_rng_state(), state):
        raise Fault("the same numbers for the same input", "draws from torch's random generator")
    second = function(*inputs)
    if not torch.equal(first.nan_to_num(), second.nan_to_num()):
        raise Fault("the same numbers for the same input", f"numbers {difference(second, first):.2g} apart")


def mixes(function: Function, inputs: Sequence[Tensor], axis: int) -> bool:
    """Whether what stands at one place of an axis changes the output at another."""
    before = function(*inputs)
    for factor in (-1.5, 30.0):  # a sum shows any change, a maximum only a large one
        changed = [x.clone() for x in inputs]
        for x in changed:
            x.select(axis, 0).mul_(factor).add_(0.7)
        after = function(*changed)
        if difference(after.movedim(axis, 0)[1:], before.movedim(axis, 0)[1:]) > 1e-6:
            return True
    return False


def check_gradient(function: Function, inputs: Sequence[Tensor], names: Sequence[str], n: int = 12) -> None:
    """The gradients of the sum of the output are those of finite differences, in float64.

    Parameters
    ----------
    function : function
    inputs : sequence of Tensor
        float64; the gradients of each are compared.
    names : sequence of str
        What the inputs are called in a message.
    n : int
        At how many elements of each input.
    """
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    with drawing(1):
        mix = torch.rand_like(out.detach()) + 0.5  # a sum that cannot cancel
    gradients: Sequence[Tensor | None] = [None] * len(leaves)
    if out.requires_grad:
        gradients = torch.autograd.grad((out * mix).sum(), leaves, allow_unused=True)
    for which, (leaf, gradient, name) in enumerate(zip(leaves, gradients, names, strict=True)):
        found = torch.zeros_like(leaf) if gradient is None else gradient
        check_finite(found, f"the gradient by {name}")
        with drawing(2):
            places = torch.randperm(leaf.numel())[:n].tolist()
        for place in places:
            slope = _slope(function, leaves, which, place, mix)
            got = found.flatten()[place].item()
            if abs(got - slope) > 1e-4 * max(1.0, abs(slope)):
                at = leaf.flatten()[place].item()
                raise Fault(
                    f"the gradient {slope:.4g} by {name} at {at:.4g}, as finite differences give it", f"{got:.4g}"
                )


@torch.no_grad()
def _slope(function: Function, inputs: Sequence[Tensor], which: int, place: int, mix: Tensor) -> float:
    moved = [x.detach() for x in inputs]
    sums = []
    step = 1e-6 * max(1.0, abs(moved[which].flatten()[place].item()))
    for sign in (1, -1):
        x = inputs[which].detach().clone()
        x.view(-1)[place] += sign * step
        moved[which] = x
        # detach() of one argument must not be the tensor that autograd watches
        sums.append((function(*moved) * mix).sum().item())
    return (sums[0] - sums[1]) / (2 * step)
