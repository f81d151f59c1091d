"""The plugins and what they offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoreg.plugins import Plugins


def catalogue(plugins: Plugins) -> list[dict[str, Any]]:
    """Every plugin with its distribution, its version, the names it offers by kind, and its problem if it has one."""
    rows = []
    for owner in plugins.owners:
        offers: dict[str, list[str]] = {}
        for entry in plugins.registry:
            if entry.owner == owner:
                offers.setdefault(entry.kind, []).append(entry.name)
        rows.append(_row(owner, offers, ""))
    rows += [_row(problem.owner, {}, problem.reason) for problem in plugins.problems]
    return rows


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
    return "\n".join(lines)


def _row(owner: Any, offers: dict[str, list[str]], problem: str) -> dict[str, Any]:
    return {
        "plugin": owner.plugin,
        "distribution": owner.distribution,
        "version": owner.version,
        "offers": offers,
        "problem": problem,
    }
