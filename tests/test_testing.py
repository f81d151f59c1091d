"""The checks pass on what is right, and say what they do; what is wrong is in test_testing_wrong.py."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from pages import BLOCK, CONSOLE, DOCS
from torch import Tensor, nn

from autoreg import from_torch_optim, hookimpl
from autoreg.cli import autoreg as program
from autoreg.errors import UnknownNameError
from autoreg.plugins import load_plugins, registry
from autoreg.testing import (
    Check,
    ConformanceError,
    check_activation,
    check_encoding,
    check_loss,
    check_network,
    check_optimizer,
    check_plugin,
)
from autoreg.testing.onnx import exportable
from autoreg.testing.plugins import CHECKS
from autoreg.testing.results import Fault, Report, look

PAGE = DOCS / "reference" / "testing.md"


def built_ins() -> list[tuple[str, str]]:
    return [(entry.kind, entry.name) for entry in registry() if entry.owner.distribution == "autoreg-core"]


@pytest.mark.parametrize(("kind", "name"), built_ins(), ids=lambda value: value)
def test_every_built_in_passes(kind: str, name: str) -> None:
    entry = registry().get(kind, name)
    space = {} if kind == "companion" else {"space": entry.space}
    checks = CHECKS[kind](entry.thing, name=name, **space, **entry.facts)
    assert len(checks) >= 10
    page = PAGE.read_text(encoding="utf-8")
    sections = {title.lower(): text for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.S | re.M)}
    plural = {"loss": "losses", "strategy": "strategies"}.get(kind, f"{kind}s")
    listed = re.findall(r"^\| (`[^|]*`) \|", sections["checks of every kind"] + sections[plural], re.M)
    names = {one for cell in listed for one in re.findall(r"`(\w+)`", cell)}
    assert {check.name for check in checks} - names == set(), "not on the page"
    assert {check.part for check in checks} == {f"{kind} {name}"}


@pytest.mark.parametrize("cls", [torch.optim.Adagrad, torch.optim.Adafactor], ids=lambda cls: cls.__name__)
def test_a_class_of_torch_passes(cls: type[torch.optim.Optimizer]) -> None:
    check_optimizer(from_torch_optim(cls))


class Centred(nn.Module):
    """Batch normalisation: in training its rows depend on each other, afterwards they do not."""

    def __init__(self, n_features: int, n_outputs: int, activation: Any, width: int = 8) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(n_features, width), nn.BatchNorm1d(width)
        self.activation, self.last = activation(), nn.Linear(width, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.activation(self.norm(self.first(x))))


def test_a_network_with_batch_normalisation_passes_and_is_told_what_it_costs() -> None:
    checks = {check.name: check for check in check_network(Centred)}
    assert checks["rows"].status == "reported"
    assert "one at a time" in checks["stacking"].detail


def test_a_failure_is_an_assertion_that_lists_every_one() -> None:
    def doubled(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x])

    with pytest.raises(AssertionError) as caught:
        check_activation(doubled)
    assert isinstance(caught.value, ConformanceError)
    assert str(caught.value) == (
        "activation doubled: 1 of 1 checks failed\n"
        "  shape: expected shape (4, 3) for an input of shape (4, 3) and torch.float32; came shape (8, 3); "
        "see reference/testing.md#activations"
    )
    assert check_activation(doubled, raises=False) == caught.value.checks


def test_checks_in_order_up_to_one_that_the_others_need() -> None:
    def wrong() -> None:
        raise Fault("three", "four")

    def leaves() -> None:
        raise SystemExit(2)

    later: list[Any] = [("b", wrong), ("c", lambda: Report("slow")), ("d", leaves), ("e", lambda: "1.5")]
    found = look("thing", "losses", [("a", lambda: None), *later])
    assert [check.status for check in found] == ["passed", "failed", "reported", "failed", "passed"]
    assert "came SystemExit: 2" in found[3].detail
    assert look("thing", "losses", [("a", wrong), *later]) == [
        Check("thing", "a", "failed", "expected three; came four; see reference/testing.md#losses")
    ]
    assert len(look("thing", "losses", [("a", lambda: None), *later], first=2)) == 2


def test_every_place_to_read_is_on_the_page() -> None:
    headings = {title.lower() for title in re.findall(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.M)}
    source = "".join(
        path.read_text() for path in Path(importlib.import_module("autoreg.testing").__file__ or "").parent.glob("*.py")
    )
    anchors = set(re.findall(r'", "(\w+)", (?:looks|\[)', source)) | set(re.findall(r'look\(part, "(\w+)"', source))
    assert {"activations", "plugins", "strategies"} <= anchors
    assert anchors <= headings


def test_export_is_reported_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("autoreg.testing.onnx.find_spec", lambda name: None)
    assert exportable(nn.Linear(1, 1), torch.zeros(1, 1)) == "not checked: onnx is not installed"


# ---------------------------------------------------------------- whole plugins


def wave(x: torch.Tensor) -> torch.Tensor:
    return x + torch.sin(x) ** 2


def make_plugin(**hooks: Any) -> ModuleType:
    plugin = ModuleType("waves")
    plugin.__dict__.update({name: hookimpl(hook) for name, hook in hooks.items()})
    return plugin


def test_a_plugin_as_an_object() -> None:
    plugin = make_plugin(register_activations=lambda register: register("wave", wave))
    checks = check_plugin(plugin)
    assert [check.name for check in checks if check.part == "plugin waves"] == ["hooks", "names"]
    assert {check.part for check in checks} == {"plugin waves", "activation wave"}
    assert "wave" not in registry().names("activation")


def test_observers_are_called_when_that_is_asked_for_and_alone() -> None:
    heard: list[str] = []
    other = make_plugin(search_finished=lambda results, model: heard.append("other"))
    load_plugins().manager.register(other, name="other")
    try:
        plugin = make_plugin(
            search_started=lambda plan: heard.append("started"),
            search_finished=lambda results, model: heard.append(f"finished {len(results.candidates)}"),
        )
        assert check_plugin(plugin)[-1].status == "reported"
        assert heard == []
        assert check_plugin(plugin, observers=True)[-1].status == "passed"
        assert heard == ["started", "finished 2"]
    finally:
        load_plugins().manager.unregister(name="other")


def test_a_name_that_is_taken() -> None:
    plugin = make_plugin(register_activations=lambda register: register("relu", wave))
    failed = [check for check in check_plugin(plugin, raises=False) if check.status == "failed"]
    assert failed[0].name == "names"
    assert "came that of autoreg-core" in failed[0].detail


def test_the_command_on_an_installed_plugin() -> None:
    result = CliRunner().invoke(program, ["plugins", "check", "companions"])
    assert result.exit_code == 0, result.output
    assert re.search(r"^plugin companions\n  import +passed", result.stdout)
    assert re.search(r"^companion ridge\n  fit +passed", result.stdout, flags=re.M)
    assert re.search(r"^\d+ passed, 0 failed, \d+ reported$", result.stdout, flags=re.M)


def test_the_command_on_files(tmp_path: Path) -> None:
    """One right, one wrong."""
    for name, body in (("right", "x.sigmoid()"), ("wrong", "x - x.mean(0)")):
        (tmp_path / f"{name}.py").write_text(
            f"from autoreg import hookimpl\n\n\ndef {name}(x):\n    return {body}\n\n\n"
            f"@hookimpl\ndef register_activations(register):\n    register('{name}', {name})\n"
        )
    files = [str(tmp_path / "right.py"), str(tmp_path / "wrong.py")]
    try:
        good = CliRunner().invoke(program, ["plugins", "check", "--plugin", files[0], "--json"])
        both = CliRunner().invoke(program, ["plugins", "check", "--plugin", files[0], "--plugin", files[1]])
    finally:
        load_plugins.cache_clear()
    assert good.exit_code == 0, good.output
    found = json.loads(good.stdout)
    assert found["failed"] == 0
    assert found["passed"] == sum(check["status"] == "passed" for check in found["checks"])
    assert both.exit_code == 1, both.output
    assert "members" in both.stdout
    assert max(map(len, both.stdout.splitlines())) <= 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["losess"], "no plugin 'losess'; did you mean 'losses'? known: "),
        ([], "nothing to check: give the NAME of an installed plugin, or --plugin FILE.py"),
    ],
)
def test_the_command_on_nothing(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(program, ["plugins", "check", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_an_unknown_name_in_python() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'losses'"):
        check_plugin("losess")


def test_a_plugin_that_is_loaded_may_be_checked_as_a_module() -> None:
    check_plugin(importlib.import_module("autoreg.builtins.companions"))


# ---------------------------------------------------------------- the pages


@pytest.mark.parametrize("page", ["reference/testing.md", "how-to/check-a-plugin.md"])
def test_the_code_of_the_pages_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As modules, which is what a plugin and its tests are."""
    monkeypatch.syspath_prepend(tmp_path)
    blocks = [block[0] for block in BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))]
    assert blocks
    for number, block in enumerate(blocks):
        name = f"page_{Path(page).stem.replace('-', '_')}_{number}"
        (tmp_path / f"{name}.py").write_text(block)
        importlib.import_module(name)


