"""Packages to begin with: a plugin that works, with tests, for each kind of part.

The templates beside this file call what they make ``example``; that word is all that is replaced.
"""

from __future__ import annotations

import io
import keyword
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template

from autoreg.errors import OptionError, unknown
from autoreg.installed import COMMANDS, GROUP, installed, normalized, owner_of
from autoreg.names import recall

TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class Kind:
    """What a package of one kind says of itself.

    Attributes
    ----------
    what : str
    usage : str
        The command line that uses it.
    needs : tuple of str
        Distributions besides autoreg's own that its module imports.
    group : str
        Of its entry point.
    """

    what: str
    usage: str
    needs: tuple[str, ...] = ()
    group: str = GROUP


_FIT = "autoreg fit TABLE --target COLUMN"

KINDS = {
    "activation": Kind("an activation", f"{_FIT} --activation example", ("torch",)),
    "loss": Kind("a loss", f"{_FIT} --loss example", ("torch",)),
    "optimizer": Kind("an optimizer", f"{_FIT} --optimizer example", ("torch",)),
    "network": Kind("a network", f"{_FIT} --network example", ("torch",)),
    "encoding": Kind("an encoding", f"{_FIT} --encoding example", ("torch",)),
    "strategy": Kind("a search strategy", f"{_FIT} --strategy example", ("numpy",)),
    "companion": Kind("a companion", _FIT, ("scikit-learn",)),
    "command": Kind("a command", "autoreg example MODEL", ("click",), COMMANDS),
    "observer": Kind("an observer", f"AUTOREG_EXAMPLE_FILE=searches.tsv {_FIT}"),
}
"""What `write_package` can write."""

_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")


def write_package(name: str, kind: str, folder: Path | None = None, taken: Iterable[str] = ()) -> list[Path]:
    """Write a package of one plugin that can be installed as it is.

    Parameters
    ----------
    name : str
        What it offers; ``snake`` and ``autoreg-snake`` are the same.
    kind : str
        One of `KINDS`.
    folder : Path, optional
        Where to; ``autoreg-NAME`` by default. It must not be there, or be empty.
    taken : iterable of str
        Names of commands that there are already.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    OptionError
        When the name cannot be used, or the folder is not empty. Nothing is written then.
    """
    if kind not in KINDS:
        raise OptionError(unknown("kind of plugin", kind, list(KINDS)))
    name = re.sub(r"^autoreg[-_]", "", name)
    _check_name(name, kind, taken)
    texts = render(name, kind)
    folder = folder or Path(f"autoreg-{name}")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OptionError(f"{folder} is there already and is not empty: choose another with -o")
        paths = []
        for place, text in texts.items():
            paths.append(folder / place)
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            with open(paths[-1], "x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        what = f"cannot write {error.filename or folder}: {error.strerror}"
        raise OptionError(f"{what}; choose another folder with -o") from error
    return paths


def render(name: str, kind: str) -> dict[str, str]:
    """The files of a package by their place in it.

    >>> sorted(render("my-wave", "activation"))
    ['README.md', 'autoreg_my_wave.py', 'pyproject.toml', 'tests/test_my_wave.py']
    """
    identifier = name.replace("-", "_")
    about = KINDS[kind]
    group = f'"{about.group}"' if "." in about.group else about.group
    fields = {
        "description": f"{about.what[0].upper()}{about.what[1:]} for autoreg",
        "dependencies": ", ".join(f'"{needed}"' for needed in ("autoreg-core", *about.needs)),
        "group": group,
        "target": f"autoreg_example:{identifier}" if about.group == COMMANDS else "autoreg_example",
        "usage": f"$ {about.usage}",
        "what": about.what,
    }
    shared = {place: Template(_template(f"{place}.in")).substitute(fields) for place in ("pyproject.toml", "README.md")}
    modules = {
        "autoreg_example.py": _template(f"{kind}.py.in"),
        "tests/test_example.py": _template(f"{kind}_test.py.in"),
    }
    return {
        place.replace("example", identifier): _named(text, name, identifier, python=place.endswith(".py"))
        for place, text in {**shared, **modules}.items()
    }


def _template(file: str) -> str:
    return (TEMPLATES / file).read_text(encoding="utf-8")


def _named(text: str, name: str, identifier: str, python: bool) -> str:
    """A template with the plugin's name in place of ``example``."""
    text = text.replace("autoreg_example", f"autoreg_{identifier}").replace("autoreg-example", f"autoreg-{name}")
    text = text.replace('"example"', f'"{name}"').replace("EXAMPLE", identifier.upper())
    text = text.replace("Example", "".join(word.capitalize() for word in identifier.split("_")))
    return re.sub(r"\bexample\b", identifier if python else name, text)


def _check_name(name: str, kind: str, taken: Iterable[str]) -> None:
    identifier = name.replace("-", "_")
    if not _NAME.fullmatch(name) or len(name) > 40:
        raise OptionError(
            f"plugin name '{name}': use lower-case letters and digits, at most 40, words apart by one hyphen"
        )
    if kind == "command" and name in taken:
        raise OptionError(f"command '{name}' is there already: choose another name")
    words = _words(_template(f"{kind}.py.in")) | _words(_template(f"{kind}_test.py.in"))
    # pytest takes a function whose name begins with test for one
    if keyword.iskeyword(identifier) or identifier in words or identifier.startswith("test"):
        raise OptionError(f"plugin name '{name}': its Python module has this word for something else; choose another")
    for note in recall():
        if name in note.offers.get(kind, ()):
            raise OptionError(f"{kind} '{name}' is offered by {note.distribution} {note.version}: choose another name")
    for group in (GROUP, COMMANDS):
        for owner in map(owner_of, installed(group)):
            if normalized(owner.distribution) == normalized(f"autoreg-{name}"):
                raise OptionError(f"{owner} is installed already: choose another name")


def _words(source: str) -> set[str]:
    """The words that a module uses for something, but the one that is replaced."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME} - {"example"}
