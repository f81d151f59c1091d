"""What each ingredient of the search gives: rungs, patience, two encodings, the ensemble, fold members, snapshots.

    python examples/benchmarks/ablations_of_search.py RESULTS.jsonl --suite FOLDER [--sets NAME ...] [--seeds 0 1 2]
        [--rows 2000] [--epochs 30] [--candidates 8]
    python examples/benchmarks/ablations_of_search.py RESULTS.jsonl

The portfolio's first candidates are trained once, to the end, with what each of them was at its best epochs kept. From
that follows what the search would have ended with had a rung or patience taken some out, had it seen one encoding only,
or had the ensemble been offered what candidates were where their schedule touches zero. Rows and errors are those of
``ablations.py``: held out, and the search does not see them. What is in the file is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ablations import TABLES, YARDSTICK, Held, Row, table_of
from running import cores, machine
from suite import Table, read_suite

from autoreg import AutoRegressor
from autoreg.builtins.portfolio import RUNGS, portfolio
from autoreg.ensemble import greedy_weights
from autoreg.grouping import Built, build, spec_of, stacks_of
from autoreg.inputs import Data
from autoreg.plugins import load_plugins
from autoreg.problem import AllRows, Problem
from autoreg.rounds import space_of
from autoreg.schedules import Timeline
from autoreg.search import Evaluated, _gather
from autoreg.selection import Selection, select
from autoreg.space import Candidate
from autoreg.specs import CandidateOutcome
from autoreg.threads import side_by_side
from autoreg.training import StackRun, wait_for

ZEROS = (3 / 15, 7 / 15)
"""Where the portfolio's schedule touches zero; after a fifteenth no candidate is of use yet."""


@dataclass(frozen=True)
class Course:
    """A candidate trained to the end, and what it was whenever it was better than before."""

    item: Built
    bests: Sequence[CandidateOutcome]
    last: int

    def until(self, epoch: int) -> CandidateOutcome:
        """Its best up to an epoch."""
        return max((best for best in self.bests if best.epoch <= epoch), key=lambda best: best.epoch)

    def leaves(self) -> int:
        """The epoch after which it is out of patience."""
        patience = self.item.recipe.candidate["n_iter_no_change"]
        for epoch in range(1, self.last):
            best = self.until(epoch).epoch
            if epoch - best >= wait_for(patience, best, self.last):
                return epoch
        return self.last


def courses_of(stack: Sequence[Built], problem: Problem, data: Data, _: object = None) -> list[Course]:
    """Train a stack to the end, every candidate of it."""
    spec = replace(spec_of(stack, problem), patience=None, rungs=())
    run = StackRun(spec, data)
    bests: dict[int, list[CandidateOutcome]] = {item.index: [] for item in stack}
    for epoch in range(1, spec.max_epochs + 1):
        run.validate(epoch, run.train_epoch(epoch))
        for index, outcome in run.outcomes.items():
            if outcome.epoch == epoch and outcome.snapshot is not None:
                states = outcome.snapshot.states(run.store)
                bests[index].append(CandidateOutcome(index, epoch, outcome.score, states, outcome.predictions))
    return [Course(item, bests[item.index], spec.max_epochs) for item in stack if bests[item.index]]


def epoch_at(t: float, line: Timeline) -> int:
    """The epoch whose end is nearest to progress t."""
    return next(epoch for epoch in range(1, line.last + 1) if line.passes(t, epoch))


def ends_of(stack: Sequence[Course], rungs: Sequence[tuple[float, float]] = RUNGS, patience: bool = True) -> list[int]:
    """The epoch that each candidate of a stack trains to."""
    line = Timeline(stack[0].last)
    ends = [course.leaves() if patience else course.last for course in stack]
    for t, share in rungs:
        epoch = epoch_at(t, line)
        left = sorted(
            (place for place, end in enumerate(ends) if end > epoch), key=lambda place: -stack[place].until(epoch).score
        )
        for place in left[math.ceil(share * len(stack)) :]:
            ends[place] = epoch
    return ends


def snapshots_of(course: Course, end: int) -> list[CandidateOutcome]:
    """What a candidate was where its schedule touched zero before, unless that is what it ended as."""
    line = Timeline(course.last)
    epochs = [epoch_at(t, line) for t in ZEROS]
    found = {course.until(epoch).epoch: course.until(epoch) for epoch in epochs if epoch < end}
    return [outcome for epoch, outcome in found.items() if epoch != course.until(end).epoch]


def evaluated(pairs: Sequence[tuple[Course, CandidateOutcome]], problem: Problem) -> list[Evaluated]:
    """Candidates as a search sees them, numbered anew."""
    return [
        _gather(
            replace(course.item, index=place),
            replace(outcome, states=[dict(state) for state in outcome.states]),
            problem,
        )
        for place, (course, outcome) in enumerate(pairs)
    ]


