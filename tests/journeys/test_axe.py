"""axe-core finds nothing on any page: by day and by night, on a desk and on a phone (WCAG 2.2 AA and what axe calls best practice)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.journeys.conftest import DESKTOP, PHONE, Visitor
from tests.journeys.test_pages import Look, look, places

__all__ = ["look", "places"]

pytestmark = pytest.mark.browser


def test_axe_finds_nothing_on_any_page(look: Look, axe: Any) -> None:
    findings: list[str] = []
    seen = 0

    def see(name: str, visitor: Visitor) -> None:
        nonlocal seen
        for size in (DESKTOP, PHONE):
            visitor.page.set_viewport_size(size)
            for scheme in ("light", "dark"):
                visitor.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                findings.extend(f"{name}, {size['width']}, {scheme}: {found}" for found in axe(visitor))
                seen += 1

    look({"viewport": DESKTOP}, see)
    assert findings == []
    assert seen >= 100


def test_axe_would_find_something(visitor: Visitor, axe: Any) -> None:
    visitor.goto("/login")
    assert axe(visitor) == []
    visitor.page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<button></button><input>')")
    assert {found.partition(":")[0] for found in axe(visitor)} == {"button-name", "label"}
