"""Checks of optimizers."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

import autoreg.testing.engine as engine
import autoreg.testing.tensors as tensors
from autoreg.gradients import GradientTransform, Role, Tensors, map_state
from autoreg.testing.options import check_facts, check_options, draws
from autoreg.testing.results import Check, Fault, Look, Report, concluded, look, told
from autoreg.testing.speed import beside

FACTS: dict[str, Callable[[Any], bool]] = {"member_options": lambda value: isinstance(value, bool)}

RATES = (0.001, 0.01, 0.1, 1.0)
"""Learning rates of which one has to lead downhill."""

SHAPES = {"first": (4, 3), "first_bias": (4,), "output": (1, 4)}
ROLES = {"first": Role("matrix"), "first_bias": Role("bias", decay=0.0), "output": Role("output")}

Step = Callable[[int, Tensors], Tensors]
"""Gradients of step s at some parameters."""


def check_optimizer(
    make: Callable[..., GradientTransform], *, name: str | None = None, space: Mapping[str, Any] | None = None,
    raises: bool = True, **facts: Any,
) -> list[Check]:  # fmt: skip
    """Check an optimizer against what `register_optimizers` asks for.

    Parameters
    ----------
    make : function
        As it is registered: ``make(**options) -> GradientTransform``.
    name : str, optional
        For the messages.
    space, **facts
        As they are registered, such as ``member_options=True``.
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
    >>> from autoreg.gradients import GradientTransform
    >>> from autoreg.testing import check_optimizer
    >>> def plain():
    ...     def update(gradients, state, params, learning_rate, roles):
    ...         return {name: -learning_rate.mean() * g for name, g in gradients.items()}, state
    ...     return GradientTransform(lambda params: (), update)
    >>> checks = check_optimizer(plain, raises=False)
    >>> [check.name for check in checks if check.status == "failed"]
    ['members', 'leaving', 'stack']
    """
    name = name or getattr(make, "__name__", "own").strip("<>").lower()
    subject = _Subject(make, name, {**({"space": space} if space else {}), **facts})
    looks: list[tuple[str, Look]] = [
        ("changes", subject.changes),
        ("state", subject.state),
        ("unchanged", subject.unchanged),
        ("members", subject.members),
        ("leaving", subject.leaving),
        ("repeatable", subject.repeatable),
        ("learning_rate", subject.learning_rate),
        ("downhill", subject.downhill),
        ("elementwise", subject.elementwise),
        ("evaluation", subject.evaluation),
        ("member_options", subject.member_options),
        ("facts", partial(check_facts, facts, FACTS)),
        ("options", subject.options),
        ("stack", subject.stack),
        ("bfloat16", subject.bfloat16),
        ("saved", subject.saved),
        ("pickled", subject.pickled),
        ("speed", subject.speed),
    ]
    return concluded(look(f"optimizer {name}", "optimizers", looks), raises)


def _params(members: int, seed: int = 0) -> Tensors:
    """Each member's own; a member's numbers do not depend on how many there are."""
    return {
        name: torch.stack([tensors.normal(*shape, seed=100 * seed + 10 * m + i, dtype=torch.float64)
                           for m in range(members)])
        for i, (name, shape) in enumerate(SHAPES.items())
    }  # fmt: skip


def _take(members: Sequence[int], tree: Any) -> Any:
    index = torch.tensor(members)
    return map_state(lambda t: t[index], tree)


def _noise(s: int, params: Tensors) -> Tensors:
    """Gradients that depend on the step, on the member's own parameters and on nothing else."""
    return {
        name: (0.5 * p + tensors.normal(*p.shape[1:], seed=1000 + s, dtype=p.dtype)).clone()
        for name, p in params.items()
    }


