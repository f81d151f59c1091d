"""Records of a journal: lines of JSON with their checksum, and values with tensors in them as JSON and tensors."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def dumps(value: Any) -> str:
    """JSON without spaces; NumPy's numbers are plain ones, and floats keep all their digits."""
    return json.dumps(value, separators=(",", ":"), default=_number)


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is nothing that JSON holds")


def as_line(record: Mapping[str, Any]) -> bytes:
    """A record as a line of a journal.

    >>> as_line({"kind": "fact"})
    b'cca445cf {"kind":"fact"}\\n'
    """
    text = dumps(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def from_line(line: bytes) -> dict[str, Any] | None:
    """A record, or None when the line is not whole."""
    if not line.endswith(b"\n") or line[:9] != b"%08x " % zlib.crc32(line[9:-1]):
        return None
    record: dict[str, Any] = json.loads(line[9:])
    return record


def pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON holds it, its tensors and arrays put aside."""
    if isinstance(value, (Tensor, np.ndarray)):
        name = f"{len(tensors)}"
        tensors[name] = value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
        return {"tensor" if isinstance(value, Tensor) else "array": name}
    if isinstance(value, tuple):
        return {"tuple": [pack(item, tensors) for item in value]}
    if isinstance(value, list):
        return [pack(item, tensors) for item in value]
    if isinstance(value, Mapping):
        # pairs, as JSON would make texts of the keys
        return {"dict": [[key, pack(item, tensors)] for key, item in value.items()]}
    return value


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "array":
        return tensors[inner].numpy()
    if kind == "tuple":
        return tuple(unpack(item, tensors) for item in inner)
    return {key: unpack(item, tensors) for key, item in inner}
