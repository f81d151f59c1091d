"""A companion's modules as plain data, and back: the companion's name with its owner, and each module's options.

As for networks (`autoreg.blueprints`), a module is built first without memory, compared with the tensors that the file
holds for it, and then asked itself whether it can compute with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from autoreg.blueprints import as_owner, check_owners, compare_tensors
from autoreg.budget import built_twice
from autoreg.companions import module_class
from autoreg.encoding import TableLayout
from autoreg.errors import ModelFileError, one_line
from autoreg.manifest import as_json
from autoreg.modelparts import CompanionPart, TargetModules, states_of
from autoreg.plugins import registry
from autoreg.strictjson import quoted


def describe_part(part: CompanionPart) -> dict[str, Any]:
    """A companion as JSON: its name with its owner, and the options of its modules."""
    return {
        "label": part.name,
        "companion": part.name,
        "owners": {"companion": as_owner(part.name, part.owner)},
        "weight": part.weight,
        "n_members": part.n_members,
        "modules": [[as_json(module.options) for module in member] for member in part.members],
    }


def rebuild(
    described: Mapping[str, Any], layout: TableLayout, n_targets: int, tensors: Mapping[str, Tensor]
) -> CompanionPart:
    """Build what `describe_part` wrote down, from a manifest that `check_manifest` has passed.

    Parameters
    ----------
    described : mapping
    layout : TableLayout
        Of the model's schema.
    n_targets : int
    tensors : mapping
        All that the file holds for the part.

    Raises
    ------
    ModelFileError
        When the companion is not installed, a module cannot be built, does not fit the tensors, or cannot compute with
        them.
    """
    check_owners(described["owners"], ("companion",))
    name = described["companion"]
    entry = registry().get("companion", name)
    module = module_class(entry)
    if module is None:
        raise ModelFileError(f"companion {quoted(name)} of {entry.owner} has no module that a file could hold")
    try:
        members = built_twice(
            lambda: _members(module, described["modules"]), lambda members: _compare(members, tensors), tensors
        )
        for m, member in enumerate(members):
            own = f"{m}."
            member.load_state_dict({key[len(own) :]: t for key, t in tensors.items() if key.startswith(own)})
            _try(member.eval(), layout, n_targets)
    except ModelFileError:
        raise
    except Exception as error:  # a module that is built as a stranger says may raise anything
        raise ModelFileError(
            f"companion {quoted(name)} cannot be built as the model says: {one_line(error)}"
        ) from error
    return CompanionPart(name, entry.owner, members, float(described["weight"]))


def _members(module: Any, described: list[list[dict[str, Any]]]) -> list[TargetModules]:
    return [TargetModules([module(**options) for options in own]) for own in described]


def _compare(members: list[TargetModules], tensors: Mapping[str, Tensor]) -> None:
    expected = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in states_of(members).items()}
    compare_tensors(expected, tensors, "companion")


@torch.inference_mode()
def _try(member: TargetModules, layout: TableLayout, n_targets: int) -> None:
    """Have each module look at its numbers, then predict two rows: one of zeros, one with all numbers missing."""
    for module in member:
        check = getattr(module, "check", None)
        if isinstance(module, nn.Module) and check is not None:
            check(layout)
    numbers = torch.zeros(2, layout.n_numbers)
    numbers[1] = torch.nan
    found = member(numbers, torch.zeros(2, len(layout.n_codes), dtype=torch.long))
    if tuple(found.shape) != (2, n_targets) or not bool(torch.isfinite(found).all()):
        raise ValueError(f"it does not predict {n_targets} finite numbers a row")
