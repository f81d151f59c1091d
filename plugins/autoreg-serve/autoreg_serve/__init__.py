"""``autoreg serve MODEL``: a saved model as an HTTP service."""

from __future__ import annotations

import re
from typing import Any

import click

from autoreg.options import plugin_option
from autoreg_serve.settings import Settings

__version__ = "0.1.0"

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


class Size(click.ParamType):
    """A number of bytes, such as 10MB.

    Examples
    --------
    >>> Size().convert("10MB", None, None), Size().convert("1.5 kib", None, None)
    (10000000, 1536)
    """

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([kmg]i?b)?\s*", value, re.IGNORECASE)
        size = int(float(match[1]) * _UNITS[(match[2] or "").lower()]) if match else 0
        if not size:
            self.fail(f"'{value}' is no size: give one such as 500kB, 10MB or 1GB", param, ctx)
        return size


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 for all.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen at; 0 for a free one.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes, each with the model and one core.",
)
@click.option(
    "--max-body", type=Size(), default="10MB", show_default=True, help="Largest body, also after it was decompressed."
)
@click.option(
    "--max-rows", type=click.IntRange(1), default=100_000, show_default=True, help="Most rows in one request."
)
@click.option(
    "--max-waiting",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Most requests at once in a process; further ones are answered 503.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time to send a body, and to wait for the answer.",
)
@click.option("--access-log", is_flag=True, help="Tell of each request on standard error.")
@plugin_option
def serve(plugins: tuple[str, ...], **options: Any) -> None:
    """Serve MODEL over HTTP: predictions from JSON or CSV, a page to try it, health and metrics.

    There is no password: whoever reaches the port may ask. Where that is not wanted, keep the address as it is and put
    a web server in front.
    """  # fmt: skip
    from autoreg_serve.running import run

    run(Settings(plugins=plugins, **options))
