"""What every test of the page does: come in, ask, wait for the answer."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def ask(page: Page, text: str) -> None:
    page.locator("#input").fill(text)
    page.locator("#input").press("Enter")


def new_chat(page: Page) -> None:
    page.get_by_role("link", name="New chat").first.click()
    expect(page.locator(".welcome")).to_be_visible()


def wait_for_answer(page: Page) -> None:
    """Until the last answer is over, whatever its end."""
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    expect(page.locator(".answer, .error-card").last).to_be_visible()
    expect(page.locator("[aria-busy=true]")).to_have_count(0)


def log_in(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in").click()


def menu(page: Page, title: str, item: str) -> None:
    """Choose something from a chat's menu."""
    page.locator(".chat-item", has_text=title).hover()
    page.get_by_role("button", name=f"Actions for “{title}”").click()
    page.get_by_role("menuitem", name=item, exact=True).click()


def answer_of(page: Page) -> Locator:
    """The last answer's text."""
    return page.locator(".answer > .markdown").last
