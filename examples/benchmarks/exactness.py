"""How far are stacks from the networks that they are made of? Three tables, in about two minutes.

    python examples/benchmarks/exactness.py [--only builtins torch grid] [--json FILE]

1. Every built-in encoding, network, activation, loss and optimizer: a stack of seven members, which differ in fold,
   seed, learning rate, dropout and the optimizer's numbers, beside the seven alone. The table has missing values, a
   level that a fold never sees, rows that the folds do not divide, and weights.
2. Every optimizer class of `torch.optim` that needs neither a closure nor sparse gradients, and networks that stack in
   no other way than one at a time, beside plain PyTorch loops.
3. `AutoRegressor(strategy="grid")` beside scikit-learn's `GridSearchCV(NeuralRegressor(...))`.

Ends with status 1 when a difference is larger than its limit.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import GridSearchCV, KFold
from torch import Tensor, nn

from autoreg import AutoRegressor, NeuralRegressor
from autoreg.batches import Order
from autoreg.folds import Fold
from autoreg.gradients import GradientTransform
from autoreg.grouping import build
from autoreg.plugins import registry
from autoreg.problem import Problem
from autoreg.scoring import as_metric
from autoreg.space import Candidate
from autoreg.specs import CandidateOutcome, MemberSpec, StackSpec
from autoreg.tables import infer_schema
from autoreg.threads import one_thread
from autoreg.training import train_stack
from autoreg.updates import OptimizerPart

LIMITS = {"float64": 1e-9, "gradient": 1e-5, "bfloat16": 1e-3, "grid": 1e-5}
"""Of predictions after all steps in units of the target's spread; of the first gradients relative to a
member's largest; of the cross-validation score, relative; of `mean_test_score`, relative."""

MEMBERS = 7
SMALL: dict[str, Any] = {"batch_size": 11, "max_epochs": 13, "schedule": "flat_cosine"}
SIZES = {"network__depth": 2, "network__width": 8}

Row = dict[str, Any]


def make_table(numbers_only: bool = False) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """A table that is as awkward as tables are; target and weights are positive."""
    draw = np.random.default_rng(0)
    n = 67
    frame = pd.DataFrame(draw.normal(size=(n, 4)) * [1, 100, 0.01, 1], columns=list("abcd"))
    town = draw.integers(0, 12, n)
    y = 2 + np.sin(frame["a"]) + frame["b"] / 100 * frame["d"] + 0.3 * (town % 3)
    if not numbers_only:
        frame.loc[::7, "a"] = np.nan
        frame.loc[3::5, "c"] = np.nan
        frame["town"] = [f"town {i}" for i in town]
        frame["rare"] = ["only here"] * 5 + ["left", "right"] * 31
        frame["wet"] = draw.random(n) < 0.3
    return frame, np.exp(y / y.std() / 3).to_numpy()[:, None], draw.uniform(0.5, 2.0, n)


def make_problem(dtype: torch.dtype, numbers_only: bool = False) -> Problem:
    """Seven folds of uneven sizes; the first holds out all rows of a level."""
    frame, y, weight = make_table(numbers_only)
    schema = infer_schema(frame)
    coded, rows = schema.encode(frame), np.arange(len(y))
    folds = [Fold(rows[rows % MEMBERS != k], rows[rows % MEMBERS == k]) for k in range(MEMBERS)]
    folds[0] = Fold(rows[5:], rows[:5])
    return Problem(
        coded.numbers, coded.codes, schema.layout, y, weight, folds, as_metric(None), dtype=dtype, choose_epoch=False
    )


def make_spec(problem: Problem, candidates: Sequence[Mapping[str, Any]], half: bool = False) -> StackSpec:
    """A stack of candidate k on fold k."""
    members = []
    for k, parameters in enumerate(candidates):
        one_fold = replace(problem, folds=[problem.folds[k]], seed=k, _statistics={})
        members += build(k, Candidate(parameters), one_fold).members
    epochs, score = int(candidates[0]["max_epochs"]), problem.metric.over_members()
    return StackSpec(members, epochs, score, choose_epoch=False, dtype=problem.dtype, half=half)


