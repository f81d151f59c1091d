"""What is known of plugins without importing one: the list, the help, and what a shell completes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from strangers import SNAKE, WATCHER, Site
from test_import_time import HEAVY

from autoreg import names, plugins
from autoreg.installed import OURS
from autoreg.names import BUILTINS, Note, builtins_text, cache_file, recall, remember
from autoreg.registry import Registry
from autoreg.report.catalogue import catalogue, catalogue_text, known_catalogue

SEEN = f"""
import atexit, sys
names = {sorted(HEAVY)!r} + ["autoreg_snake"]
atexit.register(lambda: print("IMPORTED", sorted({{*sys.modules}} & {{*names}}), file=sys.stderr))
from autoreg.__main__ import main
main()
"""

LOAD = """
from autoreg import installed, plugins
others = [point for point in installed.installed() if point.dist.name != installed.OURS]
plugins.installed = lambda group: others
plugins.load_plugins()
"""
"""A load without our own, which import torch."""


def complete(site: Site, words: str, shell: str = "zsh") -> list[str]:
    """What the shell shows for the last of the words, as its own completion script asks for it."""
    *before, last = words.split(" ")
    given = {"COMP_WORDS": words, "COMP_CWORD": str(len(before))}
    if shell == "fish":
        given = {"COMP_WORDS": " ".join([*before, ""]), "COMP_CWORD": last}
    done = site.run(program=SEEN, _AUTOREG_COMPLETE=f"{shell}_complete", **given)
    assert done.stderr == "IMPORTED []\n"
    lines = done.stdout.splitlines()
    if shell == "zsh":  # three lines each: type, value, help
        return lines[1::3]
    return [line.split(",", 1)[1].split("\t")[0] for line in lines if line]


def load(site: Site, **environment: str) -> None:
    done = site.run(program=LOAD, **environment)
    assert done.returncode == 0, done.stderr


def listed(site: Site, **environment: str) -> str:
    """What is listed of others, without an import."""
    done = site.run("plugins", program=SEEN, **environment)
    assert done.stderr == "IMPORTED []\n"
    return done.stdout[done.stdout.rindex("  strategy:") :].partition("\n")[2]


# ---------------------------------------------------------------- ours


def test_the_names_of_our_own_are_those_of_the_registry(registry: Registry) -> None:
    wanted = builtins_text(registry)
    assert BUILTINS.read_text(encoding="utf-8") == wanted, "write it anew: python -m autoreg.names"


def test_the_list_is_the_loaded_one() -> None:
    loaded = plugins.load_plugins()
    ours = [row for row in catalogue(loaded) if row["distribution"] == OURS]
    assert [row for row in known_catalogue() if row["distribution"] == OURS] == ours


# ---------------------------------------------------------------- others


def test_a_plugin_is_listed_at_once_and_its_names_after_a_load(site: Site) -> None:
    site.put("autoreg-snake", "0.3")
    unknown = "autoreg-snake 0.3\n  snake: not loaded yet; autoreg plugins list --load tells what it offers\n"
    assert listed(site) == unknown
    assert listed(site) == unknown
    known = "autoreg-snake 0.3\n  activation: snake\n"
    assert site.run("plugins", "list", "--load").stdout.endswith(known)
    assert listed(site) == known
    assert json.loads(site.run("plugins", "list", "--json").stdout)[-1] == {
        "plugin": "snake", "distribution": "autoreg-snake", "version": "0.3", "offers": {"activation": ["snake"]},
        "problem": "", "known": True,
    }  # fmt: skip


def test_any_load_makes_names_known(site: Site) -> None:
    site.put("autoreg-snake")
    load(site)
    assert listed(site) == "autoreg-snake 1.0\n  activation: snake\n"


def test_what_an_observer_and_a_command_offer_is_listed(site: Site) -> None:
    site.put("autoreg-watch", source=WATCHER)
    site.put("autoreg-greet", "2.0", source="raise SystemExit", group="autoreg.commands", greet="autoreg_greet:run")
    load(site)
    assert listed(site) == "autoreg-greet 2.0\n  command: greet\nautoreg-watch 1.0\n  observer: search_finished\n"


def test_what_is_wrong_is_known_too(site: Site) -> None:
    file = site.put("autoreg-snake", source="import no_such_package")
    reason = "autoreg-snake 1.0\n  snake is left out: ModuleNotFoundError: No module named 'no_such_package'\n"
    load(site)
    assert listed(site) == reason
    file.write_text("x = 1")
    assert "not loaded yet" in listed(site)


def test_a_note_that_is_no_longer_true_is_not_believed(site: Site) -> None:
    file = site.put("autoreg-snake")
    load(site)
    assert "activation: snake" in listed(site)
    source = file.read_text()
    file.write_text(source.replace('"snake"', '"serpent"'))
    assert "not loaded yet" in listed(site)
    load(site)
    assert "activation: serpent" in listed(site)
    # of the same length
    file.write_text(source.replace('"snake"', '"dragons"'))
    os.utime(file, ns=(time.time_ns() + 1, time.time_ns() + 1))
    assert "not loaded yet" in listed(site)
    load(site)
    assert "activation: dragons" in listed(site)
    # another distribution may have changed what this one finds
    site.put("autoreg-other")
    assert "dragons" not in listed(site)


def test_a_package_is_read_from_all_its_modules(site: Site) -> None:
    file = site.put(
        "autoreg-snake", source="from autoreg_snake_parts.deep import register_activations", x="autoreg_snake"
    )
    file.unlink()
    folder = site.folder / "autoreg_snake"
    folder.mkdir()
    (folder / "__init__.py").write_text("from autoreg_snake.deep import register_activations")
    deep = folder / "deep.py"
    deep.write_text(SNAKE.replace("\n    ", "\n"))
    load(site)
    assert "activation: snake" in listed(site)
    deep.write_text(deep.read_text() + "# changed")
    assert "not loaded yet" in listed(site)


def test_what_is_limited_stays_known(site: Site) -> None:
    site.put("autoreg-one", source=SNAKE.replace('"snake"', '"one"'))
    site.put("autoreg-two", source=SNAKE.replace('"snake"', '"two"'))
    load(site)
    load(site, AUTOREG_PLUGINS="autoreg-one")
    assert listed(site, AUTOREG_PLUGINS="autoreg-one") == "autoreg-one 1.0\n  activation: one\n"
    assert listed(site, AUTOREG_PLUGINS="") == ""
    assert listed(site) == "autoreg-one 1.0\n  activation: one\nautoreg-two 1.0\n  activation: two\n"


def test_an_environment_has_a_file_of_its_own(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_file()
    monkeypatch.setattr("sys.prefix", "/elsewhere")
    assert cache_file() != before
    assert cache_file().parent == before.parent


# ---------------------------------------------------------------- the file itself


NOTE = Note("snake", "autoreg-snake", "1.0", "autoreg_snake", {"activation": {"snake": ["frequency"]}})


@pytest.fixture
def noted(site: Site, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one note, outside of any process."""
    monkeypatch.setenv("AUTOREG_PLUGINS", "autoreg-snake")
    remember([NOTE])
    assert recall()[-1] == NOTE
    return cache_file()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"[]",
        lambda data: b"[" * 100_000,
        lambda data: b"\xff" + data,
        lambda data: data.replace(b'"format": 1', b'"format": 99'),
        lambda data: data.replace(b'"offers": {', b'"offers": 3, "more": {'),
        lambda data: data.replace(b'"autoreg-snake"', b'{"deep": 1}'),
        lambda data: data.replace(b'"snake": [', b'"\\u001b[31msnake": ['),
        lambda data: data.replace(b'"files": []', b'"files": [["a", null]]'),
        lambda data: data.replace(b'"environments"', b'"environs"'),
        lambda data: data + b" " * (1 << 23),
    ],
)
def test_a_damaged_cache_is_none(damage: object, noted: Path) -> None:
    noted.write_bytes(damage(noted.read_bytes()))  # type: ignore[operator]
    known = recall()
    assert {note.distribution for note in known} == {OURS}
    remember([NOTE])
    assert recall()[-1] == NOTE


