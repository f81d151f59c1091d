"""Runs a page of the documentation and compares what it prints with what it shows."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```(?:\n\n```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def run_page(name: str, compare: bool = True) -> int:
    """Run a page's Python blocks one after the other, in one namespace; returns how many there are."""
    page = DOCS / name
    namespace: dict[str, Any] = {"__name__": page.stem}
    blocks = list(BLOCK.finditer(page.read_text(encoding="utf-8")))
    for block in blocks:
        code, shown = block.groups()
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(page), "exec"), namespace)
        found = "\n".join(line.rstrip() for line in printed.getvalue().rstrip().splitlines())
        assert not compare or alike(found, (shown or "").rstrip()), f"{page} shows\n{shown}\nand prints\n{found}"
    return len(blocks)


def commands(name: str) -> dict[str, str]:
    """The commands that a page shows at a prompt, each with what it shows below."""
    text = "\n".join(CONSOLE.findall((DOCS / name).read_text(encoding="utf-8")))
    found = {}
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        found[command] = shown
    return found


def alike(found: str, shown: str) -> bool:
    """Whether two texts differ in nothing but the last digits of their numbers: processors round differently."""
    if NUMBER.sub("#", found).split() != NUMBER.sub("#", shown).split():
        return False
    for one, other in zip(NUMBER.findall(found), NUMBER.findall(shown), strict=True):
        last = 10.0 ** -len(other.partition(".")[2])
        if abs(float(one) - float(other)) > max(0.05 * abs(float(other)), 2 * last if "." in other else 0):
            return False
    return True
