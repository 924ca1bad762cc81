"""What the tests of the page share: a visit in a browser, a teacher, and what is read off the screen."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Teacher:
    """Always sure of 体育, and slower than any student."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        time.sleep(0.02)
        return np.array([[0.9 if label == "体育" else 0.05 for label in self.labels]] * len(texts), np.float32)


@dataclass
class Visit:
    """A browser with a fresh memory, and what it asked for and complained of."""

    browser: Any
    address: str

    def open(self, **how: Any) -> Any:
        context = self.browser.new_context(**{"locale": "zh-CN", "accept_downloads": True, **how})
        context.set_default_timeout(20_000)
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(self.address)
        self.page.locator("#model:text('tiny')").wait_for()
        return self.page

    def check(self) -> None:
        refused = re.compile("Failed to load resource: the server responded with a status of 422")
        assert [said for said in self.complaints if not refused.match(said)] == []
        own = (self.address, f"blob:{self.address}")
        assert self.asked and [url for url in self.asked if not url.startswith(own)] == []
        self.page.context.close()


def ask(page: Any, *texts: str) -> None:
    page.fill("#texts", "\n".join(texts))
    page.click("#ask .main")


def bars(page: Any, place: int) -> dict[str, tuple[float, float]]:
    """Of a model: the percentage that stands there, and the bar's length in percent, by label."""
    lines = page.locator(".model").nth(place).locator(".bars li")
    found = lines.evaluate_all("""all => all.map(line => [
        line.querySelector(".name").textContent, parseFloat(line.querySelector(".share").textContent),
        100 * line.querySelector(".filled").offsetWidth / line.querySelector(".track").offsetWidth])""")
    return {name: (share, length) for name, share, length in found}


def brightness(page: Any) -> float:
    """Of the paper, from 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return float(np.mean([int(part) for part in re.findall(r"\d+", colour)[:3]]))


def overflow(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