def test_nothing_is_written_when_nothing_is_new(noted: Path) -> None:
    before = noted.stat()
    remember([NOTE])
    assert noted.stat().st_ino == before.st_ino
    remember([])
    assert recall()[-1] == NOTE


def test_it_is_written_whole_or_not_at_all(noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(data: object, file: object) -> None:
        file.write('{"half": ')  # type: ignore[attr-defined]
        raise OSError("no space left on device")

    monkeypatch.setattr(names.json, "dump", fails)
    remember([Note("b", "autoreg-b", "1", "b")])
    assert recall()[-1] == NOTE
    assert list(noted.parent.iterdir()) == [noted]


def test_a_folder_that_cannot_be_written_is_fine(site: Site, tmp_path: Path) -> None:
    site.put("autoreg-snake")
    (tmp_path / "cache").write_text("a file where the folder should be")
    load(site)
    assert "not loaded yet" in listed(site)


# ---------------------------------------------------------------- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_names(site: Site, shell: str) -> None:
    site.put("autoreg-snake")
    words = "autoreg fit t.csv --target y --activation s"
    ours = ["selu", "sigmoid", "silu", "softplus", "softshrink", "softsign"]
    assert complete(site, words, shell) == ours
    load(site)
    assert complete(site, words, shell) == [*ours, "snake"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--network m", ["mlp"]),
        ("--optimizer adamw", ["adamw"]),
        ("--loss log", ["log_cosh"]),
        ("--encoding pb", ["pbld"]),
        ("--strategy gr", ["grid"]),
        ("--space learn", ["learning_rate="]),
        ("--space network__de", ["network__depth="]),
        ("--space activation__freq", ["activation__frequency="]),
        ("--space activation=relu,sn", ["activation=relu,snake"]),
        ("--space network__depth=1,", []),
        ("--activation=sna", ["snake"]),
        ("--activation nothing", []),
    ],
)
def test_what_is_completed(site: Site, words: str, found: list[str]) -> None:
    site.put("autoreg-snake")
    load(site)
    assert complete(site, f"autoreg fit t.csv {words}") == found


def test_the_names_of_distributions_are_completed(site: Site) -> None:
    site.put("autoreg-snake")
    assert complete(site, "autoreg plugins check autoreg-s") == ["autoreg-snake"]


def test_help_imports_no_plugin(site: Site) -> None:
    site.put("autoreg-snake")
    for arguments in (["--help"], ["fit", "--help"], ["plugins", "--help"], ["plugins"]):
        done = site.run(*arguments, program=SEEN)
        assert done.returncode == 0
        assert done.stderr == "IMPORTED []\n"


def test_the_text_of_the_list() -> None:
    row = {"plugin": "x", "distribution": "d", "version": "1", "offers": {}, "problem": "E: no", "known": True}
    file = {**row, "plugin": "f.py", "distribution": "", "version": "", "problem": "", "offers": {"loss": ["a", "b"]}}
    assert catalogue_text([row, file]) == "d 1\n  x is left out: E: no\nf.py\n  loss: a, b"
