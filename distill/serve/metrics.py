"""Request metrics, for Prometheus at /metrics and for one line in the log per minute. They never contain a text.

Every worker process adds to its own row of a table in shared memory, and a reader adds the rows up. So all workers
answer /metrics alike, and the counts of a worker that has died are kept.
"""

from __future__ import annotations

import asyncio
import mmap
import operator
import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

import numpy as np
import prometheus_client as prometheus
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from distill.progress import log
from distill.serve.limits import RefusedError

TEXTS_KEY = "distill.texts"  # key in a request's scope: how many texts it contained
COUNTED_PATHS: tuple[str, ...] = (
    *("/", "/predict", "/explain", "/label_file", "/examples", "/health", "/ready", "/metrics", "/docs", "/reload"),
)
PATHS = (*COUNTED_PATHS, "other")  # so that clients cannot add time series
PATH_INDEX = {path: index for index, path in enumerate(COUNTED_PATHS)}
STATUSES = 600  # from 0, which is that of a request without an answer
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)  # texts
MINUTE = 60.0

# The columns of the table: where each group of numbers begins.
LATENCIES = len(PATHS) * STATUSES  # after the requests by path and status: by path, a count per bucket, then the sum
LATENCY_COLUMNS = len(LATENCY_BUCKETS) + 2  # one for longer ones, one for the sum
BATCHES = LATENCIES + len(PATHS) * LATENCY_COLUMNS
BATCH_COLUMNS = len(BATCH_BUCKETS) + 2
TEXTS = BATCHES + BATCH_COLUMNS
REJECTED, BY_TEACHER, WAITING, BODIES, SLOWEST, PID, ENDED_CPU, COLUMNS = range(TEXTS + 1, TEXTS + 9)

COUNTERS = (
    ("distill_texts", "texts that were labelled", TEXTS),
    ("distill_rejected_texts", "texts without a label, because of reject_below", REJECTED),
    ("distill_teacher_texts", "texts that the teacher of a cascade labelled", BY_TEACHER),
)
GAUGES = (
    ("distill_waiting", "requests to /predict that wait", WAITING),
    ("distill_bodies", "requests with a body in memory", BODIES),
)


class Totals:
    """The table of all workers' numbers, in memory that processes share after a fork.

    Args:
        workers: number of rows.
    """

    def __init__(self, workers: int = 1) -> None:
        memory = mmap.mmap(-1, 8 * workers * COLUMNS)
        self.table: NDArray[np.float64] = np.frombuffer(memory).reshape(workers, COLUMNS)

    def sums(self) -> NDArray[np.float64]:
        """The sum over all workers, shape (columns,)."""
        sums: NDArray[np.float64] = self.table.sum(axis=0)
        return sums


class Metrics:
    """The metrics of one worker, which writes its own row, and the exposition of those of all workers.

    Args:
        waiting: returns how many requests wait for the student.
        bodies: returns how many bodies of requests are in memory, complete or not.
        access_log: log a line for every request.
        totals: the numbers of all workers; None: there is one.
    """

    def __init__(
        self,
        waiting: Callable[[], float],
        bodies: Callable[[], float] = lambda: 0,
        access_log: bool = False,
        totals: Totals | None = None,
    ) -> None:
        self._waiting, self._bodies, self._access_log = waiting, bodies, access_log
        self._totals = totals or Totals()
        self._registry = prometheus.CollectorRegistry()
        self._registry.register(_Collector(self._totals))
        self.summary = None if len(self._totals.table) > 1 else MinuteSummary(self._totals)
        self.use_row(0)

    def use_row(self, worker: int) -> None:
        """Count in the row of a worker, which is this process."""
        self._row = memoryview(self._totals.table[worker]).cast("B").cast("d")  # faster than NumPy's own
        self._row[PID] = os.getpid()
        self.publish_gauges()

    def count_batch(self, size: int) -> None:
        """Count a batch of ``size`` texts."""
        self._row[BATCHES + bisect_left(BATCH_BUCKETS, size)] += 1
        self._row[BATCHES + BATCH_COLUMNS - 1] += size

    def count_unsure(self, rejected: int, by_teacher: int) -> None:
        """Count texts that were rejected, and texts that the teacher labelled."""
        self._row[REJECTED] += rejected
        self._row[BY_TEACHER] += by_teacher

    def count_request(self, method: str, path: str, status: int, texts: int, seconds: float) -> None:
        """Count a completed request."""
        row, index = self._row, PATH_INDEX.get(path, len(COUNTED_PATHS))
        latencies = LATENCIES + index * LATENCY_COLUMNS
        row[index * STATUSES + status] += 1
        row[latencies + bisect_left(LATENCY_BUCKETS, seconds)] += 1
        row[latencies + LATENCY_COLUMNS - 1] += seconds
        row[TEXTS] += texts
        row[SLOWEST] = max(row[SLOWEST], seconds)
        if self._access_log:
            log.info("%s %s %d, %d texts, %.1f ms", method, PATHS[index], status, texts, 1000 * seconds)

    def publish_gauges(self) -> None:
        """Let the other workers see this one's gauges."""
        self._row[WAITING], self._row[BODIES] = self._waiting(), self._bodies()

    def exposition(self) -> bytes:
        """The metrics of all workers in Prometheus's text format."""
        self.publish_gauges()
        return prometheus.generate_latest(self._registry)


