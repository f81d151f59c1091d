"""DESIGN's first invariant over every built-in, and torch's optimizers beside plain loops, as the benchmark has it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parent.parent / "examples" / "benchmarks" / "exactness.py"


def read_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("exactness", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


exactness = read_script()


@pytest.mark.parametrize(("kind", "name"), exactness.builtin_parts(), ids=lambda value: value)
def test_a_stack_of_seven_equals_seven_alone(kind: str, name: str) -> None:
    """Predictions in float64 after 65 steps, first gradients in float32, scores in bfloat16."""
    row = exactness.compare_part(kind, name)
    assert exactness.within([row]), row


@pytest.mark.parametrize("cls", exactness.torch_classes(), ids=lambda cls: cls.__name__)
def test_a_class_of_torch_equals_a_plain_loop(cls: type[torch.optim.Optimizer]) -> None:
    row = exactness.compare_torch(exactness.TwoLayers, cls)
    assert exactness.within([row]), row


@pytest.mark.parametrize("name", ["Normed", "Branching", "Rounded"])
def test_a_network_that_runs_one_at_a_time_equals_a_plain_loop(name: str) -> None:
    row = exactness.compare_torch(getattr(exactness, name), torch.optim.Adam)
    assert exactness.within([row]), row


def test_members_differ_in_all_that_may_differ() -> None:
    candidates = exactness.seven_candidates("optimizer", "adamw")
    for name in ("learning_rate", "network__dropout", "optimizer__weight_decay", "optimizer__beta2"):
        assert len({candidate[name] for candidate in candidates}) > 3, name
    spec = exactness.make_spec(exactness.make_problem(torch.float32), candidates)
    assert len({len(member.train) for member in spec.members}) > 1
    assert len({member.seed for member in spec.members}) == exactness.MEMBERS


def test_what_is_different_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail."""
    real, calls = exactness.train_stack, []

    def disturbed(spec: Any, data: Any) -> Any:
        outcomes = real(spec, data)
        calls.append(spec)
        if len(spec.members) > 1:
            outcomes[3].predictions[0][0] += 1e-6
        return outcomes

    monkeypatch.setattr(exactness, "train_stack", disturbed)
    row = exactness.compare_part("network", "linear")
    assert row["float64"] > 1e-7
    assert not exactness.within([row])
    assert len(calls) == 3 * (1 + exactness.MEMBERS)
