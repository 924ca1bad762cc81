"""The service's page in a real browser: typing, clicking, dropping files, and what the page shows then."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Teacher, Visit, ask, bars, brightness, overflow

from distill.config import ServeSettings
from distill.runtime import load

FILES = Path(__file__).parents[2] / "distill" / "serve" / "page"
MONEY, SPORT = "股票今天公布新消息", "球队今天公布新消息"
EXAMPLES = (MONEY, SPORT, "手机<b>")
MAX_CHARACTERS = 50  # of a text, in the service of these tests


@pytest.fixture(scope="module")
def address(bundle: Path) -> Iterator[str]:
    """URL of a real service with a tiny student."""
    pytest.importorskip("fastapi", reason="pip install -r requirements-dev.txt")
    uvicorn = pytest.importorskip("uvicorn", reason="pip install -r requirements-dev.txt")
    from distill.serve.app import create_app

    student = load(bundle)
    student.examples = EXAMPLES
    app = create_app(student, ServeSettings(most_characters=MAX_CHARACTERS), Teacher(student.labels), model="tiny")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    """A visit that checks at its end: no request went to another host, and no script failed."""
    visit = Visit(browser, address)
    yield visit
    visit.check()


def test_student_and_teacher_are_shown_side_by_side(visit: Visit) -> None:
    page = visit.open()
    ask(page, MONEY)
    page.locator(".detail").wait_for()
    student, teacher = bars(page, 0), bars(page, 1)
    assert max(student, key=lambda label: student[label]) == "财经" and teacher["体育"][0] == 90
    assert list(student) == list(teacher) and len(student) == 3
    for share, length in [*student.values(), *teacher.values()]:
        assert length == pytest.approx(share, abs=1)
    assert re.fullmatch(r"学生模型：「财经」，概率 [\d.]+%。教师模型：「体育」，.*倍。", page.inner_text("#status"))
    assert all(re.fullmatch(r"[\d.,]+ m?s", time) for time in page.locator(".time").all_inner_texts())
    ask(page, SPORT)
    page.locator("#status:text('教师模型结果相同')").wait_for()


def test_words_are_shaded_by_their_weight(visit: Visit) -> None:
    page = visit.open()
    ask(page, MONEY)
    first = page.locator(".words .word").first
    assert re.fullmatch(r"股票\+\d+", first.text_content())
    assert "for" in first.get_attribute("class") and "支持「财经」" in first.get_attribute("title")
    pieces = page.locator(".words").evaluate(
        "all => [...all.childNodes].map(node => (node.firstChild ?? node).textContent)"
    )
    assert "".join(pieces) == MONEY
    strengths = page.locator(".words .word").evaluate_all(
        "all => all.map(w => +w.style.getPropertyValue('--strength'))"
    )
    assert strengths[0] == max(strengths) > 0
    assert page.locator(".legend").inner_text().split() == ["+", "支持", "−", "反对"]


def test_several_lines_make_a_table(visit: Visit) -> None:
    page = visit.open()
    ask(page, MONEY, "  ", SPORT, "<b>手机</b>出了问题")
    page.locator("table").wait_for()
    rows = [re.split(r"\s*\t\s*|\n", row.strip()) for row in page.locator("tbody tr").all_inner_texts()]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("1", MONEY, "财经"),
        ("2", SPORT, "体育"),
        ("3", "<b>手机</b>出了问题", "科技"),
    ]
    assert "共 3 条文本" in page.inner_text("#status")
    button = page.locator("tbody button").nth(1)
    button.click()
    page.locator(".below .detail").wait_for()
    assert button.get_attribute("aria-expanded") == "true"
    assert "学生模型：「体育」" in page.locator(".below").inner_text()
    button.click()
    assert page.locator(".below").count() == 0 and button.get_attribute("aria-expanded") == "false"


def test_a_click_on_an_example_classifies_it(visit: Visit) -> None:
    page = visit.open()
    buttons = page.locator(".examples button")
    buttons.last.wait_for()
    assert buttons.all_inner_texts() == [*EXAMPLES, "全部 3 条"]
    buttons.first.click()
    page.locator(".detail").wait_for()
    page.click("#language")
    assert buttons.last.inner_text() == "all 3"
    buttons.last.click()
    page.locator("table").wait_for()
    assert page.input_value("#texts").splitlines() == list(EXAMPLES) and page.locator("tbody tr").count() == 3


def test_a_bundle_without_examples_offers_none(visit: Visit) -> None:
    page = visit.open()
    page.route("**/examples", lambda route: route.fulfill(json={"examples": []}))
    page.reload()
    page.locator("#model:text('tiny')").wait_for()
    page.wait_for_load_state("networkidle")
    assert page.locator(".examples").is_hidden() and page.locator(".examples button").count() == 0


def test_the_page_can_be_used_with_the_keyboard_only(visit: Visit) -> None:
    page = visit.open()
    focused = "(document.activeElement.type === 'file' ? document.activeElement.labels[0] : document.activeElement)"
    path = []
    page.locator(".examples button").last.wait_for()
    for _ in range(10):
        page.keyboard.press("Tab")
        path.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert page.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"
        if path[-1] == "texts":
            page.keyboard.type(MONEY)
            page.keyboard.press("Control+Enter")
            page.locator(".detail").wait_for()
    assert path[:4] == ["language", "theme", "texts", "分类"] and path[-2:] == ["file", "API 文档"]
    assert page.input_value("#texts") == MONEY


def test_empty_input_is_not_sent(visit: Visit) -> None:
    page = visit.open()
    page.click("#classify_form .main")
    assert "请先输入文本" in page.inner_text("#status")
    assert page.evaluate("document.activeElement.id") == "texts"
    assert not any(url.endswith(("/explain", "/predict")) for url in visit.requested)


def test_the_language_can_be_switched_and_is_remembered(visit: Visit) -> None:
    page = visit.open(locale="en-GB")
    assert page.evaluate("document.documentElement.lang") == "en" and page.inner_text("h1") == page.title()
    ask(page, MONEY)
    page.locator("#status:text('Student: “财经”')").wait_for()
    page.click("#language")
    assert "学生模型：「财经」" in page.inner_text("#status") and page.inner_text("#language") == "English"
    page.reload()
    assert page.inner_text("h1") == "短文本分类" and page.evaluate("document.documentElement.lang") == "zh"


def test_unknown_settings_in_local_storage_are_ignored(visit: Visit) -> None:
    page = visit.open(color_scheme="dark")
    page.evaluate("localStorage.setItem('language', 'fr'); localStorage.setItem('theme', 'system')")
    page.reload()
    page.locator("#model:text('tiny')").wait_for()
    assert page.inner_text("h1") == "短文本分类" and page.get_attribute("#theme", "aria-pressed") == "true"


def test_both_languages_have_the_same_keys_and_placeholders(visit: Visit) -> None:
    page = visit.open()
    texts = page.evaluate("import('./page/i18n.js').then(i18n => i18n.TEXTS)")
    assert texts["zh"].keys() == texts["en"].keys()
    for key, text in texts["zh"].items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", texts["en"][key])), key
    in_html = re.findall(r'data-i18n="(\w+)"[^>]*>([^<]+)', (FILES / "index.html").read_text(encoding="utf-8"))
    assert in_html and all(texts["zh"][key] == text for key, text in in_html)


def test_light_and_dark_theme(visit: Visit) -> None:
    page = visit.open(color_scheme="dark")
    assert brightness(page) < 60 and page.get_attribute("#theme", "aria-pressed") == "true"
    page.click("#theme")
    assert brightness(page) > 200 and page.get_attribute("#theme", "aria-pressed") == "false"
    page.reload()
    assert brightness(page) > 200
    page.click("#theme")
    assert brightness(page) < 60
    page.emulate_media(media="print")
    assert brightness(page) > 200


def test_a_file_is_labelled(visit: Visit, tmp_path: Path) -> None:
    page = visit.open()
    (tmp_path / "标题.csv").write_text(f"id,text\n7,{MONEY}\n8,{SPORT}\n9,\n", encoding="utf-8")
    page.set_input_files("#file", tmp_path / "标题.csv")
    page.locator("#download").wait_for()
    assert re.fullmatch("标题.csv：已标注 2 行，.*另有 1 行无法读取，已跳过。", page.inner_text("#stage"))
    assert page.locator("#job").is_hidden()
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "标题.labelled.csv"
    rows = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [["7", MONEY, "财经"], ["8", SPORT, "体育"]]


def test_a_dropped_file_is_labelled(visit: Visit) -> None:
    page = visit.open()
    page.evaluate(
        """text => {
            const data = new DataTransfer();
            data.items.add(new File([text], "a.txt"));
            const options = { dataTransfer: data, bubbles: true, cancelable: true };
            for (const kind of ["dragover", "drop"]) document.body.dispatchEvent(new DragEvent(kind, options));
        }""",
        f"{MONEY}\n{SPORT}\n",
    )
    page.locator("#download:text('a.labelled.txt')").wait_for()


def test_dropped_text_is_left_to_the_browser(visit: Visit) -> None:
    """Such as text that is dragged into the input field."""
    page = visit.open()
    is_handled = page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.setData("text/plain", "1");
            const options = { dataTransfer: data, bubbles: true, cancelable: true };
            const drag = (kind) => document.body.dispatchEvent(new DragEvent(kind, options));
            return !drag("dragover") || !drag("drop");
        }"""
    )
    assert not is_handled and page.locator(".drop.over").count() == 0


