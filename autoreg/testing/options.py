"""Options that a thing was registered with: drawn from its `space`, and checked against what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from autoreg.errors import OptionError
from autoreg.space import as_dimensions, short
from autoreg.testing.results import Fault, Report

N_DRAWS = 3
"""How many sets of options are tried."""


def draws(kind: str, space: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Some sets of options: the first and the last value of each list, and what lies between.

    >>> draws("loss", {"delta": [0.5, 1.0, 2.0], "sides": [1, 2]})
    [{'delta': 0.5, 'sides': 1}, {'delta': 2.0, 'sides': 2}, {'delta': 1.0, 'sides': 1}]
    """
    if not space:
        return []
    rng = np.random.default_rng(0)
    columns = {}
    for name, values in space.items():
        try:
            # only the values are looked at: the name of any dimension would do
            checked = as_dimensions({"max_epochs": values})
        except OptionError as error:
            raise Fault("a space of non-empty lists and scipy distributions", str(error)) from error
        given = next(iter(checked[0].values()))
        if hasattr(given, "rvs"):
            columns[name] = [value.item() for value in given.rvs(size=N_DRAWS, random_state=rng)]
        else:
            last = len(given) - 1
            columns[name] = [given[place] for place in (0, last, last // 2)]
    return [
        draw
        for place, draw in enumerate({n: c[i] for n, c in columns.items()} for i in range(N_DRAWS))
        if draw not in [{n: c[i] for n, c in columns.items()} for i in range(place)]
    ]


def check_options(kind: str, space: Mapping[str, Any] | None, check: Callable[[dict[str, Any]], None]) -> Report | str:
    """Run a check with some options from the space."""
    tried = []
    for options in draws(kind, space):
        text = ", ".join(f"{name}={short(value)}" for name, value in options.items())
        try:
            check(options)
        except Fault as fault:
            raise Fault(*_with(fault, text)) from fault
        tried.append(text)
    return f"tried with {'; '.join(tried)}" if tried else Report("it was registered without a space of options")


def _with(fault: Fault, options: str) -> tuple[str, str]:
    expected, _, came = str(fault).removeprefix("expected ").partition("; came ")
    return f"{expected}, also with {options}", came


def check_facts(facts: Mapping[str, Any], known: Mapping[str, Callable[[Any], bool]]) -> Report | None:
    """What was registered beside the thing has names and values that autoreg reads."""
    for name, value in facts.items():
        if name in known:
            if not known[name](value):
                raise Fault(f"a value of '{name}' that the hook's page allows", repr(value))
            continue
        near = get_close_matches(name, list(known), n=1)
        if near:
            raise Fault(f"one of the facts {', '.join(known)}", f"'{name}'; did you mean '{near[0]}'?")
    others = [name for name in facts if name not in known]
    return Report(f"autoreg does not read {', '.join(others)}") if others else None


def takes(thing: Callable[..., Any], given: int) -> list[str]:
    """The names of a thing's options that have a default, after the arguments that come from the engine."""
    try:
        parameters = list(inspect.signature(thing).parameters.values())[given:]
    except (TypeError, ValueError):  # some built-in functions have no signature
        return []
    return [p.name for p in parameters if p.default is not p.empty]
