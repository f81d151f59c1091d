"""How long, and how loudly, MLflow may answer."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

BOUNDS = {
    # MLflow's own settings would have a fit wait many minutes for a server that is gone
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    # what a command prints is its own
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # the requirements are known; a project around the working directory is no part of the model
    "MLFLOW_UV_AUTO_DETECT": "false",
}
"""Settings of MLflow while this plugin speaks to it. What the user has set stays."""

_LOCK = threading.Lock()
_SET: list[str] = []
_SPEAKERS: list[None] = []


@contextmanager
def bounded() -> Iterator[None]:
    """Have MLflow give up soon and print nothing, for as long as this lasts in any thread."""
    with _LOCK:
        _SPEAKERS.append(None)
        for name in BOUNDS:
            if name not in os.environ:
                os.environ[name] = BOUNDS[name]
                _SET.append(name)
    try:
        yield
    finally:
        with _LOCK:
            _SPEAKERS.pop()
            while _SET and not _SPEAKERS:
                os.environ.pop(_SET.pop(), None)