def train_together(spec: StackSpec, problem: Problem) -> list[CandidateOutcome]:
    with one_thread():
        outcomes = train_stack(spec, problem.data())
    for outcome in outcomes:
        if outcome.failure:
            raise RuntimeError(outcome.failure)
    return outcomes


def train_alone(spec: StackSpec, problem: Problem) -> list[CandidateOutcome]:
    return [train_together(replace(spec, members=[member]), problem)[0] for member in spec.members]


def largest(one: Sequence[CandidateOutcome], other: Sequence[CandidateOutcome], problem: Problem) -> float:
    """Difference of two predictions, over the target's spread."""
    pairs = zip(one, other, strict=True)
    worst = max(float(np.abs(a.predictions[0] - b.predictions[0]).max()) for a, b in pairs)
    return worst / float(problem.y.std())


# 1. built-in parts


def builtin_parts() -> list[tuple[str, str]]:
    kinds = ("encoding", "network", "activation", "loss", "optimizer")
    ours = {(entry.kind, entry.name) for entry in registry() if entry.owner.distribution == "autoreg-core"}
    named = [(kind, name) for kind in kinds for name in registry().names(kind) if (kind, name) in ours]
    return [*named, ("target_scaling", "log")]


def seven_candidates(kind: str, name: str) -> list[dict[str, Any]]:
    """Candidates that share a program and differ in numbers."""
    common = {**SMALL, **({} if name == "linear" else SIZES), kind: name}
    optimizer = registry().get("optimizer", common.get("optimizer", "adamw"))
    candidates = []
    for k in range(MEMBERS):
        own: dict[str, Any] = {"learning_rate": 1e-3 * 1.4**k}
        if name != "linear":
            own["network__dropout"] = 0.05 * k
        if kind == "target_scaling" and k % 2:
            own[kind] = "standard"
        for option, values in optimizer.space.items():
            own[f"optimizer__{option}"] = values[k % len(values)]
        candidates.append({**common, **own})
    return candidates


def compare_part(kind: str, name: str) -> Row:
    """The three differences of DESIGN's first invariant."""
    candidates, only = seven_candidates(kind, name), name == "none"
    double, single = make_problem(torch.float64, only), make_problem(torch.float32, only)
    spec = make_spec(double, candidates)
    row: Row = {"kind": kind, "name": name}
    row["float64"] = largest(train_together(spec, double), train_alone(spec, double), double)
    row["gradient"] = gradient_difference(make_spec(single, candidates), single)
    half = make_spec(single, candidates, half=True)
    together, alone = (
        float(np.mean([outcome.score for outcome in train(half, single)])) for train in (train_together, train_alone)
    )
    row["bfloat16"] = abs(together - alone) / abs(alone)
    return row


def gradient_difference(spec: StackSpec, problem: Problem) -> float:
    """Of the first step's gradients, relative to each member's largest."""
    together = first_gradients(spec, problem)
    worst = 0.0
    for m, member in enumerate(spec.members):
        alone = first_gradients(replace(spec, members=[member]), problem)
        size = max(float(gradient.abs().max()) for gradient in alone.values())
        differences = [float((together[name][m] - gradient[0]).abs().max()) for name, gradient in alone.items()]
        worst = max(worst, max(differences) / size)
    return worst


def first_gradients(spec: StackSpec, problem: Problem) -> dict[str, Tensor]:
    """By parameter, (M, ...)."""
    seen: list[dict[str, Tensor]] = []

    def watch() -> GradientTransform:
        def update(gradients: Any, state: Any, params: Any, learning_rate: Tensor, roles: Any) -> Any:
            seen.append({name: gradient.clone() for name, gradient in gradients.items()})
            return {name: torch.zeros_like(gradient) for name, gradient in gradients.items()}, state

        return GradientTransform(lambda params: (), update)

    watching = OptimizerPart(watch)
    members = [replace(member, optimizer=watching) for member in spec.members]
    train_together(replace(spec, members=members, max_epochs=1), problem)
    return seen[0]


