"""The service: its addresses, and what becomes of errors."""

from __future__ import annotations

import asyncio
import html
import os
import re
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import autoreg_serve
from autoreg.errors import AutoregError, SchemaError
from autoreg_serve import description
from autoreg_serve.answers import as_csv, as_header, as_json, media_wanted
from autoreg_serve.bodies import CSV, JSON, READING, Reader, Refusal, Sent, compression_of, media_of
from autoreg_serve.metrics import MEDIA_TYPE, Metrics
from autoreg_serve.predictor import TOGETHER, Prediction, Predictor, UnreadableError
from autoreg_serve.served import Served
from autoreg_serve.settings import Settings

PATHS = ("/predict", "/model", "/health", "/metrics", "/docs", "/openapi.json", "/")
METHODS = ("GET", "POST")
MAX_SENTENCE = 1000

ASGI = Callable[[Any, Any, Any], Awaitable[None]]

_OPTION = re.compile(r"--(sep|decimal|thousands|na-values|text-encoding)\b")


def build_app(served: Served, settings: Settings, together: int = TOGETHER) -> ASGI:
    """The service as an ASGI application.

    Parameters
    ----------
    served : Served
    settings : Settings
    together : int
        Requests are gathered until they have so many rows; 1 predicts each alone.
    """
    metrics = Metrics(
        file=served.name, sha256=served.sha256[:12], targets=",".join(served.targets),
        version=str(served.manifest["version"]),
    )  # fmt: skip
    service = Service(served, settings, metrics, together)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.predictor.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.predictor.stop)

    app = FastAPIOffline(
        # what the page does not escape
        title=html.escape(" and ".join(served.targets)), description=description.introduction(served),
        version=autoreg_serve.__version__, redoc_url=None, lifespan=lifespan,
        swagger_ui_parameters={"validatorUrl": None, "docExpansion": "list", "defaultModelsExpandDepth": 0},
        exception_handlers={HTTPException: _not_here, Exception: _fault},
    )  # fmt: skip
    _add_paths(app, service)
    found = app.openapi()
    found.setdefault("components", {}).setdefault("schemas", {}).update(description.schemas(served))
    return Guard(app, metrics)


def _add_paths(app: FastAPI, service: Service) -> None:
    @app.post(
        "/predict", tags=["Model"], operation_id="predict", summary="Predict the rows of a table",
        response_class=Response, openapi_extra=description.predict_operation(service.served),
    )  # fmt: skip
    async def predict(request: Request) -> Response:
        return await service.predict(request)

    @app.get("/model", tags=["Model"], operation_id="model", summary="What the model is and how good it was")
    async def model() -> dict[str, Any]:
        return service.card

    @app.get("/health", tags=["Service"], operation_id="health", summary="Whether the service can answer")
    async def health() -> JSONResponse:
        well = service.predictor.is_alive
        return JSONResponse({"status": "ok" if well else "the predictor ended"}, 200 if well else 503)

    @app.get(
        "/metrics", tags=["Service"], operation_id="metrics", summary="Counts and times, for Prometheus",
        response_class=Response,
    )  # fmt: skip
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=MEDIA_TYPE)

    @app.get("/", include_in_schema=False)
    async def front() -> RedirectResponse:
        return RedirectResponse("docs")


