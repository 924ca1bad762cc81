"""A bundle's logits equal those of its student in PyTorch; damaged bundles are refused; what export refuses."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import titles
from hypothesis import given, settings
from hypothesis import strategies as st

import distill
from distill.cli import main
from distill.errors import UserError
from distill.export.bundle import export_bundle
from distill.models.checkpoint import save_student
from distill.models.textgcn import DocumentIndex, GraphTable, GraphTableConfig
from distill.runtime import MAX_THREAD_BATCH, Runtime, load
from distill.runtime.bundle import BUNDLE_ARRAYS, BUNDLE_CARD, checksum

ODD = ["", " \t", "🙂🙂", "球队\x00公布", "\ud800今天", "İΣ ΑΣ", "[UNK]股票[UNK]", "i-pace 3-1 1.5t", "基" * 5000]
TITLES = [text for text, _ in titles(0, 120)]


@pytest.fixture(scope="module")
def runtime(bundle: Path) -> Runtime:
    return load(bundle)


def test_logits_and_probabilities_equal_pytorch(finished_run: Path, runtime: Runtime) -> None:
    student = distill.load_student(finished_run / "student")
    expected = student.logits(TITLES + ODD).numpy()
    np.testing.assert_allclose(runtime.logits(TITLES + ODD), expected, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_allclose(runtime.predict_proba(TITLES), student.predict_proba(TITLES), atol=2e-3)
    assert runtime.predict(TITLES) == student.predict(TITLES)
    assert runtime.labels == student.labels
    assert student.temperature != 1 and runtime.temperature == student.temperature


@settings(max_examples=50)
@given(st.lists(st.text(st.characters()), max_size=4))
def test_every_text_has_a_label(runtime: Runtime, texts: list[str]) -> None:
    assert set(runtime.predict(texts)) <= set(runtime.labels)
    assert runtime.logits(texts).shape == (len(texts), len(runtime.labels))
    assert np.isfinite(runtime.logits(texts)).all()


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_many_texts_keep_their_order(bundle: Path, threads: int) -> None:
    loaded = load(bundle, threads)
    texts = (TITLES * (3 * MAX_THREAD_BATCH // len(TITLES) + 1))[: 2 * MAX_THREAD_BATCH + 17]
    alone = {text: loaded.logits([text])[0] for text in TITLES}
    np.testing.assert_allclose(loaded.logits(texts), np.stack([alone[text] for text in texts]), rtol=0, atol=1e-5)


def test_threads_may_share_a_runtime(bundle: Path) -> None:
    """A word's projections are computed when it first occurs: here in several threads at once."""
    loaded = load(bundle)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(loaded.logits, [TITLES] * 32))
    for logits in results:
        np.testing.assert_array_equal(logits, results[0])


def test_a_process_that_is_forked_has_threads_of_its_own(bundle: Path) -> None:
    loaded, texts = load(bundle, threads=2), TITLES * MAX_THREAD_BATCH
    loaded.logits(texts)
    child = os.fork()
    if not child:
        try:
            loaded.logits(texts)
            os._exit(0)
        finally:  # an error must not let the child run the other tests
            os._exit(1)
    for _ in range(200):
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child waits for threads of its parent")
    assert status == 0