class _Subject:
    def __init__(self, make: Callable[..., GradientTransform], name: str, facts: Mapping[str, Any]) -> None:
        self.make, self.name, self.registered = make, name, facts

    def transform(self, **options: Any) -> GradientTransform:
        made = self.make(**options)
        if not isinstance(made, GradientTransform):
            raise Fault("make(**options) to return a GradientTransform", f"a {type(made).__name__}")
        return made

    def run(
        self, params: Tensors, rates: Sequence[float], n: int, transform: GradientTransform | None = None,
        start: tuple[int, Any] | None = None, step: Step = _noise,
    ) -> tuple[Tensors, Any]:  # fmt: skip
        """Parameters and state after n steps, as the engine takes them."""
        transform = transform or self.transform()
        first, state = start or (0, transform.init(params))
        rate = torch.tensor(rates, dtype=torch.float64)
        for s in range(first, first + n):
            changes, state = transform.update(step(s, params), state, params, rate, ROLES)
            params = {name: p + changes[name] for name, p in params.items()}
        return params, state

    def changes(self) -> None:
        transform, params = self.transform(), _params(3)
        gradients, rate = _noise(0, params), torch.full((3,), 0.01, dtype=torch.float64)
        found = transform.update(gradients, transform.init(params), params, rate, ROLES)
        if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[0], dict):
            raise Fault("update to return (changes, state), the changes in a dict", f"a {type(found).__name__}")
        if set(found[0]) != set(params):
            raise Fault(f"changes of {', '.join(params)}", ", ".join(map(str, found[0])) or "none")
        for name, param in params.items():
            given = f"the change of '{name}', {tuple(param.shape)}"
            tensors.check_finite(tensors.check_tensor(found[0][name], param.shape, param.dtype, given), given)

    def state(self) -> None:
        transform, params = self.transform(), _params(3)
        for when, state in (
            ("init", transform.init(params)),
            ("update", self.run(params, [0.01] * 3, 2, transform)[1]),
        ):
            for path, leaf in _leaves(state):
                at = f"state{path} after {when}"
                if not isinstance(leaf, Tensor):
                    raise Fault(f"tensors of first axis M in {at}, so that a member's can be kept", f"{leaf!r}"[:60])
                if not leaf.ndim or len(leaf) != 3:
                    raise Fault(f"first axis M = 3 in {at}", f"shape {tuple(leaf.shape)}")
            try:
                pickle.dumps(state)
            except Exception as error:  # pickle has no error of its own for what it cannot do
                raise Fault(f"a state that can be pickled after {when}", told(error)) from error

    def unchanged(self) -> None:
        transform, params = self.transform(), _params(3)
        gradients, rate = _noise(0, params), torch.full((3,), 0.01, dtype=torch.float64)
        state = transform.init(params)
        given = [*params.values(), *gradients.values(), rate]
        names = [*(f"parameter '{n}'" for n in params), *(f"the gradient of '{n}'" for n in gradients), "learning_rate"]
        before = [t.clone() for t in given]
        for _ in range(2):
            transform.update(gradients, state, params, rate, ROLES)
        for name, tensor, copy in zip(names, given, before, strict=True):
            if not torch.equal(tensor, copy):
                raise Fault(f"{name} to stay as it is: the engine adds the changes", "a change in place")

    def members(self) -> None:
        params, rates = _params(3), [0.01, 0.02, 0.005]
        together, _ = self.run(params, rates, 12)
        for m in range(3):
            alone, _ = self.run(_take([m], params), [rates[m]], 12)
            for name in SHAPES:
                tensors.check_same(
                    together[name][m], alone[name][0], "each member to change as it does alone",
                    f"others in '{name}': never reduce over the first axis, M", 1e-9,
                )  # fmt: skip

    def leaving(self) -> None:
        """The engine drops members: their slices leave the state, and a new transform goes on."""
        params, rates = _params(3), [0.01, 0.02, 0.005]
        whole, _ = self.run(params, rates, 10)
        half, state = self.run(params, rates, 4)
        rest, _ = self.run(_take([0, 2], half), [rates[0], rates[2]], 6, start=(4, _take([0, 2], state)))
        for name in SHAPES:
            tensors.check_same(
                rest[name], whole[name][[0, 2]], "the members that stay to go on as before when one leaves",
                f"others in '{name}': all that lasts must be in the state", 1e-9,
            )  # fmt: skip

    def repeatable(self) -> None:
        transform, params = self.transform(), _params(2)
        first, _ = self.run(params, [0.01, 0.01], 4, transform)
        # another run in between: what is kept outside of the state would show
        self.run(_params(2, seed=5), [0.1, 0.1], 3, transform)
        second, _ = self.run(params, [0.01, 0.01], 4, transform)
        for name in SHAPES:
            if not torch.equal(first[name], second[name]):
                raise Fault("the same changes from the same state", f"others in '{name}': keep nothing but the state")

    def learning_rate(self) -> None:
        params = _params(1)
        # a warm-up, or an optimizer that gathers squared gradients first, may change nothing in its first steps
        low, high = (self.run(params, [rate], 12)[0] for rate in (1e-4, 1e-2))
        moved = [sum(float((p[name] - params[name]).abs().sum()) for name in SHAPES) for p in (low, high)]
        if not moved[1] > moved[0]:
            raise Fault(
                "larger changes for a learning rate a hundred times as large", f"{moved[1]:.3g} against {moved[0]:.3g}"
            )

    def downhill(self) -> str:
        """A bowl that is five times as steep one way as the other."""
        target, steep = _params(1, seed=3), 1 + 4 * (torch.arange(12) % 2)

        def slope(s: int, params: Tensors) -> Tensors:
            return {n: steep[: p[0].numel()].view(p[0].shape) * (p - target[n]) for n, p in params.items()}

        def height(params: Tensors) -> float:
            return sum(float((d * (params[n] - target[n])).sum()) / 2 for n, d in slope(0, params).items())

        start = _params(1)
        heights = {}
        for rate in RATES:
            transform = self.transform()
            params, state = self.run(start, [rate], 60, transform, step=slope)
            if transform.evaluation is not None:
                params = transform.evaluation(params, state)
            heights[rate] = height(params)
        best = min(heights, key=lambda rate: heights[rate] if heights[rate] == heights[rate] else float("inf"))
        if not heights[best] < 0.9 * height(start):
            raise Fault(
                f"a bowl to be descended in 60 steps from {height(start):.3g} with some learning rate of {RATES}",
                f"{heights[best]:.3g} at best: changes are added, so they point downhill",
            )
        return f"from {height(start):.3g} to {heights[best]:.2g} in 60 steps with learning rate {best:g}"

    def elementwise(self) -> str | None:
        transform = self.transform()
        if not transform.elementwise:
            return None
        params = _params(2)
        named, _ = self.run(params, [0.01, 0.02], 5, transform)

        def flat(tree: Tensors) -> Tensor:
            return torch.cat([tree[name].reshape(2, -1) for name in SHAPES], dim=1)

        factors = torch.cat([torch.full((params[n][0].numel(),), float(ROLES[n].decay)) for n in SHAPES])
        roles = {"flat": Role("mixed", 1.0, factors.double())}
        one = {"flat": flat(params)}
        state, rate = transform.init(one), torch.tensor([0.01, 0.02], dtype=torch.float64)
        for s in range(5):
            parts = one["flat"].split([params[n][0].numel() for n in SHAPES], dim=1)
            at = {n: part.view(params[n].shape) for n, part in zip(SHAPES, parts, strict=True)}
            changes, state = transform.update({"flat": flat(_noise(s, at))}, state, one, rate, roles)
            one = {"flat": one["flat"] + changes["flat"]}
        tensors.check_same(
            one["flat"], flat(named), "the same changes from all parameters in one flat tensor, as elementwise says",
            "others: leave elementwise=False", 1e-9,
        )  # fmt: skip
        return None

    def evaluation(self) -> str | None:
        transform = self.transform()
        if transform.evaluation is None:
            return None
        params, state = self.run(_params(2), [0.01, 0.02], 3, transform)
        before = map_state(torch.clone, (params, state))
        found = transform.evaluation(params, state)
        for name, param in params.items():
            if name not in found:
                raise Fault(f"parameters by the names {', '.join(params)} from evaluation", f"no '{name}'")
            given = f"'{name}' from evaluation"
            tensors.check_finite(tensors.check_tensor(found[name], param.shape, param.dtype, given), given)
        for (path, leaf), (_, old) in zip(_leaves((params, state)), _leaves(before), strict=True):
            if not torch.equal(leaf, old):
                raise Fault("evaluation to leave parameters and state as they are", f"a change in place at {path}")
        return None

    def member_options(self) -> str | None:
        if not self.registered.get("member_options", False):
            return None
        tried = []
        for name, values in self._numbers().items():
            params = _params(2)
            transform = self.transform(**{name: torch.tensor(values, dtype=torch.float64)})
            together, _ = self.run(params, [0.01, 0.01], 5, transform)
            for m, value in enumerate(values):
                alone, _ = self.run(_take([m], params), [0.01], 5, self.transform(**{name: value}))
                for key in SHAPES:
                    tensors.check_same(
                        together[key][m], alone[key][0],
                        f"{name} as an (M,) tensor to give each member what its own number gives, as "
                        "member_options=True says", f"others for {value:g}: use autoreg.gradients.over_members", 1e-9,
                    )  # fmt: skip
            tried.append(name)
        return f"tried with {', '.join(tried)}" if tried else None

    def _numbers(self) -> dict[str, list[float]]:
        """Two values of each option that is a float: from the space, or its default and a little less."""
        found: dict[str, list[float]] = {}
        for name, values in (self.registered.get("space") or {}).items():
            drawn = [draw[name] for draw in draws("optimizer", {name: values})]
            if len(drawn) > 1 and all(isinstance(value, float) for value in drawn):
                found[name] = drawn[:2]
        for name, parameter in inspect.signature(self.make).parameters.items():
            if isinstance(parameter.default, float) and name not in found:
                found[name] = [parameter.default, 0.9 * parameter.default or 0.01]
        return found

    def options(self) -> Report | str:
        def check(options: dict[str, Any]) -> None:
            other = _Subject(partial(self.make, **options), self.name, {})
            for function in (other.changes, other.state, other.members, other.repeatable):
                function()

        return check_options("optimizer", self.registered.get("space"), check)

    def stack(self) -> None:
        drawn = draws("optimizer", self.registered.get("space"))[:1]
        with self._offered() as name:
            given = [{"optimizer": name}, {"optimizer": name, "learning_rate": 0.01}]
            engine.check_stack([*given, *({"optimizer": name, **_prefixed(options)} for options in drawn)])

    def bfloat16(self) -> None:
        with self._offered() as name:
            engine.check_half({"optimizer": name})

    def saved(self) -> None:
        with self._offered() as name:
            engine.check_saved({"optimizer": name})

    def pickled(self) -> None:
        with self._offered() as name:
            engine.check_pickled({"optimizer": name})

    def speed(self) -> Report:
        params = {"w": tensors.normal(8, 64, 64)}
        gradients, rate = {"w": tensors.normal(8, 64, 64, seed=1)}, torch.full((8,), 1e-3)
        roles, looks = {"w": Role("matrix")}, list[Callable[[], object]]()
        with self._offered() as name:
            for one in (name, "adamw"):
                transform = engine.registry().get("optimizer", one).thing()
                state = transform.init(params)
                looks.append(partial(transform.update, gradients, state, params, rate, roles))
        return beside(looks[0], looks[1], "adamw")

    def _offered(self) -> Any:
        return engine.offered("optimizer", self.name, self.make, self.registered)


def _prefixed(options: Mapping[str, Any]) -> dict[str, Any]:
    return {f"optimizer__{name}": value for name, value in options.items()}


def _leaves(state: Any, path: str = "") -> list[tuple[str, Any]]:
    """What a nest of dicts, tuples and lists holds, but None."""
    if isinstance(state, dict):
        return [leaf for key, value in state.items() for leaf in _leaves(value, f"{path}[{key!r}]")]
    if isinstance(state, (tuple, list)):
        return [leaf for i, value in enumerate(state) for leaf in _leaves(value, f"{path}[{i}]")]
    return [] if state is None else [(path, state)]
