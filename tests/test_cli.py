"""The commands, in this process and as processes of their own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from autoreg import AutoRegressor, NeuralRegressor, __version__, hookimpl, load
from autoreg.cli import autoreg
from autoreg.persistence import read_manifest
from autoreg.plugins import Plugins, installed, load_plugins
from autoreg.registry import Owner
from autoreg.report.catalogue import catalogue, catalogue_text

CHEAP = ["--effort", "quick", "--candidates", "2", "--space", "max_epochs=3"]
COMMAND = [sys.executable, "-m", "autoreg"]


def run(*args: object, code: int = 0, **options: Any) -> Result:
    done = CliRunner().invoke(autoreg, [str(arg) for arg in args], **options)
    assert done.exit_code == code, f"{done.exit_code}\n{done.stdout}\n{done.stderr}\n{done.exception}"
    return done


def refused(*args: object, **options: Any) -> str:
    """The one line that refuses a command."""
    done = run(*args, code=2, **options)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("Error: ")
    assert not any(line.startswith("Error") for line in lines[:-1])
    return lines[-1]


@pytest.fixture
def table(houses: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "houses.csv"
    houses.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of numbers and a category, fitted with everything on."""
    folder = tmp_path_factory.mktemp("model")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=80), "c": rng.choice(["007", "7", "08"], 80)})
    frame["y"] = 3 * frame["x"] + (frame["c"] == "007")
    frame["z"] = -frame["x"]
    frame.to_csv(folder / "t.csv", index=False)
    args = ["--target", "y", "--holdout", "0.25", "--categorical", "c", "--ignore", "z"]
    run("fit", folder / "t.csv", *args, "-o", folder / "m.safetensors", *CHEAP)
    return folder / "m.safetensors"


# ---------------------------------------------------------------- help


@pytest.mark.parametrize("args", [["-h"], ["--help"], ["fit", "-h"], ["predict", "-h"], ["plugins", "list", "-h"]])
def test_help(args: list[str]) -> None:
    assert run(*args).stdout.startswith("Usage: ")


def test_version() -> None:
    assert run("--version").stdout == f"autoreg {__version__}\n"


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["fti"], "No such command 'fti'"),
        (["fit", "t.csv", "--target", "y", "--tagret", "y"], "No such option '--tagret'"),
        (["fit", "t.csv"], "Missing option '--target'"),
        (["fit", "--target", "y"], "Missing argument 'TABLE'"),
        (["fit", "t.csv", "--target", "y", "--effort", "huge"], "'huge' is not one of"),
        (["fit", "t.csv", "--target", "y", "--folds", "1"], "x>=2"),
        (["fit", "t.csv", "--target", "y", "--plugin", "none.py"], "'none.py' does not exist"),
    ],
)
def test_usage(args: list[str], part: str) -> None:
    assert part in refused(*args)


# ---------------------------------------------------------------- fit


