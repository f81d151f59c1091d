"""The names that plugins offer, as far as they are known without importing one.

Those of our own plugins stand in ``builtins/names.json``. Those of others are noted in the user's cache folder whenever
plugins are loaded, together with the state of what they were read from: a note that is no longer true is not believed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from autoreg import __version__
from autoreg.installed import OURS, allowed_distributions, is_allowed
from autoreg.registry import Owner, Registry

FORMAT = 1
LARGEST = 1 << 22
"""Bytes of a cache that is read; ours have some thousand."""

MOST_ENVIRONMENTS = 4
"""Environments of which notes are kept, the last ones."""

BUILTINS = Path(__file__).parent / "builtins" / "names.json"

Offers = dict[str, dict[str, list[str]]]
"""Kind -> name -> the options that the thing takes."""


@dataclass(frozen=True)
class Note:
    """What one plugin offered when it was last loaded.

    Attributes
    ----------
    point : str
        The value of its entry point, such as ``autoreg_snake``.
    problem : str
        Why it was left out; empty where it was not.
    files : list of (path, modification time in nanoseconds, bytes)
        The modules of its package that were imported.
    """

    plugin: str
    distribution: str
    version: str
    point: str
    offers: Offers = field(default_factory=dict)
    problem: str = ""
    files: list[tuple[str, int, int]] = field(default_factory=list)


def offers_of(registry: Registry, owner: Owner) -> Offers:
    """All names that an owner offers, and their options."""
    found: Offers = {}
    for entry in sorted(registry, key=lambda entry: (entry.kind, entry.name)):
        if entry.owner == owner:
            found.setdefault(entry.kind, {})[entry.name] = list(entry.options or entry.space)
    return found


def recall() -> list[Note]:
    """What is known of allowed plugins and is still true; ours first. Imports nothing, and never fails."""
    allowed = allowed_distributions()
    others = [note for note in _read() if is_allowed(note.distribution, allowed) and _unchanged(note)]
    return [*builtins(), *others]


def builtins() -> list[Note]:
    """Our own plugins."""
    known = json.loads(BUILTINS.read_text(encoding="utf-8"))
    return [Note(plugin, OURS, __version__, f"autoreg.builtins.{plugin}", offers) for plugin, offers in known.items()]


def remember(notes: Iterable[Note]) -> None:
    """Note what plugins offer for the next process; where that cannot be written, it is not.

    What was noted of plugins that were not loaded this time, because ``AUTOREG_PLUGINS`` leaves them out, stays.
    """
    known = _read()
    new = {(note.distribution, note.plugin): note for note in known}
    new.update({(note.distribution, note.plugin): note for note in notes if note.distribution != OURS})
    found = [new[key] for key in sorted(new)]
    if found != known:
        _write(found)


def files_of(point: str) -> list[tuple[str, int, int]]:
    """The state of the files that an entry point's package was read from, as far as it is imported.

    A package that is not, because its import failed, is found where an import would look.
    """
    package = point.split(":")[0].strip().split(".")[0]
    modules = [module for name, module in list(sys.modules.items()) if name.split(".")[0] == package]
    paths = {getattr(module, "__file__", None) for module in modules} | {_origin(package)}
    return sorted(state for path in paths if path and (state := _state(path)) is not None)


def _origin(package: str) -> str | None:
    from importlib.util import find_spec

    try:
        spec = find_spec(package)  # of a package without dots: nothing is imported
    except (ImportError, ValueError, AttributeError):
        return None
    return spec.origin if spec else None


def _state(path: str) -> tuple[str, int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return path, found.st_mtime_ns, found.st_size


def _unchanged(note: Note) -> bool:
    return all(_state(path) == (path, changed, size) for path, changed, size in note.files)


# ------------------------------------------------------------------------------------------------------------ the file


def cache_folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Where this system keeps what a program can make anew.

    >>> cache_folder({"XDG_CACHE_HOME": "/caches"}).as_posix()
    '/caches/autoreg'
    >>> cache_folder({"HOME": "/home/me"}, "linux").as_posix()
    '/home/me/.cache/autoreg'
    """
    given = environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        return Path(given) / "autoreg"
    if platform == "win32" and environ.get("LOCALAPPDATA"):
        return Path(environ["LOCALAPPDATA"]) / "autoreg" / "Cache"
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    return home / "Library" / "Caches" / "autoreg" if platform == "darwin" else home / ".cache" / "autoreg"


