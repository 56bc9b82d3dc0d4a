"""Fixtures of the page's tests: a fake box and a page in Chromium.

These tests need Chromium, node and playwright, which a fresh machine has not: they are collected only when the command
line names this folder, as `make test-web` does. Named, they fail where something is missing; they never skip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .chromium import chromium
from .fake_box import KEY, FakeBox
from .fake_server import FakeServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HERE = Path(__file__).resolve().parent
OpenPage = Callable[..., "Page"]
TELL_VIOLATIONS = """addEventListener('securitypolicyviolation', (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));"""


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    named = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path == HERE or HERE in path.parents for path in named) else True


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def server() -> Iterator[FakeServer]:
    server = FakeServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def box(server: FakeServer) -> FakeBox:
    return server.box


@pytest.fixture
def open_any(browser: Browser) -> Iterator[OpenPage]:
    """Opens an address in a fresh browser profile; the console of every page must stay clean, policy included."""
    complaints: list[str] = []
    contexts = []

    def note(kind: str, text: str) -> None:
        # The browser itself logs every 4xx and 5xx answer; those are what several tests provoke.
        if kind in {"error", "warning"} and not text.startswith("Failed to load resource"):
            complaints.append(f"{kind}: {text}")

    def open_any(url: str, **options: Any) -> Page:
        context = browser.new_context(**{"locale": "en-US", "viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        context.add_init_script(TELL_VIOLATIONS)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: note(message.type, message.text))
        page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))
        page.goto(url)
        return page

    yield open_any
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def open_page(open_any: OpenPage, server: FakeServer) -> OpenPage:
    """Opens the fake box's page, signed in with a key or not."""

    def open_page(signed_in: bool = True, path: str = "", **options: Any) -> Page:
        return open_any(server.url + path + (f"#key={KEY}" if signed_in else ""), **options)

    return open_page
