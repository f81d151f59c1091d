"""Whether a module can be exported to ONNX: worth knowing, never a fault."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from autoreg.testing.results import Report, told


def exportable(module: nn.Module, *inputs: Tensor) -> Report:
    """Export a module for a moment, where the packages for it are installed.

    Parameters
    ----------
    module : nn.Module
    *inputs : Tensor
        What its forward is called with.
    """
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            return Report(f"not checked: {package} is not installed")
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet, level = io.StringIO(), logging.root.manager.disable
        logging.disable(logging.WARNING)  # the exporter names packages that it does without
        try:
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                torch.onnx.export(module.eval(), inputs, str(Path(directory) / "part.onnx"), verbose=False)
        except Exception as error:  # the exporter lets through whatever it meets
            return Report(f"cannot be exported to ONNX: {told(error)}")
        finally:
            logging.disable(level)
    return Report("can be exported to ONNX")
