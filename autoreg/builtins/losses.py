"""Losses: ``(prediction, target)``, (..., B, O) each, to one value per row, (..., B), the mean over O.

`poisson`, `gamma` and `tweedie` read the prediction as the logarithm of the expected target. They are half of
scikit-learn's deviances, so that their gradient is that of a likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from autoreg.errors import check_option
from autoreg.hookspecs import hookimpl


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """The squared difference; the mean is predicted.

    >>> squared_error(torch.tensor([[1.0], [5.0]]), torch.tensor([[1.0], [2.0]]))
    tensor([0., 9.])
    """
    return (prediction - target).square().mean(-1)


def absolute_error(prediction: Tensor, target: Tensor) -> Tensor:
    """The absolute difference; the median is predicted.

    >>> absolute_error(torch.tensor([[1.0], [5.0]]), torch.tensor([[1.0], [2.0]]))
    tensor([0., 3.])
    """
    return (prediction - target).abs().mean(-1)


def huber(prediction: Tensor, target: Tensor, delta: float = 1.0) -> Tensor:
    """Half the squared difference up to `delta`, then a straight line.

    >>> huber(torch.tensor([[0.5], [3.0]]), torch.zeros(2, 1))
    tensor([0.1250, 2.5000])
    """
    check_option(delta > 0, "loss", "delta", delta, "greater than 0")
    return F.huber_loss(prediction, target, reduction="none", delta=delta).mean(-1)


def smooth_l1(prediction: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    """The absolute difference, rounded to a parabola below `beta`.

    >>> smooth_l1(torch.tensor([[0.5], [3.0]]), torch.zeros(2, 1), beta=2.0)
    tensor([0.0625, 2.0000])
    """
    check_option(beta >= 0, "loss", "beta", beta, "at least 0")
    return F.smooth_l1_loss(prediction, target, reduction="none", beta=beta).mean(-1)


def log_cosh(prediction: Tensor, target: Tensor) -> Tensor:
    """The logarithm of the hyperbolic cosine of the difference; no difference is too large for it.

    >>> log_cosh(torch.tensor([[0.0], [-100.0]]), torch.zeros(2, 1))
    tensor([ 0.0000, 99.3069])
    """
    size = (prediction - target).abs()
    return (size + F.softplus(-2 * size) - math.log(2)).mean(-1)


def quantile(prediction: Tensor, target: Tensor, quantile: float = 0.5) -> Tensor:
    """The pinball loss; the quantile of that level is predicted.

    >>> quantile(torch.tensor([[1.0], [-1.0]]), torch.zeros(2, 1), quantile=0.9)
    tensor([0.1000, 0.9000])
    """
    check_option(0 < quantile < 1, "loss", "quantile", quantile, "between 0 and 1")
    short = target - prediction
    return torch.maximum(quantile * short, (quantile - 1) * short).mean(-1)


def poisson(prediction: Tensor, target: Tensor) -> Tensor:
    """Half the Poisson deviance of exp(prediction), for targets of at least 0.

    >>> poisson(torch.tensor([[3.0], [0.0]]).log(), torch.tensor([[3.0], [0.0]]))
    tensor([0., 0.])
    """
    positive, excess = _log_ratio(prediction, target)
    return torch.where(positive, target * (torch.expm1(excess) - excess), prediction.exp()).mean(-1)


def gamma(prediction: Tensor, target: Tensor) -> Tensor:
    """Half the gamma deviance of exp(prediction), for targets above 0.

    >>> gamma(torch.tensor([[3.0], [8.0]]).log(), torch.tensor([[3.0], [4.0]]))
    tensor([0.0000, 0.1931])
    """
    excess = prediction - target.log()
    return (torch.expm1(-excess) + excess).mean(-1)


def tweedie(prediction: Tensor, target: Tensor, power: float = 1.5) -> Tensor:
    """Half the Tweedie deviance of exp(prediction).

    Parameters
    ----------
    prediction, target : Tensor, (..., B, O)
    power : float
        The variance is proportional to the mean to this power: 0 squared error, 1 Poisson, 2 gamma, between 1 and 2
        sums of gammas with many zeros, above 2 heavier tails.

    Examples
    --------
    >>> tweedie(torch.tensor([[3.0], [4.0]]).log(), torch.tensor([[3.0], [0.0]]))
    tensor([0., 4.])
    """
    check_option(power == 0 or power >= 1, "loss", "power", power, "0, or at least 1")
    if power == 0:
        return (prediction.exp() - target).square().mean(-1) / 2
    if power == 1:
        return poisson(prediction, target)
    if power == 2:
        return gamma(prediction, target)
    one, two = 1 - power, 2 - power
    positive, excess = _log_ratio(prediction, target)
    # a form without large terms that cancel where the prediction is near the target
    scale = torch.where(positive, target, 1.0).pow(two)
    above = scale * (torch.expm1(two * excess) / two - torch.expm1(one * excess) / one)
    return torch.where(positive, above, (two * prediction).exp() / two).mean(-1)


def _log_ratio(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Where the target is above zero, and there prediction minus log target; 0 elsewhere."""
    positive = target > 0
    return positive, torch.where(positive, prediction - torch.where(positive, target, 1.0).log(), 0.0)


# these three only change by a factor where target and prediction are divided by one
LOG_LINK: dict[str, Any] = {"point": torch.exp, "target_scaling": "mean"}


def _range_of_tweedie(power: float = 1.5) -> dict[str, Any]:
    return {"target_range": "above 0" if power >= 2 else "at least 0"}


@hookimpl
def register_losses(register: Callable[..., None]) -> None:
    register("squared_error", squared_error, statistic="mean")
    register("mse", squared_error, statistic="mean")
    register("absolute_error", absolute_error)
    register("mae", absolute_error)
    register("huber", huber, space={"delta": [0.5, 1.0, 2.0]})
    register("smooth_l1", smooth_l1, space={"beta": [0.1, 0.5, 1.0]})
    register("log_cosh", log_cosh)
    register("quantile", quantile)
    register("poisson", poisson, **LOG_LINK, target_range="at least 0")
    register("gamma", gamma, **LOG_LINK, target_range="above 0")
    register(
        "tweedie",
        tweedie,
        **LOG_LINK,
        space={"power": [1.2, 1.5, 1.8]},
        target_range="at least 0",
        facts=_range_of_tweedie,
    )
