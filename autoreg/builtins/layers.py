"""Layers written once over leading axes: the same code serves one network and a stack of M.

In a stack every parameter and buffer has a leading M axis and x is (M, B, ...).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from autoreg.chains import UNCHANGED, Inner, inner_of, sum_rows
from autoreg.errors import OptionError
from autoreg.gradients import Role


def before_rows(values: Tensor, x: Tensor) -> Tensor:
    """Shape per-unit values, (D,) or (M, D), so that they broadcast over x, (B, ..., D) or (M, B, ..., D).

    Examples
    --------
    >>> before_rows(torch.ones(4), torch.zeros(5, 4)).shape, before_rows(torch.ones(2, 4), torch.zeros(2, 5, 4)).shape
    (torch.Size([1, 4]), torch.Size([2, 1, 4]))
    """
    return values.reshape(*values.shape[:-1], *[1] * (x.ndim - values.ndim), values.shape[-1])


class Dropout(nn.Module):
    """Dropout whose mask depends on the member's seed, its step and the place in x, and on nothing else.

    A counter hash gives 32 random bits for every four elements, eight for each. So a rate is realised in steps of
    1/256, and the elements kept are scaled by exactly one over the realised share.

    Parameters
    ----------
    rate : float
        Share of elements set to zero, 0 <= rate < 1.

    Attributes
    ----------
    rate : Tensor, () or (M,)
        May change during training.
    seed : Tensor, () or (M,), int64
        The layer's own stream of the member, 31 bits; the engine sets it. -1: torch's generator is used instead.
    step : Tensor, () or (M,), int64
        The engine adds one after each training step of the member.

    Examples
    --------
    >>> layer = Dropout(0.25)
    >>> layer.seed.fill_(7)
    tensor(7)
    >>> layer(torch.ones(2, 6))
    tensor([[1.3333, 1.3333, 1.3333, 1.3333, 1.3333, 1.3333],
            [0.0000, 1.3333, 1.3333, 1.3333, 1.3333, 1.3333]])
    >>> layer.eval()(torch.ones(2, 2))
    tensor([[1., 1.],
            [1., 1.]])
    """

    leading_axes = True

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise OptionError(f"dropout={rate!r}: give a share of at least 0 and below 1")
        self.register_buffer("rate", torch.tensor(float(rate)))
        self.register_buffer("seed", torch.tensor(-1), persistent=False)
        self.register_buffer("step", torch.tensor(0), persistent=False)
        self._asked: tuple[Tensor, int, bool] | None = None

    rate: Tensor
    seed: Tensor
    step: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not self._drops():
            return x
        if self.rate.ndim == 0 and int(self.seed) < 0:
            return F.dropout(x, float(self.rate))
        return x * self._factors(x)

    def within_run(self) -> Inner:
        """The layer within a run of layers, in place."""
        if not self._drops():
            return UNCHANGED

        def forward(x: Tensor) -> tuple[Tensor, Tensor]:
            factors = self._factors(x)
            return x.mul_(factors), factors

        return Inner(forward, torch.Tensor.mul_)

    def _drops(self) -> bool:
        if not self.training:
            return False
        if self.rate.device.type != "cpu":
            # looking into a GPU's memory would wait for all that it still has to do
            return True
        state = self.rate, self.rate._version
        if self._asked is None or self._asked[0] is not state[0] or self._asked[1] != state[1]:
            # looking into a tensor in every step would take longer than a small layer
            self._asked = (*state, bool(self.rate.any()))
        return self._asked[2]

    def _factors(self, x: Tensor) -> Tensor:
        """What x is multiplied by: zero, or one over the share that is kept."""
        dropped = (self.rate.reshape(-1, 1).float() * 256).round_().clamp_(max=255)
        key = _hash_key(self.seed.reshape(-1, 1), self.step.reshape(-1, 1))
        bits = random_bytes(key, x.numel() // len(key))
        mask = torch.empty(bits.shape, dtype=x.dtype, device=x.device)
        torch.ge(bits, dropped.to(torch.uint8), out=mask)
        return mask.mul_((256 / (256 - dropped)).to(x.dtype)).view(x.shape)

    def extra_repr(self) -> str:
        return f"rate={self.rate.tolist()}"


def _hash_key(seed: Tensor, step: Tensor) -> Tensor:
    """An int32 word from a seed and a step, both below 2**31, elementwise."""
    word = (seed * 0x2545F491 + step * 0x1B873593 + 0x3C6EF372) & 0xFFFFFFFF
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        # both below 2**32 and 2**31: the product fits into 63 bits
        word = ((word ^ (word >> shift)) * factor) & 0xFFFFFFFF
    word = word ^ (word >> 15)
    return torch.where(word >= 1 << 31, word - (1 << 32), word).to(torch.int32)


def random_bytes(key: Tensor, n: int) -> Tensor:
    """n random bytes for every key; byte i depends on the key and on i alone.

    Parameters
    ----------
    key : Tensor, (M, 1), int32
    n : int

    Returns
    -------
    Tensor, (M, n), uint8

    Examples
    --------
    >>> key = torch.tensor([[1], [2]], dtype=torch.int32)
    >>> random_bytes(key, 5)[1].equal(random_bytes(key[1:], 9)[0, :5])
    True
    """
    counter = torch.arange(-(-n // 4), dtype=torch.int32, device=key.device).mul_(-1640531527)
    word = counter + key
    scratch = torch.empty_like(word)
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97), (15, 1)):
        # int32 shifts drag the sign along, which is cut off; int32 products wrap
        torch.bitwise_right_shift(word, shift, out=scratch).bitwise_and_((1 << (32 - shift)) - 1)
        word.bitwise_xor_(scratch)
        if factor != 1:
            word.mul_(factor)
    return word.view(torch.uint8)[:, :n]


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the last axis.

    Examples
    --------
    >>> LayerNorm(3)(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[-1.2247,  0.0000,  1.2247]], grad_fn=<...>)
    """

    leading_axes = True
    parameter_roles = {"weight": Role("scale", decay=0.0), "bias": Role("bias", decay=0.0)}  # noqa: RUF012

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if weight.ndim == 1:
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)
        normed = F.layer_norm(x, self.normalized_shape, eps=self.eps)
        return torch.addcmul(before_rows(bias, x), normed, before_rows(weight, x))