def test_the_table_of_the_guide_is_what_the_command_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DOCS / "how-to" / "check-a-plugin.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(BLOCK.findall(text)[0][0])
    shown = next(block for block in CONSOLE.findall(text) if "mine.py" in block)
    command, _, lines = shown.partition("\n")
    result = CliRunner().invoke(program, command.split()[2:])
    load_plugins.cache_clear()
    plain = re.compile(r"[\d.]+ seconds")
    assert result.exit_code == 1
    assert plain.sub("", result.stdout).startswith(plain.sub("", lines))


def test_a_loss_that_sees_one_target_is_found() -> None:
    def first(prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction[..., 0] - target[..., 0]).square()

    failed = [report.name for report in check_loss(first, raises=False) if report.status == "failed"]
    assert failed[0] == "targets"


def test_an_encoding_that_fills_known_gaps_only_is_found() -> None:
    class Filling(nn.Module):
        leading_axes = True

        def __init__(self, statistics: Any) -> None:
            super().__init__()
            self.n_features = statistics.layout.n_numbers
            self.register_buffer("misses", torch.tensor(statistics.layout.may_miss))

        def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
            return torch.where(self.misses & numbers.isnan(), 0.0, numbers)

    failed = {
        report.name: report.detail for report in check_encoding(Filling, raises=False) if report.status == "failed"
    }
    assert "rows of missing numbers" in failed["finite"]
