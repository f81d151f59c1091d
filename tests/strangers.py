"""Distributions of strangers, as pip would leave them: metadata, entry points and modules, on a path of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SNAKE = """
    from autoreg import hookimpl

    def snake(x, frequency=1.0):
        return x + (frequency * x).sin() ** 2 / frequency

    @hookimpl
    def register_activations(register):
        register("snake", snake, space={"frequency": [0.5, 1.0, 2.0]})
"""

WATCHER = """
    from autoreg import hookimpl

    @hookimpl
    def search_finished(results, model):
        pass
"""


class Site:
    """A folder on ``sys.path`` with distributions in it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, patch
        folder.mkdir()
        patch.syspath_prepend(folder)

    def put(
        self, distribution: str, version: str = "1.0", source: str = SNAKE, group: str = "autoreg", **points: str
    ) -> Path:
        """Install a distribution of one module; returns the module's file.

        Without `points`, one plugin named as the distribution after its first hyphen.
        """
        module = distribution.replace("-", "_")
        points = points or {distribution.partition("-")[2]: module}
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        )
        file = self.folder / f"{module}.py"
        file.write_text(textwrap.dedent(source))
        self._patch.delitem(sys.modules, module, raising=False)
        return file

    def run(self, *arguments: str, program: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """A process that sees these distributions: ``python -m autoreg``, or a program given as text."""
        start = ["-c", textwrap.dedent(program)] if program else ["-m", "autoreg"]
        return subprocess.run(
            [sys.executable, *start, *arguments], env=self.environment(**environment), capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of a process that sees these distributions and those alone."""
        names = ",".join(path.name.rsplit("-", 2)[0] for path in self.folder.glob("*.dist-info"))
        return {**os.environ, "PYTHONPATH": str(self.folder), "AUTOREG_PLUGINS": names, **more}
