"""Importing a plugin in a process of its own, where it may exit, hang or change settings without harm."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from autoreg.testing.results import Fault, Report, told

SECONDS = 20.0
"""An import that takes longer hangs."""

MARGIN = 120.0
"""For the process around the import: Python and torch start slowly on a busy machine."""


def check_import(target: str, *, is_file: bool = False, seconds: float | None = None) -> Report | str:
    """A module or a file can be imported, and changes nothing that belongs to all.

    Parameters
    ----------
    target : str
        A module's name, or the path of a file.
    is_file : bool
    seconds : float, optional
        After which the import counts as hanging.
    """
    seconds = SECONDS if seconds is None else seconds
    with tempfile.TemporaryDirectory() as directory:
        answer = Path(directory) / "answer.json"
        arguments = [target, str(int(is_file)), str(seconds), str(answer)]
        # where this process finds modules, the other one has to find them too
        path = os.pathsep.join(entry for entry in sys.path if entry)
        process = subprocess.run(
            [sys.executable, "-c", "from autoreg.testing.importing import main; main()", *arguments],
            env={**os.environ, "AUTOREG_PLUGINS": "", "PYTHONPATH": path}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=seconds + MARGIN, check=False,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(answer.read_text()) if answer.exists() else {}
    if not found:
        last = (process.stderr.strip().splitlines() or ["nothing on standard error"])[-1]
        raise Fault("an import that ends", f"the end of the process, with status {process.returncode}: {last}")
    if found.get("hangs"):
        raise Fault(
            f"an import that takes less than {seconds:g} seconds", "no end of it: do the work when it is asked for"
        )
    if found["error"]:
        raise Fault("an import without an error", found["error"])
    if found["changed"]:
        raise Fault("settings that belong to all to stay as they are", "; ".join(found["changed"]))
    took = f"{found['seconds']:.2f} seconds"
    printed = process.stdout.strip().splitlines()
    return Report(f"{took}; it prints '{printed[0][:60]}'") if printed else took


def main() -> None:
    """In the other process: import, and write down what happened."""
    target, is_file, seconds, answer = sys.argv[1:]
    before = settings()

    def give_up() -> None:
        Path(answer).write_text(json.dumps({"hangs": True}))
        os._exit(0)  # whatever hangs does not let the process end by itself

    watchdog = threading.Timer(float(seconds), give_up)
    watchdog.daemon = True
    watchdog.start()
    begin, error = time.perf_counter(), ""
    try:
        _run_file(target) if is_file == "1" else import_module(target)
    except (Exception, SystemExit) as raised:  # a stranger's code may raise anything
        error = told(raised)
    took = time.perf_counter() - begin
    watchdog.cancel()
    after = settings()
    changed = [f"{what} is {after[what]}, was {was}" for what, was in before.items() if after[what] != was]
    Path(answer).write_text(json.dumps({"error": error, "changed": changed, "seconds": took}))


def _run_file(path: str) -> None:
    spec = spec_from_file_location("autoreg_checked", path)
    if spec is None or spec.loader is None:
        raise ImportError("its name does not end in .py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)


def settings() -> dict[str, str]:
    """What a process has once, and every part of a program relies on.

    >>> settings()["torch's default dtype"]
    'torch.float32'
    """
    import numpy as np
    import torch

    return {
        "torch's default dtype": str(torch.get_default_dtype()),
        "torch's default device": str(torch.get_default_device()),
        "torch's number of threads": str(torch.get_num_threads()),
        "whether torch computes gradients": str(torch.is_grad_enabled()),
        "torch's random state": str(hash(torch.get_rng_state().numpy().tobytes())),
        "numpy's random state": str(hash(str(np.random.get_state()))),
        "Python's random state": str(hash(random.getstate())),
        "numpy's handling of errors": str(np.geterr()),
        "the directory": os.getcwd(),
        "what Ctrl-C does": str(signal.getsignal(signal.SIGINT)),
        "what a request to end does": str(signal.getsignal(signal.SIGTERM)),
    }
