"""Print what the checks say to each wrong plugin, and what a fit does with it: ``python tests/wrong_plugins/table.py``.

With names of plugins as arguments, those only.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ["AUTOREG_PLUGINS"] = ""
sys.path.insert(0, str(Path(__file__).parent.parent))

from wrong_plugins.cases import CASES
from wrong_plugins.running import failed_checks, fit_with


def main() -> None:
    print("| plugin | what the checks say | what a fit does |\n| --- | --- | --- |")
    for case in CASES:
        if sys.argv[1:] and case.name not in sys.argv[1:]:
            continue
        failed = failed_checks(case)
        said = f"`{failed[0].name}`: {failed[0].detail.partition('; see ')[0]}" if failed else "nothing"
        with tempfile.TemporaryDirectory() as folder:
            fit = fit_with(case, Path(folder))
        cells = (case.name, said, f"{fit.status}: {fit.said}" if fit.said else fit.status)
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
