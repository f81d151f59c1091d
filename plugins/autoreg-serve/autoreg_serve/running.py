"""Starting the service in this process, or in several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

import click

from autoreg.errors import AutoregError, OptionError
from autoreg_serve.settings import Settings

CANNOT_START = 3
"""The exit status of a process that would fail again if it were started again."""

BACKLOG = 2048


def run(settings: Settings) -> None:
    """Serve until a signal ends it.

    Raises
    ------
    AutoregError
        When the model cannot be loaded, or nothing can listen at the address.
    """
    # a process has one core; this has to stand before numpy and torch are imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start = _serve_here if settings.workers == 1 else _serve_in_processes
    start(settings)


def _serve_here(settings: Settings) -> None:
    app = _application(settings)
    _serve(app, settings, _open_door(settings))


def _serve_in_processes(settings: Settings) -> None:
    from prometheus_client import multiprocess

    from autoreg.persistence import read_manifest
    from autoreg_serve.metrics import SHARED

    read_manifest(settings.model)  # the processes load the model; this one only looks whether it is one
    door = _open_door(settings)
    spawning = multiprocessing.get_context("spawn")

    def started() -> SpawnProcess:
        process = spawning.Process(target=_work, args=(settings, door))
        # a terminal sends Ctrl-C to all: this process ends the others, which may still be importing when it comes
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        return process

    with tempfile.TemporaryDirectory(prefix="autoreg-serve-") as folder:
        os.environ[SHARED] = folder
        processes = [started() for _ in range(settings.workers)]
        try:
            while True:
                wait([process.sentinel for process in processes])
                for place, process in enumerate(processes):
                    if process.is_alive():
                        continue
                    if process.exitcode == CANNOT_START:
                        raise OptionError("the service could not be started: the line above says why")
                    click.echo(f"A process ended with status {process.exitcode}; another takes its place.", err=True)
                    multiprocess.mark_process_dead(process.pid)
                    time.sleep(1)  # one that cannot live must not be started without end
                    processes[place] = started()
        finally:  # a signal ends the loop too
            for process in processes:
                process.terminate()
            for process in processes:
                process.join(settings.timeout + 10)
                process.kill()


def _work(settings: Settings, door: socket.socket) -> None:
    """Serve in a process that another one started."""
    try:
        app = _application(settings)
    except AutoregError as error:
        click.echo(f"Error: {' '.join(str(error).split())}", err=True)
        sys.exit(CANNOT_START)
    with suppress(KeyboardInterrupt):  # told by the process that started this one
        _serve(app, settings, door)


def _serve(app: Any, settings: Settings, door: socket.socket) -> None:
    import uvicorn

    uvicorn.Server(uvicorn.Config(app, **_options(settings))).run(sockets=[door])


def _application(settings: Settings) -> Any:
    """The service, with its model loaded."""
    from autoreg.options import load_with
    from autoreg_serve.app import build_app
    from autoreg_serve.served import Served

    load_with(settings.plugins)
    return build_app(Served.open(settings.model), settings)


def _open_door(settings: Settings) -> socket.socket:
    """Listen, and say where."""
    door = listen(settings.host, settings.port)
    host, port = door.getsockname()[:2]
    place = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    name = os.path.basename(settings.model)
    click.echo(f"Serving {name} at {place}; try it at {place}/docs, Ctrl-C ends it.", err=True)
    return door


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; they wait until somebody serves them.

    Raises
    ------
    OptionError
        When the address does not exist or is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        door = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":
                door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(address)
            door.listen(BACKLOG)
        except BaseException:
            door.close()
            raise
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise OptionError(f"cannot listen at {host}, port {port}: {why}. Give another --host or --port") from error
    return door


def _options(settings: Settings) -> dict[str, Any]:
    stderr = {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "plain"}
    level = "INFO" if settings.access_log else "ERROR"
    return {
        "backlog": BACKLOG,
        "lifespan": "on",
        "ws": "none",
        "server_header": False,
        "access_log": settings.access_log,
        "timeout_graceful_shutdown": int(settings.timeout) + 1,
        "log_config": {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"plain": {"format": "%(asctime)s %(message)s"}},
            "handlers": {"stderr": stderr},
            "loggers": {
                "uvicorn.error": {"level": "ERROR", "handlers": ["stderr"], "propagate": False},
                "uvicorn.access": {"level": level, "handlers": ["stderr"], "propagate": False},
            },
        },
    }
