"""How a command ends: warnings and errors as one line each, exit statuses, signals."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from autoreg.commands import Offers, Promise, offers, tell_of_shadowing, unknown_command
from autoreg.errors import (
    AutoregError,
    DataWarning,
    JournalWarning,
    ObserverWarning,
    PluginLoadWarning,
    PluginVersionWarning,
)
from autoreg.installed import is_on, owner_of

STARTED = time.perf_counter()
"""When the command began, as far as anything of ours can tell."""

_OFFERS, _OWNER = "autoreg.offers", "autoreg.owner"
MENDABLE, BUG, INTERRUPTED, TERMINATED, PIPE_CLOSED = 2, 1, 130, 143, 141


class _Terminated(BaseException):
    """The process was asked to end. No `Exception`, so that nothing on the way takes it for a plugin's fault."""


class _Failure(click.ClickException):
    """One line on standard error, and an exit status."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(" ".join(message.split()))
        self.__dict__["exit_code"] = exit_code


class Commands(click.Group):
    """Our commands and those of plugins; tells of warnings and errors as a person wants to read them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *sorted(set(_offers(ctx)) - set(self.commands))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        points = None if own else _offers(ctx).get(cmd_name)
        return Promise(cmd_name, points) if points else own

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if ctx.resilient_parsing:  # a shell asks for completions: nothing is imported for that
            return super().resolve_command(ctx, args)
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not name.startswith("-"):
            ctx.fail(unknown_command(name, self.list_commands(ctx)))
        if isinstance(command, Promise):
            ctx.meta[_OWNER] = owner_of(command.points[0])
            return name, command.load(), args[1:]
        if command is not None and name in _offers(ctx):
            tell_of_shadowing(name, _offers(ctx)[name])
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _signals(), _warnings_in_one_line():
            try:
                return super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except AutoregError as error:
                _trace()
                raise _Failure(str(error), MENDABLE) from error
            except KeyboardInterrupt:
                click.echo("Interrupted.", err=True)
                ctx.exit(INTERRUPTED)
            except _Terminated:
                click.echo("Terminated.", err=True)
                ctx.exit(TERMINATED)
            except BrokenPipeError:
                # whoever read our output has seen enough; Python must not try to flush the rest at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                ctx.exit(PIPE_CLOSED)
            except MemoryError as error:
                _trace()
                message = "not enough memory: take fewer rows, or leave columns out (--ignore)"
                raise _Failure(message, MENDABLE) from error
            except Exception as error:  # the last place that can say something in one line
                _trace()
                hint = "" if is_on("AUTOREG_DEBUG") else " (AUTOREG_DEBUG=1 shows where; please report it)"
                where = f"bug in {ctx.meta[_OWNER]}" if _OWNER in ctx.meta else "bug"
                raise _Failure(f"{where}: {type(error).__name__}: {error}{hint}", BUG) from error


def _offers(ctx: click.Context) -> Offers:
    """What plugins offer, looked up once a command line."""
    if _OFFERS not in ctx.meta:
        ctx.meta[_OFFERS] = offers()
    found: Offers = ctx.meta[_OFFERS]
    return found


def say(text: str = "") -> None:
    """A message, on standard error."""
    click.echo(text, err=True)


def print_json(value: Any) -> None:
    """A result, on standard output; NaN is null."""
    from autoreg.strictjson import plain

    click.echo(json.dumps(plain(value, "result"), indent=2, ensure_ascii=False))


def _trace() -> None:
    if is_on("AUTOREG_DEBUG"):
        traceback.print_exc()


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Our own warnings as one line each, none twice; those of other libraries only while debugging."""
    told: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text not in told:
            told.add(text)
            say(f"Warning: {text}")

    with warnings.catch_warnings():
        warnings.simplefilter("default" if is_on("AUTOREG_DEBUG") else "ignore")
        for category in (DataWarning, JournalWarning, ObserverWarning, PluginLoadWarning, PluginVersionWarning):
            warnings.filterwarnings("always", category=category)
        warnings.showwarning = show
        yield


@contextmanager
def _signals() -> Iterator[None]:
    """The first termination signal unwinds, so that nothing half-written stays; the next ends the process at once."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # only the main thread may set signal handlers
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
