"""Networks of torch.nn layers as data: what comes back computes the same, and nothing else comes back."""

from __future__ import annotations

import copy
import json
import math
import random
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mutations import with_nasty_values
from torch import nn

from autoreg import describe
from autoreg.describe import build_module, describe_module
from autoreg.errors import ModelFileError
from autoreg.persistence import read_model, write_model

LAYERS = [
    nn.Linear(6, 3), nn.Linear(6, 3, bias=False), nn.Identity(), nn.Flatten(), nn.Flatten(0, 1),
    nn.Unflatten(1, (2, 3)), nn.Dropout(0.3), nn.Dropout(0.0, inplace=True), nn.AlphaDropout(0.2),
    nn.FeatureAlphaDropout(0.2), nn.LayerNorm(6),
    nn.LayerNorm((4, 6), eps=0.1), nn.LayerNorm(6, elementwise_affine=False), nn.LayerNorm(6, bias=False),
    nn.RMSNorm(6), nn.RMSNorm((6,), eps=1e-3, elementwise_affine=False), nn.BatchNorm1d(6),
    nn.BatchNorm1d(6, eps=0.5, momentum=None, affine=False), nn.BatchNorm1d(6, track_running_stats=False),
    nn.InstanceNorm1d(4, affine=True, track_running_stats=True), nn.GroupNorm(2, 6, eps=0.1),
    nn.GroupNorm(3, 6, affine=False), nn.CELU(0.5), nn.ELU(2.0), nn.GELU(), nn.GELU("tanh"), nn.GLU(), nn.GLU(1),
    nn.Hardshrink(0.1), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardtanh(-0.3, 0.4), nn.LeakyReLU(0.2), nn.LogSigmoid(),
    nn.LogSoftmax(-1), nn.Mish(), nn.PReLU(), nn.PReLU(6, init=0.7), nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(),
    nn.RReLU(0.1, 0.4), nn.SELU(), nn.SiLU(), nn.Sigmoid(), nn.Softmax(dim=1), nn.Softmin(dim=0), nn.Softplus(2.0, 3.0),
    nn.Softshrink(0.1), nn.Softsign(), nn.Tanh(), nn.Tanhshrink(), nn.Threshold(0.1, -1.0, inplace=True),
    nn.Sequential(),
]  # fmt: skip


def filled(module: nn.Module) -> nn.Module:
    """A copy whose every parameter and running statistic is a random number."""
    module = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape))
    return module.eval()


def round_trip(module: nn.Module, device: str | None = None) -> nn.Module:
    """Through JSON text and back, with the numbers loaded."""
    description = json.loads(json.dumps(describe_module(module), allow_nan=False))
    assert description is not None
    built = build_module(description, device=device)
    built.load_state_dict(module.state_dict(), strict=True, assign=device is not None)
    return built.eval()


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_layer_comes_back_the_same(layer: nn.Module) -> None:
    layer = filled(layer)
    x = torch.randn(4, 6)
    for built in round_trip(layer), round_trip(layer, device="meta"):
        assert type(built) is type(layer)
        assert repr(built) == repr(layer)
        assert torch.equal(built(x.clone()), layer(x.clone()))


def test_every_known_layer_is_tested() -> None:
    assert {type(layer) for layer in LAYERS} - {nn.Sequential} == set(describe._LAYERS)


def test_every_elementwise_activation_of_torch_is_known() -> None:
    others = {"Module", "MultiheadAttention", "Softmax2d"}
    assert set(nn.modules.activation.__all__) - others <= set(describe._TYPES)


def nest(module: nn.Module, times: int) -> nn.Module:
    for _ in range(times):
        module = nn.Sequential(module)
    return module


def test_layers_in_layers_with_names(tmp_path: Path) -> None:
    act, tied = nn.SiLU(), nn.Linear(8, 8)
    named = OrderedDict([("first", nn.Linear(6, 8)), ("norm", nn.LayerNorm(8)), ("a b", act)])
    module = filled(nn.Sequential(nn.Sequential(named), tied, act, tied, nest(nn.Linear(8, 2), 13)))
    description = describe_module(module)
    write_model(tmp_path / "m", {"network": [{"parts": [{"module": description}]}]}, module.state_dict())
    manifest, tensors = read_model(tmp_path / "m")
    built = build_module(manifest["network"][0]["parts"][0]["module"], device="meta")
    built.load_state_dict(tensors, strict=True, assign=True)
    x = torch.randn(5, 6)
    assert list(built.state_dict()) == list(module.state_dict())
    assert torch.equal(built.eval()(x), module(x))


