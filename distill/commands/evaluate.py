"""``--mode test``: evaluate every trained model of the run on test, once, and write the report."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distill.commands.benchmark.shipped import TEACHER as TEACHER_EFFORT
from distill.commands.benchmark.shipped import Key, Shipping, time_models
from distill.commands.data_checks import checks_of, warn_of
from distill.commands.distillation import teacher_warning
from distill.commands.experiment import ALONE, COMMAND, DISTILLED, TEACHER, Run
from distill.commands.export import bundle_of, shipping_order
from distill.commands.label_sets import choose_thresholds, score
from distill.commands.model_cards import add_results
from distill.commands.saved_models import history, training_warnings
from distill.commands.teachers import teachers_of
from distill.commands.unsure import on_dev
from distill.data import Example
from distill.data.examples import ACCURACY, MICRO_F1
from distill.errors import UserError
from distill.evaluation import timing
from distill.models.teacher import default_precision
from distill.models.text_classifier import TextClassifier, load_student
from distill.progress import log, reminders
from distill.reporting.comparison_record import COMPARISON, ComparisonRecord, read_record
from distill.reporting.report import write
from distill.reporting.results import TITLES, EvaluationContext, Outcome
from distill.reporting.speed import Shipped
from distill.reporting.summary import LinearResult, Report, Usage
from distill.storage.fingerprints import package_versions, read_provenance
from distill.storage.run_folder import RunFolder, size_of
from distill.teachers import ModelTeacher, Teacher
from distill.teachers.saved import SavedTeacher
from distill.translation import Text

EXAMPLE = "一条短文本"  # in the command that loads the bundle in Python
TRAIN_MODE = {TEACHER: "train_teacher", ALONE: "train_student --a 1 --T 0", DISTILLED: "train_student"}


def test(run: Run) -> list[Path]:
    """Measure the accuracy and the speed of every trained model, and write the report and the models' cards."""
    folders = trained_models(run)
    teachers = _teachers(run, folders)
    folders = _current_models(run, folders, list(teachers.values()))
    if not folders and not teachers:
        raise UserError("nothing is trained yet", run.folder.root, f"{COMMAND} all")
    outcomes, partial = _recorded_outcomes(run, teachers)
    if not folders and not outcomes and not any(teacher.is_model for teacher in teachers.values()):
        what = "nothing is trained yet, and the teachers' answers do not cover the test texts"
        raise UserError(what, run.folder.root, f"{COMMAND} train_student")
    context = evaluation_context(run, TEACHER_EFFORT.texts)
    models = _open_models(run, teachers, folders)
    checks = checks_of(run, models.values())
    warn_of(checks)
    shipping = _shipping(run, models, folders)
    times, shipped = _times(models, context.texts[: timing.TEXTS], shipping)
    outcomes += _outcomes(models, {**teachers, **folders}, context.texts, times)
    kinds = [TEACHER, *reversed(shipping_order(run))]  # the report shows most of the last one
    outcomes.sort(key=lambda outcome: kinds.index(outcome.name))
    report = Report(
        name=run.folder.root.resolve().name,
        context=dataclasses.replace(
            context, settings={**context.settings, "made_from": _made_from(run, teachers, folders)}
        ),
        outcomes=outcomes,
        versions=package_versions(),
        linear=_linear_result(run, context, folders),
        warning=teacher_warning(run, list(teachers.values())) if teachers else "",
        missing=[*partial, *_missing(run, teachers, folders)],
        comparison=_comparison(run),
        label_noise_file=run.folder.label_noise.name if run.folder.label_noise.is_file() else "",
        checks=checks,
        decisions=run.data.notes,
        warnings=_warnings(folders.values()),
        shipped=shipped,
        usage=usage(run.shipping) if shipped and shipped.is_bundle else (),
        on_dev=on_dev(run, models, teachers, outcomes),
    )
    text, files = write(report, run.folder.report)
    log.info("\n%s", text)
    with_card = list(folders.items())
    if shipping and shipping.bundle and run.shipping == run.folder:
        with_card.append((shipping.student, shipping.bundle))
    return [*files, *_update_cards(run, with_card, report)]


