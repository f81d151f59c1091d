"""The one thread of a process that reads tables and predicts, for all requests that wait at once.

A prediction works on chunks of some hundred rows, however few there are. So the rows of all requests that wait go into
one; each gets the numbers that it would get alone. Nobody waits for company: whoever is there goes.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import pandas as pd
import torch

from autoreg.errors import AutoregError, DataWarning
from autoreg_serve.bodies import Refusal

TOGETHER = 512
"""Requests are gathered until they have so many rows."""


class UnreadableError(Exception):
    """Reading a body failed in a way that nobody thought of; the cause is attached."""


@dataclass(frozen=True)
class Prediction:
    """What a request is answered with.

    Attributes
    ----------
    names : list of str
    values : array, (N, len(names))
    notices : list of str
    """

    names: list[str]
    values: np.ndarray
    notices: list[str]


@dataclass
class Job:
    """A request on its way through the thread."""

    read: Callable[[], pd.DataFrame]
    render: Callable[[Prediction], Any]
    interval: float | None
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    frame: pd.DataFrame | None = None
    coded: Any = None
    notices: list[str] = field(default_factory=list)

    def prepare(self, schema: Any) -> None:
        """Read the table and turn it into numbers and codes."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", category=DataWarning)
            try:
                self.frame = self.read()
                self.coded = schema.encode(self.frame)
            except (Refusal, AutoregError, MemoryError):
                raise
            except Exception as error:
                raise UnreadableError(str(error)) from error
        self.notices = list(dict.fromkeys(" ".join(str(notice.message).split()) for notice in told))

    def settle(self, result: Any) -> None:
        """Hand the answer, or the exception that takes its place, to whoever waits for it."""

        def tell() -> None:
            if self.future.done():  # it took too long, or nobody is there any more
                return
            if isinstance(result, BaseException):
                self.future.set_exception(result)
            else:
                self.future.set_result(result)

        self.loop.call_soon_threadsafe(tell)


class Predictor:
    """Predicts tables in a thread of its own.

    Parameters
    ----------
    estimator : AutoRegressor or NeuralRegressor
        As `autoreg.load` gives it.
    together : int
        Requests are gathered until they have so many rows; 1 predicts each alone.
    """

    def __init__(self, estimator: Any, together: int = TOGETHER) -> None:
        self.estimator = estimator
        self.targets: list[str] = list(estimator.model_.manifest["targets"])
        self.together = together
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="predictor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread when it has answered what it holds."""
        self._queue.put(None)
        self._thread.join(timeout=10)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    async def answer(
        self, read: Callable[[], pd.DataFrame], render: Callable[[Prediction], Any], interval: float | None = None
    ) -> Any:
        """Read a table, predict it and render the prediction, all in the thread.

        Raises
        ------
        Exception
            Whatever reading, predicting or rendering raised.
        """
        loop = asyncio.get_running_loop()
        job = Job(read, render, interval, loop, loop.create_future())
        self._queue.put(job)
        return await job.future

    def _work(self) -> None:
        torch.set_num_threads(1)
        goes_on = True
        while goes_on:
            jobs, goes_on = self._gather()
            if jobs:
                self._predict(jobs)

    def _gather(self) -> tuple[list[Job], bool]:
        """Wait for a request, and take those that wait beside it, all read; whether there may be more to come."""
        jobs: list[Job] = []
        rows = 0
        job = self._queue.get()
        while job is not None:
            if not job.future.cancelled():
                try:
                    job.prepare(self.estimator.schema_)
                except Exception as error:
                    job.settle(error)
                else:
                    jobs.append(job)
                    rows += len(job.coded.numbers)
            if rows >= self.together:
                return jobs, True
            try:
                job = self._queue.get_nowait()
            except Empty:
                return jobs, True
        return jobs, False

    def _predict(self, jobs: list[Job]) -> None:
        try:
            predictions = self.estimator.predict_coded([job.coded for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].settle(error)
                return
            for job in jobs:  # one of them is at fault; the others get their answers
                self._predict([job])
            return
        for job, prediction in zip(jobs, predictions, strict=True):
            try:
                job.settle(job.render(self._with_interval(job, prediction)))
            except Exception as error:
                job.settle(error)

    def _with_interval(self, job: Job, prediction: np.ndarray) -> Prediction:
        values = prediction.reshape(len(prediction), len(self.targets))
        names = self.targets
        if job.interval is not None:
            bounds = np.asarray(self.estimator.predict_interval(job.frame, confidence_level=job.interval))
            bounds = bounds.reshape(len(values), len(names), 2)
            values = np.concatenate([values[:, :, None], bounds], axis=2).reshape(len(values), -1)
            names = [f"{name}{end}" for name in names for end in ("", "_lower", "_upper")]
        return Prediction(names, values, job.notices)
