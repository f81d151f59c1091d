"""The example's tables, with few rows, where the documentation looks for them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent


def lay_out(folder: Path, n_rows: int) -> None:
    """Write ``examples/data/*.csv`` below a folder, each with its first rows."""
    target = folder / "examples" / "data"
    target.mkdir(parents=True)
    for path in (ROOT / "examples" / "data").glob("*.csv"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (target / path.name).write_text("".join(lines[: n_rows + 1]), encoding="utf-8")
