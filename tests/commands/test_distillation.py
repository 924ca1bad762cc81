"""The logits that students imitate: the teacher's plus the linear baseline's scores, weighted on dev."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.cli import main
from distill.commands.distillation import DEFAULT_LINEAR_WEIGHT, LINEAR_WEIGHTS, choose_linear_weight, target_answers
from distill.commands.experiment import Run, labels_of
from distill.commands.student_spec import StudentSpec
from distill.commands.train_student import _StudentTrainer
from distill.config import FROM_DATA, RunSettings, Settings, TransferSettings
from distill.data import Example
from distill.teachers.answering import Answers
from distill.teachers.saved import SavedTeacher
from distill.training import defaults

TEXTS, CLASSES = 400, 3
TEACHERS = (SavedTeacher(Path("teacher")),)
ANSWERING = SimpleNamespace()  # its "mean" is the answers of the teacher


def run_of(scores: Tensor, gold: Tensor, weight: float = FROM_DATA) -> Any:
    """A stand-in with the parts of a run that :mod:`distill.commands.distillation` uses."""
    examples = tuple(Example(index, str(index), int(label)) for index, label in enumerate(gold))
    return SimpleNamespace(
        settings=Settings(transfer=TransferSettings(linear_weight=weight)),
        data=SimpleNamespace(dev=examples, has_labels=True, is_multi_label=False),
        labels_of=labels_of,
        answering=ANSWERING,
        linear_scores=lambda texts: scores[[text.id for text in texts]].numpy(),
    )


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Labels, two independent noisy predictions of them (``logits`` of the teacher, ``scores``), and pure noise."""
    generator = torch.Generator().manual_seed(0)
    gold = torch.randint(CLASSES, (TEXTS,), generator=generator)
    signal = 1.5 * torch.eye(CLASSES)[gold]
    tensors = {"gold": gold, "noise": torch.randn(TEXTS, CLASSES, generator=generator)}
    tensors |= {name: signal + torch.randn(TEXTS, CLASSES, generator=generator) for name in ("logits", "scores")}

    def answers(teachers: Any, texts: Any) -> Answers:
        logits = tensors["logits"][[text.id for text in texts]]
        return Answers(logits, tensors.get("answered", torch.ones(TEXTS, dtype=torch.bool))[[t.id for t in texts]])

    monkeypatch.setattr(ANSWERING, "mean", answers, raising=False)
    return tensors


def test_the_weight_follows_the_quality_of_the_scores(samples: dict[str, Tensor]) -> None:
    both = choose_linear_weight(run_of(samples["scores"], samples["gold"]), TEACHERS)
    assert both == 1.0  # both predictions are equally good
    assert choose_linear_weight(run_of(samples["noise"], samples["gold"]), TEACHERS) == 0.0
    better, samples["logits"] = samples["logits"], samples["noise"]
    assert choose_linear_weight(run_of(better, samples["gold"]), TEACHERS) == max(LINEAR_WEIGHTS)


def test_a_weight_can_be_given_and_is_0_without_teachers(samples: dict[str, Tensor]) -> None:
    run = run_of(samples["scores"], samples["gold"], weight=7.0)
    assert choose_linear_weight(run, TEACHERS) == 7.0 and choose_linear_weight(run, ()) == 0.0


def test_a_small_dev_set_does_not_choose(samples: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "MIN_DEV_FOR_SELECTION", TEXTS + 1)
    assert choose_linear_weight(run_of(samples["noise"], samples["gold"]), TEACHERS) == DEFAULT_LINEAR_WEIGHT


def test_targets_have_the_standard_deviation_of_the_logits(samples: dict[str, Tensor]) -> None:
    run = run_of(samples["scores"], samples["gold"])
    targets = target_answers(run, TEACHERS, run.data.dev, 3.0).logits
    assert float(targets.std()) == pytest.approx(float(samples["logits"].std()))
    sums = samples["logits"] + 3 * samples["scores"]
    assert torch.allclose(targets / targets.std(), sums / sums.std(), atol=1e-5)
    assert torch.equal(target_answers(run, TEACHERS, run.data.dev, 0.0).logits, samples["logits"])


def test_texts_without_an_answer_take_no_part(samples: dict[str, Tensor]) -> None:
    """Their logits are noise here; the weight and the scale are those of the other texts."""
    answered = samples["answered"] = torch.arange(TEXTS) % 2 == 0
    samples["logits"][~answered] = 99 * samples["noise"][~answered]
    run = run_of(samples["scores"], samples["gold"])
    assert 0.5 <= choose_linear_weight(run, TEACHERS) <= 2.0
    targets, mask = target_answers(run, TEACHERS, run.data.dev, 3.0)
    assert mask.equal(answered) and not targets[~answered].any()
    assert float(targets[answered].std()) == pytest.approx(float(samples["logits"][answered].std()))


def test_a_run_logs_and_records_the_weight(
    tiny_flags: list[str], finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_from = json.loads((finished_run / "student" / "made_from.json").read_text(encoding="utf-8"))
    assert made_from["linear weight"] == DEFAULT_LINEAR_WEIGHT  # it has 9 dev texts
    flags = [*tiny_flags, "--run", str(finished_run), "--seeds", "2", "--mode", "train_student"]
    assert main(flags) == 0
    output = capsys.readouterr().out
    assert "logits + 2 x LinearSVC's scores" in output and "student: kept" in output
    assert "LinearSVC" in (finished_run / "student" / "README.md").read_text(encoding="utf-8")
    report = (finished_run / "report" / "report.md").read_text(encoding="utf-8")
    assert "imitates its teacher's logits plus 2 x the scores of LinearSVC" in report


def test_train_texts_are_scored_by_models_that_have_not_seen_them(
    tiny_flags: list[str], finished_run: Path, title_folder: Path
) -> None:
    data = dataclasses.replace(Settings().data, data=str(title_folder))
    run = Run(Settings(run=RunSettings(run=str(finished_run)), data=data))
    train, dev = run.data.train, run.data.dev
    held_out = run.linear.held_out_scores(
        [e.text for e in train], run.segmented(train), [e.label for e in train], len(run.data.labels)
    )
    mixed = [dev[0], *train]  # in any order
    scores = run.linear_scores(mixed)
    assert np.array_equal(scores[1:], held_out)
    assert np.array_equal(scores[0], run.linear.scores([dev[0].text], run.segmented(dev[:1]), 3)[0])
    teachers = (SavedTeacher(finished_run / "teacher"),)
    spec = StudentSpec(
        run.student_settings("average", has_teacher=False), run.settings.objective, teachers, linear_weight=2.0
    )
    taught = _StudentTrainer(run, spec).train.teacher_logits
    assert taught is not None and torch.equal(taught, target_answers(run, teachers, train, 2.0).logits)
    assert not torch.allclose(taught, run.answering.mean(teachers, train).logits, atol=0.01)