def test_numbers_of_numpy_are_taken() -> None:
    module = nn.Sequential(nn.Linear(np.int64(3), np.int32(2)), nn.ELU(np.float64(0.5)))
    assert round_trip(module)[0].in_features == 3


def test_building_an_outline_takes_no_memory_and_no_random_number() -> None:
    before = torch.get_rng_state()
    built = build_module({"type": "Linear", "in_features": 20_000, "out_features": 20_000, "bias": True}, device="meta")
    assert all(parameter.is_meta for parameter in built.parameters())
    assert torch.equal(torch.get_rng_state(), before)


class Mine(nn.Sequential):
    pass


class MyLinear(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


def with_hook(kind: str) -> nn.Module:
    layer = nn.Linear(2, 1)
    getattr(layer, kind)(lambda *arguments: None)
    return nn.Sequential(layer)


def with_own_forward() -> nn.Module:
    layer = nn.Linear(2, 1)
    layer.forward = lambda x: x  # type: ignore[method-assign]
    return layer


def with_own_tensor(kind: str) -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 1))
    getattr(module, kind)("scale", nn.Parameter(torch.ones(1)))
    return module


def with_other_weight() -> nn.Module:
    layer = nn.Linear(2, 1)
    layer.weight = nn.Parameter(torch.ones(3, 2))
    return layer


def with_attribute(layer: nn.Module, name: str, value: Any) -> nn.Module:
    setattr(layer, name, value)
    return layer


@pytest.mark.parametrize(
    "module",
    [
        nn.LSTM(2, 1), nn.Conv1d(1, 1, 1), nn.Embedding(3, 2), nn.Bilinear(2, 2, 1), nn.Module(), nn.MSELoss(),
        nn.ModuleList([nn.Linear(2, 1)]), nn.ModuleDict({"a": nn.ReLU()}), Mine(nn.Linear(2, 1)), MyLinear(2, 1),
        nn.Sequential(nn.Linear(2, 1), Mine()), nn.MultiheadAttention(2, 1), nn.LazyLinear(3),
        with_hook("register_forward_hook"), with_hook("register_forward_pre_hook"), with_own_forward(),
        with_own_tensor("register_parameter"), with_own_tensor("register_buffer"), with_other_weight(),
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 1)),
        nn.Hardtanh(-math.inf, 1.0), nn.Threshold(0.0, math.nan), nest(nn.ReLU(), 16),
        with_attribute(nn.ELU(), "alpha", torch.ones(1)), with_attribute(nn.Dropout(), "p", 2),
        with_attribute(nn.ReLU(), "inplace", 1), with_attribute(nn.Softmax(0), "dim", "x"),
        with_attribute(nn.ELU(), "alpha", 10**400),
        torch.nn.utils.skip_init(nn.Linear, 30_000, 30_000, device="meta"),
    ],
    ids=lambda module: type(module).__name__,
)  # fmt: skip
def test_what_cannot_be_described(module: nn.Module) -> None:
    assert describe_module(module) is None


LINEAR = {"type": "Linear", "in_features": 2, "out_features": 1, "bias": True}


def sequential(*layers: Any) -> dict[str, Any]:
    return {"type": "Sequential", "layers": [{"name": str(i), **layer} for i, layer in enumerate(layers)]}


def nested(depth: int) -> dict[str, Any]:
    description: dict[str, Any] = dict(LINEAR)
    for _ in range(depth):
        description = sequential(description)
    return description


