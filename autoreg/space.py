"""Candidates and the space they are drawn from: names, numbers and distributions, no tensors.

A candidate is a set of `NeuralRegressor` parameters; an option of a named part is written ``network__depth``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from itertools import product
from typing import Any

from autoreg.errors import OptionError, unknown

PARTS = ("encoding", "network", "activation", "loss", "optimizer")
"""Parameters whose value names a thing from the registry."""

DEFAULTS: dict[str, Any] = {
    "network": "mlp",
    "activation": "relu",
    "loss": "squared_error",
    "optimizer": "adamw",
    "encoding": "plain",
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "max_epochs": 100,
    "batch_size": "auto",
    "subsample": 1.0,
    "target_scaling": "standard",
    "early_stopping": False,
    "n_iter_no_change": 10,
}
"""What `NeuralRegressor` does when nothing is said; its constructor shows the same values."""

LATER = ("subsample",)
"""Parameters that came later: at their defaults they are no part of fingerprints, from which seeds follow."""

COMPANIONS = "include"
"""What is done with companions when nothing is said, on the command line as in Python."""

N_FOLDS = 5
"""Of the cross-validation, when nothing is said."""

EFFORTS = ("quick", "balanced", "thorough")

PRECISIONS = ("auto", "float32", "bfloat16")

NAME_LISTS = {
    "encodings": "encoding", "networks": "network", "activations": "activation",
    "optimizers": "optimizer", "losses": "loss",
}  # fmt: skip
"""`AutoRegressor`'s lists of names, and the parameter that each is searched as."""

SEED = "random_state"
"""The one parameter that a candidate may have and has no default here: the search's own takes its place."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One point of the search space.

    Parameters
    ----------
    parameters : mapping of str to value
        `NeuralRegressor` parameters, options of parts as ``part__option``.

    Examples
    --------
    >>> c = Candidate({"learning_rate": 0.01, "network__depth": 2})
    >>> c["learning_rate"], c["activation"], c.options("network")
    (0.01, 'relu', {'depth': 2})
    >>> c.label
    'mlp(depth=2) relu lr 0.01'
    """

    parameters: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name] if name in self.parameters else DEFAULTS[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Candidate) and dict(self.parameters) == dict(other.parameters)

    def __hash__(self) -> int:
        return hash(tuple(sorted((name, repr(value)) for name, value in self.parameters.items())))

    def options(self, part: str) -> dict[str, Any]:
        """Options of one part, without the prefix."""
        prefix = part + "__"
        return {name[len(prefix) :]: value for name, value in self.parameters.items() if name.startswith(prefix)}

    @cached_property
    def fingerprint(self) -> int:
        """A number that tells candidates apart, whatever their order, process or machine.

        >>> Candidate({"activation": "relu"}).fingerprint == Candidate({}).fingerprint
        True
        """
        named = {name: _plain(value) for name, value in {**DEFAULTS, **self.parameters}.items()}
        for name in LATER:
            if self[name] == DEFAULTS[name]:
                del named[name]
        return int.from_bytes(sha256(repr(sorted(named.items())).encode()).digest()[:8], "big")

    @cached_property
    def label(self) -> str:
        """A short description that tells candidates apart."""
        sizes = ", ".join(f"{key}={short(value)}" for key, value in self.options("network").items())
        slopes = ", ".join(f"{key}={short(value)}" for key, value in self.options("activation").items())
        words = [
            short(self["network"]) + (f"({sizes})" if sizes else ""),
            short(self["activation"]) + (f"({slopes})" if slopes else ""),
        ]
        if self["encoding"] != DEFAULTS["encoding"]:
            words.append(short(self["encoding"]))
        if self["loss"] != DEFAULTS["loss"]:
            words.append(short(self["loss"]))
        if self["target_scaling"] != DEFAULTS["target_scaling"]:
            words.append(f"{self['target_scaling'] or 'raw'} target")
        if self["optimizer"] != DEFAULTS["optimizer"]:
            words.append(short(self["optimizer"]))
        words.append(f"lr {self['learning_rate']:.4g}")
        return " ".join([*words, f"seed {self.parameters[SEED]}"] if SEED in self.parameters else words)


def _plain(value: Any) -> str:
    """A value as text that is the same in every process, and once a file has held it; an object by its name.

    >>> import numpy as np
    >>> _plain(np.array([1, 2])), _plain((1, 2)), _plain(np.float64(0.5)), _plain(len)
    ('[1, 2]', '[1, 2]', '0.5', 'len')
    """
    if hasattr(value, "shape") and hasattr(value, "tolist"):  # NumPy's numbers and arrays
        value = value.tolist()
    if isinstance(value, tuple):  # as a file gives it back
        value = list(value)
    return repr(value) if isinstance(value, (str, int, float, bool, type(None))) else short(value)