class Service:
    """What the addresses share: the model, the bounds, and who is being answered."""

    def __init__(self, served: Served, settings: Settings, metrics: Metrics, together: int) -> None:
        self.served, self.settings, self.metrics = served, settings, metrics
        self.card = served.card()
        self.predictor = Predictor(served.estimator, together)
        self.reader = Reader(
            served.estimator.schema_.columns,
            served.aside,
            served.manifest,
            max_body=settings.max_body,
            max_rows=settings.max_rows,
        )
        self._waiting = self._held = 0

    async def predict(self, request: Request) -> Response:
        """Answer ``POST /predict``."""
        media = JSON
        begin = time.perf_counter()
        try:
            wanted = media_wanted(request.headers.get("accept"))
            media, charset = media_of(request.headers.get("content-type"))
            compressed = compression_of(request.headers.get("content-encoding"))
            interval, reading = self._parameters(request, media)
            with self._place():
                async with self._body(request) as body:
                    read = partial(self.reader.read, Sent(body, media, charset, compressed, reading))
                    return await self._answer(read, wanted, interval)
        except Exception as error:
            status, sentence = refusal_of(error, media)
            return _sentence(status, sentence, {"Retry-After": "1"} if status == 503 else None)
        finally:
            self.metrics.seconds.observe(time.perf_counter() - begin)

    async def _answer(self, read: Callable[[], Any], wanted: str, interval: float | None) -> Response:
        def render(prediction: Prediction) -> tuple[bytes, dict[str, str], int]:
            body = as_csv(prediction) if wanted == CSV else as_json(prediction)
            headers = {"Autoreg-Notices": as_header(prediction.notices)} if prediction.notices else {}
            return body, headers, len(prediction.values)

        timeout = self.settings.timeout
        try:
            async with asyncio.timeout(timeout):
                body, headers, rows = await self.predictor.answer(read, render, interval)
        except TimeoutError:
            raise Refusal(503, f"no answer within {timeout:g} seconds: send fewer rows, or try again later") from None
        self.metrics.rows.inc(rows)
        return Response(body, media_type=f"{wanted}; charset=utf-8" if wanted == CSV else wanted, headers=headers)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """A place among those that are answered, if there is one."""
        if self._waiting >= self.settings.max_waiting:
            raise Refusal(503, f"{self._waiting} requests wait already: try again later")
        self._waiting += 1
        self.metrics.waiting.inc()
        try:
            yield
        finally:
            self._waiting -= 1
            self.metrics.waiting.dec()

    @asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """The body as it was sent, within bounds of size, time and memory."""
        limit, timeout, own = self.settings.max_body, self.settings.timeout, 0
        too_large = Refusal(
            413, f"the body is larger than {limit} bytes, which is the limit: send fewer rows at a time"
        )
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise too_large
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(timeout):
                    async for chunk in request.stream():
                        own += len(chunk)
                        self._held += len(chunk)
                        if own > limit:
                            raise too_large
                        if self._held > self.settings.max_held:
                            raise Refusal(503, "too many large bodies are being read: try again later")
                        body += chunk
            except TimeoutError:
                raise Refusal(408, f"the body did not arrive within {timeout:g} seconds: send it faster") from None
            except ClientDisconnect:
                raise Refusal(400, "the body was cut off") from None
            yield bytes(body)
        finally:
            self._held -= own

    def _parameters(self, request: Request, media: str) -> tuple[float | None, Mapping[str, Any]]:
        """The level of the interval, and how a CSV body is to be read."""
        given = request.query_params
        known = ("interval", *READING)
        for name in given:
            if name not in known:
                raise Refusal(400, f"no query parameter '{name[:60]}' is known: {', '.join(known)}")
            if name != "na_values" and len(given.getlist(name)) > 1:
                raise Refusal(400, f"the query parameter {name} stands twice: give it once")
        reading: dict[str, Any] = {name: given[name] for name in READING if name in given and name != "na_values"}
        if "na_values" in given:
            reading["na_values"] = given.getlist("na_values")
        if reading and media != CSV:
            raise Refusal(400, f"the query parameter {next(iter(reading))} is about CSV, but the body is JSON")
        return self._level(given.get("interval")), reading

    def _level(self, text: str | None) -> float | None:
        if text is None:
            return None
        try:
            level = float(text)
        except ValueError:
            level = 0.0
        if not 0 < level < 1:
            raise Refusal(400, f"interval '{text[:60]}' is no level: give a number between 0 and 1, such as 0.9")
        if not self.served.has_intervals:
            raise Refusal(400, "this model predicts no intervals: ask without the query parameter interval")
        return level


class Guard:
    """Stands around the application: counts answers, and lets no exception out."""

    def __init__(self, app: ASGI, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, begun = 500, False

        async def note(message: Any) -> None:
            nonlocal status, begun
            status, begun = message.get("status", status), True
            await send(message)

        try:
            await self.app(scope, receive, note)
        except Exception as error:
            if not begun:  # otherwise `_fault` has told it, to the client and to the log
                tell_of_fault(error)
                raise
        finally:
            path, method = scope["path"], scope["method"]
            self.metrics.count(
                path if path in PATHS else "other", method if method in METHODS else "other", status
            )  # fmt: skip


def refusal_of(error: Exception, media: str) -> tuple[int, str]:
    """Status and sentence for an error that the client's body or parameters are the cause of; others are raised.

    Examples
    --------
    >>> refusal_of(SchemaError("column missing that the model was fitted on: 'a'"), JSON)
    (422, "column missing that the model was fitted on: 'a'")
    """
    if isinstance(error, Refusal):
        return error.status, _in_words(str(error), media)
    if isinstance(error, AutoregError):
        return 422 if isinstance(error, SchemaError) else 400, _in_words(str(error), media)
    if isinstance(error, MemoryError):
        return 413, "there is not enough memory for this table: send fewer rows at a time"
    if isinstance(error, UnreadableError):
        cause = error.__cause__ or error
        tell_of_fault(cause)
        return 422, _in_words(f"the table cannot be read: {type(cause).__name__}: {cause}", media)
    raise error


def tell_of_fault(error: BaseException) -> None:
    """Say on standard error, in one line, what a client was only told the existence of."""
    if os.environ.get("AUTOREG_DEBUG", "") not in ("", "0"):
        traceback.print_exception(error)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    print(f"autoreg serve: bug: {text[:MAX_SENTENCE]} (AUTOREG_DEBUG=1 shows where)", file=sys.stderr, flush=True)


def _in_words(text: str, media: str) -> str:
    """A message of the command line for a client, in one line."""
    text = " ".join(text.split())
    if media == JSON:
        text = text.replace(" (--na-values names texts that mean missing)", "")
    text = _OPTION.sub(_parameter, text)
    return text if len(text) <= MAX_SENTENCE else f"{text[: MAX_SENTENCE - 4]} ..."


def _parameter(match: re.Match[str]) -> str:
    if match[1] == "text-encoding":
        return "a charset in Content-Type, for instance"
    return f"the query parameter {match[1].replace('-', '_')}"


def _sentence(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status, headers)


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _sentence(404, "there is nothing at this address: /docs tells what there is")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return _sentence(405, f"this address takes {allowed}, not {request.method[:20]}", error.headers)
    return _sentence(error.status_code, str(error.detail), error.headers)


async def _fault(request: Request, error: Exception) -> Response:
    tell_of_fault(error)
    return _sentence(500, "a fault in the service, not in your request: its log tells more")
