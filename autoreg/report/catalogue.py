"""The plugins and what they offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autoreg.installed import COMMANDS, OURS, installed, owner_of
from autoreg.names import recall

if TYPE_CHECKING:
    from autoreg.plugins import Plugins


def catalogue(plugins: Plugins) -> list[dict[str, Any]]:
    """Every loaded plugin with its distribution, its version, the names it offers by kind, and its problem if any."""
    rows = [_row(owner, plugins.offers(owner), "") for owner in plugins.owners]
    rows += [_row(problem.owner, {}, problem.reason) for problem in plugins.problems]
    return _ordered([*rows, *_commands()])


def known_catalogue() -> list[dict[str, Any]]:
    """The same from metadata and what the last load noted; nothing is imported."""
    notes = {(note.distribution, note.plugin): note for note in recall()}
    rows = []
    for point in installed():
        owner = owner_of(point)
        note = notes.get((owner.distribution, owner.plugin))
        rows.append(_row(owner, note.offers, note.problem) if note else _row(owner, {}, "", known=False))
    return _ordered([*rows, *_commands()])


def catalogue_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The plugins for the terminal, by distribution."""
    lines = []
    last = None
    for row in rows:
        title = f"{row['distribution']} {row['version']}".strip() or row["plugin"]
        if title != last:
            lines.append(title)
            last = title
        lines += [f"  {kind}: {', '.join(names)}" for kind, names in row["offers"].items()]
        if row["problem"]:
            lines.append(f"  {row['plugin']} is left out: {row['problem']}")
        elif not row["known"]:
            lines.append(f"  {row['plugin']}: not loaded yet; autoreg plugins list --load tells what it offers")
    return "\n".join(lines)


def _commands() -> list[dict[str, Any]]:
    return [_row(owner_of(point), {"command": [point.name]}, "") for point in installed(COMMANDS)]


def _row(owner: Any, offers: Mapping[str, Any], problem: str, known: bool = True) -> dict[str, Any]:
    return {
        "plugin": owner.plugin,
        "distribution": owner.distribution,
        "version": owner.version,
        "offers": {kind: list(names) for kind, names in offers.items()},
        "problem": problem,
        "known": known,
    }


def _ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours first, then by distribution; what has none, files and what was registered by hand, at the end."""
    return sorted(rows, key=lambda row: (row["distribution"] != OURS, not row["distribution"], row["distribution"]))
