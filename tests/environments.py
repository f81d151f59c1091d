"""Environments as a user has them: a Python with autoreg, pip and pytest, in which plugins can be installed."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
from importlib.metadata import distribution, entry_points
from pathlib import Path

GROUPS, OURS = ("autoreg", "autoreg.commands"), "autoreg-core"

SCRIPTS = {
    "autoreg": "from autoreg.__main__ import main\nmain()",
    # nothing is fetched: what a package is built with, and what it needs, is there
    "pip": (
        "from pip._internal.cli.main import main\n"
        "own = {'install': ['--no-index', '--no-build-isolation'], 'wheel': ['--no-index', '--no-build-isolation']}\n"
        "sys.exit(main([*sys.argv[1:2], *own.get(sys.argv[1], []), *sys.argv[2:]]))"
    ),
}


class Environment:
    """A virtual environment that sees all that is installed beside these tests, but no plugin.

    Parameters
    ----------
    folder : Path
        Where it is made; also the home of whoever uses it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "env"
        venv.create(self.folder, symlinks=os.name != "nt")
        paths = {"base": str(self.folder), "platbase": str(self.folder)}
        self.site = Path(sysconfig.get_path("purelib", "venv", paths))
        scripts = Path(sysconfig.get_path("scripts", "venv", paths))
        beside = folder / "beside"
        _link_packages(beside)
        # addsitedir reads the .pth files there too, ours among them where autoreg is installed as editable
        (self.site / "beside.pth").write_text(f"import site; site.addsitedir({str(beside)!r})\n", encoding="utf-8")
        for name, code in SCRIPTS.items():
            script = scripts / name
            script.write_text(f"#!{scripts / 'python'}\nimport sys\n{code}\n", encoding="utf-8")
            script.chmod(0o755)
        clean = {name: value for name, value in os.environ.items() if name != "AUTOREG_PLUGINS"}
        home = str(folder / "home")
        own = {"HOME": home, "XDG_CACHE_HOME": home, "OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        self.variables = {**clean, **own, "PATH": os.pathsep.join([str(scripts), os.environ["PATH"]])}

    def run(
        self, command: str, folder: Path, *, good: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a line of the shell in a folder, with further variables of the environment."""
        done = subprocess.run(
            command, shell=True, cwd=folder, env={**self.variables, **variables}, capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
        assert (done.returncode == 0) == good, f"{command}\n{done.stdout}\n{done.stderr}"
        return done


def _link_packages(folder: Path) -> None:
    """Links to all that is installed here, without the distributions of plugins."""
    plugins = {point.dist.name for group in GROUPS for point in entry_points(group=group) if point.dist} - {OURS}
    files = [file for name in plugins for file in distribution(name).files or ()]
    left_out = {file.parts[0] for file in files}
    folder.mkdir()
    for place in dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]):
        for path in Path(place).iterdir():
            if path.name not in left_out and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
