"""What every test of the page does: ask, and wait for the answer."""

from __future__ import annotations

from playwright.sync_api import Page, expect


def ask(page: Page, text: str) -> None:
    page.locator("#input").fill(text)
    page.locator("#input").press("Enter")


def wait_for_answer(page: Page) -> None:
    expect(page.locator(".answer").last).not_to_have_attribute("aria-busy", "true")
    expect(page.locator(".answer").last.locator(".foot-row, .error-card").first).to_be_visible()
