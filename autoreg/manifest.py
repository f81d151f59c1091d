"""A model's manifest as plain data: how values are written into it, and what is checked before one is believed.

The file's form was checked when it was read (`autoreg.modelformat`); here it is what the fields say. Nothing here
imports torch, so that a manifest can be shown without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from autoreg.errors import ModelFileError
from autoreg.space import short
from autoreg.strictjson import quoted

KEPT = ("encoding", "network", "activation")
"""The parts of a candidate that a saved model needs to compute a prediction."""

MOST_IN_AN_ARRAY = 1000
"""Numbers of an array that are written one by one: of an option's, not of a table's."""


def as_json(value: Any) -> Any:
    """A plain value as it is; anything else by its label.

    >>> as_json({"sizes": (8, 4), "loss": as_json})
    {'sizes': [8, 4], 'loss': {'label': 'as_json'}}
    """
    few = isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.size <= MOST_IN_AN_ARRAY
    if few or isinstance(value, np.generic):
        value = value.tolist()
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    return {"label": short(value)}


def has_label(value: Any) -> bool:
    """Whether a value from a manifest stands for an object that no file holds, or holds such a one.

    >>> has_label([1, {"label": "sin"}]), has_label("sin")
    (True, False)
    """
    if isinstance(value, Mapping):
        return "label" in value or any(has_label(item) for item in value.values())
    return isinstance(value, list) and any(has_label(item) for item in value)


def damaged(what: str) -> ModelFileError:
    """The error for a manifest that says what it cannot say."""
    return ModelFileError(f"the model's manifest is damaged: {what}")


def read_field(data: Any, name: str, check: Callable[[Any], bool], rule: str) -> Any:
    """One field of an object in a manifest.

    Raises
    ------
    ModelFileError
        When it is not there or breaks the rule.

    Examples
    --------
    >>> read_field({"seed": 3}, "seed", is_whole, "a whole number")
    3
    >>> read_field({"seed": "3"}, "seed", is_whole, "a whole number")
    Traceback (most recent call last):
        ...
    autoreg.errors.ModelFileError: the model's manifest is damaged: seed is '3', not a whole number
    """
    if not isinstance(data, Mapping) or name not in data:
        raise damaged(f"it has no {name}")
    if not check(data[name]):
        raise damaged(f"{name} is {quoted(data[name])}, not {rule}")
    return data[name]


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_text, value))


def is_whole(value: Any) -> bool:
    return type(value) is int


def is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def is_number(value: Any) -> bool:
    # a whole number beyond float would not even compare
    return (type(value) is int and -(2**63) <= value < 2**63) or (type(value) is float and math.isfinite(value))


def is_object(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_names(value: Any) -> bool:
    return is_texts(value) and len(value) > 0


def check_manifest(manifest: Any) -> None:
    """Check what every model's manifest has but its schema, which `Schema.from_json` checks.

    Raises
    ------
    ModelFileError
    """
    read_field(manifest, "targets", _is_names, "a list of names")
    read_field(manifest, "version", is_text, "a text")
    read_field(manifest, "n_rows", is_count, "a number of rows")
    read_field(manifest, "seed", is_whole, "a whole number")
    read_field(manifest, "seconds", is_number, "a number")
    members = read_field(
        manifest, "members", lambda value: isinstance(value, list) and bool(value), "a list of members"
    )
    for member in members:
        _check_member(member)
    if "not_features" in manifest:
        read_field(manifest, "not_features", is_texts, "a list of names")


def _check_member(member: Any) -> None:
    read_field(member, "label", is_text, "a text")
    read_field(member, "weight", lambda value: is_number(value) and value > 0, "a number above 0")
    n_members = read_field(member, "n_members", lambda value: is_count(value) and value > 0, "a number of members")
    if "companion" in member:
        read_field(member, "companion", is_text, "a name")
        modules = read_field(member, "modules", _is_modules, "a list of modules' options")
        if len(modules) != n_members:
            raise damaged(f"it has {len(modules)} modules of {n_members} members")
    else:
        _check_network(member)
    owners = read_field(member, "owners", is_object, "an object")
    for kind, owner in owners.items():
        if not is_object(owner):
            raise damaged(f"the owner of {quoted(kind)} is {quoted(owner)}, not an object")
        for name in ("name", "plugin", "distribution", "version"):
            read_field(owner, name, is_text, "a text")
    if "companion" in member and owners.get("companion", {}).get("name") != member["companion"]:
        raise damaged("a companion has no owner")


def _check_network(member: Any) -> None:
    read_field(member, "outputs_per_target", lambda value: is_count(value) and value > 0, "a number of outputs")
    read_field(member, "point", _is_point, "the name of a link, or of a loss that has one")
    parameters = read_field(member, "parameters", is_object, "an object")
    for kind in KEPT:
        read_field(parameters, kind, _is_part, "a name, a module or a label")


def _is_modules(value: Any) -> bool:
    """For each fold one module's options, or those of one for each target."""
    return isinstance(value, list) and all(isinstance(own, list) and own and all(map(is_object, own)) for own in value)


def _is_point(value: Any) -> bool:
    return value is None or is_text(value) or (is_object(value) and is_text(value.get("loss")))


def _is_part(value: Any) -> bool:
    return value is None or is_text(value) or (is_object(value) and ("module" in value or is_text(value.get("label"))))
