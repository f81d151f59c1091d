"""Sorts its results by changing what they are about."""

from autoreg import hookimpl
from autoreg.space import Candidate


def propose(space, results, n, seed):
    for result in results:
        result.candidate.parameters["learning_rate"] = 99.0
    if len(results) >= (n or 2):
        return []
    first = {name: values[0] for name, values in space.dimensions[0].items()}
    return [Candidate({**first, "learning_rate": 0.01 + 0.01 * len(results)})]


@hookimpl
def register_strategies(register):
    register("mutates_results", propose)