def test_threads_hold_the_buffer_that_they_read(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one has failed, the caller may drop the buffer while another still works."""
    loaded, started, failed, is_alive = load(bundle, threads=2), threading.Event(), threading.Event(), []
    content, spans = np.zeros(1, np.uint8), np.zeros((2 * MAX_THREAD_BATCH, 2), np.int64)
    buffer, spans[:MAX_THREAD_BATCH, 1] = weakref.ref(content), 1

    def kernel(texts: Any, logits: int) -> int:
        end_of_first = ctypes.c_int64.from_address(texts._obj.spans + 8).value
        if end_of_first:  # the first batch
            assert started.wait(10)
            raise KeyboardInterrupt
        started.set()
        assert failed.wait(10)
        is_alive.append(buffer() is not None)
        return 0

    monkeypatch.setattr(loaded, "_logits_of_texts", kernel)
    held = [content]
    del content
    with contextlib.suppress(KeyboardInterrupt):
        loaded.logits_of_utf8(held.pop(), spans)
    failed.set()
    loaded._pools[os.getpid()].shutdown()
    assert is_alive == [True]


@pytest.mark.parametrize("letter", ["基", "a", "🙂", " "])
def test_a_text_of_a_million_characters(letter: str, runtime: Runtime) -> None:
    assert runtime.predict(["球队今天公布新消息", letter * 1_000_000])[0] == "体育"


def test_words_are_the_same_as_in_training(runtime: Runtime) -> None:
    words = runtime.segment(["I-PACE 今天公布新消息", "", "3-1"])
    assert words == [["i", "-", "pace", "今天", "公布", "新", "消息"], [], ["3", "-", "1"]]


@pytest.mark.parametrize("wrong", ["一个字符串", "串" * (MAX_THREAD_BATCH + 1)])
def test_one_string_is_not_a_list(runtime: Runtime, wrong: str) -> None:
    with pytest.raises(UserError, match="a list of strings is needed"):
        runtime.predict(wrong)


@pytest.mark.parametrize("index", [1, MAX_THREAD_BATCH + 3])
def test_the_error_names_the_text_that_is_not_a_string(runtime: Runtime, index: int) -> None:
    texts: list[str] = ["好"] * (MAX_THREAD_BATCH + 9)
    texts[index] = None  # type: ignore[call-overload]
    with pytest.raises(UserError, match="not a string but NoneType") as error:
        runtime.predict(texts)
    assert error.value.where == f"text {index}"


def _edited(card: dict[str, object], **values: object) -> str:
    return json.dumps({**card, **values})


FAULTS: dict[str, tuple[Callable[[Path, dict[str, object]], object], str]] = {
    "no card": (lambda folder, card: (folder / BUNDLE_CARD).unlink(), "not a bundle: there is no bundle.json"),
    "a card that is not JSON": (
        lambda folder, card: (folder / BUNDLE_CARD).write_text("{"),
        "bundle.json cannot be read",
    ),
    "a card that is not an object": (
        lambda folder, card: (folder / BUNDLE_CARD).write_text("[]"),
        "bundle.json cannot be read",
    ),
    "a newer format": (
        lambda folder, card: (folder / BUNDLE_CARD).write_text(_edited(card, format=99)),
        "format 99; .* reads formats up to 3",
    ),
    "an incomplete card": (
        lambda folder, card: (folder / BUNDLE_CARD).write_text('{"format": 1}'),
        "bundle.json is incomplete",
    ),
    "no arrays": (lambda folder, card: (folder / BUNDLE_ARRAYS).unlink(), "this file of the bundle is missing"),
    "a changed byte": (
        lambda folder, card: (folder / BUNDLE_ARRAYS).write_bytes((folder / BUNDLE_ARRAYS).read_bytes()[:-1] + b"x"),
        "has changed since the export",
    ),
    "another network": (
        lambda folder, card: (folder / BUNDLE_CARD).write_text(_edited(card, network={"architecture": "textcnn"})),
        "broken",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_bundle_is_refused(fault: str, bundle: Path, tmp_path: Path) -> None:
    damage, message = FAULTS[fault]
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    damage(folder, json.loads((folder / BUNDLE_CARD).read_text("utf-8")))
    with pytest.raises(UserError, match=message) as error:
        load(folder)
    assert error.value.hint


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0{}" + b"\0" * 9])
def test_a_file_that_is_not_safetensors_is_refused(content: bytes, bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    (folder / BUNDLE_ARRAYS).write_bytes(content)
    card = json.loads((folder / BUNDLE_CARD).read_text("utf-8"))
    (folder / BUNDLE_CARD).write_text(_edited(card, files={BUNDLE_ARRAYS: checksum(content)}))
    with pytest.raises(UserError, match=r"not a safetensors file|broken"):
        load(folder)


def test_only_the_format_of_a_newer_bundle_is_read(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / BUNDLE_CARD).write_text('{"format": 4, "unknown": "fields"}')
    with pytest.raises(UserError, match="format 4"):
        load(tmp_path)


def test_nothing_heavy_is_imported(bundle: Path) -> None:
    """In a new interpreter the runtime imports only numpy and its own modules."""
    heavy = ("torch", "transformers", "gensim", "jieba", "pandas", "sklearn", "scipy", "safetensors", "tqdm")
    code = (
        "import sys; from distill.runtime import load; "
        f"print(load({str(bundle)!r}).predict(['球队今天公布新消息'])[0]); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["体育", "[]"]


def test_mode_export_writes_the_bundle(
    finished_run: Path, tiny_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished_run / "config.json").read_bytes()
    assert main([*tiny_flags, "--run", str(finished_run), "--mode", "export"]) == 0
    assert "MB; to run it, `pip install distill-zh` is enough" in capsys.readouterr().out
    assert load(finished_run / "bundle").predict(["银行股票大涨"]) == ["财经"]
    assert (finished_run / "config.json").read_bytes() == before


def test_mode_export_writes_onnx_files(
    finished_run: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="pip install -r requirements-dev.txt")
    run = shutil.copytree(finished_run, tmp_path / "run")
    flags = [*tiny_flags, "--run", str(run), "--mode", "export", "--format", "onnx"]
    assert main(flags) == 0
    assert {path.parent.name for path in run.glob("onnx/*/*.onnx")} == {"student", "teacher", "teacher-int8"}
    shutil.rmtree(run / "teacher")
    capsys.readouterr()
    assert main(flags) == 0
    assert "only the student was exported" in capsys.readouterr().out


def test_a_textgcn_cannot_be_exported(tmp_path: Path) -> None:
    config = GraphTableConfig(documents=2, classes=2)
    save_student(tmp_path, GraphTable(config), DocumentIndex((1, 2)), ["a", "b"])
    with pytest.raises(UserError, match="textgcn labels only the texts of its graph"):
        export_bundle(tmp_path, tmp_path / "bundle")


def test_a_student_with_another_dictionary_is_not_exported(finished_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished_run / "student", tmp_path / "student")
    card = json.loads((folder / "student.json").read_text("utf-8"))
    card["segmenter"]["dictionary"] = "0123"
    (folder / "student.json").write_text(json.dumps(card), "utf-8")
    with pytest.raises(UserError, match=r"were segmented by .*0123") as error:
        export_bundle(folder, tmp_path / "bundle")
    assert "--user_dict" in error.value.hint and not (tmp_path / "bundle").exists()


def test_what_export_refuses(tmp_path: Path, tiny_flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flags = [*tiny_flags, "--run", str(tmp_path / "run"), "--mode", "export"]
    assert main(flags) == 2
    assert "no student is trained yet" in capsys.readouterr().err
    assert main([*flags, "--student_folder", str(tmp_path)]) == 2
    assert "not a student's folder: student.json" in capsys.readouterr().err
    assert main([*flags, "--student_folder", "a", "--student_folder", "b"]) == 2
    assert "2 students are named, only one can be exported" in capsys.readouterr().err
