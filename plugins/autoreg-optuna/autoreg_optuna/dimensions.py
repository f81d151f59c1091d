"""autoreg's dimensions as Optuna's distributions, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from autoreg.errors import OptionError
from autoreg.space import Candidate, short

if TYPE_CHECKING:  # importing Optuna takes a second, and every command of autoreg loads this package
    from optuna import Trial
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Dimension:
    """One dimension of a space as Optuna is asked for it.

    Attributes
    ----------
    name : str
        `NeuralRegressor`'s parameter.
    label : str
        Optuna's parameter.
    decode : function
        From Optuna's value to the parameter's.
    encode : function
        Back; raises ValueError for a value that is not in it.
    """

    name: str
    label: str
    distribution: BaseDistribution
    decode: Callable[[Any], Any]
    encode: Callable[[Any], Any]

    def ask(self, trial: Trial) -> Any:
        """The parameter's value for a trial."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        given = self.distribution
        if isinstance(given, CategoricalDistribution):
            return self.decode(trial.suggest_categorical(self.label, given.choices))
        if isinstance(given, IntDistribution):
            return self.decode(trial.suggest_int(self.label, given.low, given.high, step=given.step))
        assert isinstance(given, FloatDistribution)
        return self.decode(trial.suggest_float(self.label, given.low, given.high, log=given.log))


def dimension(name: str, values: Any) -> Dimension:
    """A list or a scipy distribution as Optuna's.

    Examples
    --------
    >>> from scipy import stats
    >>> dimension("learning_rate", stats.loguniform(1e-3, 1e-1)).distribution
    FloatDistribution(high=0.1, log=True, low=0.001, step=None)
    >>> dimension("network__depth", [1, 2, 3]).distribution
    IntDistribution(high=3, log=False, low=1, step=1)
    >>> dimension("activation", ["relu", "silu"]).distribution
    CategoricalDistribution(choices=('relu', 'silu'))
    >>> dimension("network__dropout", stats.beta(2, 8)).label
    'network__dropout (quantile)'
    """
    return _from_distribution(name, values) if hasattr(values, "rvs") else _from_list(name, list(values))


def _from_list(name: str, values: list[Any]) -> Dimension:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    step = _even_step(values)
    distribution: BaseDistribution
    if step:
        distribution = IntDistribution(int(values[0]), int(values[-1]), step=step)
        choices = [int(value) for value in values]
    else:
        choices = _choices(values)
        distribution = CategoricalDistribution(choices)
    return Dimension(
        name, name, distribution, lambda choice: values[choices.index(choice)], lambda v: choices[values.index(v)]
    )


def _even_step(values: list[Any]) -> int:
    """The step of a rising, even list of whole numbers; 0 for any other list."""
    if not all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in values):
        return 0
    steps = {int(b) - int(a) for a, b in pairwise(values)}
    # two numbers far apart, such as widths, are choices
    return steps.pop() if len(steps) == 1 and min(steps) > 0 and (len(values) > 2 or min(steps) == 1) else 0


def _choices(values: list[Any]) -> list[Any]:
    """What a storage can keep of a list: plain values as they are, anything else by a label of its own."""
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    # 1, 1.0 and True are equal, and one key to Optuna
    if all(isinstance(v, (str, int, float, bool, type(None))) for v in plain) and len({*plain}) == len(plain):
        return plain
    labels: list[str] = []
    for value in values:
        label = short(value)
        labels.append(label if label not in labels else f"{label} #{len(labels) + 1}")
    return labels


def _from_distribution(name: str, values: Any) -> Dimension:
    from optuna.distributions import FloatDistribution, IntDistribution

    if not hasattr(values, "ppf") or not hasattr(values, "cdf"):
        raise OptionError(f"space {name}={values!r}: this strategy needs a list or a distribution of scipy.stats")
    kind = getattr(getattr(values, "dist", None), "name", "")
    low, high = (float(end) for end in values.support())
    whole = kind == "randint"
    log = kind in ("loguniform", "reciprocal")
    # a shifted one is not logarithmic any more
    if whole or kind == "uniform" or (log and math.isclose(values.ppf(0.5), math.sqrt(low * high), rel_tol=1e-9)):
        number = int if whole else float

        def encode(value: Any) -> Any:
            if not low <= value <= high:
                raise ValueError(f"{value} is not between {low} and {high}")
            return number(value)

        whole_range = IntDistribution(int(low), int(high)) if whole else None
        return Dimension(name, name, whole_range or FloatDistribution(low, high, log=log), number, encode)
    discrete = hasattr(values.dist, "pmf") if hasattr(values, "dist") else hasattr(values, "pmf")

    def decode(quantile: float) -> Any:
        # the ends are infinite where there is no bound, and outside of what whole numbers can be drawn
        value = float(values.ppf(min(max(quantile, 1e-6), 1 - 1e-6)))
        return round(max(value, low)) if discrete else value

    def quantile(value: Any) -> float:
        return float(values.cdf(value))

    return Dimension(name, f"{name} (quantile)", FloatDistribution(0.0, 1.0), decode, quantile)