def _open_models(run: Run, teachers: dict[Key, Teacher], folders: dict[Key, Path]) -> dict[Key, TextClassifier]:
    """The teachers that are models, and the students."""
    models = {
        key: teacher.classifier(run.task) for key, teacher in teachers.items() if isinstance(teacher, ModelTeacher)
    }
    return models | {key: load_student(path, run.segmenter) for key, path in folders.items() if key[0] != TEACHER}


def _made_from(run: Run, teachers: dict[Key, Teacher], folders: dict[Key, Path]) -> dict[str, Any]:
    """The provenance of the first model of each kind."""
    records = {kind: read_provenance(path) for (kind, _), path in reversed(folders.items())}
    first = next(iter(teachers.values()), None)
    if first is not None:
        records[TEACHER] = read_provenance(first.folder) if isinstance(first, SavedTeacher) else first.record(run.task)
    return records


def _missing(run: Run, teachers: dict[Key, Teacher], folders: dict[Key, Path]) -> list[str]:
    """A sentence for every kind of model that was not trained."""
    trained = {name for name, _ in (*teachers, *folders)}
    if not run.data.has_labels:
        trained.add(ALONE)  # without labels there is nothing to learn from alone
    return [
        Text("Not trained: {kind}. To train it: {command}", kind=TITLES[kind], command=f"{COMMAND} {mode}")
        for kind, mode in TRAIN_MODE.items()
        if kind not in trained
    ]


def _recorded_outcomes(run: Run, teachers: dict[Key, Teacher]) -> tuple[list[Outcome], list[str]]:
    """The results of teachers that are no models and have an answer to every test text; sentences about the others."""
    outcomes, sentences, test = [], [], run.data.test
    for (kind, index), teacher in teachers.items():
        if teacher.is_model:
            continue
        answers = run.answering.mean([teacher], test)
        count = int(answers.answered.sum())
        thresholds = _thresholds_of_answers(run, teacher) if count and run.data.is_multi_label else ()
        if count == len(test):
            outcomes.append(Outcome(kind, index, answers.logits.numpy(), None, None, {}, thresholds=thresholds))
        elif count:
            own = answers.answered
            right = score(answers.logits[own], run.labels_of(test)[own], thresholds)
            measured = MICRO_F1 if thresholds else ACCURACY
            sentences.append(
                f"{teacher.name} has answers for {count:,} of the {len(test):,} test texts: {measured} "
                f"{right:.4f} on these."
            )
        else:
            sentences.append(f"{teacher.name} has no answers for the test texts, so it is not evaluated.")
    return outcomes, sentences


def _thresholds_of_answers(run: Run, teacher: Teacher) -> tuple[float, ...]:
    """The thresholds of a teacher that is no model in multi-label data, from its answers to dev texts."""
    return choose_thresholds(run, teacher.name, *run.answering.mean([teacher], run.data.dev))


def _size(model: Teacher | Path) -> int | None:
    """Bytes of a model's files."""
    if isinstance(model, Path):
        return size_of(model)
    return model.size() if isinstance(model, ModelTeacher) else None


def _history(model: Teacher | Path) -> list[dict[str, Any]]:
    """The log of a model's training; empty if another program trained it."""
    folder = model.folder if isinstance(model, SavedTeacher) else model
    return history(folder) if isinstance(folder, Path) else []


def _warnings(folders: Iterable[Path]) -> list[str]:
    """The warnings of the models' training and of this command, each once."""
    of_training = (warning for folder in folders for warning in training_warnings(folder))
    return list(dict.fromkeys((*of_training, *reminders)))


def _shipping(run: Run, models: Mapping[Key, TextClassifier], folders: Mapping[Key, Path]) -> Shipping | None:
    """The student that ships, the first teacher that is a model, and the bundle; None if no student is trained."""
    student = next((key for kind in shipping_order(run) for key in folders if key[0] == kind), None)
    if student is None:
        return None
    teacher = next((key for key in models if key[0] == TEACHER), None)
    bundle, remark = bundle_of(run, folders[student])
    return Shipping(student, teacher, bundle, remark)


