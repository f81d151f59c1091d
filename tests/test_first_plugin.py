"""The tutorial of the first plugin: pasted from an empty folder, as a user would, it does what it shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from environments import Environment
from pages import DOCS, NUMBER

PAGE = DOCS / "tutorials" / "first-plugin.md"
SNAKE = DOCS.parent / "plugins" / "autoreg-snake"
BLOCK = re.compile(
    r"^(`{3,})(?P<kind>\{[\w-]+\}|\w+) ?(?P<argument>[^\n]*)\n(?P<body>.*?)^\1$", re.DOTALL | re.MULTILINE
)
CAPTION = re.compile(r"^:caption: (.*)$", re.MULTILINE)
LINE = re.compile(r"(.*), line (\d+)")


@dataclass(frozen=True)
class Save:
    """A file, or one line of it, that the page shows under its name."""

    name: str
    text: str
    line: int | None = None


@dataclass(frozen=True)
class Type:
    """A command, and what the page shows below it."""

    command: str
    shown: str


def steps() -> list[Save | Type]:
    """What the page asks for, in its order."""
    found: list[Save | Type] = []
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        body = block["body"]
        if block["kind"] == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, shown = part.partition("\n")
                found.append(Type(command, shown))
        elif caption := CAPTION.search(body):
            included = block["kind"] == "{literalinclude}"
            code = re.sub(r"\A(:.*\n)+\n?", "", body)
            text = (PAGE.parent / block["argument"]).read_text(encoding="utf-8") if included else code
            one = LINE.fullmatch(caption[1])
            found.append(Save(one[1], text, int(one[2])) if one else Save(caption[1], text))
    return found


def save(step: Save, folder: Path) -> None:
    path = folder / step.name
    path.parent.mkdir(exist_ok=True)
    if step.line is None:
        path.write_text(step.text, encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert lines[step.line - 1].split("=")[0] == step.text.split("=")[0]
    lines[step.line - 1] = step.text
    path.write_text("".join(lines), encoding="utf-8")


def masked(text: str) -> list[str]:
    """Lines without their numbers and widths, in no order; how many an ensemble takes is a number too."""
    return sorted(" ".join(NUMBER.sub("#", line).split()) for line in text.splitlines() if line.strip(" .-"))


def compare(step: Type, printed: str) -> None:
    """What is shown is what is printed, but for numbers and the order of a leaderboard; ``...`` stands for anything."""
    shown = step.shown
    if shown.startswith("rank "):  # what is said below a leaderboard depends on who is first
        shown, printed = (text.partition("\n\n")[0] for text in (shown, printed))
    found, wanted = masked(printed), masked(shown)
    if "\n...\n" in f"\n{shown}":
        found = [line for line in found if line in wanted]
    assert found == wanted, f"{step.command}\n{printed}"


def test_pasted_from_an_empty_folder_it_does_what_it_shows(tmp_path: Path) -> None:
    environment, folder = Environment(tmp_path), tmp_path / "work"
    folder.mkdir()
    typed = 0
    for step in steps():
        if isinstance(step, Save):
            save(step, folder)
            continue
        typed += 1
        if step.command.startswith("cd "):
            folder = folder / step.command.removeprefix("cd ")
            continue
        done = environment.run(step.command, folder, good=not step.shown.startswith("Error: "))
        if step.shown:
            quiet = step.shown.startswith(("Error: ", "Warning: "))
            compare(step, done.stderr if quiet else done.stdout)
    assert typed >= 20
    for path in ("autoreg_snake.py", "README.md", "make_waves.py", "tests/test_snake.py"):
        assert (folder / path).read_bytes() == (SNAKE / path).read_bytes()


def test_there_are_ten_steps_and_each_ends_in_something_to_see() -> None:
    parts = re.split(r"^## (?=\d+\. )", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert [part.partition(".")[0] for part in parts] == [str(n) for n in range(1, 11)]
    for part in parts:
        commands = re.findall(r"^\$ ", part, flags=re.MULTILINE)
        assert commands, part.partition("\n")[0]


def test_all_that_the_finished_package_consists_of_is_on_the_page() -> None:
    ignored = {"LICENSE"}
    files = {path.relative_to(SNAKE).as_posix() for path in SNAKE.rglob("*") if path.is_file()}
    sources = {name for name in files if not re.search(r"egg-info|__pycache__|_cache/|^build/|^dist/", name)}
    assert sources - ignored == {step.name for step in steps() if isinstance(step, Save)} - {"look.py"}


@pytest.mark.parametrize("name", ["autoreg_snake.py", "pyproject.toml", "README.md", "make_waves.py"])
def test_what_is_shown_of_the_package_is_included_from_its_file(name: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"```{{literalinclude}} ../../plugins/autoreg-snake/{name}\n" in text
