"""The report's section on unsure texts: risk–coverage curves, thresholds by target accuracy, and the cascade."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from distill.data.examples import ACCURACY
from distill.evaluation.selective import (
    MIN_ANSWERED,
    Answered,
    Confidences,
    TargetRow,
    answered,
    cascade_at,
    cascade_threshold,
    default_targets,
    risk_coverage,
    target_rows,
)
from distill.reporting import plots
from distill.reporting.html import Drawing
from distill.reporting.results import TEACHER, TITLES, Outcome, first_seeds
from distill.reporting.speed import Shipped
from distill.reporting.tables import (
    Column,
    Row,
    decimals,
    lines_of,
    markdown_list,
    markdown_table,
    meanings,
    percent,
    three_digits,
)
from distill.translation import Listed, Text

CASCADE_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
STUDENT_ONLY, TEACHER_ONLY = Text("student only"), Text("teacher only")
# The smallest threshold at which the cascade is not less accurate on dev than the teacher.
CHOSEN = Text("chosen on dev")
STUDENT_CHOSEN = Text("student only, chosen on dev")
NOT_REACHED = Text("not reached")


@dataclass(frozen=True)
class OnDev:
    """What thresholds are chosen from.

    Args:
        student: the last kind of student of the report, its first seed, on dev.
        teacher_correct: where the first teacher is right on dev (texts,); None: there is no teacher that is a model.
        targets: target accuracies; empty: relative to the student's accuracy on dev.
    """

    student: Confidences
    teacher_correct: NDArray[np.bool_] | None
    targets: tuple[float, ...] = ()


@dataclass(frozen=True)
class CascadeRow:
    """A cascade on dev and on test; ``share`` of the test texts goes to the teacher.

    ``cost`` is the time per text as a share of the teacher's. ``name`` says what is special about the threshold.
    """

    threshold: float
    name: str
    dev_accuracy: float
    share: float
    accuracy: float
    us_per_text: float
    cost: float


@dataclass(frozen=True)
class Section:
    """The figures of the section; ``cascade`` is empty without a teacher.

    Where a text may have any number of labels (``of_label_sets``), each accuracy is the share of the texts whose labels
    are all right.
    """

    model: str
    dev_texts: int
    everything: TargetRow
    targets: Sequence[TargetRow]
    cascade: Sequence[CascadeRow]
    areas: dict[str, float]
    of_label_sets: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it stands in report.json."""
        return {
            "model": self.model,
            "dev_texts": self.dev_texts,
            "aurc": self.areas,
            "every_text": _target_json(self.everything),
            "targets": [_target_json(row) for row in self.targets],
            "cascade": [asdict(row) for row in self.cascade],
            **({"of_label_sets": True} if self.of_label_sets else {}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` wrote."""
        return cls(
            model=content["model"],
            dev_texts=content["dev_texts"],
            everything=_target_row(content["every_text"]),
            targets=[_target_row(row) for row in content["targets"]],
            cascade=[CascadeRow(**row) for row in content["cascade"]],
            areas=content["aurc"],
            of_label_sets=content.get("of_label_sets", False),
        )


FIGURES = tuple(field.name for field in fields(Answered))


def _target_json(row: TargetRow) -> dict[str, Any]:
    content: dict[str, Any] = {"target": row.target, "threshold": row.threshold}
    for split, found in (("dev", row.dev), ("test", row.test)):
        values = {name: getattr(found, name, None) for name in FIGURES}
        if found and not found.texts:
            values[ACCURACY] = None  # JSON has no NaN
        content |= {f"{split}_{name}": value for name, value in values.items()}
    return content


def _target_row(content: Mapping[str, Any]) -> TargetRow:
    def found(split: str) -> Answered | None:
        values: dict[str, Any] = {name: content[f"{split}_{name}"] for name in FIGURES}
        if values["texts"] is None:
            return None
        accuracy = math.nan if values[ACCURACY] is None else values[ACCURACY]
        return Answered(**{**values, ACCURACY: accuracy})

    return TargetRow(content["target"], content["threshold"], found("dev"), found("test"))


def section_of(
    outcomes: Sequence[Outcome], gold: NDArray[Any], on_dev: OnDev | None, shipped: Shipped | None = None
) -> Section | None:
    """Compute the section; None without a student or without dev texts.

    ``gold`` are class numbers (texts,) or, in multi-label data, which classes each text has (texts, classes).
    Times are those of what ships, on one thread, or else those of the outcomes.
    """
    students = [outcome for outcome in first_seeds(outcomes) if outcome.name != TEACHER]
    if on_dev is None or not students or not len(on_dev.student.correct) or not len(gold):
        return None
    student, dev, test = students[-1], on_dev.student, confidences(students[-1], gold)
    return Section(
        model=student.name,
        dev_texts=len(dev.correct),
        everything=TargetRow(None, 0.0, answered(dev, 0.0), answered(test, 0.0)),
        targets=target_rows(dev, test, on_dev.targets or default_targets(dev)),
        cascade=_cascade_rows(outcomes, gold, student, on_dev, shipped),
        areas={model.name: risk_coverage(confidences(model, gold)).area for model in first_seeds(outcomes)},
        of_label_sets=gold.ndim == 2,
    )


def confidences(model: Outcome, gold: NDArray[Any]) -> Confidences:
    """A model's confidences on test, calibrated if the model is."""
    return Confidences.of(model.logits, model.temperature, gold, model.thresholds)


def _cascade_rows(
    outcomes: Sequence[Outcome],
    gold: NDArray[Any],
    student: Outcome,
    on_dev: OnDev,
    shipped: Shipped | None,
) -> list[CascadeRow]:
    """The student only, cascades at several thresholds, one chosen on dev, and the teacher only."""
    teacher = next((outcome for outcome in outcomes if outcome.name == TEACHER and outcome.ms_per_text), None)
    correct_on_dev = on_dev.teacher_correct
    if teacher is None or correct_on_dev is None:
        return []
    test, teacher_correct = confidences(student, gold), confidences(teacher, gold).correct
    student_us, teacher_us = (1000 * model.ms_per_text["cpu"] for model in (student, teacher))
    if shipped and shipped.teacher:
        student_us, teacher_us = (shipped.row(name).us_per_text for name in (shipped.student, shipped.teacher))

    def row(threshold: float, name: str = "") -> CascadeRow:
        share, accuracy = cascade_at(test, teacher_correct, threshold)
        us = student_us + share * teacher_us
        dev_accuracy = cascade_at(on_dev.student, correct_on_dev, threshold).accuracy
        return CascadeRow(threshold, name, dev_accuracy, share, accuracy, us, us / teacher_us)

    chosen = cascade_threshold(on_dev.student, correct_on_dev)
    names = {**dict.fromkeys(CASCADE_THRESHOLDS, ""), chosen: CHOSEN}
    cascades = [row(threshold, names[threshold]) for threshold in sorted(names.keys() - {0.0})]
    teacher_only = CascadeRow(
        1.0, TEACHER_ONLY, float(correct_on_dev.mean()), 1.0, float(teacher_correct.mean()), teacher_us, 1.0
    )
    return [row(0.0, STUDENT_ONLY if chosen else STUDENT_CHOSEN), *cascades, teacher_only]


def _of(split: str, figure: str) -> Callable[[TargetRow], float | None]:
    def value(row: TargetRow) -> float | None:
        found = getattr(row, split, None)
        number = math.nan if found is None else float(getattr(found, figure))
        return None if math.isnan(number) else number

    return value


TARGET_COLUMNS: tuple[Column[TargetRow], ...] = (
    Column("target", lambda row: row.target, decimals(3), meaning="accuracy that is wanted on the answered texts."),
    Column(
        "threshold",
        lambda row: NOT_REACHED if row.threshold is None else decimals(3)(row.threshold),
        meaning="the smallest one that reaches the target on dev, for --reject_below.",
    ),
    Column("dev: answered", _of("dev", "share"), percent(1)),
    Column("dev: accuracy", _of("dev", "accuracy"), decimals(4)),
    Column(
        "dev: at least",
        _of("dev", "low"),
        decimals(4),
        meaning="lower bound of the 95 % interval of dev accuracy (Wilson 1927). Where it is below the target, dev has "
        "too few texts to be sure that the target is reached.",
    ),
    Column("test: answered", _of("test", "share"), percent(1)),
    Column("test: accuracy", _of("test", "accuracy"), decimals(4)),
)
CASCADE_COLUMNS: tuple[Column[CascadeRow], ...] = (
    Column("threshold", lambda row: None if row.name == TEACHER_ONLY else row.threshold, decimals(3)),
    Column("", lambda row: row.name),
    Column("to the teacher", lambda row: row.share, percent(1)),
    Column("dev: accuracy", lambda row: row.dev_accuracy, decimals(4)),
    Column("test: accuracy", lambda row: row.accuracy, decimals(4)),
    Column("µs per text", lambda row: row.us_per_text, three_digits),
    Column("of the teacher's time", lambda row: row.cost, percent(1)),
)
OF_LABEL_SETS = {  # the titles and meanings that are others where a text may have any number of labels
    "dev: accuracy": Text("dev: subset accuracy"),
    "test: accuracy": Text("test: subset accuracy"),
    "accuracy that is wanted on the answered texts.": Text(
        "subset accuracy that is wanted on the answered texts: the share of these whose labels are all right."
    ),
}
SET_NOTE = Text(
    "The probability of a text is that of its whole label set, as if its labels were independent of each other. A text "
    "is right if all its labels are."
)
TARGET_CAPTION = Text(
    "Share of the texts that are answered, and accuracy on these, if those below the threshold get no label."
)
SET_TARGET_CAPTION = Text(
    "Share of the texts that are answered, and subset accuracy on these, if those below the threshold get no label."
)


def columns_of(section: Section, columns: Sequence[Column[Row]]) -> list[Column[Row]]:
    """The columns with the titles and meanings of the section's data."""
    names = OF_LABEL_SETS if section.of_label_sets else {}

    def named(text: str) -> str:
        return names.get(text, text)

    return [replace(column, title=named(column.title), meaning=named(column.meaning)) for column in columns]


def target_lines(section: Section) -> list[list[str]]:
    """Header and rows of the table of target accuracies, that of all texts first."""
    return lines_of([section.everything, *section.targets], columns_of(section, TARGET_COLUMNS))


def cascade_lines(section: Section) -> list[list[str]]:
    """Header and rows of the table of cascades."""
    return lines_of(section.cascade, columns_of(section, CASCADE_COLUMNS))


def notes(section: Section) -> list[Text]:
    """Sentences on how the thresholds were chosen, and on the targets that dev does not reach."""
    count = section.dev_texts
    sentences = [Text("The thresholds were chosen on the {count:,} dev texts and checked on test.", count=count)]
    if section.of_label_sets:
        sentences.insert(0, SET_NOTE)
    if unreached := [f"{row.target:.3f}" for row in section.targets if row.threshold is None]:
        sentences.append(
            Text(
                "Not reached on dev: {targets}. No threshold leaves {count} or more dev texts that are answered so "
                "accurately.",
                targets=Listed(unreached, ", ", "、"),
                count=MIN_ANSWERED,
            )
        )
    return sentences


def areas(section: Section) -> Text:
    """The area under every model's curve, in words."""
    of_models = (Text("{model} {area:.4f}", model=TITLES[name], area=area) for name, area in section.areas.items())
    return Text(
        "Risk–coverage curves on test: the error on the texts of which a model is surest. Area under them (AURC): "
        "{areas}; 0 is best.",
        areas=Listed(of_models, ", ", "，"),
    )


CASCADE_NOTE = Text(
    "Texts whose probability is below the threshold go to the teacher (--cascade --cascade_below). The threshold that "
    "is chosen on dev is the smallest at which the cascade is not less accurate there than the teacher. The time per "
    "text is the student's, plus the teacher's for the share that it gets."
)


def markdown(section: Section | None) -> str:
    """The section as Markdown; empty if there is none."""
    if section is None:
        return ""
    explained = markdown_list(meanings(columns_of(section, TARGET_COLUMNS)))
    parts = ["## Unsure texts", markdown_table(target_lines(section)), explained]
    parts += [*notes(section), areas(section)]
    if section.cascade:
        parts += ["### Cascade", markdown_table(cascade_lines(section)), CASCADE_NOTE]
    return "\n" + "\n\n".join(parts) + "\n"


def page_part(section: Section | None, outcomes: Sequence[Outcome], gold: NDArray[Any]) -> dict[str, Any] | None:
    """The values of the macro in selective.html.jinja; None if there is no section."""
    if section is None:
        return None
    return {
        "caption": SET_TARGET_CAPTION if section.of_label_sets else TARGET_CAPTION,
        "targets": target_lines(section),
        "meanings": meanings(columns_of(section, TARGET_COLUMNS)),
        "notes": notes(section),
        "cascade": cascade_lines(section) if section.cascade else None,
        "cascade_note": CASCADE_NOTE,
        "curves": _curves(section, outcomes, gold),
    }


def _curves(section: Section, outcomes: Sequence[Outcome], gold: NDArray[Any]) -> Drawing:
    with plots.new_figure(1, 4.8, 3.6) as (figure, (axes,)):
        for model in first_seeds(outcomes):
            curve = risk_coverage(confidences(model, gold))
            colour = plots.COLOURS[model.name]
            axes.plot(curve.coverage, curve.risk, color=colour, linewidth=1.2, label=model.title)
        axes.set_xlabel("share of the texts that are answered")
        axes.set_ylabel("error on these texts")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        return Drawing.of(figure, areas(section))
