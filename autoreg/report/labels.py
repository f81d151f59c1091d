"""Short names of candidates: what all have in common is said once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autoreg.results import CandidateResult
from autoreg.space import DEFAULTS, PARTS, SEED, Candidate, short

WIDTH = 58
"""Letters of a model's description that the terminal shows."""

ORDER = ("network", "activation", *(part for part in PARTS if part not in ("network", "activation")))

TOLD_OTHERWISE = ("learning_rate", "max_epochs")
"""The rate comes last, and a leaderboard has the epochs in a column."""


def shortened(name: str) -> str:
    """A description cut in its middle: labels of candidates differ at both ends."""
    half = (WIDTH - 1) // 2
    return name if len(name) <= WIDTH else f"{name[:half]}…{name[-half:]}"


def short_names(rows: Iterable[CandidateResult]) -> tuple[str, dict[int, str]]:
    """What a leaderboard's candidates have in common, and a name for each row that fits into a line.

    Where the candidates' own descriptions fit, nothing is in common and they are the names.

    Returns
    -------
    common : str
    names : dict
        By the rows' index.

    Examples
    --------
    >>> long = {"network": "realmlp", "network__width": 128, "network__depth": 3, "network__residual": True}
    >>> some = [Candidate({**long, "network__dropout": rate, "encoding": "ple"}) for rate in (0.1, 0.25)]
    >>> short_names(CandidateResult(i, one, one.label, (), ()) for i, one in enumerate(some))
    ('realmlp(width=128, depth=3, residual=True) relu ple', {0: 'dropout=0.1 lr 0.001', 1: 'dropout=0.25 lr 0.001'})
    """
    rows = list(rows)
    names = {row.index: shortened(row.name) for row in rows}
    known = [(row.index, row.candidate) for row in rows if row.candidate is not None]
    if len(known) < 2 or all(len(row.name) <= WIDTH for row in rows if row.candidate is not None):
        return "", names
    common, own = told_apart([candidate for _, candidate in known])
    return common, names | {index: shortened(text) for (index, _), text in zip(known, own, strict=True)}


def told_apart(candidates: Sequence[Candidate]) -> tuple[str, list[str]]:
    """What candidates have in common, and what tells each from the others; the learning rate is always told."""
    always = ("network", "activation", "learning_rate")
    given = [{name: one[name] for name in always} | dict(one.parameters) for one in candidates]
    names = list(dict.fromkeys(name for one in given for name in one))
    values = {name: {repr(one.get(name, DEFAULTS.get(name))) for one in given} for name in names}
    equal = {name for name in names if len(values[name]) == 1 and name != "learning_rate"}
    told = (*PARTS, "target_scaling", SEED)
    common = {name: given[0][name] for name in names if name in equal and name.split("__")[0] in told}
    return _words(common), [_words({n: v for n, v in one.items() if n not in equal}) for one in given]


def _words(parameters: Mapping[str, Any]) -> str:
    words = []
    for part in ORDER:
        own = {name.partition("__")[2]: v for name, v in parameters.items() if name.startswith(f"{part}__")}
        options = [f"{name}={_figure(value)}" for name, value in own.items()]
        if part in parameters:
            words.append(_figure(parameters[part]) + (f"({', '.join(options)})" if options else ""))
        else:
            words += options
    for name, value in parameters.items():
        if name.split("__")[0] not in (*PARTS, *TOLD_OTHERWISE):
            words.append(_setting(name, value))
    if "learning_rate" in parameters:
        words.append(f"lr {_figure(parameters['learning_rate'])}")
    return " ".join(words)


def _setting(name: str, value: Any) -> str:
    if name == "target_scaling":
        return f"{value or 'raw'} target"
    return f"seed {value}" if name == SEED else f"{name}={_figure(value)}"


def _figure(value: Any) -> str:
    if isinstance(value, Mapping) and isinstance(value.get("label"), str):
        return value["label"]  # an object of the user's, as a file tells of it
    return f"{value:.3g}" if isinstance(value, float) else short(value)
