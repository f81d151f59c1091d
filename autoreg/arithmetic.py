"""What the processor's arithmetic is built for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from autoreg.errors import OptionError, unknown

_LOCK = threading.Lock()
_users = 0
_before = ""


def usable_device(name: str) -> str:
    """The device that a user's word means.

    Raises
    ------
    OptionError
        When there is no such device, or torch cannot use it.

    Examples
    --------
    >>> usable_device("auto")
    'cpu'
    """
    if name in ("auto", "cpu"):
        return "cpu"
    kind, _, number = str(name).partition(":")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise OptionError(unknown("device", name, ["auto", "cpu", "cuda", "cuda:0"]))
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= seen:
        raise OptionError(f"device={name!r}: torch {torch.__version__} sees {seen} GPUs here; device='cpu' works")
    return str(name)


def has_bfloat16(device: str = "cpu") -> bool:
    """Whether matrix products in bfloat16 take the device much less time than in float32."""
    if device != "cpu":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@contextmanager
def fast_products() -> Iterator[None]:
    """Let oneDNN compute float32 matrix products, where it keeps float32.

    PyTorch leaves them to MKL, which runs at half the speed on processors that Intel did not make. oneDNN takes them
    once it may round to bfloat16; without matrix tiles (AMX) it does not round. That is tried on one product, never
    assumed. The setting is the process's, so it is put back when nobody trains any more.

    Examples
    --------
    >>> with fast_products():
    ...     x = torch.eye(2) @ torch.ones(2, 2)
    >>> bool(torch.backends.mkldnn.matmul.fp32_precision == "bf16")
    False
    """
    global _users, _before
    if not _keeps_float32():
        yield
        return
    with _LOCK:
        if not _users:
            _before = _setting()
            _set("bf16")
        _users += 1
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if not _users:
                _set(_before)


def onednn_multiplies() -> bool:
    """Whether float32 matrix products are oneDNN's now."""
    return _users > 0


@cache
def _keeps_float32() -> bool:
    if not torch.backends.mkldnn.is_available() or not torch.cpu._is_avx512_bf16_supported():
        return False
    if torch.cpu._is_amx_tile_supported():
        return False
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(4, 256, 256, generator=generator) for _ in range(2))
    exact = torch.bmm(one.double(), two.double())
    before = _setting()
    _set("bf16")
    try:
        error = (torch.bmm(one, two) - exact).abs().max() / exact.std()
    finally:
        _set(before)
    return float(error) < 1e-4


def _setting() -> str:
    return str(torch.backends.mkldnn.matmul.fp32_precision)  # type: ignore[attr-defined]


def _set(value: str) -> None:
    torch.backends.mkldnn.matmul.fp32_precision = value  # type: ignore[attr-defined]