def usage(run: RunFolder) -> list[Usage]:
    """The commands that label a file, serve, and predict in Python with a run's bundle."""
    folder = shlex.quote(str(run.root))
    bundle, text = (json.dumps(part, ensure_ascii=False) for part in (str(run.bundle), EXAMPLE))
    code = f"from distill.runtime import load; print(load({bundle}).predict([{text}]))"
    return [
        Usage(
            Text("label a file: texts.txt, one text per line"),
            f"{COMMAND} predict --run {folder} --input texts.txt --output labelled.txt",
        ),
        Usage(Text("serve it, with a web page"), f"{COMMAND} serve --run {folder}"),
        Usage(Text("load it in Python"), f"python -c {shlex.quote(code)}"),
    ]


def _outcomes(
    models: dict[Key, TextClassifier],
    sources: Mapping[Key, Teacher | Path],
    texts: Sequence[str],
    times: Mapping[Key, Mapping[str, float]],
) -> list[Outcome]:
    """Every model's logits of the test texts, its speed and its size."""
    logits = {key: model.logits(texts, f"test, {key[0]}").numpy() for key, model in models.items()}
    return [
        Outcome(
            name=key[0],
            seed=key[1],
            logits=logits[key],
            parameters=model.parameters,
            bytes=_size(sources[key]),
            ms_per_text=times[key],
            history=_history(sources[key]),
            temperature=model.temperature,
            thresholds=model.thresholds,
        )
        for key, model in models.items()
    ]


def _linear_result(run: Run, context: EvaluationContext, folders: dict[Key, Path]) -> LinearResult:
    """The linear baseline on test, and the weight of its scores in what the students imitate."""
    weights = [
        (read_provenance(path) or {}).get("linear weight") or 0.0
        for (kind, _), path in folders.items()
        if kind == DISTILLED
    ]
    test, distances = run.data.test, None
    if context.is_multi_label:  # the figure for the ranking of the labels needs them
        distances = run.linear.scores(context.texts, run.segmented(test), len(context.labels))
    predicted = run.linear.predict(context.texts)
    scores, level_scores = context.scores(predicted, distances), context.level_scores(predicted)
    return LinearResult(scores, max(weights, default=0.0), level_scores)


def _comparison(run: Run) -> ComparisonRecord | None:
    """The results of an earlier --mode compare in this run, if it used the same data."""
    path = run.folder.compare / COMPARISON
    if not path.is_file():
        return None
    record, counts = read_record(path), run.data.counts
    is_same_data = record.fingerprint in ("", run.data.fingerprint)  # older files have none
    if is_same_data and all(counts.get(key, count) == count for key, count in record.data.items()):
        return record
    log.info("%s: left out of the report, it was made with other data", path)
    return None


def _update_cards(run: Run, folders: Iterable[tuple[Key, Path]], report: Report) -> list[Path]:
    """Add the test results to the cards of the models that the run trained, and of the bundle."""
    by_key = {(outcome.name, outcome.seed): outcome for outcome in report.outcomes}
    return [
        add_results(run, folder, dataclasses.asdict(report.context.scores(by_key[key].predicted, by_key[key].logits)))
        for key, folder in folders
    ]


def _teachers(run: Run, folders: dict[Key, Path]) -> dict[Key, Teacher]:
    """The teachers to evaluate: those that --teacher names, or the run's own, if they are trained."""
    if run.named_teachers:
        return {(TEACHER, index): teacher for index, teacher in enumerate(teachers_of(run))}
    return {key: SavedTeacher(folder) for key, folder in folders.items() if key[0] == TEACHER}


def trained_models(run: Run) -> dict[Key, Path]:
    """Folders of the run's trained models, the teachers first; of each kind, the seeds with the settings of the first.

    With --teacher the run's own teachers are left out.
    """
    folders: dict[Key, Path] = {}
    for kind in TRAIN_MODE if not run.named_teachers else (ALONE, DISTILLED):
        first = None
        for index in itertools.count():
            folder = run.folder.model(kind, index)
            record = read_provenance(folder)
            if record is None:
                break
            seed = record.pop("seed")
            record = {key: value for key, value in record.items() if value is not None}  # older records lack these keys
            first = first or record
            if record == first:
                folders[kind, seed] = folder
    return folders


