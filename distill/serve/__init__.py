"""The HTTP service of a bundle: JSON in, labels out, files in, labelled files out, and a web page to try it."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from distill.config import Settings
from distill.errors import UserError
from distill.progress import log
from distill.runtime import Runtime
from distill.runtime.bundle import card_content
from distill.storage.run_folder import bundle_folder

if TYPE_CHECKING:
    from fastapi import FastAPI

    from distill.predict.teacher import LazyTeacher, TaskTeachers
    from distill.serve.endpoints import Endpoints
    from distill.serve.metrics import Totals

MAX_WORKERS = 256


def serve(settings: Settings) -> list[Path]:
    """Serve requests until SIGINT or SIGTERM; write no files.

    Raises:
        UserError: there is no bundle, the teacher of ``--with_teacher yes`` or ``--cascade`` cannot be used, a setting
            for unsure texts does not fit the labels, the token cannot be used, the address cannot be listened on, or
            the workers keep ending.
    """
    from distill.serve.metrics import Totals
    from distill.serve.security import ANY, allowed_hosts
    from distill.serve.server import listen, run, url_of
    from distill.serve.workers import Supervisor

    workers = _worker_count(settings)
    totals, folder = Totals(workers), bundle_folder(settings)
    app, teacher = _application(settings, folder, totals)
    endpoints: Endpoints = app.state.endpoints

    def work(listener: socket.socket, channel: socket.socket | None = None) -> None:
        if teacher and settings.unsure.cascade:  # not before the fork: PyTorch's threads do not survive it
            limits = settings.unsure.cascade_limits
            log.info("loading the teacher %s, which labels texts below %s", teacher.folder, limits)
            teacher.load()
        run(app, listener, settings.serve, channel)

    with contextlib.ExitStack() as listening:
        listeners = listen(settings.serve.host, settings.serve.port, workers)
        for listener in listeners:
            listening.enter_context(listener)
        url = url_of(listeners[0])
        with_teacher = f", with the teacher {teacher.folder}" if teacher else ""
        by_workers = f", by {workers} processes" if workers > 1 else ""
        labels = ", ".join(endpoints.student.runtime.labels)
        log.info("serving %s%s%s; labels: %s", folder, with_teacher, by_workers, labels)
        log.info("page: %s/\nAPI documentation: %s/docs\npress Ctrl-C to stop", url, url)
        if ANY in allowed_hosts(settings.serve):
            log.info("requests for every host name are answered -> --allowed_host NAME answers only those for NAME")
        if workers == 1:
            work(listeners[0])
        else:
            card = functools.partial(card_content, folder)
            Supervisor(work, endpoints, listeners, totals, settings.serve.stop_s, card).run()
    return []


def _application(settings: Settings, folder: Path, totals: Totals) -> tuple[FastAPI, LazyTeacher | TaskTeachers | None]:
    """The application and its teachers. Nothing else keeps the student, so that a reload frees its memory."""
    from distill.predict.teacher import TaskTeachers, find_teacher
    from distill.serve.app import create_app

    def load() -> tuple[Runtime, str]:
        return Runtime(folder), _model_name(folder)

    settings.unsure.check()
    runtime, model = load()
    teacher = find_teacher(settings, runtime.labels, runtime.thresholds, runtime.tasks)
    teachers = teacher.by_task if isinstance(teacher, TaskTeachers) else teacher
    app = create_app(
        runtime,
        settings.serve,
        teachers,
        model=model,
        load=load,
        unsure=settings.unsure,
        totals=totals,
        escape_formulas=settings.predict.escape_formulas,
    )
    return app, teacher


def _worker_count(settings: Settings) -> int:
    workers = settings.predict.workers or 1
    if workers > MAX_WORKERS:
        hint = f"--workers {os.cpu_count()}: one per core of this machine"
        raise UserError(f"at most {MAX_WORKERS} processes can serve", f"--workers {workers}", hint)
    return workers


def _model_name(folder: Path) -> str:
    """Name of a bundle: its folder's name, or the run's name for the bundle within a run."""
    folder = folder.resolve()
    return (folder.parent.name if folder.name == "bundle" else "") or folder.name