class _Collector(Collector):
    """Reads the table whenever somebody asks for the metrics."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        sums = self._totals.sums()
        yield from _of_processes(self._totals.table[:, PID].astype(int).tolist(), sums[ENDED_CPU])
        requests = CounterMetricFamily("distill_requests", "requests by path and status", labels=("path", "status"))
        latencies = HistogramMetricFamily(
            "distill_request_seconds", "time until a response is complete", labels=("path",)
        )
        for index, path in enumerate(PATHS):
            statuses = sums[index * STATUSES : (index + 1) * STATUSES]
            for status in np.flatnonzero(statuses).tolist():
                requests.add_metric((path, str(status)), statuses[status])
            if statuses.any():
                start = LATENCIES + index * LATENCY_COLUMNS
                _add_histogram(latencies, (path,), LATENCY_BUCKETS, sums[start : start + LATENCY_COLUMNS].tolist())
        yield from (requests, latencies)
        for name, meaning, column in COUNTERS:
            yield CounterMetricFamily(name, meaning, sums[column])
        batches = HistogramMetricFamily("distill_batch_texts", "texts per batch", labels=())
        _add_histogram(batches, (), BATCH_BUCKETS, sums[BATCHES : BATCHES + BATCH_COLUMNS].tolist())
        yield batches
        for name, meaning, column in GAUGES:
            yield GaugeMetricFamily(name, meaning, sums[column])


def _add_histogram(
    family: HistogramMetricFamily, labels: tuple[str, ...], bounds: Iterable[float], columns: list[float]
) -> None:
    """Add the counts per bucket, of which the last ``columns`` entry is the sum of the values, as cumulative ones."""
    *counts, total = columns
    names = [*map(floatToGoString, bounds), "+Inf"]
    family.add_metric(labels, list(zip(names, accumulate(counts), strict=True)), total)


def _of_processes(pids: Iterable[int], ended_cpu_s: float) -> list[Metric]:
    """Prometheus's metrics of processes, added up; of the start times, the first.

    ``ended_cpu_s`` is the processor time of workers that have ended: a counter must not fall.
    """
    merged: dict[str, Metric] = {}
    for pid in pids:
        for family in prometheus.ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
            if family.name not in merged:
                merged[family.name] = family
                continue
            samples = merged[family.name].samples
            add = min if family.name == "process_start_time_seconds" else operator.add
            samples[0] = samples[0]._replace(value=add(samples[0].value, family.samples[0].value))
    if cpu := merged.get("process_cpu_seconds"):
        cpu.samples[0] = cpu.samples[0]._replace(value=cpu.samples[0].value + ended_cpu_s)
    return list(merged.values())


class MinuteSummary:
    """Logs how many requests there were since the last line in the log."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self._started, self._last = time.monotonic(), totals.sums()

    async def log_every_minute(self) -> None:
        """Log a summary of every minute that had requests, until cancelled."""
        while True:
            await asyncio.sleep(MINUTE)
            self.log()

    def log(self) -> None:
        """Log a summary of the requests since the last one, if there were any."""
        now, sums = time.monotonic(), self._totals.sums()
        since, elapsed = sums - self._last, now - self._started
        slowest = self._totals.table[:, SLOWEST].max()
        self._totals.table[:, SLOWEST] = 0
        self._started, self._last = now, sums
        by_status = since[:LATENCIES].reshape(len(PATHS), STATUSES).sum(axis=0)
        statuses = Counter({status: int(by_status[status]) for status in np.flatnonzero(by_status).tolist()})
        if not statuses:
            return
        refused = ", ".join(f"{count:,} x {status}" for status, count in sorted(statuses.items()) if status >= 400)
        seconds = since[LATENCIES:BATCHES].reshape(len(PATHS), LATENCY_COLUMNS)[:, -1].sum()
        log.info(
            "%.0f s: %s requests, %s texts, refused: %s, mean %.1f ms, slowest %.1f ms",
            elapsed,
            f"{statuses.total():,}",
            f"{since[TEXTS]:,.0f}",
            refused or "none",
            1000 * seconds / statuses.total(),
            1000 * slowest,
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
            seconds = time.perf_counter() - started
            self.metrics.count_request(scope["method"], scope["path"], status, scope.get(TEXTS_KEY, 0), seconds)
