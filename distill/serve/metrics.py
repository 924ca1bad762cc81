"""Request metrics, for Prometheus at /metrics and for one line in the log per minute. They never contain a text."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import prometheus_client as prometheus
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from distill.progress import log
from distill.serve.limits import RefusedError

TEXTS_KEY = "distill.texts"  # key in a request's scope: how many texts it contained
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)  # texts
MINUTE = 60.0


class Metrics:
    """The metrics of one service, in a Prometheus registry of its own.

    Args:
        paths: paths that are counted by name; all others count as "other", so that clients cannot add time series.
        waiting: returns how many requests wait for the student.
        bodies: returns how many bodies of requests are in memory, complete or not.
        access_log: log a line for every request.
    """

    def __init__(
        self,
        paths: frozenset[str],
        waiting: Callable[[], float],
        bodies: Callable[[], float] = lambda: 0,
        access_log: bool = False,
    ) -> None:
        self._paths, self._access_log = paths, access_log
        self.registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        self._requests = prometheus.Counter(
            "distill_requests", "requests by path and status", ("path", "status"), registry=registry
        )
        self._latencies = prometheus.Histogram(
            "distill_request_seconds",
            "time until a response is complete",
            ("path",),
            registry=registry,
            buckets=LATENCY_BUCKETS,
        )
        self._texts = prometheus.Counter("distill_texts", "texts that were labelled", registry=registry)
        self._rejected = prometheus.Counter(
            "distill_rejected_texts", "texts without a label, because of reject_below", registry=registry
        )
        self._by_teacher = prometheus.Counter(
            "distill_teacher_texts", "texts that the teacher of a cascade labelled", registry=registry
        )
        self._batches = prometheus.Histogram(
            "distill_batch_texts", "texts per batch", registry=registry, buckets=BATCH_BUCKETS
        )
        prometheus.Gauge("distill_waiting", "requests to /predict that wait", registry=registry).set_function(waiting)
        prometheus.Gauge("distill_bodies", "requests with a body in memory", registry=registry).set_function(bodies)
        self._minute = MinuteSummary()

    def count_batch(self, size: int) -> None:
        """Count a batch of ``size`` texts."""
        self._batches.observe(size)

    def count_unsure(self, rejected: int, by_teacher: int) -> None:
        """Count texts that were rejected, and texts that the teacher labelled."""
        self._rejected.inc(rejected)
        self._by_teacher.inc(by_teacher)

    def count_request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a completed request."""
        path = scope["path"] if scope["path"] in self._paths else "other"
        texts = scope.get(TEXTS_KEY, 0)
        self._requests.labels(path, status).inc()
        self._latencies.labels(path).observe(seconds)
        self._texts.inc(texts)
        self._minute.add(status, texts, seconds)
        if self._access_log:
            log.info("%s %s %d, %d texts, %.1f ms", scope["method"], path, status, texts, 1000 * seconds)

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return prometheus.generate_latest(self.registry)

    async def log_every_minute(self) -> None:
        """Log a summary of every minute that had requests, until cancelled."""
        while True:
            await asyncio.sleep(MINUTE)
            self.log_summary()

    def log_summary(self) -> None:
        """Log a summary of the requests since the last one, if there were any."""
        if self._minute.statuses:
            log.info("%s", self._minute)
        self._minute = MinuteSummary()


class MinuteSummary:
    """Totals since the last summary in the log."""

    def __init__(self) -> None:
        self.started, self.statuses = time.monotonic(), Counter[int]()
        self.texts, self.seconds, self.slowest = 0, 0.0, 0.0

    def add(self, status: int, texts: int, seconds: float) -> None:
        """Add a completed request."""
        self.statuses[status] += 1
        self.texts += texts
        self.seconds += seconds
        self.slowest = max(self.slowest, seconds)

    def __str__(self) -> str:
        requests, elapsed = self.statuses.total(), time.monotonic() - self.started
        refused = ", ".join(f"{count:,} x {status}" for status, count in sorted(self.statuses.items()) if status >= 400)
        return (
            f"{elapsed:.0f} s: {requests:,} requests, {self.texts:,} texts, refused: {refused or 'none'}, "
            f"mean {1000 * self.seconds / requests:.1f} ms, slowest {1000 * self.slowest:.1f} ms"
        )


class MetricsMiddleware:
    """Counts every HTTP request, and answers those that fail. Starlette's own base class is slower than the student.

    Args:
        app: answers the requests.
        metrics: counts them.
        refusal_of: the response to a request that failed with an exception.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, refusal_of: Callable[[BaseException], RefusedError]) -> None:
        self.app, self.metrics, self.refusal_of = app, metrics, refusal_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, and record status and time."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_and_record(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_record)
        except (Exception, asyncio.CancelledError) as error:
            refused = self.refusal_of(error)
            if status:  # the response has begun, so that only the connection can be closed
                raise refused from None
            await refused.response()(scope, receive, send_and_record)
        finally:
            self.metrics.count_request(scope, status, time.perf_counter() - started)
