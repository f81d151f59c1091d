"""``autoreg`` and ``python -m autoreg``."""

from __future__ import annotations

import sys

from autoreg.cli import autoreg


def main() -> None:
    """Run the command line."""
    if {"fit", "predict", "evaluate"} & set(sys.argv[1:2]):
        from autoreg.processes import this_process_is_ours

        this_process_is_ours()
    autoreg(prog_name="autoreg")


if __name__ == "__main__":
    main()
