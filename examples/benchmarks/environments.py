"""Make a virtual environment for each peer of `engine.py` and `accuracy.py`, in a folder of your choice.

    python examples/benchmarks/environments.py FOLDER [NAME ...] [-- OPTION OF pip ...]

Names are skorch, pytabkit, catboost, lightgbm, flaml and autogluon; all of them unless some are given. Versions are
those of `constraints.txt` where it names the package, but for those that a peer does not go with. An environment that
is there is brought up to date. AutoGluon and what it needs take several GB.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

from running import python_of

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


@dataclass(frozen=True)
class Peer:
    """What pip installs, and the packages whose version is the peer's choice, not that of `constraints.txt`."""

    packages: tuple[str, ...]
    free: tuple[str, ...] = ()


TABLES = ("pandas", "pyarrow")
"""What `accuracy.py` needs in a peer's environment."""

TREES = ("catboost==1.2.10", "lightgbm==4.7.0")

PEERS = {
    "skorch": Peer(("skorch==1.4.0", "torch")),
    "pytabkit": Peer(("pytabkit==1.7.3", "torch", *TABLES)),
    "catboost": Peer((TREES[0], *TABLES)),
    "lightgbm": Peer((TREES[1], "scikit-learn", *TABLES)),
    # of xgboost it wants a version before 3, which pip finds
    "flaml": Peer(("flaml[automl]==2.7.0", *TREES, *TABLES)),
    # medium_quality trains all of these; it wants pandas before 2.4 and pyarrow before 25
    "autogluon": Peer(("autogluon.tabular[catboost,fastai,lightgbm,xgboost]==1.6.3", *TREES, *TABLES), TABLES),
}


def constraints(free: tuple[str, ...]) -> str:
    """The lines of `constraints.txt` but for those of packages in `free`."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if line.partition("==")[0] not in free)


def main() -> None:
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    given, pip_options = arguments[:end], arguments[end + 1 :]
    if not given or given[0].startswith("-") or not set(given[1:]) <= set(PEERS):
        raise SystemExit(__doc__)
    for name in given[1:] or PEERS:
        folder = Path(given[0]) / name
        venv.create(folder, with_pip=True)
        pip = [python_of(name, Path(given[0])), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        with tempfile.TemporaryDirectory() as scratch:
            limits = Path(scratch, "constraints.txt")
            limits.write_text(constraints(PEERS[name].free), encoding="utf-8")
            subprocess.run([*pip, "--constraint", str(limits), *pip_options, *PEERS[name].packages], check=True)
        print(folder)


if __name__ == "__main__":
    main()
