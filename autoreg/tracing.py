"""What plugins are asked, on standard error, where ``AUTOREG_TRACE_PLUGINS=1`` says so."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from autoreg.errors import one_line
from autoreg.installed import is_on


def trace(text: str) -> None:
    """Tell something, where it is wanted."""
    if is_on("AUTOREG_TRACE_PLUGINS"):
        print(f"autoreg: {text}", file=sys.stderr, flush=True)


def trace_calls(manager: pluggy.PluginManager) -> None:
    """Tell of every hook call of a manager, where it is wanted: the plugin, the hook, its arguments, its error."""
    if is_on("AUTOREG_TRACE_PLUGINS"):
        manager.add_hookcall_monitoring(_before, _after)


def _before(hook: str, implementations: Sequence[Any], arguments: Mapping[str, Any]) -> None:
    for implementation in implementations:
        given = ", ".join(name if name == "register" else f"{name}={_brief(v)}" for name, v in arguments.items())
        trace(f"{implementation.plugin_name}: {hook}({given})")


def _after(outcome: pluggy.Result[Any], hook: str, implementations: Sequence[Any], _: Mapping[str, Any]) -> None:
    if implementations and outcome.exception is not None:
        trace(f"  raised {one_line(outcome.exception)}")


def _brief(value: Any) -> str:
    """A value in few letters: a table's or a model's whole text helps nobody."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a stranger's object may not be able to say what it is
        text = ""
    return text if text and len(text) <= 60 else f"<{type(value).__name__}>"
