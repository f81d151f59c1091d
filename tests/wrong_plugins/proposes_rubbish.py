"""A learning rate below zero, and a dimension that is none."""

from autoreg import hookimpl
from autoreg.space import Candidate


def propose(space, results, n, seed):
    return [] if results else [Candidate({"learning_rate": -1.0, "colour": "red"})]


@hookimpl
def register_strategies(register):
    register("proposes_rubbish", propose)
