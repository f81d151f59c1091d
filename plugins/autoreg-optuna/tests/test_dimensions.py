"""A space becomes Optuna's, and what Optuna answers becomes a candidate again."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from autoreg_optuna.dimensions import Subspaces, dimension
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy import stats
from torch import nn

from autoreg.errors import OptionError
from autoreg.space import Candidate

EXACT = [
    (stats.uniform(2.0, 3.0), FloatDistribution(2.0, 5.0)),
    (stats.loguniform(1e-4, 1e-1), FloatDistribution(1e-4, 1e-1, log=True)),
    (stats.reciprocal(2.0, 8.0), FloatDistribution(2.0, 8.0, log=True)),
    (stats.randint(1, 5), IntDistribution(1, 4)),
    ([1, 2, 3], IntDistribution(1, 3)),
    ([64, 128, 192], IntDistribution(64, 192, step=64)),
    ([np.int64(1), np.int64(2)], IntDistribution(1, 2)),
    ([64, 256], CategoricalDistribution([64, 256])),
    ([64, 128, 256], CategoricalDistribution([64, 128, 256])),
    ([3, 2, 1], CategoricalDistribution([3, 2, 1])),
    ([0.0, 0.1, None], CategoricalDistribution([0.0, 0.1, None])),
    ([True, False], CategoricalDistribution([True, False])),
    (["relu", "silu"], CategoricalDistribution(["relu", "silu"])),
    ([1, True], CategoricalDistribution(["1", "True"])),
    ([nn.ReLU, nn.ReLU, "relu"], CategoricalDistribution(["ReLU", "ReLU #2", "relu"])),
]


@pytest.mark.parametrize(("values", "wanted"), EXACT)
def test_lists_and_plain_distributions_are_optunas_own(values: Any, wanted: Any) -> None:
    found = dimension("network__option", values)
    assert found.distribution == wanted
    assert found.label == "network__option"


@pytest.mark.parametrize("values", [values for values, _ in EXACT if isinstance(values, list)])
def test_a_list_gives_its_own_objects_and_no_others(values: list[Any]) -> None:
    found = dimension("network__option", values)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [found.ask(study.ask()) for _ in range(60)]
    assert {id(value) for value in drawn} <= {id(value) for value in values}
    assert len({repr(value) for value in drawn}) == len({repr(value) for value in values})
    for value in values:
        assert found.decode(found.encode(value)) == value


@pytest.mark.parametrize(
    "values", [stats.norm(3, 2), stats.beta(2, 8), stats.loguniform(1, 10, loc=5), stats.expon(), stats.poisson(3)]
)
def test_any_other_distribution_is_drawn_by_its_quantiles(values: Any) -> None:
    found = dimension("network__option", values)
    assert found.label == "network__option (quantile)"
    assert found.distribution == FloatDistribution(0.0, 1.0)
    quantiles = np.linspace(0.01, 0.99, 99)
    drawn = [found.decode(quantile) for quantile in quantiles]
    assert drawn == pytest.approx(values.ppf(quantiles))
    assert np.isfinite([found.decode(0.0), found.decode(1.0)]).all()
    assert found.decode(found.encode(drawn[50])) == pytest.approx(drawn[50])
    assert type(drawn[0]) is (int if values.dist.name == "poisson" else float)


def test_a_distribution_without_quantiles_is_refused() -> None:
    class Dice:
        def rvs(self, random_state: Any = None) -> int:
            return 4

    with pytest.raises(OptionError, match=r"space network__depth=.*: this strategy needs a list or a distribution"):
        dimension("network__depth", Dice())


CONDITIONS = [
    {"network": ["mlp"], "network__depth": [1, 2, 3], "learning_rate": stats.loguniform(1e-4, 1e-2)},
    {"network": ["resnet"], "network__depth": [4, 8, 16], "learning_rate": stats.loguniform(1e-4, 1e-2)},
    {"network": ["linear"], "learning_rate": stats.loguniform(1e-4, 1e-2)},
]


def test_alternatives_are_conditional_subspaces() -> None:
    spaces = Subspaces(CONDITIONS)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(30)]
    for trial in trials:
        candidate = spaces.ask(trial)
        own = next(one for one in CONDITIONS if one["network"] == [candidate["network"]])
        assert candidate.parameters.keys() == own.keys()
        if "network__depth" in own:
            assert candidate["network__depth"] in own["network__depth"]
        assert spaces.params(candidate) == trial.params
        assert spaces.candidate(trial.params) == candidate
        assert spaces.distributions(trial.params) == trial.distributions
    names = {frozenset(trial.params) for trial in trials}
    # one name cannot have two distributions in one study
    assert names == {
        frozenset({"network", "learning_rate", "network__depth [network=mlp]"}),
        frozenset({"network", "learning_rate", "network__depth [network=resnet]"}),
        frozenset({"network", "learning_rate"}),
    }


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([{"network": ["mlp"]}], [{}]),
        ([{"network": [n], "encoding": [e]} for n in "ab" for e in "xy"],
         [{"network": n, "encoding": e} for n in "ab" for e in "xy"]),
        ([{"network": [n], "encoding": [e]} for n, e in ("ax", "ay", "bx")], [{"space": i} for i in (1, 2, 3)]),
        ([{"network": [nn.ReLU]}, {"network": ["x"]}], [{"network": "ReLU"}, {"network": "x"}]),
        ([{"learning_rate": [0.1, 0.2]}, {"activation": ["relu"]}], [{"space": 1}, {"space": 2}]),
    ],
)  # fmt: skip
def test_what_tells_alternatives_apart(given: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert [one.place for one in Subspaces(given).all] == wanted


def test_what_is_not_of_the_space_has_no_parameters() -> None:
    spaces = Subspaces(CONDITIONS)
    good = {"network": "mlp", "network__depth": 2, "learning_rate": 1e-3}
    assert spaces.params(Candidate(good)) is not None
    for bad in ({"network__depth": 4}, {"learning_rate": 1.0}, {"activation": "relu"}, {"network": "linear"}):
        assert spaces.params(Candidate({**good, **bad})) is None
    assert spaces.candidate({"network": "other"}) is None
    assert spaces.candidate({"network": "mlp"}) is None


def test_how_many_candidates_there_are() -> None:
    lists = Subspaces([{"network": ["mlp"], "network__depth": [1, 2, 3], "activation": ["relu", "silu"]}, {"a": ["b"]}])
    assert lists.size == 7
    assert Subspaces([{}]).size == 1
    assert Subspaces(CONDITIONS).size == float("inf")


@pytest.mark.parametrize(
    "values", [stats.poisson(3), stats.binom(4, 0.5), stats.geom(0.3), stats.lognorm(1.0), stats.expon()], ids=repr
)
def test_the_ends_of_the_quantiles_are_within_the_distribution(values: Any) -> None:
    found = dimension("network__option", values)
    low, high = values.support()
    for quantile in (0.0, 1.0):
        value = found.decode(quantile)
        assert low <= value <= high
        assert np.isfinite(value)
        assert value > 0 or hasattr(values.dist, "pmf")
