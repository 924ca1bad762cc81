"""Helpers for the tests of the page: a browser visit, a fake teacher, and readers of what is on the screen."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Teacher:
    """Always predicts 体育, and is slower than any student."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        time.sleep(0.02)
        return np.array([[0.9 if label == "体育" else 0.05 for label in self.labels]] * len(texts), np.float32)


@dataclass
class Visit:
    """A browser context without stored data; records its requests and the errors in its console."""

    browser: Any
    address: str

    def open(self, **options: Any) -> Any:
        context = self.browser.new_context(**{"locale": "zh-CN", "accept_downloads": True, **options})
        context.set_default_timeout(20_000)
        self.page = context.new_page()
        self.errors: list[str] = []
        self.requested: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.goto(self.address)
        self.page.locator("#model:text('tiny')").wait_for()
        return self.page

    def check(self) -> None:
        refused = re.compile("Failed to load resource: the server responded with a status of 422")
        assert [error for error in self.errors if not refused.match(error)] == []
        own = (self.address, f"blob:{self.address}")
        assert self.requested and [url for url in self.requested if not url.startswith(own)] == []
        self.page.context.close()


def ask(page: Any, *texts: str) -> None:
    page.fill("#texts", "\n".join(texts))
    page.click("#classify_form .main")


def bars(page: Any, model: int) -> dict[str, tuple[float, float]]:
    """The bars of the model at this index: label -> (percentage as text, length of the bar in percent)."""
    lines = page.locator(".model").nth(model).locator(".bars li")
    rows = lines.evaluate_all("""all => all.map(line => [
        line.querySelector(".name").textContent, parseFloat(line.querySelector(".share").textContent),
        100 * line.querySelector(".filled").offsetWidth / line.querySelector(".track").offsetWidth])""")
    return {name: (share, length) for name, share, length in rows}


def brightness(page: Any) -> float:
    """Of the page's background, from 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return float(np.mean([int(part) for part in re.findall(r"\d+", colour)[:3]]))


def overflow(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
