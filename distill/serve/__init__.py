"""The HTTP service of a bundle: JSON in, labels out, files in, labelled files out, and a web page to try it."""

from __future__ import annotations

from pathlib import Path

from distill.config import Settings
from distill.progress import log
from distill.runtime import Runtime
from distill.storage.run_folder import bundle_folder


def serve(settings: Settings) -> list[Path]:
    """Serve requests until SIGINT or SIGTERM; write no files.

    Raises:
        UserError: there is no bundle, the teacher of ``--with_teacher yes`` or ``--cascade`` cannot be used, a setting
            for unsure texts does not fit the labels, the token cannot be used, or the address cannot be listened on.
    """
    from distill.predict.teacher import find_teacher
    from distill.serve.app import create_app
    from distill.serve.security import ANY, allowed_hosts
    from distill.serve.server import listen, run, url_of

    settings.unsure.check()
    folder = bundle_folder(settings)
    runtime = Runtime(folder)
    teacher = find_teacher(settings, runtime.labels)
    if teacher and settings.unsure.cascade:
        log.info("loading the teacher %s, which labels texts below %g", teacher.folder, settings.unsure.cascade_below)
        teacher.load()

    def load() -> tuple[Runtime, str]:
        return Runtime(folder), _model_name(folder)

    model = _model_name(folder)
    app = create_app(runtime, settings.serve, teacher, model=model, load=load, unsure=settings.unsure)
    with listen(settings.serve.host, settings.serve.port) as listener:
        url = url_of(listener)
        with_teacher = f", with the teacher {teacher.folder}" if teacher else ""
        log.info("serving %s%s; labels: %s", folder, with_teacher, ", ".join(runtime.labels))
        log.info("page: %s/\nAPI documentation: %s/docs\npress Ctrl-C to stop", url, url)
        if ANY in allowed_hosts(settings.serve):
            log.info("requests for every host name are answered -> --allowed_host NAME answers only those for NAME")
        run(app, listener, settings.serve)
    return []


def _model_name(folder: Path) -> str:
    """Name of a bundle: its folder's name, or the run's name for the bundle within a run."""
    folder = folder.resolve()
    return (folder.parent.name if folder.name == "bundle" else "") or folder.name
