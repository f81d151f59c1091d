"""A model with a plugin's parts: loaded with another version of the plugin, with another plugin, and without it."""

from __future__ import annotations

import copy
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from environments import Environment
from torch import nn

from autoreg import NeuralRegressor, estimators, hookimpl, load
from autoreg.errors import ModelFileError, PluginVersionWarning
from autoreg.persistence import read_model
from autoreg.plugins import load_plugins
from autoreg.registry import Owner
from autoreg.space import Candidate

SNAKE = Path(__file__).parent.parent / "plugins" / "autoreg-snake"

FIT = """
import numpy as np
from autoreg import NeuralRegressor
x = np.linspace(-1, 1, 50).reshape(-1, 1)
model = NeuralRegressor(activation="snake", network_options={"width": 4}, max_epochs=2, random_state=0).fit(x, x[:, 0])
model.save("m.safetensors")
np.save("before.npy", model.predict(x))
"""
LOAD = """
import warnings
import numpy as np
from autoreg import load
from autoreg.errors import ModelFileError
x = np.linspace(-1, 1, 50).reshape(-1, 1)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    try:
        model = load("m.safetensors")
    except ModelFileError as error:
        print(f"Error: {error}")
    else:
        print("equal" if (model.predict(x) == np.load("before.npy")).all() else "others")
for warning in told:
    print(f"{warning.category.__name__}: {warning.message}")
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("user"))


def install(environment: Environment, folder: Path, version: str) -> str:
    """Install that version of autoreg-snake into a folder of its own; returns the folder."""
    source = folder / f"source-{version}"
    shutil.copytree(SNAKE, source, ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"))
    project = (source / "pyproject.toml").read_text(encoding="utf-8")
    changed = project.replace('version = "0.1.0"', f'version = "{version}"')
    (source / "pyproject.toml").write_text(changed, encoding="utf-8")
    target = folder / version
    environment.run(f"pip install --no-deps --target {target} {source}", folder)
    return str(target)


def test_after_an_upgrade_there_is_a_notice_and_without_the_plugin_the_command_that_installs_it(
    environment: Environment, tmp_path: Path
) -> None:
    (tmp_path / "fit.py").write_text(FIT, encoding="utf-8")
    (tmp_path / "load.py").write_text(LOAD, encoding="utf-8")
    old, new = (install(environment, tmp_path, version) for version in ("0.1.0", "0.2.0"))

    environment.run("python fit.py", tmp_path, PYTHONPATH=old)
    assert environment.run("python load.py", tmp_path, PYTHONPATH=old).stdout == "equal\n"
    assert environment.run("python load.py", tmp_path, PYTHONPATH=new).stdout == (
        "equal\nPluginVersionWarning: activation 'snake' came from autoreg-snake 0.1.0, and 0.2.0 is installed: "
        "predictions may differ; for the same ones pip install autoreg-snake==0.1.0\n"
    )
    assert environment.run("python load.py", tmp_path).stdout == (
        "Error: activation 'snake' came from autoreg-snake 0.1.0, which is not installed: pip install autoreg-snake\n"
    )


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(30, 2))
    return x, x[:, 0]


@pytest.fixture
def offer() -> Iterator[Any]:
    """Puts an activation ``bent`` of an owner into the registry, in place of what was there."""

    def put(*owners: Owner) -> None:
        load_plugins.cache_clear()
        for owner in owners:
            module = ModuleType(owner.plugin)

            @hookimpl
            def register_activations(register: Any) -> None:
                register("bent", nn.Softplus)

            module.register_activations = register_activations  # type: ignore[attr-defined]
            load_plugins().add(module, owner)

    yield put
    load_plugins.cache_clear()


OLD = Owner("bent", "autoreg-bent", "1.0")


@pytest.fixture
def read(table: Any, offer: Any, tmp_path: Path) -> Any:
    """What is read of a model of two parts with version 1.0."""
    offer(OLD)
    model = NeuralRegressor(activation="bent", network_options={"width": 4}, max_epochs=1, random_state=0).fit(*table)
    model.model_.parts *= 2
    model.save(tmp_path / "m.safetensors")
    return read_model(tmp_path / "m.safetensors")


def notices(read: Any, monkeypatch: pytest.MonkeyPatch, **owner: str) -> list[str]:
    """What `load` warns of, where the file says this about the activation's owner."""
    manifest, tensors = copy.deepcopy(read[0]), read[1]
    for member in manifest["members"]:
        member["owners"]["activation"].update(owner)
    monkeypatch.setattr(estimators, "read_model", lambda path: (manifest, tensors))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load("a file")
    assert all(warning.category is PluginVersionWarning and warning.filename == __file__ for warning in told)
    return [str(warning.message) for warning in told]


