"""Pages read as people read them: words, not markup; and forms found by where they go."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from typing import Any

from flask import Flask
from sqlalchemy import event

from app.database import db
from tests.world import Answer, Browser, hidden


def words(page: Answer) -> str:
    """The text of a page, in one line."""
    assert page.status == 200, (page.status, page.text[:500])
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", page.text[page.text.find("<main") :]))).strip()


def told(page: Answer) -> list[str]:
    """What a page says was done, the newest first."""
    found = re.findall(r'<p class="told">(.*?)</p>', page.text, re.DOTALL)
    return [re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", one))).strip() for one in found]


def form_of(page: Answer, action: str) -> list[tuple[str, str]]:
    """The hidden fields of the form that goes there."""
    found = re.search(rf'<form[^>]*action="{re.escape(action)}"[^>]*>(.*?)</form>', page.text, re.DOTALL)
    assert found is not None, f"no form to {action}"
    return hidden(Answer(page.status, page.headers, b"<main>" + found[1].encode()))


def press(browser: Browser, page: Answer, action: str, *more: tuple[str, str]) -> Answer:
    """Send the form of a page that goes there."""
    return browser.post(action, [*form_of(page, action), *more])


@contextmanager
def counted(app: Flask) -> Iterator[list[str]]:
    """The statements that this thread has the application ask of SQL meanwhile."""
    asked: list[str] = []
    here = threading.get_ident()
    with app.app_context():
        engine = db.engine

    def remember(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if threading.get_ident() == here and not statement.startswith(("BEGIN", "PRAGMA", "SET ", "SHOW ")):
            asked.append(statement)

    event.listen(engine, "before_cursor_execute", remember)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", remember)
