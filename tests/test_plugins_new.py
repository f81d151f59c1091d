"""``autoreg plugins new``: what it writes installs, passes its own tests, and is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from environments import Environment
from strangers import Site

from autoreg.cli import autoreg
from autoreg.scaffold import KINDS, render

RULES = ["--isolated", "--line-length", "120", "--target-version", "py311", "--select", "E,F,W,I,B,UP,SIM,RUF,PT,C4"]


def new(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(autoreg, ["plugins", "new", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def process(*command: object, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], cwd=folder, env={**os.environ, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package of each kind, and all of them installed in ``site``."""
    folder = tmp_path_factory.mktemp("workshop")
    for kind in KINDS:
        new(f"my-{kind}", "--kind", kind, "-o", folder / kind)
    own = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    process("pip", "install", *own, "--target", folder / "site", *(f"./{kind}" for kind in KINDS), folder=folder)
    return folder


@pytest.fixture
def installed(workshop: Path, tmp_path: Path) -> dict[str, str]:
    """The variables of a process that sees what is installed there."""
    names = ",".join(f"autoreg-my-{kind}" for kind in KINDS)
    return {"PYTHONPATH": str(workshop / "site"), "AUTOREG_PLUGINS": names, "XDG_CACHE_HOME": str(tmp_path)}


def test_all_kinds_of_the_command_are_there() -> None:
    help_text = CliRunner().invoke(autoreg, ["plugins", "new", "--help"]).output
    assert all(kind in help_text for kind in KINDS)
    wanted = {"activation", "loss", "optimizer", "network", "strategy", "command", "observer", "encoding", "companion"}
    assert set(KINDS) == wanted


def test_each_passes_its_own_tests(workshop: Path, installed: dict[str, str]) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "-rA"]
    told = process("pytest", *options, *(f"{kind}/tests" for kind in KINDS), folder=workshop, **installed)
    passed = [line for line in told.splitlines() if line.startswith("PASSED ")]
    assert all(any(f"/test_my_{kind}.py::" in line for line in passed) for kind in KINDS)


def test_each_is_in_the_list_at_once(workshop: Path, installed: dict[str, str]) -> None:
    def rows(*options: str) -> dict[str, tuple[dict[str, list[str]], bool]]:
        told = json.loads(process("autoreg", "plugins", "list", "--json", *options, folder=workshop, **installed))
        return {row["plugin"]: (row["offers"], row["known"]) for row in told if row["distribution"] != "autoreg-core"}

    assert rows() == {
        f"my-{kind}": ({"command": ["my-command"]}, True) if kind == "command" else ({}, False) for kind in KINDS
    }
    offers = {f"my-{kind}": ({kind: [f"my-{kind}"]}, True) for kind in KINDS}
    offers["my-observer"] = ({"observer": ["search_finished"]}, True)
    assert rows("--load") == offers
    assert rows() == offers


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_written_as_our_own_code_is(kind: str, workshop: Path) -> None:
    process("ruff", "check", *RULES, ".", folder=workshop / kind)
    process("ruff", "format", "--isolated", "--line-length", "120", "--check", ".", folder=workshop / kind)


def test_an_editable_install_of_one(tmp_path: Path) -> None:
    environment = Environment(tmp_path)
    wrote = environment.run("autoreg plugins new sway --kind activation", tmp_path)
    assert wrote.stderr.startswith("Next: pip install --editable autoreg-sway, then autoreg plugins list --load")
    commands = wrote.stderr.strip().removeprefix("Next: ").split(", ")
    for command in commands:
        environment.run(command.removeprefix("then ").removeprefix("and "), tmp_path)
    shown = environment.run("autoreg plugins", tmp_path).stdout
    assert shown.endswith("\nautoreg-sway 0.1.0\n  activation: sway\n")


def test_files_and_names() -> None:
    files = render("my-wave", "command")
    assert sorted(files) == ["README.md", "autoreg_my_wave.py", "pyproject.toml", "tests/test_my_wave.py"]
    assert "def my_wave(model):" in files["autoreg_my_wave.py"]
    assert '[project.entry-points."autoreg.commands"]\nmy-wave = "autoreg_my_wave:my_wave"' in files["pyproject.toml"]
    assert "$ autoreg my-wave MODEL" in files["README.md"]
    for kind in KINDS:
        assert "example" not in "".join(render("snake", kind).values()).lower()
        assert "$" not in render("snake", kind)["pyproject.toml"]


def test_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert new("autoreg-sway", "--kind", "loss").stdout.splitlines()[2] == "autoreg-sway/autoreg_sway.py"
    before = (tmp_path / "autoreg-sway" / "autoreg_sway.py").read_text()
    (tmp_path / "autoreg-sway" / "autoreg_sway.py").write_text(before + "# mine")
    assert (
        "autoreg-sway is there already and is not empty: choose another with -o"
        in new("sway", "--kind", "loss", code=2).stderr
    )
    assert (tmp_path / "autoreg-sway" / "autoreg_sway.py").read_text() == before + "# mine"
    (tmp_path / "empty").mkdir()
    new("sway", "--kind", "loss", "-o", "empty")
    (tmp_path / "file").write_text("")
    assert "is there already" in new("sway", "--kind", "loss", "-o", "file", code=2).stderr
    assert "choose another folder with -o" in new("sway", "--kind", "loss", "-o", "file/below", code=2).stderr


@pytest.mark.parametrize(
    ("name", "kind", "part"),
    [
        ("Snake", "activation", "use lower-case letters and digits, at most 40, words apart by one hyphen"),
        ("9lives", "activation", "use lower-case letters"),
        ("a--b", "activation", "use lower-case letters"),
        ("../up", "activation", "use lower-case letters"),
        ("snäke", "activation", "use lower-case letters"),
        ("a" * 41, "activation", "use lower-case letters"),
        ("autoreg-", "activation", "use lower-case letters"),
        ("class", "activation", "its Python module has this word for something else"),
        ("torch", "activation", "its Python module has this word for something else"),
        ("register", "loss", "its Python module has this word for something else"),
        ("relu", "activation", "activation 'relu' is offered by autoreg-core"),
        ("fit", "command", "command 'fit' is there already"),
    ],
)
def test_a_name_that_cannot_be_used(name: str, kind: str, part: str, tmp_path: Path) -> None:
    line = new(name, "--kind", kind, "-o", tmp_path / "x", code=2).stderr
    assert line.startswith("Error: ")
    assert part in line
    assert list(tmp_path.iterdir()) == []


def test_a_distribution_that_is_installed_keeps_its_name(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("autoreg-sway", "0.4")
    monkeypatch.setenv("AUTOREG_PLUGINS", "autoreg-sway")
    assert "autoreg-sway 0.4 is installed already" in new("sway", "--kind", "loss", code=2).stderr
