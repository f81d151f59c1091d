"""What a saved model tells about itself, from its manifest alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoreg.report import leaderboard
from autoreg.report.leaderboard import aligned, shortened
from autoreg.report.units import duration, label
from autoreg.results import CandidateResult, SearchResults
from autoreg.space import Candidate


def card(manifest: Mapping[str, Any]) -> str:
    """A model for the terminal: what it predicts, what it was fitted on, what it consists of, and its search.

    Parameters
    ----------
    manifest : mapping
        As `autoreg.persistence.read_manifest` gives it.
    """
    columns = manifest["schema"]["columns"]
    used = sum(column["kind"] != "ignored" for column in columns)
    facts = [
        ("predicts", ", ".join(manifest["targets"])),
        ("fitted on", f"{manifest['n_rows']} rows, {used} columns used, {len(columns) - used} ignored"),
        ("took", f"{duration(manifest['seconds'])}, seed {manifest['seed']}, autoreg {manifest['version']}"),
    ]
    total = sum(member["weight"] for member in manifest["members"]) or 1.0
    for i, member in enumerate(manifest["members"]):
        copies = f" x {member['n_members']} folds" if member["n_members"] > 1 else ""
        text = f"{member['weight'] / total:.0%} {shortened(member['label'])}{copies}"
        facts.append(("consists of" if i == 0 else "", text))
    owners = sorted({_owner(o) for member in manifest["members"] for o in member["owners"].values()})
    facts.append(("parts from", ", ".join(owners) or "the user"))
    lines = aligned(facts, left={0, 1})
    if "leaderboard" in manifest:
        lines += ["", leaderboard.text(results_of(manifest))]
        if manifest.get("verdict"):
            lines += ["", manifest["verdict"]]
    if manifest.get("held_out"):
        from autoreg.report.measures import held_out_text

        held = manifest["held_out"]
        lines += ["", f"on {held['n_rows']} rows kept out of the fit:", held_out_text(held["models"], held["scoring"])]
    return "\n".join(lines)


def schema_text(schema: Mapping[str, Any]) -> str:
    """The columns of a schema for the terminal."""
    rows = [("column", "kind", "holds")]
    rows += [(column["name"], column["kind"], _content(column)) for column in schema["columns"]]
    return "\n".join([*aligned(rows, left={0, 1, 2}), *(f"note: {notice}" for notice in schema.get("notices", ()))])


def results_of(manifest: Mapping[str, Any]) -> SearchResults:
    """The search's results as a manifest tells them."""
    rows = []
    for row in manifest["leaderboard"]:
        candidate = None if row["parameters"] is None else Candidate(row["parameters"])
        rows.append(
            CandidateResult(
                row["index"], candidate, row["name"], _floats(row["scores"]), _floats(row["rmse"]), row["epoch"],
                row["seconds"], failure=row["failure"], is_ensemble=row["is_ensemble"], facts=row["facts"],
            )
        )  # fmt: skip
    rows.sort(key=lambda row: row.index)
    return SearchResults(
        tuple(row for row in rows if row.candidate is not None),
        tuple(row for row in rows if row.is_companion),
        manifest["scoring"],
        manifest["n_folds"],
        manifest["seconds"],
        manifest.get("verdict", ""),
        next((row for row in rows if row.is_ensemble), None),
    )


def summary(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What `fit --json` prints: the manifest's results in plain units, without schema and members."""
    return {
        "targets": manifest["targets"],
        "n_rows": manifest["n_rows"],
        "n_folds": manifest["n_folds"],
        "seconds": manifest["seconds"],
        "seed": manifest["seed"],
        "metric": label(manifest["scoring"]),
        "leaderboard": leaderboard.rows(results_of(manifest)),
        "verdict": manifest.get("verdict", ""),
        "held_out": manifest.get("held_out"),
    }


def _floats(values: Sequence[float | None]) -> tuple[float, ...]:
    """JSON has no NaN."""
    return tuple(float("nan") if value is None else float(value) for value in values)


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
    if kind == "number" and low is not None and high is not None:
        return f"{low:.6g} to {high:.6g}"
    return ""
