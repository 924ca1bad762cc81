"""Worker processes behind one address: their parent starts them, replaces those that die, and lets all reload together.

The parent loads the bundle and then forks, so the workers share its memory as long as nobody writes to it. Each worker
has a listening socket of its own on the same port, and the kernel distributes the connections (SO_REUSEPORT). With one
socket for all, the worker that wakes up first would accept a whole burst of connections. The parent keeps the sockets
open: connections that a worker had not accepted when it died wait for its successor.

Parent and worker send each other lines of JSON over a socket pair. When the parent dies, the worker reads its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, TypeAlias

from distill.errors import UserError
from distill.progress import log
from distill.serve import metrics
from distill.serve.endpoints import Endpoints, ServedStudent, unusable_bundle
from distill.serve.limits import RefusedError

READY, STOPPING, RELOAD, BUSY, END = "ready", "stopping", "reload", "busy", "end"  # messages
PREPARE, SWITCH = "prepare", "switch"  # the two steps of a reload
SHORT_LIFE_S = 10.0  # a worker that ends earlier after its start may never work
MAX_EARLY_EXITS = 5  # of the same worker in a row
RESTART_PAUSE_S = 1.0  # after a short life
FORK_PAUSE_S = 5.0  # after a process that could not be started
SWITCH_S = 10.0  # how long a worker may take to put a student into use that it has loaded
STOP_MARGIN_S = 3.0  # after --stop: how much longer the workers may take to notice, drain and exit
Message: TypeAlias = dict[str, Any]


@dataclass(eq=False)
class _Worker:
    """The parent's view of a worker."""

    number: int  # from 1, for messages
    listener: socket.socket
    process: BaseProcess | None = None
    channel: socket.socket | None = None
    received: bytes = b""  # the beginning of a message
    started: float = 0.0
    early_exits: int = 0
    restart_at: float = 0.0  # if there is no process
    was_ready: bool = False

    def send(self, message: Message) -> None:
        """Send a message, unless the worker has ended."""
        if self.channel is not None:
            with contextlib.suppress(OSError):
                self.channel.sendall(_line(message))

    def disconnect(self) -> None:
        """Close the channel."""
        if self.channel is not None:
            self.channel.close()
        self.channel, self.received = None, b""


@dataclass(eq=False)
class _Reload:
    """A reload in progress: every worker prepares the new student, then every worker switches to it."""

    number: int
    asker: _Worker | None  # whose client asked for it
    waiting: set[_Worker]  # that have not finished the step
    deadline: float  # of the step, in the time of time.monotonic
    step: str = PREPARE


class _StopError(BaseException):
    """A signal to stop has arrived while the parent loads the bundle."""