def test_the_same_version_needs_no_notice(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert notices(read, monkeypatch) == []


@pytest.mark.parametrize("version", ["0.9", "2.0"])
def test_another_version_is_told_once_for_all_parts(read: Any, offer: Any, monkeypatch: Any, version: str) -> None:
    offer(Owner("bent", "autoreg-bent", version))
    assert notices(read, monkeypatch) == [
        f"activation 'bent' came from autoreg-bent 1.0, and {version} is installed: predictions may differ; "
        "for the same ones pip install autoreg-bent==1.0"
    ]


def test_another_plugin_of_that_name_is_told(read: Any, offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(Owner("curve", "autoreg-curve", "7.1"))
    (text,) = notices(read, monkeypatch)
    assert text.startswith("activation 'bent' came from autoreg-bent 1.0, and here it comes from autoreg-curve 7.1: ")


def test_an_older_version_of_our_own_parts_needs_no_notice(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for member in read[0]["members"]:
        member["owners"]["network"]["version"] = "0.0.1"
    assert notices(read, monkeypatch) == []


@pytest.mark.parametrize("version", ["1.0; rm -rf ~", "1\x1b[31m"])
def test_what_a_stranger_wrote_is_not_told_to_be_typed(read: Any, monkeypatch: Any, version: str) -> None:
    (text,) = notices(read, monkeypatch, version=version)
    assert text.isprintable()
    assert "pip" not in text


def test_a_loss_that_is_not_needed_needs_no_notice(table: Any, offer: Any, tmp_path: Path, monkeypatch: Any) -> None:
    NeuralRegressor(max_epochs=1, random_state=0).fit(*table).save(tmp_path / "m.safetensors")
    manifest, tensors = read_model(tmp_path / "m.safetensors")
    gone = {"name": "gone", "plugin": "gone", "distribution": "autoreg-gone", "version": "1.0"}
    manifest["members"][0]["owners"].update(loss=gone, activation=manifest["members"][0]["owners"]["activation"])
    assert notices((manifest, tensors), monkeypatch) == []


def test_a_model_is_saved_again_without_its_loss_and_its_optimizer(table: Any, tmp_path: Path) -> None:
    model = NeuralRegressor(max_epochs=1, random_state=0).fit(*table)
    (part,) = model.model_.parts
    part.candidate = Candidate({**part.candidate.parameters, "optimizer": "gone", "loss": "gone_too"})
    model.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert np.array_equal(again.predict(table[0]), model.predict(table[0]))


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        (OLD, "activation 'bent' came from autoreg-bent 1.0, which is not installed: pip install autoreg-bent"),
        (Owner("bent"), "activation 'bent' came from bent, a file that is not loaded: give it with --plugin FILE.py"),
        # stands for any that is installed
        (Owner("bent", "pytest", "1.0"), r"and pytest [\d.]+ does not offer it: pip install pytest==1.0$"),
        (Owner("bent", "pytest", pytest.__version__), "does not offer it here: autoreg plugins list --load tells why$"),
    ],
)
def test_without_the_plugin_the_error_says_what_to_do(
    read: Any, offer: Any, monkeypatch: pytest.MonkeyPatch, owner: Owner, message: str
) -> None:
    offer()
    with pytest.raises(ModelFileError, match=message) as caught:
        notices(read, monkeypatch, plugin=owner.plugin, distribution=owner.distribution, version=owner.version)
    assert not re.search(r"\n", str(caught.value))