def test_an_unreadable_file_shows_an_error(visit: Visit) -> None:
    page = visit.open()
    page.set_input_files("#file", {"name": "a.csv", "mimeType": "text/csv", "buffer": b"\xff\xfe\x00"})
    page.locator("#file_fault strong").wait_for()
    assert page.inner_text("#file_fault span") and page.locator("#download").is_hidden()


def test_labelling_a_file_can_be_cancelled(visit: Visit) -> None:
    page = visit.open()
    page.route("**/label_file*", lambda route: None)  # never answered
    page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"1"})
    page.click("#cancel")
    page.locator("#stage:text('已取消')").wait_for()
    assert page.locator("#job").is_hidden() and page.locator("#file_fault").is_hidden()
    assert page.evaluate("document.activeElement.id") == "file"


def test_a_refusal_is_shown_with_its_hint(visit: Visit) -> None:
    page = visit.open()
    ask(page, "基" * (MAX_CHARACTERS + 1))
    page.locator("#fault strong").wait_for()
    assert f"{MAX_CHARACTERS + 1} characters" in page.inner_text("#fault strong")
    assert "shorten it" in page.inner_text("#fault span")
    ask(page, MONEY)
    page.locator(".detail").wait_for()
    assert page.locator("#fault").is_hidden()


def test_a_service_that_does_not_respond(visit: Visit) -> None:
    page = visit.open()
    page.route("**/explain", lambda route: route.abort())
    ask(page, MONEY)
    page.locator("#fault:has-text('服务没有响应')").wait_for()
    visit.errors.clear()  # the browser reports the aborted request too