def short(value: Any) -> str:
    """A value as a person would write it in a table.

    >>> short(0.1 + 0.2), short("relu"), short(len), short(partial(len))
    ('0.3', 'relu', 'len', 'len')
    """
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (str, int, bool, type(None), list, tuple, dict)):
        return str(value)
    if isinstance(value, partial):
        return short(value.func)
    if hasattr(value, "__name__"):
        return value.__name__
    # such as LeakyReLU(negative_slope=0.2): what tells two of one class apart, where it is short enough
    text = repr(value)
    tells = len(text) <= 40 and "\n" not in text and " at 0x" not in text
    return text.removesuffix("()") if tells else type(value).__name__


@dataclass(frozen=True)
class Time:
    """What a search with a time limit may still spend on networks.

    Attributes
    ----------
    seconds : float
    at_once : int
        Stacks that train side by side, each on one core.
    seconds_for : function
        ``seconds_for(candidate)``: how long one core takes for one epoch of a candidate on all folds, measured; NaN
        where that fails.
    """

    seconds: float
    at_once: int
    seconds_for: Callable[[Candidate], float]


@dataclass(frozen=True)
class Space:
    """What a strategy may draw from.

    Attributes
    ----------
    dimensions : tuple of mappings
        Parameter name -> list of values or scipy distribution. Several mappings are alternatives, as a list of
        dicts is for scikit-learn's GridSearchCV.
    size : mapping
        Facts about the table that a plan may depend on: ``n_rows``, ``n_features``, ``n_folds``, ...
    effort : str
        ``quick``, ``balanced`` or ``thorough``.
    scoring : str
        What the results' scores are, by scikit-learn's name; those of ``neg_...`` are negated errors.
    objective : mapping
        What a model that is scored so is best fitted to, in the words of scikit-learn's estimators: ``loss``, which is
        ``squared_error``, ``absolute_error`` or ``quantile``, and for the last ``quantile``, its level.
    prior : function or None
        ``prior(space, n)`` gives alternatives, as `dimensions` are, for a plan of n candidates: what `full` puts
        where the user gives nothing.
    declared : mapping
        Part -> name -> option -> values: the ``space`` that each thing was registered with.
    time : Time or None
        What the search may still spend; None where its size follows from the effort.
    data : function
        ``data()``, a checksum of rows, targets, weights and folds: for strategies that keep something from one search
        to the next.
    """

    dimensions: tuple[Mapping[str, Any], ...]
    size: Mapping[str, int]
    effort: str = "balanced"
    scoring: str = ""
    prior: Callable[[Space, int], Sequence[Mapping[str, Any]]] | None = None
    declared: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    time: Time | None = None
    data: Callable[[], str] = field(default=lambda: "", compare=False)
    objective: Mapping[str, Any] = field(default_factory=dict)

    def options_of(self, part: str, value: Any) -> dict[str, Any]:
        """The options that a part declares to be worth a search, as dimensions.

        >>> space = Space(({},), {}, declared={"activation": {"snake": {"frequency": [0.5, 1.0]}}})
        >>> space.options_of("activation", "snake"), space.options_of("activation", "relu")
        ({'activation__frequency': [0.5, 1.0]}, {})
        """
        known = self.declared.get(part, {}).get(value, {}) if isinstance(value, str) else {}
        return {f"{part}__{option}": values for option, values in known.items()}

    def full(self, n: int) -> tuple[dict[str, Any], ...]:
        """The dimensions, and the prior's where the user gives none, for a plan of n candidates.

        A part that the prior does not know takes none of the options of the one that it replaces; it brings those that
        it declares.

        Examples
        --------
        >>> def prior(space, n):
        ...     return [{"encoding": ["pbld"], "encoding__sigma": [0.1, 1.0], "max_epochs": [100 // n]}]
        >>> Space(({"encoding": ["pbld", "plain"]},), {}, prior=prior).full(4)
        ({'encoding': ['pbld'], 'encoding__sigma': [0.1, 1.0], 'max_epochs': [25]},
         {'max_epochs': [25], 'encoding': ['plain']})
        """
        found: list[dict[str, Any]] = []
        alternatives = self.prior(self, n) if self.prior else ({},)
        # parts without options in the prior are one dimension, whatever their values
        parts = {
            part: [value for one in alternatives for value in one.get(part, ())]
            for part in PARTS
            if any(name.startswith(f"{part}__") for one in alternatives for name in one)
        }
        for given in self.dimensions:
            for known in alternatives:
                found += [one for one in self._beside(known, given, parts) if one not in found]
        return tuple(found)

    def _beside(
        self, known: Mapping[str, Any], given: Mapping[str, Any], parts: Mapping[str, list[Any]]
    ) -> Iterator[dict[str, Any]]:
        """What is given, with what remains of one alternative of a prior: one with its parts, and those with others.

        `parts` are the values that any alternative knows, of the parts that have options.
        """
        splits = []
        for part in PARTS:
            if isinstance(given.get(part), list):
                same = [value for value in given[part] if part in parts and value in known.get(part, ())]
                other = [value for value in given[part] if value not in parts.get(part, ())]
                # what has options of its own has to stand alone
                alone = [[value] for value in other if self.options_of(part, value)]
                others = [value for value in other if not self.options_of(part, value)]
                splits.append([(part, values) for values in (same, others, *alone) if values])
        for choice in product(*splits):
            chosen = dict(choice)
            replaced = {part for part, values in chosen.items() if values[0] not in known.get(part, ())}
            kept = {name: values for name, values in known.items() if name.split("__")[0] not in replaced}
            own = {name: v for part in replaced for name, v in self.options_of(part, chosen[part][0]).items()}
            yield {**kept, **own, **given, **chosen}