class PReLU(nn.PReLU):
    """`torch.nn.PReLU` with one learned slope.

    Examples
    --------
    >>> PReLU()(torch.tensor([-4.0, 2.0]))
    tensor([-1.,  2.], grad_fn=<...>)
    """

    leading_axes = True
    parameter_roles = {"weight": Role("other", decay=0.0)}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        slope = self.weight.to(x.dtype)
        if slope.ndim == 1:
            return F.prelu(x, slope)
        return torch.where(x > 0, x, before_rows(slope, x) * x)


class Mish(nn.Mish):
    """`torch.nn.Mish`; training takes half its time.

    Examples
    --------
    >>> Mish()(torch.tensor([-1.0, 0.0, 2.0], requires_grad=True))
    tensor([-0.3034,  0.0000,  1.9440], grad_fn=<...>)
    """

    leading_axes = True

    def forward(self, x: Tensor) -> Tensor:
        return _Mish.apply(x)[0] if torch.is_grad_enabled() and x.requires_grad else F.mish(x)

    def within_run(self) -> Inner:
        """The layer within a run of layers."""
        return Inner(_Mish.forward, torch.Tensor.mul_, in_place=False)


class _Mish(torch.autograd.Function):
    """Mish and its derivative from one exponential, in pieces that stay in the cache."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        flat = x.reshape(-1)
        y, slope = torch.empty_like(flat), torch.empty_like(flat)
        for part, y_part, slope_part in zip(flat.split(PIECE), y.split(PIECE), slope.split(PIECE), strict=True):
            # tanh(softplus(x)) is 1 - 2 / ((1 + exp x)**2 + 1), and 1 in every precision from x = 40 on
            z = part.float() if part.dtype in (torch.bfloat16, torch.float16) else part
            e = z.clamp(max=40).exp_()
            above = e + 1
            below = (above * above).add_(1).reciprocal_()
            y_part.copy_(torch.addcmul(z, z, below, value=-2))
            slope_part.copy_(e.mul_(above).mul_(below).mul_(z).mul_(2).sub_(1).mul_(below).mul_(2).add_(1))
        return y.view(x.shape), slope.view(x.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        return _Mish.apply(x), (in_dims[0], in_dims[0])


PIECE = 1 << 17
"""Elements whose intermediate results stay in a core's cache."""


