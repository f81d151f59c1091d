"""Checks of losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

import autoreg.testing.engine as engine
import autoreg.testing.tensors as tensors
from autoreg.testing.options import check_facts, check_options
from autoreg.testing.results import Check, Fault, Look, Report, concluded, look
from autoreg.testing.speed import beside

FACTS: dict[str, Callable[[Any], bool]] = {
    "outputs_per_target": lambda value: isinstance(value, int) and value >= 1,
    "point": lambda value: value is None or callable(value),
    "target_scaling": lambda value: value in ("standard", "mean", None),
    "statistic": lambda value: value in ("mean", None),
    "target_range": lambda value: isinstance(value, str),
    "facts": callable,
}


def check_loss(
    loss: Callable[..., Tensor], *, name: str | None = None, space: Mapping[str, Any] | None = None,
    raises: bool = True, **facts: Any,
) -> list[Check]:  # fmt: skip
    """Check a loss against what `register_losses` asks for.

    Parameters
    ----------
    loss : function
        As it is registered.
    name : str, optional
        For the messages.
    space, **facts
        As they are registered: ``outputs_per_target``, ``point``, ``target_scaling``, ...
    raises : bool
        Raise when a check fails; otherwise the list says it.

    Returns
    -------
    list of Check

    Raises
    ------
    ConformanceError
        An `AssertionError` that lists every failure.

    Examples
    --------
    >>> from autoreg.testing import check_loss
    >>> def averaging(prediction, target):
    ...     return ((prediction - target) ** 2).mean()
    >>> print(*check_loss(averaging, raises=False))
    failed    shape: expected shape (5,) for a prediction (5, 1) and a target (5, 1); came shape ():
    one value a row, no mean over rows; see reference/testing.md#losses
    """
    name = name or getattr(loss, "__name__", "own").strip("<>").lower()
    subject = _Subject(loss, name, {**({"space": space} if space else {}), **facts})
    looks: list[tuple[str, Look]] = [
        ("shape", subject.shape),
        ("unchanged", subject.unchanged),
        ("repeatable", subject.repeatable),
        ("members", subject.members),
        ("rows", subject.rows),
        ("targets", subject.targets),
        ("finite", subject.finite),
        ("gradient", subject.gradient),
        ("point", subject.point),
        ("facts", partial(check_facts, facts, FACTS)),
        ("options", subject.options),
        ("stack", subject.stack),
        ("bfloat16", subject.bfloat16),
        ("saved", subject.saved),
        ("pickled", subject.pickled),
        ("speed", subject.speed),
    ]
    return concluded(look(f"loss {name}", "losses", looks), raises)


class _Subject:
    def __init__(self, loss: Callable[..., Tensor], name: str, facts: Mapping[str, Any]) -> None:
        self.loss, self.name, self.registered, self.chosen = loss, name, facts, dict[str, Any]()

    def _with(self, options: dict[str, Any]) -> _Subject:
        other = _Subject(partial(self.loss, **options), self.name, self.registered)
        other.chosen = options
        return other

    @property
    def facts(self) -> Mapping[str, Any]:
        """Those of the options at hand."""
        of_options = self.registered.get("facts")
        return {**self.registered, **(of_options(**self.chosen) if of_options else {})}

    def inputs(self, *leading: int, n_targets: int = 1, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """A prediction and a target; where targets are not standardised they are above zero."""
        outputs = n_targets * int(self.facts.get("outputs_per_target", 1))
        prediction = tensors.normal(*leading, outputs, dtype=dtype)
        target = tensors.normal(*leading, n_targets, seed=1, dtype=dtype)
        return [prediction, target if self.facts.get("target_scaling", "standard") == "standard" else target.exp()]

    def shape(self) -> None:
        for leading in ((5,), (1,), (3, 5), (3, 5, 2)):
            for n_targets in (1, 2):
                for dtype in (torch.float32, torch.float64):
                    prediction, target = self.inputs(*leading, n_targets=n_targets, dtype=dtype)
                    given = f"a prediction {tuple(prediction.shape)} and a target {tuple(target.shape)}"
                    out = self.loss(prediction, target)
                    if isinstance(out, Tensor) and out.shape != prediction.shape[:-1]:
                        raise Fault(
                            f"shape {tuple(prediction.shape[:-1])} for {given}",
                            f"shape {tuple(out.shape)}: {_way_out(out, prediction)}",
                        )
                    tensors.check_tensor(out, prediction.shape[:-1], dtype, f"{given}, {dtype}")

    def unchanged(self) -> None:
        tensors.check_unchanged(self.loss, self.inputs(5))

    def members(self) -> None:
        if tensors.mixes(self.loss, self.inputs(3, 5), 0):
            raise Fault("each member's rows to decide about its losses only", "a loss that depends on another member")

    def rows(self) -> None:
        if tensors.mixes(self.loss, self.inputs(3, 5), 1):
            raise Fault("each row to decide about its own loss only", "a loss that depends on another row of the batch")

    def targets(self) -> None:
        prediction, target = self.inputs(5, n_targets=2, dtype=torch.float64)
        outputs = prediction.shape[-1] // 2
        before = self.loss(prediction, target)
        for number in range(2):
            other = prediction.clone()
            other[..., number * outputs : (number + 1) * outputs] += 1.5
            if torch.equal(self.loss(other, target), before):
                raise Fault("every target's prediction to count", f"a loss that does not see target {number + 1} of 2")

    def repeatable(self) -> None:
        tensors.check_repeats(self.loss, self.inputs(5))

    def finite(self) -> None:
        prediction, target = self.inputs(40, dtype=torch.float32)
        same = target.repeat_interleave(prediction.shape[-1], -1)
        for what, given in (("some", prediction), ("exact", same), ("large", 10 * prediction)):
            leaf = given.clone().requires_grad_()
            out = self.loss(leaf, target)
            tensors.check_finite(out, f"{what} predictions", "finite losses")
            if not out.requires_grad:
                raise Fault("a loss with a gradient by the prediction", "none")
            (gradient,) = torch.autograd.grad(out.sum(), leaf)
            tensors.check_finite(gradient, f"{what} predictions", "finite gradients")

    def gradient(self) -> None:
        prediction, target = self.inputs(6, n_targets=2)
        tensors.check_gradient(lambda p: self.loss(p, target), [prediction], ["the prediction"])

    def point(self) -> str | None:
        outputs, point = int(self.facts.get("outputs_per_target", 1)), self.facts.get("point")
        if point is None:
            if outputs > 1:
                raise Fault(f"point=..., which makes one prediction of {outputs} outputs", "none")
            return None
        for leading in ((5,), (3, 5)):
            for n_targets in (1, 2):
                prediction, target = self.inputs(*leading, n_targets=n_targets)
                out = point(prediction)
                tensors.check_tensor(out, target.shape, prediction.dtype, f"point of shape {tuple(prediction.shape)}")
                tensors.check_finite(out, "point")
        if tensors.mixes(point, [self.inputs(3, 5)[0]], 1):
            raise Fault("point to predict each row from its own outputs", "a prediction that depends on another row")
        return None

    def options(self) -> Report | str:
        def check(options: dict[str, Any]) -> None:
            other = self._with(options)
            for function in (other.shape, other.members, other.rows, other.finite, other.gradient, other.point):
                function()

        return check_options("loss", self.registered.get("space"), check)

    def stack(self) -> None:
        with self._offered() as name:
            engine.check_stack([{"loss": name}])
            engine.check_stack([{"loss": name}], n_targets=2)

    def bfloat16(self) -> None:
        with self._offered() as name:
            engine.check_half({"loss": name})

    def saved(self) -> None:
        with self._offered() as name:
            engine.check_saved({"loss": name})

    def pickled(self) -> None:
        with self._offered() as name:
            engine.check_pickled({"loss": name})

    def speed(self) -> Report:
        prediction, target = self.inputs(8, 1024, dtype=torch.float32)
        prediction.requires_grad_()
        usual = target.clone().requires_grad_()
        return beside(
            lambda: self.loss(prediction, target).sum().backward(),
            lambda: (usual - target).square().mean(-1).sum().backward(),
            "squared_error",
        )

    def _offered(self) -> Any:
        return engine.offered("loss", self.name, self.loss, self.registered)


def _way_out(out: Tensor, prediction: Tensor) -> str:
    if not out.ndim or out.ndim < prediction.ndim - 1:
        return "one value a row, no mean over rows"
    if out.ndim == prediction.ndim:
        return "take the mean over the last axis, .mean(-1)"
    return "one value a row"
