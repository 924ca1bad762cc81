"""Word weights: joined, the words are the text, and the decisive word has the largest weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import titles
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distill.runtime import Runtime, load
from distill.serve.explain import MAX_WORDS, TEXTS_PER_CHECK, word_weights

LETTERS = st.one_of(st.characters(), st.sampled_from("球队今天股票İΣ aA\t\n\u3000🙂-1"))


@pytest.fixture(scope="module")
def runtime(bundle: Path) -> Runtime:
    return load(bundle)


@settings(max_examples=100)
@given(st.text(LETTERS, max_size=40))
@example("")
@example(" \t")
@example("abİ İΣ ΑΣ")
@example("I-PACE 今天公布  新消息\n")
@example("[UNK]股票[UNK]")
@example("\ud800今天")
def test_joined_words_are_the_text(runtime: Runtime, text: str) -> None:
    words = word_weights(runtime, text)
    assert "".join(word for word, _ in words) == text
    assert all(word for word, _ in words)
    assert all(-1 <= weight <= 1 for _, weight in words)
    assert all(weight == 0 for word, weight in words if word.isspace())


def test_words_are_those_of_the_student(runtime: Runtime) -> None:
    text = "I-PACE 今天公布  新消息"
    words = [word for word, _ in word_weights(runtime, text)]
    assert words == ["I", "-", "PACE", " ", "今天", "公布", "  ", "新", "消息"]
    assert [word.lower() for word in words if not word.isspace()] == runtime.segment([text])[0]


def test_characters_of_no_width_stay_in_their_words(runtime: Runtime) -> None:
    words = [word for word, _ in word_weights(runtime, "\u200b球\u200b队今天\ufeff公布")]
    assert words == ["\u200b", "球\u200b队", "今天\ufeff", "公布"]


def test_an_empty_text_has_no_words(runtime: Runtime) -> None:
    assert word_weights(runtime, "") == []


@pytest.mark.parametrize("text", [text for text, _ in titles(0, 15)])
def test_the_decisive_word_weighs_most(runtime: Runtime, text: str) -> None:
    """In the toy titles the label depends on the first word only."""
    weights = [weight for _, weight in word_weights(runtime, text)]
    assert weights[0] == max(weights) > 0.05


def test_a_weight_is_by_how_much_the_probability_falls(runtime: Runtime) -> None:
    text = "股票 今天 股票"
    full, without = runtime.predict_proba([text, " 今天 股票"])
    fall = full[full.argmax()] - without[full.argmax()]
    np.testing.assert_allclose(word_weights(runtime, text)[0][1], fall, atol=1e-6)


def test_each_occurrence_of_a_word_is_left_out_separately(runtime: Runtime) -> None:
    """The word that occurs once speaks against the label of the word that occurs twice."""
    words = word_weights(runtime, "球队 股票 股票")
    assert [word for word, _ in words] == ["球队", " ", "股票", " ", "股票"]
    assert words[0][1] < 0 < words[2][1]


def test_only_the_first_words_are_weighed(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    predict_proba = runtime.predict_proba
    monkeypatch.setattr(runtime, "predict_proba", lambda texts: calls.append(len(texts)) or predict_proba(texts))
    words = word_weights(runtime, "股票 " * (MAX_WORDS + 9))
    assert sum(calls) == MAX_WORDS + 1 and max(calls) == TEXTS_PER_CHECK
    assert len(words) == 2 * (MAX_WORDS + 9) and all(weight == 0 for _, weight in words[2 * MAX_WORDS :])


def test_the_deadline_is_checked_between_the_parts(runtime: Runtime) -> None:
    checks: list[int] = []
    word_weights(runtime, "股票 " * 100, lambda: checks.append(1))
    assert len(checks) == 4
    with pytest.raises(ZeroDivisionError):
        word_weights(runtime, "股票", lambda: 1 / 0)