@pytest.mark.parametrize(
    ("description", "message"),
    [
        *[
            ({**LINEAR, "type": kind}, "which is not on the list of safe layers")
            for kind in ("os.system", "torch.nn.Linear", "linear", "LSTM", "Module", "", None, 1, [], ["Linear"])
        ],
        *[(value, "which is not on the list") for value in (None, [], "Linear", 1, {}, [LINEAR], {"layers": []})],
        *[
            ({**LINEAR, "in_features": value}, "Linear with in_features=.* which is not allowed")
            for value in (0, -1, 2**31, 10**30, 2.0, True, "2", None, [2], {}, float("nan"))
        ],
        *[({**LINEAR, "bias": value}, "with bias=") for value in (0, 1, None, "True", [])],
        ({**LINEAR, "device": "cuda"}, "a Linear with missing or unknown arguments"),
        ({**LINEAR, "dtype": None}, "missing or unknown"),
        ({"type": "Linear", "in_features": 2}, "missing or unknown"),
        ({"type": "Dropout", "p": 1.5, "inplace": False}, "Dropout with p=1.5"),
        ({"type": "ELU", "alpha": float("inf"), "inplace": False}, "ELU with alpha=inf"),
        ({"type": "GELU", "approximate": "exact"}, "GELU with approximate='exact'"),
        ({"type": "Flatten", "start_dim": 10**9, "end_dim": 1}, "Flatten with start_dim"),
        ({"type": "Unflatten", "dim": 1, "unflattened_size": [2**31]}, "Unflatten with unflattened_size"),
        ({"type": "LayerNorm", "normalized_shape": [1] * 9, "eps": 0.1, "elementwise_affine": True, "bias": True},
         "LayerNorm with normalized_shape"),
        ({"type": "GroupNorm", "num_groups": 2, "num_channels": 3, "eps": 0.1, "affine": True},
         "GroupNorm that torch refuses"),
        ({"type": "Hardtanh", "min_val": 2, "max_val": 1, "inplace": False}, "Hardtanh that torch refuses"),
        ({**LINEAR, "in_features": 10**9}, "more parameters than are allowed"),
        ({"type": "RMSNorm", "normalized_shape": [2**31 - 1] * 8, "eps": 0.1, "elementwise_affine": True},
         "more parameters than are allowed"),
        ({"type": "PReLU", "num_parameters": 10**9}, "more parameters than are allowed"),
        (sequential(*[{**LINEAR, "in_features": 10**6}] * 501), "more parameters than are allowed"),
        (sequential(*[{"type": "ReLU", "inplace": False}] * 10_000), "more layers than are allowed"),
        (sequential(*[{"type": "Sequential", "layers": []}] * 10_000), "more layers than are allowed"),
        (nested(17), "nested deeper than 16"),
        (nested(500), "nested deeper than 16"),
        ({"type": "Sequential"}, "has not exactly a list of layers"),
        ({"type": "Sequential", "layers": {"0": LINEAR}}, "has not exactly a list of layers"),
        ({"type": "Sequential", "layers": [], "more": 1}, "has not exactly a list of layers"),
        ({"type": "Sequential", "layers": [{**LINEAR, "name": "a"}] * 2}, "two layers of one name"),
        *[
            ({"type": "Sequential", "layers": [{**LINEAR, "name": name}]}, "a layer of a name that is not allowed")
            for name in ("", "a.b", "forward", "training", "_modules", "__class__", "x" * 101, 1, None, [])
        ],
        ({"type": "Sequential", "layers": [LINEAR]}, "a name that is not allowed: None"),
        ({"type": "Sequential", "layers": [None]}, "a name that is not allowed: None"),
    ],
    ids=lambda value: "",
)  # fmt: skip
def test_a_hostile_description_is_refused(description: Any, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        build_module(description)
    assert str(caught.value).isprintable()


def test_bounds_that_the_caller_sets() -> None:
    two = sequential(LINEAR, LINEAR)
    build_module(two, max_layers=3, max_parameters=6)
    with pytest.raises(ModelFileError, match="more layers"):
        build_module(two, max_layers=2)
    with pytest.raises(ModelFileError, match="more parameters"):
        build_module(two, max_parameters=5)


def test_the_count_before_building_is_never_too_small() -> None:
    for layer in LAYERS:
        description = describe_module(layer)
        size = sum(tensor.numel() for tensor in layer.state_dict().values())
        if size:
            with pytest.raises(ModelFileError, match="more parameters"):
                build_module(description, max_parameters=size - 1)


def test_random_changes_are_refused_or_build_a_module() -> None:
    good = describe_module(nn.Sequential(*[layer for layer in LAYERS if not isinstance(layer, nn.Unflatten)]))
    draw = random.Random(0)
    counts: Counter[str] = Counter()
    for _ in range(2000):
        try:
            build_module(with_nasty_values(draw, good), device="meta")
            counts["built"] += 1
        except ModelFileError as error:
            counts["refused" if str(error).isprintable() else "refused in several lines"] += 1
    assert set(counts) == {"built", "refused"}
