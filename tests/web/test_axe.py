"""axe-core finds nothing serious in any view, light and dark, wide and narrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .conftest import OpenPage
from .fake_box import FakeBox
from .scripts import Hold, Queued, Say, Think
from .steps import PHONE, ask, log_in, wait_for_answer

AXE = Path(__file__).resolve().parents[2] / "appliance/api/web-src/node_modules/axe-core/axe.min.js"
VIEWS: list[dict[str, Any]] = [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"color_scheme": "light", **PHONE}]


def check(page: Page) -> None:
    """Fails with what axe finds that is serious or critical."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]
    assert serious == [], "\n" + "\n".join(serious)
    assert len(found["passes"]) > 5


@pytest.mark.parametrize("options", VIEWS, ids=["light", "dark", "phone"])
def test_the_chat(open_page: OpenPage, box: FakeBox, options: dict[str, Any]) -> None:
    page = open_page(**options)
    expect(page.locator(".welcome")).to_be_visible()
    check(page)
    page.locator("#input").fill("fever")
    page.get_by_role("button", name="Send").click()
    wait_for_answer(page)
    expect(page.locator(".katex").first).to_be_attached()
    page.locator(".thought-toggle").click()
    check(page)
    box.scripts = {"slow": [Think("hm"), Hold()], "queue": [Queued(3, 20), Hold()]}
    page.locator("#input").fill("slow")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("button", name="Answer now")).to_be_visible()
    check(page)


def test_entry_dialogs_menu_and_errors(open_page: OpenPage, box: FakeBox) -> None:
    page = open_page(signed_in=False)
    expect(page.get_by_label("Setup token")).to_be_visible()
    check(page)
    box.add_user("ward", "correct horse", "admin")
    page.reload()
    log_in(page, "ward", "wrong")
    expect(page.get_by_role("alert")).not_to_be_empty()
    check(page)
    log_in(page, "ward", "correct horse")
    ask(page, "crash")
    expect(page.locator(".error-card")).to_be_visible()
    check(page)
    page.locator(".chat-item").hover()
    page.get_by_role("button", name="Actions for “crash”").click()
    check(page)
    page.get_by_role("menuitem", name="Rename").click()
    check(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Settings").click()
    check(page)


def test_the_whole_chat_by_keyboard(open_page: OpenPage, box: FakeBox) -> None:
    box.scripts = {"hi": [Think("hm"), Say("Yes.")]}
    page = open_page()
    expect(page.locator("#input")).to_be_focused()
    page.keyboard.type("hi")
    page.keyboard.press("Enter")
    wait_for_answer(page)
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="Answer again")).to_be_focused()
    page.reload()
    expect(page.locator(".bubble")).to_be_visible()
    page.locator("body").press("Tab")
    page.evaluate("document.activeElement.blur()")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#input")).to_be_focused()
    page.locator(".chat-link").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("menuitem", name="Delete")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Actions for “hi”")).to_be_focused()
