"""Make a virtual environment for each peer of `engine.py`, in a folder of your choice.

    python examples/benchmarks/environments.py FOLDER [skorch] [pytabkit] [-- OPTION OF pip ...]

Versions are those of `constraints.txt` where it names the package. An environment that is there is brought up to date.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

PEERS = {"skorch": ["skorch==1.4.0", "torch"], "pytabkit": ["pytabkit==1.7.3", "torch"]}
CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


def main() -> None:
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    given, pip_options = arguments[:end], arguments[end + 1 :]
    if not given or given[0].startswith("-") or not set(given[1:]) <= set(PEERS):
        raise SystemExit(__doc__)
    for name in given[1:] or PEERS:
        folder = Path(given[0]) / name
        venv.create(folder, with_pip=True)
        python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--constraint", str(CONSTRAINTS), *pip_options, *PEERS[name]], check=True)
        print(folder)


if __name__ == "__main__":
    main()
