"""biLSTM and biGRU: padding has no influence, both directions, sizes from the config."""

from __future__ import annotations

import pytest
import torch

from distill.config import StudentSettings
from distill.config.models import CELLS
from distill.errors import UserError
from distill.models.bilstm import BiLSTM, BiLSTMConfig
from distill.models.elementwise_cells import ELEMENTWISE_CELLS
from distill.models.inference import predict_logits
from distill.models.student import masked_max
from distill.text.batching import PackedIds, masked_mean

TEXTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 3], [2, 2]]


def network(sentence: bool = False, cell: str = "lstm") -> BiLSTM:
    torch.manual_seed(0)
    return BiLSTM(BiLSTMConfig(words=12, width=6, hidden=5, classes=3, sentence=sentence, cell=cell)).eval()


@pytest.mark.parametrize(("sentence", "cell"), [(True, "lstm"), *((False, cell) for cell in CELLS)])
def test_a_prediction_does_not_depend_on_its_batch(sentence: bool, cell: str) -> None:
    model = network(sentence, cell)
    together = predict_logits(model, PackedIds(TEXTS, 0))
    for text, logits in zip(TEXTS, together, strict=True):
        assert torch.allclose(predict_logits(model, PackedIds([text], 0))[0], logits, atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_both_directions_read_only_the_words(cell: str) -> None:
    model, text = network(cell=cell), torch.tensor([[1, 2, 3]])
    states, _ = model.lstm(model.embedding(text))
    pooled = torch.cat([states.amax(1), states.mean(1)], dim=1)
    assert torch.allclose(
        predict_logits(model, PackedIds([[1, 2, 3], TEXTS[2]], 0))[0], model.classifier(pooled)[0], atol=1e-6
    )


def test_sentence_input_ignores_the_order_of_words() -> None:
    first, second = predict_logits(network(True), PackedIds([[1, 2, 3], [3, 1, 2]], 0))
    assert torch.allclose(first, second, atol=1e-6)
    first, second = predict_logits(network(False), PackedIds([[1, 2, 3], [3, 1, 2]], 0))
    assert not torch.allclose(first, second, atol=1e-3)


def test_masked_pooling() -> None:
    values = torch.tensor([[[1.0, -5.0], [3.0, -1.0], [100.0, 100.0]]])
    mask = torch.tensor([[True, True, False]])
    assert masked_mean(values, mask).tolist() == [[2.0, -3.0]]
    assert masked_max(values, mask).tolist() == [[3.0, -1.0]]


def test_sizes_come_from_the_config() -> None:
    model = BiLSTM(BiLSTMConfig(words=20, width=7, hidden=11, classes=4))
    assert model.lstm.hidden_size == 11 and model.lstm.input_size == 7
    assert model.classifier.weight.shape == (4, 44)


def test_the_cell_comes_from_the_config() -> None:
    assert isinstance(network(cell="gru").lstm, torch.nn.GRU) and isinstance(network().lstm, torch.nn.LSTM)
    with pytest.raises(KeyError):
        network(cell="rnn")


@pytest.mark.parametrize("cell", ELEMENTWISE_CELLS)
def test_cells_of_sequences_refuse_sentence_input(cell: str) -> None:
    with pytest.raises(UserError, match=f"{cell} is the cell of a sequence.* -> --cell lstm, or --student_input word"):
        BiLSTM.config_options(StudentSettings(cell=cell, input="sentence"))
