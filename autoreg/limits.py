"""What the values of a candidate may be, said before anything is trained."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from autoreg.errors import OptionError, unknown
from autoreg.plugins import registry
from autoreg.space import PARTS, SEED, Candidate


def check_candidate(candidate: Candidate) -> None:
    """Check a candidate's numbers, and the names of the options of parts that are given by name.

    Raises
    ------
    OptionError
    UnknownNameError
        For a part that no plugin offers.

    Examples
    --------
    >>> check_candidate(Candidate({"network__deep": 3}))
    Traceback (most recent call last):
    autoreg.errors.OptionError: no option of network mlp 'deep'; did you mean 'depth'? known: depth, dropout, width
    >>> check_candidate(Candidate({"learning_rate": 0}))
    Traceback (most recent call last):
    autoreg.errors.OptionError: learning_rate=0: give a number above 0
    """
    rate = candidate["learning_rate"]
    if not _is_number(rate) or not 0 < rate < math.inf:
        raise OptionError(f"learning_rate={rate!r}: give a number above 0")
    if not _is_count(candidate["max_epochs"]):
        raise OptionError(f"max_epochs={candidate['max_epochs']!r}: give a whole number of at least 1")
    patience = candidate["n_iter_no_change"]
    if not _is_count(patience) and not (isinstance(patience, float) and 0 < patience < math.inf):
        raise OptionError(f"n_iter_no_change={patience!r}: give a whole number of at least 1, or a multiple above 0.0")
    size = candidate["batch_size"]
    if size != "auto" and not _is_count(size):
        raise OptionError(f"batch_size={size!r}: give 'auto' or a whole number of at least 1")
    share = candidate["subsample"]
    if not _is_number(share) or not 0 < share <= 1:
        raise OptionError(f"subsample={share!r}: give a number above 0 and at most 1")
    if not isinstance(candidate["early_stopping"], (bool, np.bool_)):
        raise OptionError(f"early_stopping={candidate['early_stopping']!r}: give True or False")
    seed = candidate.parameters.get(SEED, 0)
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= int(seed) < 2**32:
        raise OptionError(f"{SEED}={seed!r}: give a whole number from 0 to {2**32 - 1}")
    for part in PARTS:
        _check_options(part, candidate)


def _check_options(part: str, candidate: Candidate) -> None:
    value, options = candidate[part], candidate.options(part)
    if not isinstance(value, str):
        return
    known = registry().get(part, value).options
    if known is None:
        return
    for name in options:
        if name not in known and known:
            raise OptionError(unknown(f"option of {part} {value}", name, known))
        if name not in known:
            raise OptionError(f"{part} {value} takes no options: remove '{name}', or give a list of spaces")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_))


def _is_count(value: Any) -> bool:
    whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    return whole and _is_number(value) and value >= 1
