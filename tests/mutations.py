"""Random changes to bytes and to trees of JSON values, for tests that must survive any of them."""

from __future__ import annotations

import copy
import random
from typing import Any


def mutated(draw: random.Random, data: bytes) -> bytes:
    """Bytes with one to four random changes."""
    new = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        start = draw.randrange(len(new) + 1)
        end = min(len(new), start + draw.choice((0, 1, 1, 2, 8, 64)))
        piece = draw.choice((
            b"", draw.randbytes(end - start), draw.randbytes(draw.randrange(9)), data[start:end] * 2,
            data[draw.randrange(len(data)) :][:8], bytes([draw.choice(b'{}[]",:\\0123456789.eE- ')]), b"\xff" * 8,
        ))  # fmt: skip
        new[start:end] = piece
    return bytes(new)


NASTY = (
    None, True, False, 0, -1, 1, 2, 3, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**30, 0.5, 1e308, float("nan"),
    float("inf"), "", "F32", "weight", "x" * 3000, "../x", "\0", "\ud800", "é", [], {}, [[]], [0], [1] * 20, {"": 0},
    "__metadata__", "os.system",
)  # fmt: skip


def with_nasty_values(draw: random.Random, tree: Any) -> Any:
    """A copy of a tree of JSON values in which one or two places hold something else."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.choice((1, 1, 2))):
        node = tree
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw.choice(keys)
            if isinstance(node[key], (dict, list)) and draw.random() < 0.8:
                node = node[key]
                continue
            action = draw.randrange(4)
            if action == 0:
                del node[key]
            elif action == 1 and isinstance(node, list):
                node.insert(key, copy.deepcopy(draw.choice((node[key], *NASTY))))
            elif action == 1:
                node[draw.choice(("more", "shape", "é", *keys))] = copy.deepcopy(node[key])
            else:
                node[key] = copy.deepcopy(draw.choice(NASTY))
            break
    return tree