@dataclass(frozen=True)
class Subspace:
    """One alternative of a space: what is fixed in it, and what is asked for.

    Attributes
    ----------
    place : mapping
        What Optuna's parameters that choose an alternative say for this one.
    constants : mapping
    dimensions : sequence of Dimension
    """

    place: Mapping[str, Any]
    constants: Mapping[str, Any]
    dimensions: Sequence[Dimension]

    def encode(self, candidate: Candidate) -> dict[str, Any] | None:
        """A candidate's values by Optuna's names, or None when it is not of this subspace."""
        given = dict(candidate.parameters)
        try:
            if any(given.pop(name) != value for name, value in self.constants.items()):
                return None
            encoded = {own.label: own.encode(given.pop(own.name)) for own in self.dimensions}
        except (KeyError, ValueError, TypeError):
            return None
        return None if given else {**self.place, **encoded}

    def decode(self, params: Mapping[str, Any]) -> Candidate:
        """The candidate of a trial's parameters."""
        found = {own.name: own.decode(params[own.label]) for own in self.dimensions}
        return Candidate({**self.constants, **found})


class Subspaces:
    """All alternatives of a space.

    Where the values of one parameter, or of several with all their combinations, tell the alternatives apart, Optuna is
    asked for these; otherwise for the number of the alternative, as ``space``.

    Examples
    --------
    >>> given = [{"network": ["mlp"], "network__depth": [1, 2, 3], "max_epochs": [9]}, {"network": ["linear"]}]
    >>> spaces = Subspaces(given)
    >>> spaces.which
    {'network': CategoricalDistribution(choices=('mlp', 'linear'))}
    >>> spaces.params(Candidate({"network": "mlp", "network__depth": 2, "max_epochs": 9}))
    {'network': 'mlp', 'network__depth': 2}
    """

    def __init__(self, alternatives: Sequence[Mapping[str, Any]]) -> None:
        from optuna.distributions import CategoricalDistribution

        fixed = [
            {name: values[0] for name, values in one.items() if not hasattr(values, "rvs") and len(values) == 1}
            for one in alternatives
        ]
        places = _places(fixed)
        asked = [
            [dimension(name, values) for name, values in one.items() if name not in constants]
            for one, constants in zip(alternatives, fixed, strict=True)
        ]
        by_label = sorted((own for dims in asked for own in dims), key=lambda own: own.label)
        # a study has one distribution for one name
        differing = {
            label for label, group in groupby(by_label, lambda own: own.label)
            if len({repr(own.distribution) for own in group}) > 1
        }  # fmt: skip
        self.all = [
            Subspace(place, constants, [_renamed(own, place) if own.label in differing else own for own in dims])
            for place, constants, dims in zip(places, fixed, asked, strict=True)
        ]
        self.which = {
            name: CategoricalDistribution(list(dict.fromkeys(place[name] for place in places))) for name in places[0]
        }

    @property
    def size(self) -> float:
        """How many candidates there are."""
        return sum(math.prod(_count(own.distribution) for own in one.dimensions) for one in self.all)

    def ask(self, trial: Trial) -> Candidate:
        """Ask a trial for all values of one alternative."""
        one = self._at({name: trial.suggest_categorical(name, own.choices) for name, own in self.which.items()})
        return Candidate({**one.constants, **{own.name: own.ask(trial) for own in one.dimensions}})

    def params(self, candidate: Candidate) -> dict[str, Any] | None:
        """A candidate's values by Optuna's names, or None when it is not of this space."""
        return next((found for one in self.all if (found := one.encode(candidate)) is not None), None)

    def candidate(self, params: Mapping[str, Any]) -> Candidate | None:
        """The candidate of a trial's parameters, or None when they are not of this space."""
        try:
            return self._at(params).decode(params)
        except (KeyError, ValueError):
            return None

    def distributions(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """Optuna's distribution of each of its names."""
        return {**self.which, **{own.label: own.distribution for own in self._at(params).dimensions}}

    def _at(self, params: Mapping[str, Any]) -> Subspace:
        place = {name: params[name] for name in self.which}
        return self.all[[one.place for one in self.all].index(place)]


def _count(distribution: Any) -> float:
    """How many values a distribution has."""
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(distribution, FloatDistribution):
        return math.inf
    if isinstance(distribution, IntDistribution):
        return (distribution.high - distribution.low) // distribution.step + 1
    return len(distribution.choices)


def _renamed(own: Dimension, place: Mapping[str, Any]) -> Dimension:
    where = ", ".join(f"{name}={value}" for name, value in place.items())
    return Dimension(own.name, f"{own.label} [{where}]", own.distribution, own.decode, own.encode)


def _places(fixed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each alternative the values of those constants that tell it from the others."""
    if len(fixed) == 1:
        return [{}]
    shared = [name for name in fixed[0] if all(name in one for one in fixed)]
    columns = {name: _marks([one[name] for one in fixed]) for name in shared}
    telling = [name for name in shared if len({*columns[name]}) > 1]
    for names in [*([name] for name in telling), telling]:
        places = [dict(zip(names, values, strict=True)) for values in zip(*(columns[n] for n in names), strict=True)]
        every = math.prod(len({*columns[name]}) for name in names)
        if len(places) == every == len({repr(place) for place in places}):
            return places
    return [{"space": number} for number in range(1, len(fixed) + 1)]


def _marks(values: list[Any]) -> list[Any]:
    """What a storage can keep of each value; equal only for equal ones."""
    distinct: list[Any] = []
    for value in values:
        if not any(value is other or value == other for other in distinct):
            distinct.append(value)
    marks = _choices(distinct)
    return [marks[next(i for i, other in enumerate(distinct) if value is other or value == other)] for value in values]
