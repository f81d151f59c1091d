"""What makes two searches the same: their options, their data, and what computes them."""

from __future__ import annotations

import hashlib
import inspect
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autoreg.arithmetic import has_bfloat16
from autoreg.installed import OURS, installed, owner_of
from autoreg.names import files_of
from autoreg.plugins import load_plugins, registry
from autoreg.problem import Problem

LIBRARIES = ("autoreg-core", "torch", "numpy", "scipy", "scikit-learn")
WITHOUT_EFFECT = ("n_jobs", "verbose", "run_dir")
"""Arguments that the result does not depend on."""
SEEN_OTHERWISE = ("cv", "random_state", "device")
"""Arguments whose effect is among the folds, or is the seed, or what they were resolved to."""


def identity_of(parameters: Mapping[str, Any], problem: Problem, schema: Mapping[str, Any]) -> dict[str, Any]:
    """All that determines what a search finds, as JSON.

    Parameters
    ----------
    parameters : mapping
        The estimator's.
    problem : Problem
    schema : mapping
        The table's, as JSON.
    """
    owners = {entry.owner for entry in registry()}
    return {
        "option": {
            name: identity(value) for name, value in parameters.items() if name not in WITHOUT_EFFECT + SEEN_OTHERWISE
        },
        "seed": problem.seed,
        "precision": "bfloat16" if problem.half else "float32",
        "the columns": digest(json.dumps(schema, default=str).encode()),
        "the rows": digest(problem.numbers, problem.codes),
        "the targets": digest(problem.y),
        "the weights": digest(*([] if problem.sample_weight is None else [problem.sample_weight])),
        "the folds": digest(*_rows_of_folds(problem)),
        "version": {name: version(name) for name in LIBRARIES},
        "plugin": {
            **{owner.distribution: owner.version for owner in owners if owner.distribution},
            **{f"{e.kind} {e.name}": identity(e.thing) for e in registry() if not e.owner.distribution},
        },
        "the code of plugin": _sources(),
        "the processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        f"{' with bfloat16' if has_bfloat16() else ''}",
        "the device": problem.device if problem.device == "cpu" else torch.cuda.get_device_name(problem.device),
    }


def data_of(problem: Problem) -> str:
    """A checksum of what candidates are scored on."""
    weight = [] if problem.sample_weight is None else [problem.sample_weight]
    return digest(problem.numbers, problem.codes, problem.y, *weight, *_rows_of_folds(problem))


def _rows_of_folds(problem: Problem) -> list[Any]:
    return [rows for fold in problem.folds for rows in (fold.train, fold.valid)]


def _sources() -> dict[str, str]:
    """A checksum of the code of each plugin that is not ours: one may change and keep its version."""
    files: dict[str, list[Any]] = {str(owner): [path] for owner, path in load_plugins().files.items()}
    for point in installed():
        owner = owner_of(point)
        if owner.distribution != OURS:
            files.setdefault(str(owner), []).extend(path for path, *_ in files_of(point.value))
    found = {}
    for owner_name, paths in files.items():
        with suppress(OSError):
            found[owner_name] = digest(*(Path(path).read_bytes() for path in sorted(set(map(str, paths)))))
    return found


def digest(*parts: Any) -> str:
    """A checksum of bytes, or of arrays with their types and shapes.

    >>> digest(np.zeros(2)) == digest(np.zeros((2, 1)))
    False
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype} {part.shape}".encode())
            part = np.ascontiguousarray(part).data.cast("B") if part.size else b""
        total.update(part)
    return total.hexdigest()


def identity(value: Any, depth: int = 0) -> Any:
    """A value as JSON that is equal in another process, and different for what is known to behave otherwise.

    Functions and classes are their names and source, modules their numbers, other objects what they hold.

    Examples
    --------
    >>> from scipy import stats
    >>> identity({"width": (8, np.int64(16)), "rate": stats.uniform(0, 1)})
    {'width': [8, 16], 'rate': ['uniform', [0, 1], {}]}
    """
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, Mapping):
        return {str(key): identity(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [identity(item, depth + 1) for item in value]
    if isinstance(value, np.ndarray):
        return digest(value) if value.dtype != object else identity(value.tolist(), depth + 1)
    if isinstance(value, partial):
        return [identity(part, depth + 1) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, nn.Module):
        numbers = [tensor.detach().cpu().float().numpy() for tensor in value.state_dict().values()]
        return [_name(type(value)), repr(value), digest(*numbers)]
    if hasattr(value, "dist") and hasattr(value, "args"):  # a frozen distribution of scipy.stats
        name = getattr(value.dist, "name", _name(type(value.dist)))
        return [name, identity(value.args, depth + 1), identity(value.kwds, depth + 1)]
    if hasattr(value, "__qualname__"):
        return [_name(value), _source(value)]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(identity(item, depth + 1)) for item in value)
    if hasattr(value, "__dict__") and depth < 4:
        return [_name(type(value)), identity(vars(value), depth + 1)]
    text = repr(value)
    return [_name(type(value)), text if " at 0x" not in text else ""]


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{value.__qualname__}"


def _source(value: Any) -> str:
    """A checksum of the text of a function or class; empty where none is to be had."""
    try:
        return digest(inspect.getsource(value).encode())
    except (OSError, TypeError):
        return ""


def differences(before: Any, now: Any, where: str = "") -> str:
    """The first thing in which two identities differ, in words; empty when they are equal.

    Examples
    --------
    >>> differences({"option": {"effort": "quick"}}, {"option": {"effort": "balanced"}})
    "option effort was 'quick', and is 'balanced'"
    >>> differences({"the rows": "1f" * 32}, {"the rows": "2e" * 32})
    'the rows are others'
    """
    if json.dumps(before) == json.dumps(now):
        return ""
    if isinstance(before, dict) and isinstance(now, dict) and set(before) | set(now):
        for name in {**before, **now}:
            if json.dumps(before.get(name)) != json.dumps(now.get(name)):
                return differences(before.get(name), now.get(name), f"{where} {name}".strip())
    if where.startswith("the ") and where != "the processor":
        return f"{where} are others"
    return f"{where} was {_shown(before)}, and is {_shown(now)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
