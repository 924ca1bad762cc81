"""The checks of the data: figures by hand, thresholds, and messages that say what to do."""

from __future__ import annotations

import pytest

from distill.data import Dataset, Example, example_id
from distill.data.checks import Check, data_checks, truncated_texts, unknown_pieces, unseen_words
from distill.translation import Text

LABELS = ("体育", "财经", "美食")


def examples(split: str, *counts: int) -> tuple[Example, ...]:
    """So many texts of each class."""
    texts = [(f"{split}{label}{number}", label) for label, count in enumerate(counts) for number in range(count)]
    return tuple(Example(example_id(text), text, label) for text, label in texts)


def checks(train: tuple[int, ...], test: tuple[int, ...], dev: tuple[int, ...] = (1, 1, 1)) -> list[Check]:
    data = Dataset(examples("train", *train), examples("dev", *dev), examples("test", *test), LABELS, {})
    return data_checks(data)


def test_sound_data_pass_with_their_figures() -> None:
    passed = checks((48, 49, 50), (10, 10, 10))
    assert not [check for check in passed if check.is_warning]
    assert [check.message for check in passed] == [
        "fewest train texts in a class: 48 (体育)",
        "classes of dev and test that train lacks: none",
        "label proportions of train and test: 0.7 % of the test texts would need another label to make them equal",
    ]
    assert [(check.figure, check.threshold) for check in passed[:2]] == [(48, 10), (0, 0)]


def test_small_classes_are_listed_the_smallest_first() -> None:
    (sizes, missing, _) = checks((9, 40, 3), (1, 4, 1))
    assert sizes.is_warning and not missing.is_warning and sizes.figure == 3
    assert sizes.message.startswith("2 of 3 classes have fewer than 10 train texts: 美食 (3), 体育 (9). ")
    assert "不足 10 条：美食（3 条）、体育（9 条）。" in sizes.message.chinese
    assert not checks((10, 40, 10), (1, 4, 1))[0].is_warning


def test_of_many_small_classes_the_first_are_listed() -> None:
    labels = tuple("abcdefg")
    train, others = examples("train", *range(1, 8)), examples("dev", *[1] * 7)
    message = data_checks(Dataset(train, others, others, labels, {}))[0].message
    assert "7 of 7 classes have fewer than 10 train texts: a (1), b (2), c (3), d (4), e (5) and 2 more." in message
    assert "不足 10 条：a（1 条）、b（2 条）、c（3 条）、d（4 条）、e（5 条），另有 2 个。" in message.chinese


def test_a_class_that_train_lacks_is_one_warning() -> None:
    sizes, missing, _ = checks((40, 40, 0), (4, 4, 2), dev=(4, 4, 1))
    assert missing.is_warning and missing.figure == 1 and not sizes.is_warning
    assert "train has no text of 1 of the classes of dev and test: 美食 (3)." in missing.message
    sizes, missing, _ = checks((40, 40, 0), (4, 4, 0), dev=(4, 4, 0))  # named in class.txt, and nowhere else
    assert sizes.is_warning and "美食 (0)" in sizes.message and not missing.is_warning


@pytest.mark.parametrize(
    ("test", "is_warning"),
    [
        ((10, 5, 5), False),  # 17 points, but of 20 texts: chance
        ((4_200, 2_900, 2_900), False),  # significant, but 9 points
        ((450, 275, 275), True),  # 12 points of 1,000 texts
    ],
)
def test_label_proportions_differ_beyond_chance_and_by_much(test: tuple[int, ...], is_warning: bool) -> None:
    check = checks((1000, 1000, 1000), test)[-1]
    share = test[0] / sum(test)
    assert check.is_warning == is_warning and check.figure == pytest.approx(share - 1 / 3)
    assert ("体育 is 33.3 % of train and 45.0 % of test" in check.message) == is_warning


def test_a_class_without_texts_has_no_proportions() -> None:
    check = checks((1000, 1000, 0), (650, 350, 0), dev=(1, 1, 0))[-1]
    assert check.is_warning and check.figure == pytest.approx(0.15)


def test_unseen_words_of_test() -> None:
    train = [["球队", "夺冠"], ["股票"]]
    assert unseen_words(train, [["球队"]], [["球队", "夺冠", "股票", "教练"]]) == Check(
        "words of test that never occur in train",
        0.25,
        0.25,
        "words of test that never occur in train: 25.0 % (dev: 0.0 %)",
        False,
    )
    few = unseen_words(train, [["教练", "夺冠"]], [["教练", "夺冠", "银行"]])
    other = unseen_words(train, [["球队"]], [["臺灣", "電腦"]])
    assert few.is_warning and "66.7 % (dev: 50.0 %). There are few train texts: add more" in few.message
    assert other.is_warning and "100.0 % (dev: 0.0 %). Test holds texts of another kind" in other.message


def test_truncated_texts_in_the_split_with_most_of_them() -> None:
    lengths = {"train": [8] * 19 + [9], "test": [8] * 9 + [30]}
    check = truncated_texts("student", lengths, 8, Text("words"))
    assert (check.is_warning, check.figure) == (True, 0.1)
    assert check.message == (
        "texts that the student truncates to 8 words: 5.0 % of train and 10.0 % of test. To read longer texts, which "
        "takes longer: --student_max_length 32."
    )
    assert check.message.chinese == (
        "被学生模型截断到 8 个词的文本：训练集 5.0 %，测试集 10.0 %。"
        "如需读入更长的文本（更耗时），请使用 --student_max_length 32。"
    )
    long = truncated_texts("student", {"train": [4] * 10_000, "test": [4] * 180 + [90] * 20}, 64, Text("words"))
    assert long.message.endswith("To read longer texts, which takes longer: --student_max_length 96.")
    assert not truncated_texts("student", lengths | {"test": lengths["train"]}, 8, Text("words")).is_warning
    limited = truncated_texts("teacher", lengths, 8, Text("word pieces"), limit=16)
    assert limited.message.endswith("--teacher_max_length 16.")
    assert truncated_texts("teacher", lengths, 8, Text("word pieces"), limit=8).message.endswith(
        "It can read no more: put what decides the label into the first 8 word pieces."
    )


def test_unknown_word_pieces() -> None:
    assert unknown_pieces(0.1, "[UNK]", "臺").message == "word pieces of the teacher that are [UNK]: 10.0 %"
    check = unknown_pieces(0.2, "[UNK]", "臺灣電腦網路")
    assert (
        check.is_warning and "[UNK]: 20.0 %. " in check.message and "(most frequent: 臺 灣 電 腦 網)" in check.message
    )