@dataclass(eq=False)
class Supervisor:
    """The parent process.

    Args:
        work: serves with an inherited listening socket and a channel to the parent, until it is told to stop.
        endpoints: of the application that the workers inherit; the parent's copy holds the student of future workers.
        listeners: one per worker; they are closed at the end.
        totals: the metrics of all workers.
        stop_s: seconds that accepted requests have to finish.
        card: returns the content of the bundle's card, to notice that a bundle is replaced while it is loaded.
    """

    work: Callable[[socket.socket, socket.socket], None]
    endpoints: Endpoints
    listeners: list[socket.socket]
    totals: metrics.Totals
    stop_s: float
    card: Callable[[], memoryview]
    _stop_signals: int = 0
    _ends_at_once: bool = False
    _is_loading: bool = False
    _hang_ups: int = 0
    _reloads: int = 0
    _reload: _Reload | None = None
    _card: memoryview = field(default_factory=lambda: memoryview(b""))
    _workers: list[_Worker] = field(default_factory=list)
    _leaving: list[_Worker] = field(default_factory=list)  # that finish their requests; they have successors

    def run(self) -> None:
        """Start the workers and watch them until SIGTERM or SIGINT.

        Raises:
            UserError: a worker did not get ready at the start, or ended too often.
        """
        self._workers = [_Worker(number, listener) for number, listener in enumerate(self.listeners, start=1)]
        summary, next_summary = metrics.MinuteSummary(self.totals), time.monotonic() + metrics.MINUTE
        gc.collect()
        gc.freeze()  # a collection in a worker would write to the objects, and so copy their memory
        with self._signals() as woken:
            try:
                while not self._stop_signals:
                    self._start_due(woken)
                    self._handle_events(woken, next_summary - time.monotonic())
                    if time.monotonic() >= next_summary:
                        summary.log()
                        next_summary += metrics.MINUTE
            finally:
                self._stop(woken)
                summary.log()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """Handle the signals; a byte arrives at the socket with each."""
        woken, waker = socket.socketpair()
        for sock in (woken, waker):
            sock.setblocking(False)
        handled = {signal.SIGTERM: self._on_stop, signal.SIGINT: self._on_stop, signal.SIGHUP: self._on_hang_up}
        before = {number: signal.signal(number, handler) for number, handler in handled.items()}
        wakeup = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            yield woken
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            woken.close()
            waker.close()

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_signals += 1
        if self._stop_signals > 1:
            self._ends_at_once |= number == signal.SIGINT  # Ctrl-C, again
        elif self._is_loading:
            raise _StopError

    def _on_hang_up(self, number: int, frame: FrameType | None) -> None:
        self._hang_ups += 1

    def _start_due(self, woken: socket.socket) -> None:
        """Start the workers that are missing, but not during a reload: they would begin with the old student."""
        for worker in self._workers:
            if worker.process is None and self._reload is None and time.monotonic() >= worker.restart_at:
                self._start(worker, woken)

    def _start(self, worker: _Worker, woken: socket.socket) -> None:
        try:
            self._fork(worker, woken)
        except OSError as error:
            worker.disconnect()
            worker.restart_at = time.monotonic() + FORK_PAUSE_S
            log.warning("worker %d could not be started, which is tried again: %s", worker.number, error)

    def _fork(self, worker: _Worker, woken: socket.socket) -> None:
        worker.channel, channel = socket.socketpair()
        process = multiprocessing.get_context("fork").Process(
            target=self._enter, args=(worker, channel, woken), name=f"worker {worker.number}"
        )
        # A signal between the fork and the reset of its handlers would also be reported to the parent.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            channel.close()
        worker.process, worker.started = process, time.monotonic()

    def _enter(self, worker: _Worker, channel: socket.socket, woken: socket.socket) -> None:
        """What a new process does."""
        from tqdm import tqdm

        signal.set_wakeup_fd(-1)
        for number, handler in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.SIG_IGN)):
            signal.signal(number, handler)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server handles it
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        tqdm.set_lock(threading.RLock())  # its own is one for all processes: one that is killed would keep it
        woken.close()
        for other in (*self._workers, *self._leaving):
            other.disconnect()  # a copy would hide the parent's end from that worker
            if other.listener is not worker.listener:
                other.listener.close()
        self.endpoints.metrics.use_row(worker.number - 1)
        try:
            self.work(worker.listener, channel)
        except UserError as error:
            log.error("error: %s", error)
            sys.exit(2)

    def _handle_events(self, woken: socket.socket, timeout: float) -> None:
        """Wait for signals, messages and the end of workers, at most until something else is due."""
        now = time.monotonic()
        if self._reload is None:
            timeout = min([timeout, *(worker.restart_at - now for worker in self._workers if worker.process is None)])
        else:
            timeout = min(timeout, self._reload.deadline - now)
        sources: dict[Any, Callable[[], None]] = {woken: lambda: _drain(woken)}
        for worker in (*self._workers, *self._leaving):
            if worker.channel is not None:
                sources[worker.channel] = functools.partial(self._on_message, worker, worker.channel)
            if worker.process is not None:
                sources[worker.process.sentinel] = functools.partial(self._on_exit, worker, worker.process)
        for source in wait(list(sources), max(0.0, timeout)):
            sources[source]()
        if self._reload is not None and time.monotonic() >= self._reload.deadline:
            self._end_late(self._reload)
        if self._hang_ups and self._reload is None:  # one that arrives during a reload leads to another one
            self._hang_ups = 0
            self._hang_up()

    def _on_message(self, worker: _Worker, channel: socket.socket) -> None:
        """Handle the messages of a worker."""
        data = b""
        with contextlib.suppress(OSError):
            data = channel.recv(2**16)
        *lines, worker.received = (worker.received + data).split(b"\n")
        for line in lines:
            self._handle(worker, json.loads(line))
        if not data:
            worker.disconnect()

    def _handle(self, worker: _Worker, message: Message) -> None:
        if message["event"] == READY:
            worker.was_ready = True
        elif message["event"] == RELOAD:
            self._begin_reload(worker)
        elif message["event"] == STOPPING:
            self._begin_leave(worker)
        elif self._reload is not None and message["reload"] == self._reload.number:
            self._finish_step(self._reload, worker, message["error"])

    def _on_exit(self, worker: _Worker, process: BaseProcess) -> None:
        """Note that a worker has ended, and when its successor starts."""
        process.join()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.totals.table[0, metrics.ENDED_CPU] = used.ru_utime + used.ru_stime
        ending = _ending(process.exitcode or 0)
        worker.disconnect()
        if worker in self._leaving:
            self._leaving.remove(worker)
            return
        worker.process = None
        if not worker.was_ready:
            raise UserError(f"it {ending} before it was ready", f"worker {worker.number}", "see its error above")
        self._count_early_exit(worker)
        log.warning("worker %d (process %d) %s; it is started again", worker.number, process.pid, ending)
        self._leave_reload(worker)

    def _begin_leave(self, worker: _Worker) -> None:
        """Start the successor of a worker that somebody has told to stop; new connections would wait for its end."""
        if self._stop_signals or worker not in self._workers:
            return
        self._count_early_exit(worker)
        log.warning("worker %d was told to stop; its successor is started", worker.number)
        self._leave_reload(worker)
        successor = _Worker(worker.number, worker.listener, early_exits=worker.early_exits, was_ready=True)
        successor.restart_at = worker.restart_at
        self._leaving.append(worker)
        self._workers[self._workers.index(worker)] = successor

    def _count_early_exit(self, worker: _Worker) -> None:
        """Decide when the successor starts.

        Raises:
            UserError: the worker ended too often.
        """
        lived = time.monotonic() - worker.started
        worker.early_exits = worker.early_exits + 1 if lived < SHORT_LIFE_S else 0
        worker.restart_at = time.monotonic() + (RESTART_PAUSE_S if worker.early_exits else 0)
        if worker.early_exits >= MAX_EARLY_EXITS:
            what = f"it ended {MAX_EARLY_EXITS} times in a row, each time within {SHORT_LIFE_S:g} s of its start"
            raise UserError(what, f"worker {worker.number}", "see the log above, and whether there is enough memory")

    def _leave_reload(self, worker: _Worker) -> None:
        """Do not wait for a worker that has ended; one that may not have loaded the bundle ends the reload."""
        if self._reload is not None and self._reload.step == PREPARE:
            self._give_up(UserError("a worker ended while it loaded the bundle", "", "is there enough memory?"))
        elif self._reload is not None and worker in self._reload.waiting:
            self._finish_step(self._reload, worker, None)

    def _hang_up(self) -> None:
        """Load the bundle again, or stop if the terminal that the service was started from was closed."""
        if self.endpoints.has_lost_terminal:
            self._stop_signals += 1
        else:
            self._begin_reload(None)

    def _begin_reload(self, asker: _Worker | None) -> None:
        """Let all workers prepare a new student. Those that are being restarted get it from the parent."""
        if self._reload is not None:
            if asker is not None:
                asker.send({"event": BUSY})
            return
        self._reloads += 1
        running = {worker for worker in self._workers if worker.process is not None}
        deadline = time.monotonic() + self.endpoints.reload_s + SWITCH_S  # the workers' own limit comes first
        self._reload = _Reload(self._reloads, asker, running, deadline)
        try:
            self._card = self.card()
        except Exception as failure:
            self._give_up(failure)
        else:
            self._send_step(self._reload)

    def _send_step(self, reload: _Reload) -> None:
        for worker in self._workers:
            worker.send({"event": reload.step, "reload": reload.number})

    def _finish_step(self, reload: _Reload, worker: _Worker, error: Message | None) -> None:
        """Note that a worker has finished a step; after the last one, begin the next step or end the reload."""
        if error is not None:
            self._give_up(_error_of(error))
            return
        reload.waiting.discard(worker)
        if reload.waiting:
            return
        if reload.step == SWITCH:
            self.endpoints.log_reload()
            self._end_reload(None)
            return
        try:
            self.endpoints.student = self._load()
        except _StopError:
            return
        except Exception as failure:
            self._give_up(failure)
            return
        reload.step, reload.waiting = SWITCH, {one for one in self._workers if one.process is not None}
        reload.deadline = time.monotonic() + SWITCH_S
        self._send_step(reload)

    def _load(self) -> ServedStudent:
        """Load the bundle for future workers; a signal to stop ends that."""
        self._is_loading = True
        try:
            student = self.endpoints.load_again()
            if self.card() != self._card:
                raise UserError("the bundle was replaced while it was loaded", student.model, "reload it again")
            return student
        finally:
            self._is_loading = False

    def _end_late(self, reload: _Reload) -> None:
        """End a reload that takes too long. Workers that do not switch are replaced by some with the new student."""
        if reload.step == PREPARE:
            what = f"the workers did not load the bundle within {self.endpoints.reload_s:g} s"
            self._give_up(UserError(what, "", "try again later"))
            return
        reload.deadline += SWITCH_S
        for worker in reload.waiting:
            if worker.process is not None:
                worker.process.kill()

    def _give_up(self, error: Exception) -> None:
        self.endpoints.log_reload(error)
        self._end_reload(error)

    def _end_reload(self, error: Exception | None) -> None:
        asker = self._reload.asker if self._reload else None
        for worker in (*self._workers, *self._leaving):
            worker.send({"event": END, "is_asker": worker is asker, "error": error and _described(error)})
        self._reload = None

    def _stop(self, woken: socket.socket) -> None:
        """Let the workers finish; kill those that take too long, or all if Ctrl-C is pressed again."""
        log.info("stopping: finishing the accepted requests")
        workers = (*self._workers, *self._leaving)
        for worker in workers:
            worker.listener.close()
            if worker.process is not None:
                worker.process.terminate()
        end = time.monotonic() + self.stop_s + STOP_MARGIN_S
        while alive := [one.process for one in workers if one.process is not None and one.process.is_alive()]:
            if self._ends_at_once or time.monotonic() > end:
                for process in alive:
                    log.warning("stopping: process %d is killed", process.pid)
                    process.kill()
                    process.join()
            wait([woken, *(process.sentinel for process in alive)], max(0.0, end - time.monotonic()))
            _drain(woken)
        for worker in workers:
            worker.disconnect()


