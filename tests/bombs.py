"""Manifests that ask for far more than their file holds.

``python tests/bombs.py FILE`` reads the model file, changes its manifest in each of these ways, tries to build each,
and prints what came of it as JSON: the messages, and by how many MiB the process grew in all.
"""

from __future__ import annotations

import copy
import json
import resource
import sys
from collections.abc import Iterator
from typing import Any

HUGE = (10**6, 10**9, 2**62, 1e9, 1e300)
SIZES = {
    "plain": ("max_one_hot", "embedding_size"),
    "ple": ("max_one_hot", "embedding_size", "n_bins", "size"),
    "pbld": ("max_one_hot", "embedding_size", "n_frequencies", "size"),
}
LAYERS: tuple[dict[str, Any], ...] = (
    {"type": "Linear", "in_features": 20_000, "out_features": 20_000, "bias": True},
    {"type": "PReLU", "num_parameters": 400_000_000},
    {"type": "Sequential", "layers": [{"name": str(i), "type": "ReLU", "inplace": False} for i in range(20_000)]},
)


def bombs(good: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Changed copies of a good manifest with one member, a network ``mlp`` and at least one category column."""

    def changed(**parameters: Any) -> dict[str, Any]:
        manifest = copy.deepcopy(good)
        manifest["members"][0]["parameters"].update(parameters)
        return manifest

    for value in HUGE:
        for option in ("network__width", "network__depth"):
            yield f"{option}={value}", changed(**{option: value})
        for encoding, options in SIZES.items():
            for option in options:
                yield f"{encoding} {option}={value}", changed(encoding=encoding, **{f"encoding__{option}": value})
    for layer in LAYERS:
        yield f"network {layer['type']}", changed(network={"module": layer})
        yield f"activation {layer['type']}", changed(activation={"module": layer})
    for field, value in (("n_members", 2**40), ("outputs_per_target", 2**40)):
        manifest = changed()
        manifest["members"][0][field] = value
        yield field, manifest
    yield "targets", {**changed(), "targets": ["x"] * 50_000}
    yield "members", {**changed(), "members": good["members"] * 1_000}
    wide = {"name": "", "kind": "number", "may_miss": 1}
    yield "columns", with_columns(good, [{**wide, "name": str(i)} for i in range(20_000)])
    levels = sorted(str(i) for i in range(50_000))
    many = [{"name": "c", "kind": "category", "levels": levels, "may_miss": 1}]
    yield "levels", with_columns(good, many)
    yield "levels, one-hot", with_columns(changed(encoding__max_one_hot=10**9), many)
    yield "levels, long vectors", with_columns(changed(encoding__embedding_size=10**5, encoding__max_slots=10**9), many)


def with_columns(manifest: dict[str, Any], columns: list[dict[str, Any]]) -> dict[str, Any]:
    from autoreg.tables import Schema

    schema = {"columns": columns, "notices": []}
    return {**manifest, "schema": schema, "layout": Schema.from_json(schema).layout.to_json()}


def main(path: str) -> None:
    from autoreg.errors import ModelFileError
    from autoreg.model import FittedModel
    from autoreg.persistence import read_model

    manifest, tensors = read_model(path)
    FittedModel.from_file(manifest, tensors)
    found: dict[str, str] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, bomb in bombs(manifest):
        try:
            FittedModel.from_file(bomb, tensors)
            found[name] = "built"
        except ModelFileError as error:
            found[name] = str(error)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"found": found, "grown": grown / 1024}))


if __name__ == "__main__":
    main(sys.argv[1])
