"""Manifests from strangers: well formed, with right checksums, and hostile. They end in one line or load as a model."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import with_nasty_values
from torch import Tensor, nn

from autoreg import AutoRegressor, NeuralRegressor, estimators, load
from autoreg.errors import AutoregError, ModelFileError
from autoreg.manifest import check_manifest
from autoreg.persistence import read_model
from autoreg.strictjson import read_json

MUTATIONS = 500

Read = tuple[dict[str, Any], dict[str, Tensor]]


@pytest.fixture(scope="module")
def table() -> Any:
    import pandas as pd

    draw = np.random.default_rng(0)
    x = pd.DataFrame({"a": draw.normal(size=60), "b": draw.normal(size=60)})
    x["few"] = draw.choice(["x", "y", "z"], 60)
    x["many"] = draw.choice([f"level {i}" for i in range(12)], 60)
    x["day"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(draw.integers(0, 500, 60), unit="D")
    x.loc[3, "a"] = np.nan
    return x, x["b"].abs() + (x["few"] == "x")


@pytest.fixture(scope="module")
def files(table: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A network by name with an encoding that learns; described layers, a link and an activation; a search."""
    layers = nn.Sequential(nn.LazyLinear(4), nn.PReLU(), nn.LazyLinear(1))
    models = [
        NeuralRegressor(max_epochs=1, encoding="ple", network_options={"width": 16}, random_state=0),
        NeuralRegressor(max_epochs=1, network=layers, activation=nn.PReLU(4), loss="poisson", random_state=0),
        AutoRegressor(strategy="grid", networks=["mlp", "resnet"], space={"max_epochs": [1], "network__width": [8]},
                      cv=2, random_state=0, verbose=0),
        NeuralRegressor(max_epochs=1, random_state=0),
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("models")
    for i, model in enumerate(models):
        model.fit(*table).save(folder / f"{i}.safetensors")
    return [folder / f"{i}.safetensors" for i in range(len(models))]


def load_from(read: Read, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`load` of a file that says this."""
    manifest, tensors = read
    monkeypatch.setattr(estimators, "read_model", lambda path: (copy.deepcopy(manifest), tensors))
    return load("a file")


def test_random_changes_are_refused_in_one_line_or_load(
    files: list[Path], table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(0)
    read = [read_model(path) for path in files]
    counts: Counter[str] = Counter()
    refused: list[str] = []
    for i in range(MUTATIONS):
        manifest, tensors = read[i % len(read)]
        try:
            manifest = read_json(json.dumps(with_nasty_values(draw, manifest)), "manifest")
        except ModelFileError:  # not a manifest that a file can have
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as other columns than those of the table, or other plugins
            try:
                model = load_from((manifest, tensors), monkeypatch)
            except ModelFileError as error:
                refused.append(str(error))
                continue
            counts["loaded"] += 1
            try:
                assert np.isfinite(model.predict(table[0])).all()
            except AutoregError:
                counts["predicted nothing"] += 1
            if hasattr(model, "results_"):
                model.leaderboard()
    assert all(message.isprintable() and len(message) < 700 for message in refused)
    assert len(refused) > 0.5 * MUTATIONS
    assert counts["loaded"] > 0.05 * MUTATIONS


def test_nothing_is_allocated_because_a_manifest_says_so(files: list[Path]) -> None:
    script = Path(__file__).parent / "bombs.py"
    done = subprocess.run([sys.executable, script, files[-1]], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert len(result["found"]) > 60
    for name, message in result["found"].items():
        # what had no effect may be built
        assert message != "built" or "max_one_hot" in name, name
        assert message.isprintable()
        assert "MemoryError" not in message, name
        assert "allocate" not in message, name
    assert result["grown"] < 60


def changed(read: Read, *path: Any, **values: Any) -> Read:
    """The manifest with some fields changed, or left out where the value is `...`."""
    manifest = copy.deepcopy(read[0])
    node = manifest
    for key in path:
        node = node[key]
    for name, value in values.items():
        if value is ...:
            del node[name]
        else:
            node[name] = value
    return manifest, read[1]


MEMBER = ("members", 0)
PARAMETERS = ("members", 0, "parameters")
ROW = ("leaderboard", 0)


@pytest.mark.parametrize(
    ("path", "values", "message"),
    [
        ((), {"targets": ...}, "it has no targets"),
        ((), {"targets": []}, r"targets is \[\], not a list of names"),
        ((), {"targets": "price"}, "targets is 'price'"),
        ((), {"targets": ["a", "b"]}, "shape"),
        ((), {"seed": None}, "seed is None, not a whole number"),
        ((), {"members": []}, r"members is \[\]"),
        ((), {"members": {}}, "members is {}"),
        ((), {"schema": ...}, "the schema is damaged"),
        ((), {"layout": {"n_numbers": 10**12, "may_miss": [], "n_codes": []}}, "its layout is not that of its schema"),
        ((), {"estimator": ...}, "it has no class"),
        ((), {"n_folds": 10**9}, "scores is"),
        ((), {"leaderboard": []}, "no candidate that was trained"),
        (("estimator",), {"class": "os.system"}, "class is 'os.system', not a kind of regressor"),
        (("estimator",), {"n_features_in": 7}, "n_features_in is 7"),
        (("estimator",), {"y_ndim": 7}, "y_ndim is 7"),
        (("estimator",), {"y_dtype": "object"}, "y_dtype is 'object'"),
        (("estimator",), {"parameters": []}, r"parameters is \[\]"),
        (MEMBER, {"weight": 0}, "weight is 0"),
        (MEMBER, {"weight": -1.0}, "weight is -1.0"),
        (MEMBER, {"weight": None}, "weight is None"),
        (MEMBER, {"n_members": 0}, "n_members is 0"),
        (MEMBER, {"n_members": True}, "n_members is True"),
        (MEMBER, {"point": "torch.load"}, "an unknown link 'torch.load'; known: exp"),
        (MEMBER, {"point": {"loss": "squared_error"}}, "needs the link of loss 'squared_error'"),
        (MEMBER, {"point": {"loss": ["a"]}}, "point is"),
        (MEMBER, {"owners": {"network": "x"}}, "the owner of 'network' is 'x'"),
        ((*MEMBER, "owners", "network"), {"name": "no-such"}, "'no-such' came from autoreg-core .* does not offer"),
        ((*MEMBER, "owners", "network"), {"name": "a", "distribution": "x --index-url http://evil"}, "not installed$"),
        ((*MEMBER, "owners", "network"), {"name": "a", "distribution": "autoreg-x"}, "pip install autoreg-x$"),
        (PARAMETERS, {"network": "os.system"}, "no network 'os.system'"),
        (PARAMETERS, {"network": ...}, "it has no network"),
        (PARAMETERS, {"network": 3}, "network is 3"),
        (PARAMETERS, {"network": {"label": "os.system"}}, "network 'os.system' but not its code"),
        (PARAMETERS, {"network": {"module": {"type": "os.system"}}}, "not on the list of safe layers"),
        (PARAMETERS, {"encoding": {"label": "eval"}}, "encoding 'eval' but not its code: make it a plugin"),
        (PARAMETERS, {"activation": {"label": "eval"}}, "activation 'eval' but not its code"),
        (PARAMETERS, {"activation": {"label": "a\nb\0"}}, r"activation 'a\\nb\\x00' but not its code"),
        (PARAMETERS, {"network__width": {"label": "os.system"}}, "made with an object as 'network__width'"),
        (PARAMETERS, {"network__width": 9}, "its network needs"),
        (PARAMETERS, {"network__import": "os"}, "cannot be built as the model says: "),
        (ROW, {"scores": [1.0]}, r"scores is \[1.0\], not 2 numbers"),
        (ROW, {"name": 3}, "name is 3"),
        (ROW, {"facts": None}, "facts is None"),
    ],
)  # fmt: skip
def test_a_manifest_that_lies_is_refused(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, path: Any, values: Any, message: str
) -> None:
    read = read_model(files[2])
    assert load_from(read, monkeypatch) is not None
    with pytest.raises(ModelFileError, match=message) as caught:
        load_from(changed(read, *path, **values), monkeypatch)
    assert str(caught.value).isprintable()


def test_candidates_are_numbered(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, tensors = read_model(files[2])
    rows = [{**row, "index": 0} for row in manifest["leaderboard"]]
    with pytest.raises(ModelFileError, match="its candidates are not numbered one by one"):
        load_from(({**manifest, "leaderboard": rows}, tensors), monkeypatch)


def test_a_search_without_its_results_is_refused(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_model(files[0])
    with pytest.raises(ModelFileError, match="it has no n_folds"):
        load_from(changed(read, "estimator", **{"class": "AutoRegressor"}), monkeypatch)


def test_the_best_network_of_a_search_is_saved_and_loaded_alone(table: Any, tmp_path: Path) -> None:
    space = {"max_epochs": [1], "learning_rate": [1e-3, 1e-2]}
    search = AutoRegressor(strategy="grid", space=space, cv=2, random_state=0, verbose=0).fit(*table)
    search.best_estimator_.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert type(again) is NeuralRegressor
    assert np.array_equal(again.predict(table[0]), search.best_estimator_.predict(table[0]))


def test_more_parameters_than_a_table_can_show_are_refused(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_model(files[2])
    many = {f"network__{i}": 1 for i in range(501)}
    place = next(i for i, row in enumerate(read[0]["leaderboard"]) if row["parameters"] is not None)
    with pytest.raises(ModelFileError, match="more than 500 parameters"):
        load_from(changed(read, "leaderboard", place, parameters=many), monkeypatch)


def test_tensors_must_be_those_of_the_parts(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, tensors = read_model(files[0])
    name = next(name for name in tensors if name.endswith("weight") and ".network." in name)
    for bad, message in (
        ({k: v for k, v in tensors.items() if k != name}, "has no tensor 'network"),
        ({**tensors, "0.more": tensors[name]}, "a tensor 'more' that its network has no use for"),
        ({**tensors, "9.more": tensors[name]}, "no member has a tensor '9.more'"),
        ({**tensors, "more": tensors[name]}, "no member has a tensor 'more'"),
        ({**tensors, name: tensors[name][:, :1]}, "has shape"),
        ({**tensors, name: tensors[name].long()}, r"is torch.int64, its network needs torch.float32"),
    ):
        with pytest.raises(ModelFileError, match=message) as caught:
            load_from((manifest, bad), monkeypatch)
        assert str(caught.value).isprintable()


def test_options_above_what_the_table_fills_are_no_attack(table: Any, tmp_path: Path) -> None:
    model = NeuralRegressor(max_epochs=1, encoding_options={"max_slots": 10**6, "min_count": 10**7}, random_state=0)
    model.fit(*table).save(tmp_path / "m.safetensors")
    assert np.array_equal(load(tmp_path / "m.safetensors").predict(table[0]), model.predict(table[0]))


def test_a_manifest_is_checked_without_torch() -> None:
    code = "import sys; import autoreg.manifest, autoreg.recording; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ModelFileError, match="it has no targets"):
        check_manifest([])
