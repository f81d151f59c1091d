"""What a journal keeps of a finished stack, and how that becomes again what training gave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import torch

from autoreg.journal import Unkept
from autoreg.processes import ProcessEnded
from autoreg.results import CandidateResult

T = TypeVar("T")


LACKING = (MemoryError, OSError, ProcessEnded, torch.OutOfMemoryError)
"""What a candidate fails with that may not fail again."""


def keep(stack: Sequence[Any], evaluated: Sequence[Any], journal: Unkept) -> None:
    """Note what became of a stack's candidates, unless one failed for what this machine lacked at the moment."""
    if any(isinstance(item.error, LACKING) for item in evaluated):
        return
    kept = [{"result": as_kept(item.result), "states": item.states, "oof": item.oof} for item in evaluated]
    journal.note(_key(stack), kept)


def recalled(stack: Sequence[Any], journal: Unkept, make: Callable[..., T]) -> list[T]:
    """A stack's candidates as `make` makes them of what was kept; empty where nothing was."""
    evaluated = []
    for item, kept in zip(stack, journal.recall(_key(stack)) or (), strict=False):
        result = CandidateResult(candidate=item.recipe.candidate, **kept["result"])
        built = {} if result.failure else {"recipe": item.recipe, "template": item.members[0].module}
        evaluated.append(make(result, states=kept["states"], oof=kept["oof"], **built))
    return evaluated


def is_kept(stack: Sequence[Any], journal: Unkept) -> bool:
    """Whether a stack was finished earlier."""
    return journal.has(_key(stack))


def as_kept(result: CandidateResult) -> dict[str, Any]:
    """A result without its candidate, which the plan knows."""
    return {one.name: getattr(result, one.name) for one in fields(result) if one.name != "candidate"}


def _key(stack: Sequence[Any]) -> str:
    """Equal for the same candidates at the same places of the plan."""
    return "stack " + " ".join(f"{item.index}:{item.recipe.candidate.fingerprint:x}" for item in stack)