class Scale(nn.Module):
    """One learned factor per feature, 1 at the start: RealMLP's scaling layer, arXiv 2407.04491.

    Parameters
    ----------
    n_features : int
    rate : float
        Factor of the learning rate.

    Examples
    --------
    >>> Scale(3)(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """

    leading_axes = True

    def __init__(self, n_features: int, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_features))
        self.parameter_roles = {"weight": Role("scale", float(rate), 0.0)}

    def forward(self, x: Tensor) -> Tensor:
        return x * before_rows(self.weight.to(x.dtype), x)

    def within_run(self) -> Inner | None:
        """The layer within a run of layers."""
        if not self.weight.requires_grad:
            return None

        def forward(x: Tensor) -> tuple[Tensor, Any]:
            factors = self.weight.to(x.dtype).unsqueeze(1)
            return x * factors, (x, factors)

        return Inner(
            forward, lambda gradient, kept: gradient * kept[1], False, (self.weight,),
            lambda gradient, kept, into: sum_rows(gradient * kept[0], into), overwrites=False,
        )  # fmt: skip


class Parametric(nn.Module):
    """``x + alpha * (activation(x) - x)`` with one learned alpha per unit, 1 at the start, arXiv 2407.04491.

    Parameters
    ----------
    activation : nn.Module
    n_units : int
    rate : float
        Factor of the learning rate.

    Examples
    --------
    >>> layer = Parametric(nn.ReLU(), 2)
    >>> with torch.no_grad():
    ...     layer.alpha[1] = 0.5
    >>> layer(torch.tensor([[-2.0, -2.0]]))
    tensor([[ 0., -1.]], grad_fn=<...>)
    """

    leading_axes = True

    def __init__(self, activation: nn.Module, n_units: int, rate: float = 1.0) -> None:
        super().__init__()
        self.activation = activation
        self.alpha = nn.Parameter(torch.ones(n_units))
        self.parameter_roles = {"alpha": Role("scale", float(rate), 0.0)}

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(x)
        return torch.addcmul(y, y - x, before_rows(self._beyond_one(x), x))

    def _beyond_one(self, x: Tensor) -> Tensor:
        # alpha itself, near one, would lose its digits in bfloat16
        return (self.alpha - 1).to(x.dtype)

    def within_run(self) -> Inner | None:
        """The layer within a run of layers, where its activation can be."""
        unit = inner_of(self.activation)
        if unit is None or unit.parameters or not self.alpha.requires_grad:
            return None

        def forward(x: Tensor) -> tuple[Tensor, Any]:
            y, kept = unit.forward(x.clone() if unit.in_place else x)
            difference = y - x
            beyond = self._beyond_one(x).unsqueeze(1)
            out = torch.addcmul(y, difference, beyond, out=None if unit.in_place else y)
            return out, (kept, difference, beyond)

        def slopes(gradient: Tensor, kept: Any, into: Tensor) -> None:
            sum_rows(kept[1] * gradient, into)

        def backward(gradient: Tensor, kept: Any) -> Tensor:
            inner, _, beyond = kept
            through = unit.backward(gradient * (1 + beyond), inner)
            return through.addcmul_(gradient, beyond, value=-1)

        return Inner(forward, backward, False, (self.alpha,), slopes, overwrites=False)