def _current_models(run: Run, folders: dict[Key, Path], teachers: Sequence[Teacher]) -> dict[Key, Path]:
    """Refuse models that were trained on other data, and students of other teachers than the evaluated ones.

    If the settings do not train a model's kind, it is left out instead, with a line in the log.

    Raises:
        UserError: a model whose kind the settings train has other data or another teacher.
    """
    records, current = [teacher.record(run.task) for teacher in teachers], {}
    for (kind, seed), folder in folders.items():
        taught_by = (read_provenance(folder) or {}).get("teacher") or []
        has_other_teacher = kind == DISTILLED and bool(teachers) and taught_by != records[: len(taught_by)]
        if not _is_trained(run, kind) and (has_other_teacher or not run.is_trained_on_data(folder)):
            log.info("%s: left out, it was trained on other data or by another teacher", folder)
            continue
        run.check_same_data(folder, TRAIN_MODE[kind])
        if has_other_teacher:
            what = "this student was distilled from another teacher"
            raise UserError(
                what, folder, f"train it again: {COMMAND} train_student, or name its teacher: --teacher FOLDER"
            )
        current[kind, seed] = folder
    return current


def _is_trained(run: Run, kind: str) -> bool:
    """Whether the run's settings train models of this kind."""
    is_alone = run.settings.objective.is_alone
    return {TEACHER: True, ALONE: is_alone or run.data.has_labels, DISTILLED: not is_alone}[kind]


def _times(
    models: dict[Key, TextClassifier], texts: Sequence[str], shipping: Shipping | None
) -> tuple[dict[Key, dict[str, float]], Shipped | None]:
    """Milliseconds per text on the CPU and, if there is one, on the GPU; and the speed of what ships."""
    for model in models.values():
        model.to(torch.device("cpu"))
    on_cpu, shipped = time_models(models, texts, shipping)
    times = {key: {"cpu": milliseconds} for key, milliseconds in on_cpu.items()}
    if torch.cuda.is_available():
        for model in models.values():
            model.to(torch.device("cuda"))
        for key, milliseconds in timing.ms_per_text({key: one.predict for key, one in models.items()}, texts).items():
            times[key]["gpu"] = milliseconds
    return times, shipped


def evaluation_context(run: Run, teacher_texts: int = timing.TEXTS) -> EvaluationContext:
    """The run's test set and the conditions of the evaluation; teachers are timed on ``teacher_texts`` at most."""
    texts = min(len(run.data.test), timing.TEXTS)
    return EvaluationContext(
        texts=[example.text for example in run.data.test],
        gold=_gold(run),
        first_of_text=first_of_text(run.data.test),
        labels=run.data.labels,
        data=run.data.counts,
        fingerprint=run.data.fingerprint,
        settings=dataclasses.asdict(run.settings),
        timing=timing_sentence(texts, min(texts, teacher_texts)),
        measured=run.data.measured,
        hierarchy=run.data.hierarchy,
        target_metric=run.settings.data.target_metric,
    )


def _gold(run: Run) -> NDArray[Any]:
    """Class numbers (texts,) of test or, in multi-label data, which classes each text has (texts, classes)."""
    labels = run.labels_of(run.data.test)
    return labels.bool().numpy() if run.data.is_multi_label else labels.numpy()


def timing_sentence(texts: int, teacher_texts: int) -> str:
    """A sentence about how and on which hardware the times were measured."""
    gpu = f", GPU {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    timed = Text("{texts} ({teacher_texts} for the teacher)", texts=texts, teacher_texts=teacher_texts)
    return Text(
        "Time: from raw text to label, segmentation included; median of {rounds} interleaved runs over {texts} test "
        "texts, batches sorted by length, {threads} threads, PyTorch {version}, teacher in {precision}, processor "
        "{processor}.",
        rounds=timing.RUNS,
        texts=timed if teacher_texts < texts else texts,
        threads=torch.get_num_threads(),
        version=torch.__version__,
        precision=default_precision(torch.device("cpu")),
        processor=f"{timing.processor()}{gpu}",
    )


def first_of_text(examples: Sequence[Example]) -> NDArray[np.bool_]:
    """A mask (rows,) of the first row of every distinct text."""
    ids = np.array([example.id for example in examples])
    first = np.zeros(len(ids), dtype=np.bool_)
    first[np.unique(ids, return_index=True)[1]] = True
    return first