def test_fit_tells_everything(table: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    done = run("fit", table, "--target", "price", "--holdout", "0.2", "-o", output, *CHEAP)
    board, verdict, held = done.stdout.split("\n\n")
    assert board.splitlines()[0].split()[:3] == ["rank", "model", "kind"]
    assert {"ridge", "mean", "hist_gradient_boosting"} <= {line.split()[1] for line in board.splitlines()}
    assert "the best baseline, " in verdict
    assert held.startswith("On 24 rows kept out of everything:\nmodel ")
    assert {line.split()[0] for line in held.splitlines()[2:]} == {
        "autoreg",
        "ridge",
        "mean",
        "hist_gradient_boosting",
        "extra_trees",
    }
    assert f"Saved {output}. Next: autoreg predict {output} TABLE" in done.stderr
    assert "networks: 100%" in done.stderr
    manifest = read_manifest(output)
    assert manifest["targets"] == ["price"]
    assert manifest["n_rows"] == 96
    assert manifest["seed"] == 0
    assert manifest["held_out"]["n_rows"] == 24
    assert manifest["verdict"] == verdict


def test_fit_says_how_long_the_plan_takes_before_it_trains(table: Path, tmp_path: Path) -> None:
    lines = run("fit", table, "--target", "price", "-o", tmp_path / "m.safetensors", *CHEAP).stderr.splitlines()
    plans = [i for i, line in enumerate(lines) if line.startswith("Plan: 2 networks to train on each fold, about ")]
    trained = [i for i, line in enumerate(lines) if line.startswith("networks: ")]
    assert len(plans) == 1
    assert plans[0] < trained[0]


def test_fit_as_json(table: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    done = run("fit", table, "--target", "price", "--json", "--quiet", "--metric", "mae", "-o", output, *CHEAP)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["model"] == str(output)
    assert found["metric"] == "mae"
    assert found["held_out"] is None
    assert [row["rank"] for row in found["leaderboard"]] == list(range(1, len(found["leaderboard"]) + 1))
    assert all(row["mae"] > 0 for row in found["leaderboard"])


def test_quiet_is_quiet(table: Path, tmp_path: Path) -> None:
    done = run("fit", table, "--target", "price", "-o", tmp_path / "m.safetensors", "--quiet", *CHEAP)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_model_is_named_after_the_target(houses: pd.DataFrame, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    houses.rename(columns={"price": "price in €/m²"}).to_csv("t.csv", index=False)
    run("fit", "t.csv", "--target", "price in €/m²", "--quiet", "--companions", "none", *CHEAP)
    assert sorted(os.listdir()) == ["price_in___m².safetensors", "t.csv"]


def test_the_command_line_and_python_agree(houses: pd.DataFrame, table: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    run("fit", table, "--target", "price", "--quiet", "-o", output, *CHEAP)
    here = AutoRegressor(effort="quick", n_candidates=2, space={"max_epochs": [3]}, random_state=0, verbose=0)
    read = pd.read_csv(table)
    expected = here.fit(read.drop(columns="price"), read["price"]).predict(read)
    run("predict", output, table, "-o", tmp_path / "p.csv")
    assert np.array_equal(pd.read_csv(tmp_path / "p.csv")["price"], expected)


def test_the_same_command_gives_the_same_predictions(table: Path, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        output = tmp_path / f"{name}.safetensors"
        run("fit", table, "--target", "price", "--seed", seed, "--quiet", "-o", output, "--companions", "none", *CHEAP)
        found.append(run("predict", output, table).stdout)
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_an_existing_output_is_refused_before_anything_else(table: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    output.write_text("precious")
    assert "exists" in refused("fit", "no-such-table.csv", "--target", "price", "-o", output)
    assert output.read_text() == "precious"
    run("fit", table, "--target", "price", "-o", output, "--force", "--quiet", "--companions", "none", *CHEAP)
    assert read_manifest(output)["targets"] == ["price"]


@pytest.mark.parametrize(
    ("output", "part"),
    [
        ("/proc/m.safetensors", "nothing can be written into '/proc'"),
        ("no/m.safetensors", "no folder"),
        (".", "folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_else(output: str, part: str) -> None:
    assert part in refused("fit", "no-such-table.csv", "--target", "price", "-o", output)


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--network", "mpl"], ("no network 'mpl'", "did you mean 'mlp'")),
        (["--activation", "rleu"], ("no activation 'rleu'", "'relu'")),
        (["--loss", "sqared_error"], ("no loss", "'squared_error'")),
        (["--optimizer", "adamm"], ("no optimizer", "'adam")),
        (["--encoding", "plian"], ("no encoding", "'plain'")),
        (["--strategy", "porfolio"], ("no strategy", "'portfolio'")),
        (["--metric", "rsme"], ("no metric 'rsme'", "'rmse'")),
        (["--space", "learning_rat=1"], ("no search dimension", "'learning_rate'")),
        (["--space", "learning_rate"], ("NAME=a,b,c",)),
        (["--holdout", "0.2", "--valid", "t.csv"], ("--holdout and --valid",)),
    ],
)
def test_wrong_options_are_refused_before_the_table_is_read(
    args: list[str], parts: tuple[str, ...], tmp_path: Path
) -> None:
    line = refused("fit", "no-such-table.csv", "--target", "y", "-o", tmp_path / "m.safetensors", *args)
    assert [part for part in parts if part not in line] == []


@pytest.mark.parametrize("fraction", ["0", "1", "-0.5", "20"])
def test_a_holdout_is_a_share(fraction: str, table: Path, tmp_path: Path) -> None:
    args = ["--target", "price", "-o", tmp_path / "m.safetensors", f"--holdout={fraction}"]
    assert "between 0 and 1" in refused("fit", table, *args)


def test_restricting_the_search(table: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    names = ["--network", "linear", "--activation", "identity", "--optimizer", "sgd", "--optimizer", "adam"]
    names += ["--loss", "huber", "--encoding", "standard"]
    space = ["--space", "learning_rate=0.01,0.1", "--space", "max_epochs=2", "--strategy", "grid"]
    run("fit", table, "--target", "price", "-o", output, "--companions", "none", "--quiet", *names, *space)
    rows = read_manifest(output)["leaderboard"]
    tried = [row["parameters"] for row in rows if row["parameters"] is not None]
    assert {(p["optimizer"], p["learning_rate"]) for p in tried} == {
        (o, r) for o in ("sgd", "adam") for r in (0.01, 0.1)
    }
    for part, name in (("network", "linear"), ("activation", "identity"), ("loss", "huber"), ("encoding", "standard")):
        assert {p[part] for p in tried} == {name}
    assert all(row["parameters"] is not None or row["is_ensemble"] for row in rows)


def test_folds_group_time_and_weight(table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table)
    frame["street"] = np.arange(120) % 11
    frame["w"] = np.where(np.arange(120) % 10 == 0, 0.0, 2.0)
    frame.to_csv(table, index=False)
    for i, (args, n_folds) in enumerate(
        [
            (["--folds", "3"], 3),
            (["--group", "street"], 5),
            (["--time", "sold"], 5),
            (["--group", "street", "--time", "sold", "--folds", "4"], 4),
            (["--weight", "w", "--time", "sold", "--folds", "3"], 3),
        ]
    ):
        output = tmp_path / f"{i}.safetensors"
        done = run("fit", table, "--target", "price", "--holdout", "0.2", "-o", output, "--quiet", *args, *CHEAP)
        assert done.stderr == ""
        manifest = read_manifest(output)
        assert manifest["n_folds"] == n_folds
        names = {column["name"] for column in manifest["schema"]["columns"]}
        assert {"area", "sold"} <= names
        assert ("street" in names) == ("--group" not in args)
        assert ("w" in names) == ("--weight" not in args)
    assert manifest["n_rows"] < 0.8 * 0.95 * 120
    # what is no feature is no news at predict
    assert run("predict", output, table, "--keep", "street").stderr == ""


def test_time_in_another_form_than_iso(table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table)
    frame["sold"] = pd.to_datetime(frame["sold"]).dt.strftime("%d.%m.%Y")
    frame.to_csv(table, index=False)
    output = tmp_path / "m.safetensors"
    run("fit", table, "--target", "price", "--time", "sold", "--date", "sold", "-o", output, "--quiet", *CHEAP)
    schema = {column["name"]: column for column in read_manifest(output)["schema"]["columns"]}
    assert schema["sold"]["formats"] == ["%d.%m.%Y"]


def test_few_rows_are_split_as_far_as_they_go(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("x,y\n1,2\n2,3\n3,5\n")
    args = ["--target", "y", "-o", tmp_path / "m.safetensors", "--companions", "none", "--quiet", *CHEAP]
    assert "Warning: 3 folds instead of 5" in run("fit", table, *args).stderr
    assert "Warning: 3 folds instead of 4" in run("fit", table, *args, "--folds", "4", "--force").stderr
    table.write_text("x,y\n1,2\n")
    line = refused("fit", table, *args, "--force")
    assert "one row" in line or "1 sample(s)" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.safetensors", "t.csv"]


def test_a_second_table_to_score_on(houses: pd.DataFrame, tmp_path: Path) -> None:
    houses[:90].to_csv(tmp_path / "a.csv", index=False)
    houses[90:].to_csv(tmp_path / "b.csv", index=False)
    output = tmp_path / "m.safetensors"
    args = ["fit", tmp_path / "a.csv", "--target", "price", "--valid", tmp_path / "b.csv", "--json", "-o", output]
    held = json.loads(run(*args, *CHEAP).stdout)["held_out"]
    assert held["n_rows"] == 30
    ours = next(row for row in held["models"] if row["model"] == "autoreg")
    scored = json.loads(run("evaluate", output, tmp_path / "b.csv", "--json").stdout)
    assert scored == {
        "n_rows": 30,
        "targets": [{"target": "price", **{k: pytest.approx(ours[k]) for k in ("rmse", "mae", "r2")}}],
    }


def test_a_second_table_that_does_not_fit_costs_its_scores_alone(houses: pd.DataFrame, tmp_path: Path) -> None:
    houses[:90].to_csv(tmp_path / "a.csv", index=False)
    houses[90:].drop(columns="area").to_csv(tmp_path / "b.csv", index=False)
    output = tmp_path / "m.safetensors"
    args = ["fit", tmp_path / "a.csv", "--target", "price", "--valid", tmp_path / "b.csv", "-o", output, *CHEAP]
    done = CliRunner().invoke(autoreg, [str(word) for word in args])
    assert done.exit_code == 2
    assert f"Saved {output}, without scores on the rows kept out." in done.stderr
    assert "'area'" in done.stderr.splitlines()[-1]
    assert run("predict", output, tmp_path / "a.csv").stdout.startswith("price")


def test_columns_of_a_model_without_names_are_taken_by_place(tmp_path: Path) -> None:
    X = np.arange(20.0).reshape(10, 2)
    NeuralRegressor(max_epochs=1).fit(X, X[:, 0]).save(tmp_path / "m.safetensors")
    pd.DataFrame(X, columns=["a", "b"]).to_csv(tmp_path / "t.csv", index=False)
    err = run("predict", tmp_path / "m.safetensors", tmp_path / "t.csv").stderr
    assert "columns without names" in err
    assert "not used" not in err
    kept = run("predict", tmp_path / "m.safetensors", tmp_path / "t.csv", "--keep", "a").stdout
    assert kept.splitlines()[1].startswith("0.0,")
    pd.DataFrame(X, columns=["x1", "x0"]).assign(z=1).to_csv(tmp_path / "t.csv", index=False)
    done = run("predict", tmp_path / "m.safetensors", tmp_path / "t.csv", "--keep", "z")
    assert done.stderr == ""
    expected = load(tmp_path / "m.safetensors").predict(X[:, ::-1])
    assert np.array_equal(pd.read_csv(io.StringIO(done.stdout)).iloc[:, 1], expected)
    (target,) = load(tmp_path / "m.safetensors").model_.manifest["targets"]
    pd.DataFrame(X, columns=["x1", "x0"]).assign(**{target: expected}).to_csv(tmp_path / "t.csv", index=False)
    scored = json.loads(run("evaluate", tmp_path / "m.safetensors", tmp_path / "t.csv", "--json").stdout)
    assert scored["targets"][0]["rmse"] == pytest.approx(0, abs=1e-9)


def test_held_out_companions_are_fitted_on_all_training_rows(houses: pd.DataFrame, tmp_path: Path) -> None:
    houses[:90].to_csv(tmp_path / "a.csv", index=False)
    houses[90:].to_csv(tmp_path / "b.csv", index=False)
    args = ["fit", tmp_path / "a.csv", "--target", "price", "--valid", tmp_path / "b.csv", "--json"]
    found = json.loads(run(*args, "-o", tmp_path / "m.safetensors", *CHEAP).stdout)["held_out"]["models"]
    mean = next(row for row in found if row["model"] == "mean")
    error = houses["price"][90:] - houses["price"][:90].mean()
    assert mean["rmse"] == pytest.approx(float(np.sqrt((error**2).mean())))
    assert mean["mae"] == pytest.approx(float(error.abs().mean()))
    assert [row["rmse"] for row in found] == sorted(row["rmse"] for row in found)


def test_several_targets(table: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    targets = ["--target", "price", "--target", "area"]
    run("fit", table, *targets, "--holdout", "0.2", "-o", output, *CHEAP)
    done = run("predict", output, table, "--keep", "town", "-o", tmp_path / "p.parquet")
    assert (done.stdout, done.stderr) == ("", "")
    assert list(pd.read_parquet(tmp_path / "p.parquet").columns) == ["town", "price", "area"]
    scored = json.loads(run("evaluate", output, table, "--json").stdout)
    assert [row["target"] for row in scored["targets"]] == ["price", "area"]
    assert [line.split()[0] for line in run("evaluate", output, table).stdout.splitlines()] == [
        "120", "target", "price", "area",
    ]  # fmt: skip


# ---------------------------------------------------------------- predict and evaluate


def test_predict_writes_one_column_in_the_order_of_the_rows(model: Path) -> None:
    table = model.parent / "t.csv"
    lines = run("predict", model, table).stdout.splitlines()
    assert lines[0] == "y"
    assert len(lines) == 81
    whole = [float(line) for line in lines[1:]]
    backwards = pd.read_csv(table, dtype={"c": str})[::-1]
    turned = run("predict", model, "-", input=backwards.to_csv(index=False)).stdout.splitlines()
    assert [float(line) for line in turned[1:]] == pytest.approx(whole[::-1], rel=1e-6)


def test_categories_are_compared_as_they_are_written(model: Path) -> None:
    def predicted(code: str) -> str:
        return run("predict", model, "-", input=f"x,c\n0.5,{code}\n0.25,{code}\n").stdout

    assert len({predicted("007"), predicted("7"), predicted("08")}) == 3


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "parquet", "feather", "jsonl", "xlsx"])
def test_predictions_in_every_format(suffix: str, model: Path, tmp_path: Path) -> None:
    from autoreg.readers import read_table

    output = tmp_path / f"p.{suffix}"
    run("predict", model, model.parent / "t.csv", "-o", output, "--keep", "x")
    found = read_table(output)
    assert list(found.columns) == ["x", "y"]
    expected = run("predict", model, model.parent / "t.csv").stdout.splitlines()[1:]
    assert found["y"].tolist() == pytest.approx([float(line) for line in expected], rel=1e-9)
    assert list(tmp_path.iterdir()) == [output]


def test_predict_replaces_nothing_unasked(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "p.csv"
    output.write_text("precious")
    assert "exists" in refused("predict", model, model.parent / "t.csv", "-o", output)
    assert output.read_text() == "precious"
    run("predict", model, model.parent / "t.csv", "-o", output, "--force")
    assert output.read_text().startswith("y\n")


def test_a_failing_write_leaves_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(frame: Any, path: str) -> None:
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(__import__("autoreg.writers").writers.WRITERS, ".csv", full)
    output = tmp_path / "p.csv"
    output.write_text("precious")
    line = refused("predict", model, model.parent / "t.csv", "-o", output, "--force")
    assert "No space left on device" in line
    assert output.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["-o", "p.doc"], "ends in one of .csv"),
        (["-o", "no/p.csv"], "no folder"),
        (["--keep", "xx"], "--keep: no column 'xx'; did you mean 'x'?"),
        (["--keep", "y"], "rename the column"),
    ],
)
def test_wrong_options_of_predict(args: list[str], part: str, model: Path) -> None:
    assert part in refused("predict", model, model.parent / "t.csv", *args)


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_file_that_is_no_model(command: str, model: Path, tmp_path: Path) -> None:
    table = model.parent / "t.csv"
    assert "not an autoreg model" in refused(command, table, table)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(model.read_bytes()[:-9])
    assert "cut short" in refused(command, cut, table)
    assert "none.safetensors" in refused(command, tmp_path / "none.safetensors", table)


def test_evaluate(model: Path) -> None:
    table = model.parent / "t.csv"
    rows, _, figures = run("evaluate", model, table).stdout.splitlines()
    assert rows == "80 rows"
    frame = pd.read_csv(table)
    predicted = [float(line) for line in run("predict", model, table).stdout.splitlines()[1:]]
    error = predicted - frame["y"]
    found = json.loads(run("evaluate", model, table, "--json").stdout)["targets"][0]
    assert found["rmse"] == pytest.approx(float(np.sqrt((error**2).mean())))
    assert found["mae"] == pytest.approx(float(error.abs().mean()))
    assert found["r2"] == pytest.approx(1 - float((error**2).sum() / ((frame["y"] - frame["y"].mean()) ** 2).sum()))
    assert figures.split()[0] == "y"


def test_evaluate_needs_the_target(model: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(model.parent / "t.csv", dtype={"c": str})
    frame.drop(columns="y").to_csv(tmp_path / "t.csv", index=False)
    assert "no column 'y'" in refused("evaluate", model, tmp_path / "t.csv")
    frame.loc[3, "y"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert "row 4" in refused("evaluate", model, tmp_path / "t.csv")
    done = run("evaluate", model, tmp_path / "t.csv", "--drop-missing-target")
    assert done.stdout.startswith("79 rows")
    assert "1 row of 80" in done.stderr


def test_weights_count_as_rows(model: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(model.parent / "t.csv", dtype={"c": str})
    frame["w"] = 1 + np.arange(80) % 3
    frame.to_csv(tmp_path / "weighted.csv", index=False)
    frame.loc[frame.index.repeat(frame["w"])].to_csv(tmp_path / "repeated.csv", index=False)
    weighted = json.loads(run("evaluate", model, tmp_path / "weighted.csv", "--weight", "w", "--json").stdout)
    repeated = json.loads(run("evaluate", model, tmp_path / "repeated.csv", "--json").stdout)
    for name in ("rmse", "mae", "r2"):
        assert weighted["targets"][0][name] == pytest.approx(repeated["targets"][0][name], rel=1e-6)


# ---------------------------------------------------------------- show


def test_show(model: Path) -> None:
    text = run("show", model).stdout
    facts = dict(line.split(maxsplit=1) for line in text.splitlines()[:1])
    assert facts == {"predicts": "y"}
    assert "60 rows, 2 columns used, 0 ignored" in text
    assert "parts from   autoreg-core" in text
    assert "rank  model" in text
    assert "on 20 rows kept out of the fit:" in text


def test_show_the_schema(model: Path) -> None:
    lines = run("show", "--schema", model).stdout.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["column", "kind"], ["x", "number"], ["c", "category"]]
    assert "3 levels: 007, 08, 7" in lines[2]
    found = json.loads(run("show", "--schema", "--json", model).stdout)
    assert [column["name"] for column in found["columns"]] == ["x", "c"]


def test_show_as_json(model: Path) -> None:
    assert json.loads(run("show", "--json", model).stdout) == read_manifest(model)


def test_show_refuses_what_is_no_model(model: Path) -> None:
    assert "not an autoreg model" in refused("show", model.parent / "t.csv")


def test_show_a_single_network(houses: pd.DataFrame, tmp_path: Path) -> None:
    from autoreg import NeuralRegressor

    path = tmp_path / "m.safetensors"
    NeuralRegressor(max_epochs=2, random_state=0).fit(houses.drop(columns="price"), houses["price"]).save(path)
    text = run("show", path).stdout
    assert "consists of  100% mlp relu lr 0.001" in text
    assert "rank" not in text
    run("predict", path, "-", input=houses.to_csv(index=False))


def test_show_imports_neither_torch_nor_pandas(model: Path) -> None:
    program = (
        "import sys; from autoreg.__main__ import main\n"
        f"sys.argv = ['autoreg', 'show', {str(model)!r}]\n"
        "try:\n    main()\nexcept SystemExit as exit:\n    assert not exit.code\n"
        "assert not {'torch', 'pandas', 'sklearn', 'scipy'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("predicts")


# ---------------------------------------------------------------- plugins


PLUGIN = """
import torch
from autoreg import hookimpl

@hookimpl
def register_activations(register):
    register("{name}", lambda x: torch.sin(x) + x)
"""


def test_plugins_list() -> None:
    text = run("plugins", "list").stdout
    assert text == run("plugins").stdout
    assert text.startswith(f"autoreg-core {__version__}\n")
    assert "  companion: extra_trees, hist_gradient_boosting, mean, ridge\n" in text
    found = json.loads(run("plugins", "list", "--json").stdout)
    ours = {row["plugin"]: row for row in found if row["distribution"] == "autoreg-core"}
    kinds = {"activations", "losses", "optimizers", "networks", "encodings", "strategies", "companions"}
    assert kinds <= set(ours) == {point.name for point in installed()}
    assert "mlp" in ours["networks"]["offers"]["network"]
    assert all(row["problem"] == "" for row in found)


def test_a_plugin_that_is_left_out_is_listed() -> None:
    broken = ModuleType("broken")
    broken.__dict__["register_networks"] = hookimpl(lambda register: register("Bad Name", len))
    plugins = Plugins()
    with pytest.warns(UserWarning, match="left out"):
        plugins.add(broken, Owner("broken", "autoreg-broken", "1.0"))
    rows = catalogue(plugins)
    assert rows[0]["offers"] == {}
    assert catalogue_text(rows).splitlines()[0] == "autoreg-broken 1.0"
    assert "broken is left out: network name 'Bad Name'" in catalogue_text(rows)


@pytest.fixture
def fresh_plugins() -> Iterator[None]:
    """As in a process of its own: what a file offered is forgotten."""
    load_plugins.cache_clear()
    yield
    load_plugins.cache_clear()


@pytest.mark.usefixtures("fresh_plugins")
def test_a_plugin_from_a_file(table: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "wave.py"
    plugin.write_text(PLUGIN.format(name="wave"))
    output = tmp_path / "m.safetensors"
    networks = ["--activation", "wave", "--companions", "compare"]
    args = ["fit", table, "--target", "price", "-o", output, *networks, "--quiet", *CHEAP]
    assert run(*args, "--plugin", plugin).stderr == ""
    load_plugins.cache_clear()
    line = refused("predict", output, table)
    assert "activation 'wave'" in line
    assert "--plugin" in line
    done = run("predict", output, table, "--plugin", plugin)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 121
    listed = run("plugins", "list", "--plugin", plugin).stdout
    assert listed.endswith("\nwave.py\n  activation: wave\n")
    assert run("plugins", "list", "--plugin", plugin).stdout == listed


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("import no_such_package", "No module named 'no_such_package'"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(0)", "SystemExit"),
        (PLUGIN.format(name="Bad Name"), "use lower-case letters"),
        ("from autoreg import hookimpl\n@hookimpl\ndef register_activation(register): pass", "register_activation"),
    ],
)
@pytest.mark.usefixtures("fresh_plugins")
def test_a_plugin_at_fault_is_refused(content: str, part: str, tmp_path: Path) -> None:
    plugin = tmp_path / "faulty.py"
    plugin.write_text(content)
    line = refused("plugins", "list", "--plugin", plugin)
    assert "faulty.py" in line
    assert part in line
    assert "faulty" not in run("plugins", "list").stdout


# ---------------------------------------------------------------- how a command ends


def test_a_bug_is_one_line(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: object) -> dict[str, Any]:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("autoreg.persistence.read_manifest", broken)
    monkeypatch.delenv("AUTOREG_DEBUG", raising=False)
    done = run("show", model, code=1)
    assert done.stderr == "Error: bug: RuntimeError: two lines (AUTOREG_DEBUG=1 shows where; please report it)\n"
    monkeypatch.setenv("AUTOREG_DEBUG", "1")
    done = run("show", model, code=1)
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("Error: bug: RuntimeError: two lines\n")


def test_memory_and_interruption(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(error: BaseException) -> Any:
        def read(path: object) -> dict[str, Any]:
            raise error

        return read

    monkeypatch.setattr("autoreg.persistence.read_manifest", fails(MemoryError()))
    assert "not enough memory" in refused("show", model)
    monkeypatch.setattr("autoreg.persistence.read_manifest", fails(KeyboardInterrupt()))
    assert run("show", model, code=130).stderr == "Interrupted.\n"


def test_warnings_are_one_line_and_not_repeated(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    from autoreg.errors import DataWarning

    def warns(path: object) -> dict[str, Any]:
        for text in ("one\n  thing", "one thing", "another"):
            warnings.warn(text, DataWarning, stacklevel=1)
        warnings.warn("of another library", FutureWarning, stacklevel=1)
        return read_manifest(model)

    monkeypatch.setattr("autoreg.persistence.read_manifest", warns)
    monkeypatch.delenv("AUTOREG_DEBUG", raising=False)
    assert run("show", model).stderr == "Warning: one thing\nWarning: another\n"


LONG = ["--space", "max_epochs=100000", "--companions", "none", "--candidates", "1"]


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, 143, "Terminated.")],
    ids=["ctrl-c", "terminated"],
)
def test_a_second_signal_ends_a_fit_and_leaves_nothing(
    number: int, code: int, word: str, table: Path, tmp_path: Path
) -> None:
    output = tmp_path / "m.safetensors"
    command = [*COMMAND, "fit", str(table), "--target", "price", "-o", str(output), *LONG]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        while line and not line.startswith("Plan: "):
            line = process.stderr.readline()
        time.sleep(0.5)
        process.send_signal(number)
        assert process.stderr.readline().startswith("Stopping after the epochs in training")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert out == ""
    assert err.splitlines()[-1] == word
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [table]


def test_a_closed_pipe_is_no_error(model: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(model.parent / "t.csv", dtype={"c": str})
    pd.concat([frame] * 500).to_csv(tmp_path / "long.csv", index=False)
    command = [*COMMAND, "predict", str(model), str(tmp_path / "long.csv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_the_allocator_is_told_only_in_our_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from autoreg import __main__, processes

    called: list[bool] = []
    monkeypatch.setattr(processes, "this_process_is_ours", lambda: called.append(True))
    monkeypatch.setattr(__main__, "autoreg", lambda prog_name: None)
    for command, expected in ((["--help"], 0), (["show", "m"], 0), (["fit", "t.csv"], 1), (["predict", "m", "t"], 2)):
        monkeypatch.setattr(sys, "argv", ["autoreg", *command])
        __main__.main()
        assert len(called) == expected
    program = "from autoreg.processes import keep_freed_memory; keep_freed_memory()"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_allocator_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from autoreg.processes import keep_freed_memory

    def refuses(name: str) -> str:
        raise ValueError(name)

    monkeypatch.setattr(os, "confstr", refuses)
    keep_freed_memory()
    monkeypatch.delattr(os, "confstr")
    keep_freed_memory()


def test_the_options_that_say_what_cells_mean_hold_for_the_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 9, 60).round(1)
    frame = pd.DataFrame({"id": [f"{i:05}" for i in range(60)], "n": [None, *range(59)], "x": x, "y": x * 2})
    written, output = tmp_path / "written.csv", tmp_path / "m.safetensors"
    frame["x"] = [f"1.00{value}".replace(".", ",").replace(",", ".", 1) for value in x]  # 3,5 and 1.003,5
    frame.to_csv(written, sep=";", decimal=",", na_rep="unknown", index=False)
    told = ["--sep", ";", "--decimal", ",", "--thousands", ".", "--na-values", "unknown"]
    run("fit", written, "--target", "y", "--ignore", "id", "-o", output, *told, *CHEAP)
    assert read_manifest(output)["reading"] == {"decimal": ",", "thousands": ".", "na_values": ["unknown"]}
    silent = run("predict", output, written, "--sep", ";").stdout
    assert silent == run("predict", output, written, *told).stdout
    assert "now has 'unknown'" in refused("predict", output, written, "--sep", ";", "--na-values", "none")
    frame["x"] = (1000 + x).round(1)
    frame.to_csv(written, index=False)  # as others write it
    other = run("predict", output, written, "--decimal", ".").stdout
    assert other == silent == run("predict", output, written, "--decimal", ".", "--thousands", "").stdout


def test_columns_carried_along_are_as_they_were(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("id,n,x,c\n00123,1,0.5,007\n00124,,1.5,08\n")
    done = run("predict", model, path, "--keep", "id", "--keep", "n", "--keep", "c")
    assert [line.split(",")[:3] for line in done.stdout.splitlines()] == [
        ["id", "n", "c"], ["00123", "1", "007"], ["00124", "", "08"],
    ]  # fmt: skip


def test_an_identifier_is_carried_along_as_it_is(tmp_path: Path) -> None:
    x = np.linspace(0, 1, 40)
    path, output = tmp_path / "t.csv", tmp_path / "m.safetensors"
    pd.DataFrame({"id": [f"{i:05}" for i in range(40)], "x": x, "y": 2 * x}).to_csv(path, index=False)
    run("fit", path, "--target", "y", "-o", output, *CHEAP)
    lines = run("predict", output, path, "--keep", "id").stdout.splitlines()
    assert lines[1].startswith("00000,")
    assert lines[-1].startswith("00039,")


def test_codes_of_validation_rows_are_read_as_those_of_training_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.choice(["007", "7", "A1"], 90)
    frame = pd.DataFrame({"c": codes, "y": np.where(codes == "007", 9.0, np.where(codes == "7", 1.0, 5.0))})
    train, valid, output = tmp_path / "train.csv", tmp_path / "valid.csv", tmp_path / "m.safetensors"
    frame.to_csv(train, index=False)
    frame[frame["c"] == "007"].to_csv(valid, index=False)
    run("fit", train, "--target", "y", "--valid", valid, "-o", output, "--effort", "quick", "--candidates", "2")
    (best, *_), held = read_manifest(output)["held_out"]["models"], run("evaluate", output, valid, "--json")
    assert best["rmse"] == pytest.approx(json.loads(held.stdout)["targets"][0]["rmse"])
    assert best["rmse"] < 1