def _drain(woken: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        woken.recv(4096)


def _ending(code: int) -> str:
    """How a process has ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    memory = ", perhaps because there was no memory left" if code == -signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-code).name}{memory}"


def _line(message: Message) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _described(error: Exception) -> Message:
    """An error as JSON."""
    if isinstance(error, RefusedError):
        return {"status": error.status, "what": error.what, "where": "", "hint": error.hint}
    if not isinstance(error, UserError):
        error = unusable_bundle(error)
    return {"status": 0, "what": error.what, "where": error.where, "hint": error.hint}


def _error_of(described: Message) -> Exception:
    what, hint = described["what"], described["hint"]
    return (
        RefusedError(described["status"], what, hint)
        if described["status"]
        else UserError(what, described["where"], hint)
    )


class ParentLink:
    """A worker's connection to its parent.

    Args:
        channel: the worker's end of the socket pair.
        endpoints: whose reloads become those of all workers.
        stop: called when the parent has died.
    """

    def __init__(self, channel: socket.socket, endpoints: Endpoints, stop: Callable[[], None]) -> None:
        self._channel, self._endpoints, self._stop = channel, endpoints, stop
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._prepares: asyncio.Task[None] | None = None
        self._result: asyncio.Future[None] | None = None  # of the reload that a client of this worker has asked for
        endpoints.reload_everywhere = self.reload

    async def connect(self) -> None:
        """Open the connection; before the worker listens, since a client's first request may be a reload."""
        self._reader, self._writer = await asyncio.open_connection(sock=self._channel)

    async def run(self) -> None:
        """Report that the worker is ready, and do what the parent says."""
        self._writer.write(_line({"event": READY}))
        with contextlib.suppress(ConnectionError):
            while line := await self._reader.readline():
                self._handle(json.loads(line))
        log.warning("process %d stops, because its parent process has ended", os.getpid())
        self._stop()

    def leave(self) -> None:
        """Tell the parent that this worker accepts no new connections."""
        self._writer.write(_line({"event": STOPPING}))

    async def reload(self) -> None:
        """Ask for a reload of all workers, and wait for its end.

        Raises:
            UserError: the bundle cannot be used.
            RefusedError: 409, a reload is in progress; 503, it took too long.
        """
        if self._result is not None:
            raise self._endpoints.reload_is_busy()
        self._result = asyncio.get_running_loop().create_future()
        self._writer.write(_line({"event": RELOAD}))
        try:
            await self._result
        finally:
            self._result = None

    def _handle(self, message: Message) -> None:
        event, error = message["event"], message.get("error")
        if event == PREPARE:  # in a task, so that the end of the parent is read meanwhile
            self._prepares = asyncio.create_task(self._prepare(message["reload"]))
            return
        if event == SWITCH:
            self._endpoints.switch()
            self._writer.write(_line({"event": SWITCH, "reload": message["reload"], "error": None}))
            return
        if event == END:
            if self._prepares is not None:
                self._prepares.cancel()
            self._endpoints.discard()
            if not message["is_asker"]:  # a client of this worker may wait for the next reload
                return
        failed = self._endpoints.reload_is_busy() if event == BUSY else _error_of(error) if error else None
        if self._result is not None and not self._result.done():
            if failed is None:
                self._result.set_result(None)
            else:
                self._result.set_exception(failed)

    async def _prepare(self, reload: int) -> None:
        failure = None
        try:
            await self._endpoints.prepare()
        except Exception as error:
            failure = _described(error)
        self._writer.write(_line({"event": PREPARE, "reload": reload, "error": failure}))