def one_fold(held: Held, selection: Selection) -> float:
    """The mean error of the ensemble of one fold's networks."""
    errors = []
    for k in range(len(held.problem.folds)):
        alone = [
            (replace(item, states=[item.states[k]]), w) for item, w in selection.chosen if isinstance(item, Evaluated)
        ]
        errors.append(held.error([item.part(weight) for item, weight in alone]))
    return float(np.exp(np.mean(np.log(errors))))


def one_selection(held: Held, found: Sequence[Evaluated]) -> float:
    """The error with weights selected on all rows at once."""
    problem = held.problem
    usable = [item for item in found if item.oof is not None]
    weights = greedy_weights(
        np.stack([item.oof for item in usable if item.oof is not None]), problem.y, None, problem.metric.score,
        of_squares=problem.metric.of_squares,
    )  # fmt: skip
    return held.error([item.part(float(weight)) for item, weight in zip(usable, weights, strict=True) if weight > 0])


def measure(table: Table, seed: int, options: argparse.Namespace) -> list[Row]:
    """The errors of all changes on one table's rows."""
    held = Held.of(table, seed, options.rows)
    problem, data = held.problem, held.problem.data()
    proposed = portfolio(space_of(AutoRegressor(), problem), (), options.candidates, seed)
    built = [
        build(i, Candidate({**one.parameters, "max_epochs": options.epochs}), problem) for i, one in enumerate(proposed)
    ]
    work = [partial(courses_of, stack, problem, data) for stack in stacks_of(built, share=False)]
    stacks = side_by_side(work, options.jobs)

    def kept(some: Sequence[list[Course]], **how: Any) -> tuple[list[tuple[Course, CandidateOutcome]], int]:
        """What candidates end as, and the epochs that they take."""
        pairs, epochs = [], 0
        for stack in some:
            ends = ends_of(stack, **how)
            epochs += sum(ends)
            pairs += [(course, course.until(end)) for course, end in zip(stack, ends, strict=True)]
        return pairs, epochs

    whole, whole_epochs = kept(stacks)
    found = evaluated(whole, problem)
    selection = select(found, [], problem)
    errors = {YARDSTICK: (held.error(selection.parts), whole_epochs)}
    sets = {
        "without rung": kept(stacks, rungs=()),
        "a rung at 3/15 too, for three quarters": kept(stacks, rungs=((3 / 15, 0.75), *RUNGS)),
        "a rung at 3/15 too, for half, then for a quarter": kept(stacks, rungs=((3 / 15, 0.5), (7 / 15, 0.25))),
        "without patience": kept(stacks, patience=False),
        "without both": kept(stacks, rungs=(), patience=False),
        **{f"{stack[0].item.recipe.candidate['encoding']} only": kept([stack]) for stack in stacks},
    }
    early = [
        (course, outcome) for stack in stacks for course, end in zip(stack, ends_of(stack), strict=True)
        for outcome in snapshots_of(course, end)
    ]  # fmt: skip
    sets["with snapshots"] = [*whole, *early], whole_epochs
    for name, (pairs, epochs) in sets.items():
        errors[name] = held.error(select(evaluated(pairs, problem), [], problem).parts), epochs
    best = select(found, [], problem, ensemble=False)
    errors["the best candidate alone"] = held.error(best.parts), whole_epochs
    errors["weights selected once, on all rows"] = one_selection(held, found), whole_epochs
    errors["the networks of one fold"] = one_fold(held, selection), whole_epochs
    again = selection.on_all_rows(AllRows.of(problem, len(problem.y)), options.jobs)
    errors["fitted again on all rows"] = held.error(again.parts), whole_epochs
    return [
        {
            "set": table.name,
            "change": name,
            "seed": seed,
            "rows": options.rows,
            "epochs": epochs,
            "error": error,
            "where": machine(),
        }
        for name, (error, epochs) in errors.items()
    ]


def epochs_of(rows: Sequence[Row]) -> str:
    """A line that says how many epochs the changes take that take more or less than the yardstick."""
    total = {
        change: sum(row["epochs"] for row in rows if row["change"] == change) for change in {r["change"] for r in rows}
    }
    shares = {change: epochs / total[YARDSTICK] for change, epochs in total.items()}
    told = [f"{change} {share:.2f}" for change, share in sorted(shares.items()) if round(share, 2) != 1]
    return f"epochs, of those of '{YARDSTICK}': {', '.join(told)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument(
        "--suite", type=Path, help="a folder of parquet files and manifest.json; without it, only report"
    )
    parser.add_argument("--sets", nargs="+", default=list(TABLES), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=cores(), help="cores to use")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    if options.suite:
        load_plugins()
        done = {(row["set"], row["seed"]) for row in rows}
        for table in read_suite(options.suite, names=options.sets):
            for seed in options.seeds:
                if (table.name, seed) in done:
                    continue
                found = measure(table, seed, options)
                rows += found
                with options.results.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in found)
    print(f"{table_of(rows)}\n\n{epochs_of(rows)}")


if __name__ == "__main__":
    main()
