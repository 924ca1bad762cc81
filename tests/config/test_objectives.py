"""The meaning of --objective, --a, --T and --temperature, and the values that are refused."""

from __future__ import annotations

import pytest

from distill.config import STUDENTS, ObjectiveSettings, StudentSettings
from distill.errors import UserError


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({}, {"labels": 0.3, "logits": 1}),
        ({"hard_weight": 0.0}, {"labels": 0, "logits": 1}),
        ({"objective": "labels+logits"}, {"labels": 0.3, "logits": 1}),
        ({"objective": "soft"}, {"labels": 0.3, "soft": 0.7}),
        ({"hard_weight": 1.0, "logits_weight": 0.0}, {"labels": 1, "logits": 0}),
        ({"objective": "soft", "hard_weight": 0.3}, {"labels": 0.3, "soft": 0.7}),
        ({"objective": "soft:2", "hard_weight": 3.0}, {"labels": 3, "soft": 2}),
        ({"objective": "labels:.1 + soft_reverse:.9"}, {"labels": 0.1, "soft_reverse": 0.9}),
        ({"objective": "hint", "logits_weight": 2.0}, {"labels": 0.3, "hint": 1, "logits": 2}),
        ({"objective": "mutual"}, {"labels": 0.3, "mutual": 1, "logits": 1}),
        ({"objective": "logits+hint:0.5"}, {"labels": 0.3, "logits": 1, "hint": 0.5}),
        ({"objective": "dist"}, {"labels": 0.3, "dist": 1}),
    ],
)
def test_weights(settings: dict[str, float], weights: dict[str, float]) -> None:
    assert ObjectiveSettings(**settings).weights == pytest.approx(weights)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"logits_weight": 0.0}, "all weights of the objective are 0"),
        ({"objective": "labels+logits", "hard_weight": 0.0}, "names labels, but --a 0 gives it no weight"),
        ({"objective": "soft", "hard_weight": 1.0}, "names soft, but --a 1 gives it no weight"),
        ({"objective": "soft:0+dist:0", "hard_weight": 0.0}, "all weights of the objective are 0"),
        ({"objective": "hint", "logits_weight": 0.0}, "does not train the classifier"),
        ({"objective": "hint+mutual:2", "logits_weight": 0.0}, "does not train the classifier"),
        ({"objective": "sotf"}, "unknown term 'sotf'; the terms are labels, logits, soft"),
        ({"objective": ""}, "unknown term ''"),
        ({"objective": "logits+"}, "unknown term ''"),
        ({"objective": "soft:-1"}, "the weight of soft is -1, must be 0 or larger"),
        ({"objective": "soft:nan"}, "the weight of soft is nan"),
        ({"objective": "soft:much"}, "the weight of soft is much"),
        ({"objective": "soft", "hard_weight": 1.5}, "the weight of soft is -0.5 (1 - a)"),
        ({"objective": "soft+soft"}, "names a term twice"),
        ({"temperature": 0.0}, "--temperature is 0.0, must be between 0.001 and 1000"),
        ({"temperature": -2.0}, "--temperature is -2.0, must be between 0.001 and 1000"),
        ({"temperature": float("nan")}, "--temperature is nan, must be between 0.001 and 1000"),
    ],
)
def test_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", "\\(").replace(")", "\\)")) as caught:
        ObjectiveSettings(**settings)  # type: ignore[arg-type]
    assert caught.value.hint


def test_which_objectives_need_a_teacher() -> None:
    assert ObjectiveSettings().needs_teacher and not ObjectiveSettings().is_alone
    alone = ObjectiveSettings(hard_weight=1.0, logits_weight=0.0)
    assert alone.is_alone and not alone.needs_teacher
    twins = ObjectiveSettings("labels:1+mutual:1")
    assert not twins.needs_teacher and not twins.is_alone
    assert ObjectiveSettings("logits+hint_layers").hints and not ObjectiveSettings("logits+hint:0").hints


@pytest.mark.parametrize("architecture", STUDENTS)
def test_the_defaults_of_an_architecture_replace_minus_one_only(architecture: str) -> None:
    settings = StudentSettings(hidden=7, dropout=0.0).with_defaults(architecture)
    assert (settings.architecture, settings.hidden, settings.dropout) == (architecture, 7, 0.0)
    assert settings.learning_rate > 0 and settings.vector_learning_rate > 0
    assert settings.batch_size > 0 and settings.ngrams >= 0


def test_zero_epochs_are_refused() -> None:
    with pytest.raises(UserError, match="--student_epochs is 0"):
        StudentSettings(epochs=0)
