"""The bundle as a service: one text or many in, labels out, and a page to try it."""

from __future__ import annotations

from pathlib import Path

from distill.config import Settings
from distill.progress import log
from distill.runtime import Runtime
from distill.storage.run_folder import bundle_folder


def serve(settings: Settings) -> list[Path]:
    """Listen until told to stop; writes nothing.

    Raises:
        UserError: there is no bundle, or the address is taken.
    """
    from distill.serve.app import create_app
    from distill.serve.server import url_of, listen, run
    from distill.serve.teacher import find_teacher

    folder = bundle_folder(settings)
    runtime = Runtime(folder)
    teacher = find_teacher(settings, runtime.labels)
    app = create_app(runtime, settings.serve, teacher, model=_name(folder))
    with listen(settings.serve.host, settings.serve.port) as listener:
        beside = f"; beside it the teacher of {teacher.folder}" if teacher else ""
        log.info("%s says one of: %s%s", folder, ", ".join(runtime.labels), beside)
        log.info("page: %s/\nhow to ask: %s/docs\nCtrl-C stops", url_of(listener), url_of(listener))
        run(app, listener, settings.serve)
    return []


def _name(folder: Path) -> str:
    """A bundle's name: its folder's, or the run's where it lies in one."""
    folder = folder.resolve()
    return (folder.parent.name if folder.name == "bundle" else "") or folder.name