def as_dimensions(space: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> tuple[dict[str, Any], ...]:
    """Bring a user's space to a tuple of dicts and check its shape.

    Raises
    ------
    OptionError
        For a dimension that is neither a non-empty list nor a distribution.
    """
    alternatives = [space or {}] if isinstance(space, Mapping) or space is None else list(space)
    return tuple({name: _values(name, given) for name, given in one.items()} for one in alternatives)


def _values(name: str, given: Any) -> Any:
    """A list of values, or a distribution."""
    if not hasattr(given, "rvs"):
        # made a list before it is looked at: a generator can be read only once
        values = [] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
        if not values:
            raise OptionError(f"space {name}={given!r}: give a non-empty list of values or a scipy distribution")
        given = values
    check_parameter(name)
    return given


def check_parameter(name: str) -> None:
    """Raise `OptionError` unless `name` can be a dimension of the space."""
    part = name.split("__", 1)[0]
    if name not in (*DEFAULTS, SEED) and not ("__" in name and part in PARTS):
        known = [*DEFAULTS, SEED, *(f"{part}__OPTION" for part in PARTS)]
        raise OptionError(unknown("search dimension", name, known))


def parse_option(text: str) -> tuple[str, Any]:
    """Read ``name=value``, where the value may hold further equals signs.

    >>> parse_option("batch=8"), parse_option("storage=sqlite:///trials.db?timeout=5")
    (('batch', 8), ('storage', 'sqlite:///trials.db?timeout=5'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise OptionError(f"option '{text}': write NAME=VALUE")
    return name.strip(), _literal(value)


_RANGE = re.compile(r"^\s*(?P<low>[^,\s]+?)\s*\.\.\s*(?P<high>[^,:\s]+)\s*(?::\s*(?P<kind>\w+))?\s*$")


def parse_dimension(text: str) -> tuple[str, Any]:
    """Read ``name=values`` as the command line's ``--space`` gives it.

    Parameters
    ----------
    text : str
        ``learning_rate=1e-4..1e-1:log``, ``network__depth=1..4`` or ``activation=relu,silu``.

    Returns
    -------
    name : str
    values : list or scipy distribution

    Raises
    ------
    OptionError
        When it cannot be read.

    Examples
    --------
    >>> parse_dimension("network__depth=1,2,3")
    ('network__depth', [1, 2, 3])
    >>> name, distribution = parse_dimension("learning_rate=1e-4..1e-1:log")
    >>> [float(end) for end in distribution.support()]
    [0.0001, 0.1]
    """
    from scipy import stats

    name, equals, values = text.partition("=")
    name = name.strip()
    if not equals or not values.strip():
        raise OptionError(f"space '{text}': write NAME=a,b,c or NAME=low..high, with :log for a log scale")
    check_parameter(name)
    match = _RANGE.match(values)
    if not match:
        return name, [_literal(value) for value in values.split(",")]
    low, high, kind = _literal(match["low"]), _literal(match["high"]), match["kind"] or "uniform"
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)) or not low < high:
        raise OptionError(f"space '{text}': a range needs two numbers, the lower one first")
    if kind == "log" and low <= 0:
        raise OptionError(f"space '{text}': a log scale starts above zero")
    if kind not in ("uniform", "log"):
        raise OptionError(f"space '{text}': {unknown('scale', kind, ['uniform', 'log'])}")
    if isinstance(low, int) and isinstance(high, int) and kind == "uniform":
        return name, stats.randint(low, high + 1)
    return name, stats.loguniform(low, high) if kind == "log" else stats.uniform(low, high - low)


def _literal(text: str) -> Any:
    """A number, true, false or null where it reads as one, otherwise the text."""
    text = text.strip()
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false", "none", "null") else text)
    except ValueError:
        pass
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        return text
