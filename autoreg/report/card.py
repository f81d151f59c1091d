"""What a saved model tells about itself, from its manifest alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoreg.errors import printable
from autoreg.manifest import check_manifest, is_count, is_number, is_object, is_text, is_texts, read_field
from autoreg.recording import results_from_json
from autoreg.report import leaderboard
from autoreg.report.labels import short_names, shortened
from autoreg.report.leaderboard import aligned
from autoreg.report.units import NAMES, duration, label
from autoreg.results import SearchResults


def card(manifest: Mapping[str, Any]) -> str:
    """A model for the terminal: what it predicts, what it was fitted on, what it consists of, and its search.

    Parameters
    ----------
    manifest : mapping
        As `autoreg.persistence.read_manifest` gives it.

    Raises
    ------
    ModelFileError
        When it is not of the form that a fit writes.
    """
    check_manifest(manifest)
    columns = _columns(manifest)
    used = sum(column["kind"] != "ignored" for column in columns)
    facts = [
        ("predicts", ", ".join(manifest["targets"])),
        ("fitted on", f"{manifest['n_rows']} rows, {used} columns used, {len(columns) - used} ignored"),
        ("took", f"{duration(manifest['seconds'])}, seed {manifest['seed']}, autoreg {manifest['version']}"),
    ]
    total = sum(member["weight"] for member in manifest["members"]) or 1.0
    results = results_from_json(manifest) if "leaderboard" in manifest else None
    names = _names_of_members(manifest["members"], results)
    for i, member in enumerate(manifest["members"]):
        copies = f" x {member['n_members']} folds" if member["n_members"] > 1 else ""
        text = f"{member['weight'] / total:.0%} {names[i]}{copies}"
        facts.append(("consists of" if i == 0 else "", text))
    owners = sorted({_owner(o) for member in manifest["members"] for o in member["owners"].values()})
    facts.append(("parts from", ", ".join(owners) or "the user"))
    lines = aligned(facts, left={0, 1})
    if results is not None:
        lines += ["", leaderboard.text(results)]
        if manifest.get("verdict"):
            lines += ["", manifest["verdict"]]
    if manifest.get("held_out") is not None:
        from autoreg.report.measures import held_out_text

        held = _held_out(manifest["held_out"])
        lines += ["", f"on {held['n_rows']} rows kept out of the fit:", held_out_text(held["models"], held["scoring"])]
    return _shown(lines)


def _shown(lines: list[str]) -> str:
    """Lines of which a stranger may have written parts: nothing in them commands the terminal."""
    return "\n".join(printable(line) for text in lines for line in text.split("\n"))


def _names_of_members(members: list[Mapping[str, Any]], results: SearchResults | None) -> list[str]:
    """As the leaderboard has them, where it is known which of its rows they are."""
    if results is not None:
        weights: Any = results.chosen.facts.get("weights")
        if is_object(weights) and len(weights) == len(members):
            _, names = short_names(results.ranked)
            known = {str(index): name for index, name in names.items()}
            return [known.get(str(i), shortened(m["label"])) for i, m in zip(weights, members, strict=True)]
    return [shortened(member["label"]) for member in members]


def schema_text(manifest: Mapping[str, Any]) -> str:
    """The columns of a model's schema for the terminal.

    Raises
    ------
    ModelFileError
        When it has none.
    """
    rows = [("column", "kind", "holds")]
    rows += [(column["name"], column["kind"], _content(column)) for column in _columns(manifest)]
    notices = read_field(manifest["schema"], "notices", is_texts, "a list of texts")
    return _shown([*aligned(rows, left={0, 1, 2}), *(f"note: {notice}" for notice in notices)])


def _columns(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    schema = read_field(manifest, "schema", is_object, "an object")
    columns: list[Mapping[str, Any]] = read_field(schema, "columns", _is_objects, "a list of objects")
    for column in columns:
        for name in ("name", "kind"):
            read_field(column, name, is_text, "a text")
        for name in ("levels", "parts"):
            if name in column:
                read_field(column, name, is_texts, "a list of texts")
    return columns


def _held_out(data: Any) -> Mapping[str, Any]:
    read_field(data, "n_rows", is_count, "a number of rows")
    read_field(data, "scoring", is_text, "a text")
    for row in read_field(data, "models", _is_objects, "a list of objects"):
        read_field(row, "model", is_text, "a text")
        if not read_field(row, "failure", is_text, "a text"):
            for name in (label(data["scoring"]), *NAMES):
                # no JSON has NaN, such as the R2 of a constant
                read_field(row, name, lambda value: value is None or is_number(value), "a number")
    return data


def _is_objects(value: Any) -> bool:
    return isinstance(value, list) and all(is_object(item) for item in value)


def summary(manifest: Mapping[str, Any], results: SearchResults) -> dict[str, Any]:
    """What `fit --json` prints: the results in plain units, without schema and members."""
    return {
        "targets": manifest["targets"],
        "n_rows": manifest["n_rows"],
        "n_folds": results.n_folds,
        "seconds": manifest["seconds"],
        "seed": manifest["seed"],
        "metric": label(results.scoring),
        "leaderboard": leaderboard.rows(results),
        "verdict": results.verdict,
        "held_out": manifest.get("held_out"),
    }


def _owner(owner: Mapping[str, str]) -> str:
    return f"{owner['distribution']} {owner['version']}".strip() or owner["plugin"]


def _content(column: Mapping[str, Any]) -> str:
    kind = column["kind"]
    if kind == "ignored":
        return str(column.get("reason", ""))
    if kind == "category":
        levels = column.get("levels", ())
        shown = ", ".join(str(level) for level in levels[:4])
        return f"{len(levels)} levels: {shown}{', ...' if len(levels) > 4 else ''}"
    if kind == "date":
        return ", ".join(column.get("parts", ()))
    low, high = column.get("minimum"), column.get("maximum")
    if kind == "number" and is_number(low) and is_number(high):
        return f"{low:.6g} to {high:.6g}"
    return ""
