"""Numbers about the service, in the form that Prometheus reads."""

from __future__ import annotations

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
)

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The folder in which the processes of one service put their numbers; prometheus_client reads the same variable."""

MEDIA_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """What is counted of one service.

    Parameters
    ----------
    file, sha256, targets, version : str
        What tells which model is served.
    """

    def __init__(self, *, file: str, sha256: str, targets: str, version: str) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "autoreg_requests", "Requests answered.", ["path", "method", "status"], registry=self.registry
        )
        self.errors = Counter(
            "autoreg_errors", "Requests answered with a status of 400 or above.", ["status"], registry=self.registry
        )
        self.rows = Counter("autoreg_rows", "Rows predicted.", registry=self.registry)
        self.seconds = Histogram(
            "autoreg_predict_seconds", "From a request to /predict to its answer.", buckets=BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        self.waiting = Gauge(
            "autoreg_waiting", "Requests to /predict being read or answered.", registry=self.registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        info = Gauge(
            "autoreg_model_info", "1, with what tells which model is served.",
            ["file", "sha256", "targets", "autoreg_version"], registry=self.registry, multiprocess_mode="livemax",
        )  # fmt: skip
        info.labels(file, sha256, targets, version).set(1)
        if SHARED not in os.environ:
            ProcessCollector(registry=self.registry)

    def count(self, path: str, method: str, status: int) -> None:
        """Count an answer."""
        self.requests.labels(path, method, str(status)).inc()
        if status >= 400:
            self.errors.labels(str(status)).inc()

    def text(self) -> bytes:
        """All numbers, of all processes of the service."""
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)
        return generate_latest(together)
