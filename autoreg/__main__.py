"""``autoreg`` and ``python -m autoreg``."""

from __future__ import annotations

import os
import sys

from autoreg.cli import autoreg

LARGE = 1 << 25
"""32 MiB, the most that glibc takes as the size from which memory goes straight back to the system."""


def keep_freed_memory() -> None:
    """Let the C library keep what it frees: training allocates and frees the same large tensors all the time.

    For our own process only, never for one that imports autoreg.
    """
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return
    except (AttributeError, ValueError):  # not Linux, or not glibc
        return
    import ctypes

    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 1 << 30) or mallopt(mmap_threshold, LARGE)
    mallopt(trim_threshold, (1 << 31) - 1)


def main() -> None:
    """Run the command line."""
    if {"fit", "predict", "evaluate"} & set(sys.argv[1:2]):
        keep_freed_memory()
    if "fit" in sys.argv[1:2]:
        from autoreg.processes import this_process_is_ours

        this_process_is_ours()
    autoreg(prog_name="autoreg")


if __name__ == "__main__":
    main()