# 2. classes of torch.optim, and networks that stack one at a time


class TwoLayers(nn.Module):
    """As PyTorch's tutorials write it."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(n_features, 8), nn.Linear(8, 8), nn.Linear(8, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.middle(torch.tanh(self.first(x)))))


class Normed(TwoLayers):
    """Running statistics, and rows that depend on each other."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__(n_features, n_outputs)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(x))))


class Branching(TwoLayers):
    """Asks about values."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(torch.tanh(self.first(x)))
        if x.abs().max() > 1:
            x = x / (1 + x.abs().clamp(min=1).log())
        return self.last(x)


class Straight(torch.autograd.Function):
    """Rounds, and lets gradients through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(4 * x) / 4

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * 0.5


class Rounded(TwoLayers):
    """Has a derivative of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(Straight.apply(torch.tanh(self.middle(torch.tanh(self.first(x))))))


def torch_classes() -> list[type[torch.optim.Optimizer]]:
    """All that step without a closure and with dense gradients."""
    found = [getattr(torch.optim, name) for name in torch.optim.__all__]
    kinds = [cls for cls in found if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)]
    unfit = {torch.optim.Optimizer, torch.optim.LBFGS, torch.optim.SparseAdam}
    return sorted((cls for cls in kinds if cls not in unfit), key=lambda cls: cls.__name__.lower())


def compare_torch(network: Callable[..., nn.Module], cls: type[torch.optim.Optimizer]) -> Row:
    """A stack of seven beside seven plain loops, and one at a time beside them too."""
    problem = make_problem(torch.float64)
    common = {**SMALL, "encoding__max_one_hot": 20, "network": network, "optimizer": cls}
    # what the class takes for usual
    usual = inspect.signature(cls).parameters["lr"].default
    rate = usual if isinstance(usual, float) and usual < 0.5 else 1e-2
    spec = make_spec(problem, [{**common, "learning_rate": rate * 1.3**k} for k in range(MEMBERS)])
    with one_thread():
        plain = [plain_loop(member, spec.max_epochs, problem, cls) for member in spec.members]
    together = train_together(spec, problem)
    worst = max(float(np.abs(o.predictions[0] - p).max()) for o, p in zip(together, plain, strict=True))
    return {"kind": network.__name__, "name": cls.__name__, "float64": worst / float(problem.y.std())}


def plain_loop(member: MemberSpec, epochs: int, problem: Problem, cls: type[torch.optim.Optimizer]) -> np.ndarray:
    """Predictions for a member's validation rows, trained as one would by hand."""
    module, data = copy.deepcopy(member.module), problem.data()
    weights = torch.from_numpy(problem.sample_weight / problem.sample_weight[member.train].mean())
    order = Order(member.seed, member.train, member.batch_size)
    optimizers = _optimizers(module, cls, member.learning_rate)
    target = (data.target - module.center) / module.spread
    for epoch in range(1, epochs + 1):
        for s, (rows, real) in enumerate(zip(*order.epoch(epoch), strict=True)):
            rows = torch.from_numpy(rows[real]).long()
            progress = ((epoch - 1) * order.n_steps + s) / (epochs * order.n_steps)
            output = module(data.numbers[rows], data.codes[rows])
            loss = (weights[rows] * ((output - target[rows]) ** 2).mean(1)).mean()
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = member.learning_rate * member.schedule(progress)
                optimizer.step()
    module.eval()
    with torch.no_grad():
        rows = torch.from_numpy(member.valid)
        return (module(data.numbers[rows], data.codes[rows]) * module.spread + module.center).numpy()


