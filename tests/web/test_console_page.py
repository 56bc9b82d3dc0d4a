"""The operator's console in Chromium, on a real box."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.box import Box, Home, start_box

from .conftest import OpenPage

PASSWORD = "a quiet long password"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box without a model that serves consoles, with an administrator."""
    home = Home(tmp_path_factory.mktemp("console"))
    home.environment["R1BOX_BROWSER_CONSOLE"] = "true"
    home.run("users", "create", "Li Wei", "--role", "admin", "--password-stdin", input_text=f"{PASSWORD}\n")
    box = start_box(home, wait=False)
    yield box
    box.stop()


def log_in(page: Page) -> None:
    """By the API, as the chat page does: the cookie is the browser's then."""
    page.evaluate(
        """async (body) => { await fetch('/api/auth/login', {method: 'POST', body: JSON.stringify(body),
           headers: {'Content-Type': 'application/json'}}); }""",
        {"name": "Li Wei", "password": PASSWORD},
    )


def screen_text(page: Page) -> str:
    return str(page.locator(".xterm-rows").inner_text()).replace("\xa0", " ")


def test_an_administrator_works_in_it(open_any: OpenPage, served: Box, tmp_path: Path) -> None:
    page = open_any(f"{served.url}/console/")
    expect(page.locator("#message")).to_contain_text("Log in on the chat page")
    log_in(page)
    page.get_by_role("button", name="Open the console").click()
    expect(page.locator("#said")).to_be_hidden()
    expect(page.locator(".xterm-rows")).to_contain_text("Dashboard")
    expect(page.locator(".xterm-rows")).to_contain_text("host")
    page.keyboard.press("2")
    expect(page.locator(".xterm-rows")).to_contain_text("No model is installed")
    page.keyboard.press("?")
    expect(page.locator(".xterm-rows")).to_contain_text("Next panel")
    page.keyboard.press("Escape")
    # Escape with a key right behind it is Alt and that key, on every terminal.
    expect(page.locator(".xterm-rows")).not_to_contain_text("Next panel")
    page.keyboard.press("1")
    expect(page.locator(".xterm-rows")).to_contain_text("Needs attention")
    page.screenshot(path=tmp_path / "console.png")
    # The window becomes another one, and the console with it.
    page.set_viewport_size({"width": 1800, "height": 1000})
    page.wait_for_function("document.querySelector('.xterm-rows').children.length > 45")
    page.keyboard.press("q")
    expect(page.locator("#message")).to_have_text("You left the console.")
    page.keyboard.press("Enter")
    expect(page.locator(".xterm-rows")).to_contain_text("Dashboard")


def test_the_session_ends_and_the_console_with_it(open_any: OpenPage, served: Box) -> None:
    page = open_any(f"{served.url}/console/", locale="zh-CN")
    log_in(page)
    page.get_by_role("button", name="打开控制台").click()
    expect(page.locator(".xterm-rows")).to_contain_text("总览")
    page.evaluate(
        """async () => { const me = await (await fetch('/api/auth/me')).json();
           await fetch('/api/auth/logout', {method: 'POST', body: '{}',
             headers: {'Content-Type': 'application/json', 'X-R1Box-CSRF': me.csrf_token}}); }"""
    )
    expect(page.locator("#message")).to_contain_text("会话已结束")


def test_its_policy_is_its_own(served: Box) -> None:
    import httpx

    policy = httpx.get(f"{served.url}/console/").headers["content-security-policy"]
    assert "script-src" not in policy  # so default-src holds: this box's own files alone
    assert "default-src 'self'" in policy
    assert "unsafe-eval" not in policy
    assert "frame-ancestors 'none'" in policy
    chat = httpx.get(served.url, headers={"Accept": "text/html"}).headers["content-security-policy"]
    assert "unsafe-inline" not in chat