def test_a_new_request_cancels_the_one_before(visit: Visit) -> None:
    page = visit.open()
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    page.route("**/explain", hold, times=1)
    ask(page, MONEY)
    page.wait_for_function("document.getElementById('results').ariaBusy === 'true'")
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/explain")):
        ask(page, SPORT)
    page.locator("#status:text('体育')").wait_for()
    assert len(held) == 1 and page.get_attribute("#results", "aria-busy") == "false"


@pytest.mark.parametrize(("has_teacher", "reason"), [(False, "教师模型未启用"), (True, "未能及时返回结果")])
def test_the_reason_is_shown_where_there_is_no_teacher(visit: Visit, has_teacher: bool, reason: str) -> None:
    def without_teacher(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "teacher": None})

    page = visit.open()
    page.route("**/ready", lambda route: route.fulfill(json={"labels": [], "model": "tiny", "teacher": has_teacher}))
    page.route("**/explain", without_teacher)
    page.reload()
    ask(page, MONEY)
    page.locator(f".model:has-text('{reason}')").wait_for()
    assert "教师" not in page.inner_text("#status")


def test_nothing_overflows_on_a_phone(visit: Visit) -> None:
    page = visit.open(viewport={"width": 360, "height": 640}, locale="en-GB")
    assert overflow(page) == 0
    for texts in (["i" * MAX_CHARACTERS], ["基" * MAX_CHARACTERS], [MONEY, "i" * MAX_CHARACTERS]):
        ask(page, *texts)
        page.locator("table" if len(texts) > 1 else ".detail").wait_for()
        assert overflow(page) == 0
    page.locator("tbody button").last.click()
    page.locator(".below .detail").wait_for()
    assert overflow(page) == 0


def test_page_files_have_no_external_address_and_no_inline_code() -> None:
    """The Content-Security-Policy would block both."""
    for path in FILES.iterdir():
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"http|[\"'(]//", text), path
        assert not re.search(r"<script>|<style|\sstyle=|\son\w+=|innerHTML|eval\(", text), path


def test_the_page_follows_a_reload(visit: Visit) -> None:
    page = visit.open()
    ready = '{"status": "ready", "model": "another", "labels": ["教育"], "teacher": false, "version": "1"}'
    page.route("**/ready", lambda route: route.fulfill(body=ready, content_type="application/json"))
    ask(page, MONEY)
    page.locator("#labels:text('共 1 个类别：教育')").wait_for()
    page.locator("#model:text('another')").wait_for()