def _optimizers(module: nn.Module, cls: type[torch.optim.Optimizer], rate: float) -> list[torch.optim.Optimizer]:
    parameters: list[Any] = list(module.parameters())
    if cls.__name__ != "Muon":
        return [cls(parameters, lr=rate)]  # type: ignore[call-arg]
    hidden = [p for p in parameters if p.ndim == 2][:-1]
    rest = [p for p in parameters if all(p is not other for other in hidden)]
    return [cls(hidden, lr=rate), torch.optim.AdamW(rest, lr=rate)]  # type: ignore[call-arg]


# 3. the grid


def compare_grid(rows: int = 1000, epochs: int = 10) -> Row:
    """The same search in both, timed."""
    draw = np.random.default_rng(1)
    X = draw.normal(size=(rows, 10))
    y = 100 + 30 * X[:, 0] * X[:, 1] + 20 * X[:, 2] + 5 * draw.normal(size=rows)
    grid = {
        "learning_rate": [1e-3 * 2**k for k in range(8)], "activation": ["relu", "silu"],
        "network__width": [32], "network__depth": [2], "max_epochs": [epochs],
    }  # fmt: skip
    cv, scoring = KFold(5, shuffle=True, random_state=0), "neg_root_mean_squared_error"
    begin = time.perf_counter()
    ours = AutoRegressor(
        strategy="grid", space=grid, cv=cv, scoring=scoring, companions=None, ensemble=False, random_state=0, verbose=0
    ).fit(X, y)
    middle = time.perf_counter()
    theirs = GridSearchCV(NeuralRegressor(random_state=0), grid, cv=cv, scoring=scoring, refit=False).fit(X, y)
    end = time.perf_counter()
    one, other = ours.cv_results_, theirs.cv_results_
    difference = np.abs(one["mean_test_score"] - other["mean_test_score"]) / np.abs(other["mean_test_score"])
    return {
        "fits": len(one["params"]) * ours.n_splits_,
        "grid": float(difference.max()),
        "same keys": list(one) == list(other) or set(one) == set(other),
        "same params and ranks": one["params"] == other["params"]
        and one["rank_test_score"].tolist() == other["rank_test_score"].tolist(),
        "seconds": round(middle - begin, 2),
        "GridSearchCV seconds": round(end - middle, 2),
        "times as fast": round((end - middle) / (middle - begin), 1),
    }


def show(rows: Sequence[Row]) -> None:
    """A table in Markdown; the last lines are the largest of each column."""
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n| " + " | ".join("---" for _ in names) + " |")
    for row in rows:
        print("| " + " | ".join(f"{v:.1e}" if n in LIMITS else str(v) for n, v in row.items()) + " |")
    columns = [name for name in names if name in LIMITS]
    print()
    for name in columns:
        print(f"{name}: largest {max(row[name] for row in rows):.1e}, limit {LIMITS[name]:.0e}")
    print(flush=True)


def within(rows: Sequence[Row]) -> bool:
    figures = [(row[name], LIMITS[name]) for row in rows for name in row if name in LIMITS]
    return all(math.isfinite(value) and value <= limit for value, limit in figures)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=["builtins", "torch", "grid"], default=["builtins", "torch", "grid"]
    )
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore", RuntimeWarning)
    tables: dict[str, list[Row]] = {}
    if "builtins" in given.only:
        tables["builtins"] = [compare_part(kind, name) for kind, name in builtin_parts()]
    if "torch" in given.only:
        pairs = [(TwoLayers, cls) for cls in torch_classes()]
        pairs += [(network, torch.optim.Adam) for network in (Normed, Branching, Rounded)]
        tables["torch"] = [compare_torch(network, cls) for network, cls in pairs]
    if "grid" in given.only:
        tables["grid"] = [compare_grid()]
    for rows in tables.values():
        show(rows)
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(tables, file, indent=1)
    return 0 if all(within(rows) for rows in tables.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
