"""Ways to train a stack that autoreg could take, beside the one it takes.

    python examples/benchmarks/variants.py [--questions padding compile cores] [--repeat 5]

*padding*: networks of two widths, in a stack for each width, or in one stack as wide as the widest. The padded stack
has the arithmetic of the widest network in all its members, so that is how it is timed; masks would come on top.

*compile*: the forward and backward pass of a stack, as it is and after `torch.compile`; how long compiling takes, and
after how many steps it is repaid.

*cores*: two stacks of the portfolio's networks at once, in two threads of one process, or in two forks of it; beside a
step of one stack alone.

A stack takes one core: 8,000 rows of 20 features, 5 folds, ReLU, Adam, batches of 256 where nothing else is said,
medians of `--repeat` in turns. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from running import machine
from torch import Tensor
from torch.func import functional_call

from autoreg.arithmetic import fast_products
from autoreg.builtins.portfolio import COMMON
from autoreg.folds import make_folds
from autoreg.grouping import build, spec_of
from autoreg.plugins import load_plugins
from autoreg.problem import Problem
from autoreg.processes import Forks
from autoreg.scoring import as_metric
from autoreg.space import Candidate
from autoreg.tables import infer_schema
from autoreg.threads import one_thread, side_by_side
from autoreg.training import StackRun

ROWS, FEATURES, STEPS = 8000, 20, 20


def make_problem(half: bool) -> Problem:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(ROWS, FEATURES)))
    frame.columns = [f"x{i}" for i in range(FEATURES)]
    schema = infer_schema(frame)
    coded = schema.encode(frame)
    y = np.sin(frame["x0"]).to_numpy()[:, None] + draw.normal(size=(ROWS, 1)) / 2
    folds = make_folds(None, ROWS, random_state=0)
    return Problem(coded.numbers, coded.codes, schema.layout, y, None, folds, as_metric(None), half=half)


def stack(problem: Problem, widths: Sequence[int], depth: int = 2) -> StackRun:
    """A stack of networks of one width, five folds each."""
    candidates = [
        Candidate(
            {"network__width": width, "network__depth": depth, "optimizer": "adam", "batch_size": 256,
             "learning_rate": 1e-3 * (i + 1)}
        )
        for i, width in enumerate(widths)
    ]  # fmt: skip
    return StackRun(spec_of([build(i, one, problem) for i, one in enumerate(candidates)], problem), problem.data())


def steps_of(run: StackRun) -> Callable[[], None]:
    """Some steps of a stack."""
    batches, rates = run.batches.epoch(1, run.spec.dtype), run.learning_rates(1)
    run.stack.train()

    def step() -> None:
        run.train_steps(batches, rates, 0, STEPS)

    return step


def milliseconds(ways: Sequence[Callable[[], Any]], repeat: int, steps: int) -> list[float]:
    """Of a step, by each way: medians of some calls in turns, after one that does not count."""
    for way in ways:
        way()
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(repeat):
        for own, way in zip(taken, ways, strict=True):
            begin = time.perf_counter()
            way()
            own.append(1000 * (time.perf_counter() - begin) / steps)
    return [median(own) for own in taken]


def padding(repeat: int) -> list[str]:
    lines = ["| widths | candidates of each | precision | separate | padded | padded / separate |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for narrow, wide in ((96, 128), (64, 128), (128, 256)):
        for count in (1, 4):
            for half in (False, True):
                problem = make_problem(half)
                apart = [steps_of(stack(problem, [width] * count)) for width in (narrow, wide)]
                padded = steps_of(stack(problem, [wide] * (2 * count)))
                one, other, together = milliseconds([*apart, padded], repeat, STEPS)
                lines.append(
                    f"| {narrow}, {wide} | {count} | {'bfloat16' if half else 'float32'} | {one + other:.2f} ms | "
                    f"{together:.2f} ms | {together / (one + other):.2f} |"
                )
    return lines


def compiled(repeat: int) -> list[str]:
    lines = ["| width | members | as it is | compiled | as it is / compiled | compiling | repaid after |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for width, count in ((64, 8), (128, 4), (256, 4)):
        run = stack(make_problem(False), [width] * count, depth=3)
        members = len(run.members)
        network = run.stack.network
        parameters = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}
        x, target = torch.randn(members, 256, FEATURES), torch.randn(members, 256, 1)

        def passes(values: dict[str, Tensor], x: Tensor, target: Tensor, network: Any = network) -> Tensor:
            return (functional_call(network, values, (x,)) - target).square().mean((1, 2)).sum()

        fast = torch.compile(passes)

        def both(
            function: Callable[..., Tensor], parameters: Any = parameters, x: Tensor = x, y: Tensor = target
        ) -> None:
            for _ in range(STEPS):
                torch.autograd.grad(function(parameters, x, y), list(parameters.values()))

        begin = time.perf_counter()
        torch.autograd.grad(fast(parameters, x, target), list(parameters.values()))
        compiling = time.perf_counter() - begin
        plain, quick = milliseconds([lambda: both(passes), lambda: both(fast)], repeat, STEPS)  # noqa: B023
        steps = f"{1000 * compiling / (plain - quick):,.0f} steps" if quick < plain else "never"
        cells = [f"{plain:.2f} ms", f"{quick:.2f} ms", f"{plain / quick:.2f}", f"{compiling:.1f} s", steps]
        lines.append(f"| {width} | {members} | {' | '.join(cells)} |")
    return lines


def cores(repeat: int) -> list[str]:
    lines = ["| networks | rows of a step | alone | two threads | two forks | threads / forks |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    problem = make_problem(False)
    for count in (1, 4):
        for rows in (64, 256):
            candidates = [
                Candidate(
                    {**COMMON, "encoding": "ple", "network__dropout": 0.15, "batch_size": rows, "learning_rate": rate}
                )
                for rate in (0.008, 0.005, 0.003, 0.002)[:count]
            ]
            built = [build(i, one, problem) for i, one in enumerate(candidates)]
            steps = [steps_of(StackRun(spec_of(built, problem), problem.data())) for _ in range(2)]

            def in_fork(place: int, ask: object, steps: Sequence[Callable[[], None]] = steps) -> None:
                with one_thread():
                    steps[place]()

            with Forks(in_fork, 2) as forks:
                ways: list[Callable[[], Any]] = [
                    steps[0],
                    lambda: side_by_side([lambda halt, step=step: step() for step in steps], 2),  # noqa: B023
                    lambda: side_by_side([lambda halt, i=i: forks.run(i, None) for i in range(2)], 2),
                ]
                alone, threads, apart = milliseconds(ways, repeat, STEPS)
            lines.append(
                f"| {5 * count} | {rows} | {alone:.1f} ms | {threads:.1f} ms | {apart:.1f} ms | {threads / apart:.2f} |"
            )
    return lines


QUESTIONS: dict[str, Callable[[int], list[str]]] = {"padding": padding, "compile": compiled, "cores": cores}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", nargs="+", choices=list(QUESTIONS), default=list(QUESTIONS))
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{machine()}, torch {torch.__version__}")
    # what it says of graphs that it cannot take in one piece
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    load_plugins()
    with one_thread(), fast_products():
        for question in arguments.questions:
            print("\n".join(["", f"## {question}", "", *QUESTIONS[question](arguments.repeat)]), flush=True)


if __name__ == "__main__":
    main()