def cache_file() -> Path:
    """The file for this Python environment."""
    which = sha256(json.dumps([sys.prefix, sys.version]).encode()).hexdigest()[:16]
    return cache_folder() / f"names-{which}.json"


def environment() -> str:
    """A digest of which distributions are installed: their metadata folders, with versions and times of change."""
    seen = set()
    for folder in map(os.path.abspath, sys.path):
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith((".dist-info", ".egg-info", ".egg-link")):
                        seen.add((folder, entry.name, entry.stat().st_mtime_ns))
        except OSError:  # an archive, or a folder that is not there
            pass
    return sha256(json.dumps(sorted(seen)).encode()).hexdigest()


def _read() -> list[Note]:
    """The notes of what is installed now; none where the file is not there or is damaged."""
    try:
        return [_note(row) for row in _load()[environment()]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _load() -> dict[str, Any]:
    """The file's notes by environment: a script in a folder that has metadata sees other distributions."""
    try:
        with open(cache_file(), "rb") as file:
            text = file.read(LARGEST + 1)
        data = json.loads(text) if len(text) <= LARGEST else {}
        found = data["environments"] if data["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _note(row: Any) -> Note:
    """One row of the file; names must be names, since they are shown in terminals."""
    texts = {name: row[name] for name in ("plugin", "distribution", "version", "point", "problem")}
    offers = {
        kind: {name: [option for option in options if option.isidentifier()] for name, options in named.items()}
        for kind, named in row["offers"].items()
    }
    shown = [*texts.values(), *offers, *(name for named in offers.values() for name in named)]
    if not all(isinstance(text, str) and text.isprintable() for text in shown):
        raise ValueError("not a note of ours")
    files = [(str(path), int(changed), int(size)) for path, changed, size in row["files"]]
    return Note(offers=offers, files=files, **texts)


def _write(notes: Iterable[Note]) -> None:
    now = environment()
    others = [(known, rows) for known, rows in _load().items() if known != now][1 - MOST_ENVIRONMENTS :]
    environments = {**dict(others), now: [asdict(note) for note in notes]}
    data = {"format": FORMAT, "environments": environments}
    path = cache_file()
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        from tempfile import NamedTemporaryFile

        with NamedTemporaryFile("w", dir=path.parent, prefix=path.stem, suffix=".part", delete=False) as file:
            temporary = file.name
            json.dump(data, file)
        os.replace(temporary, path)
    except (OSError, ValueError):
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def builtins_text(registry: Registry) -> str:
    """What ``builtins/names.json`` has to hold, one name a line; ``python -m autoreg.names`` writes it."""
    blocks = []
    owners = {entry.owner for entry in registry if entry.owner.distribution == OURS}
    for owner in sorted(owners, key=lambda owner: owner.plugin):
        for kind, named in offers_of(registry, owner).items():
            lines = [f"  {json.dumps(name)}: {json.dumps(options)}" for name, options in named.items()]
            blocks.append(f'"{owner.plugin}": {{"{kind}": {{\n' + ",\n".join(lines) + "\n}}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def write_builtins() -> None:
    """Write ``builtins/names.json`` anew, after a built-in part was added."""
    from autoreg.plugins import load_plugins

    BUILTINS.write_text(builtins_text(load_plugins().registry), encoding="utf-8")


if __name__ == "__main__":
    write_builtins()
