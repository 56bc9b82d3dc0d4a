"""One box for the tests that leave it as it was; tests that break theirs make their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.box import Box, Home, start_box


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, str, str]:
    """A home with the tiny R1 and a key: (home, model id, key)."""
    home = Home(tmp_path_factory.mktemp("box"))
    return home, home.import_model(), home.create_key("tests")


@pytest.fixture(scope="session")
def model(prepared: tuple[Home, str, str]) -> str:
    return prepared[1]


@pytest.fixture(scope="session")
def box(prepared: tuple[Home, str, str]) -> Iterator[Box]:
    """The shared box: eight seats of 2,048 tokens."""
    home, _, key = prepared
    running = start_box(home, "--seats", "8", "--context", "2048", key=key)
    yield running
    assert running.stop() == 0


@pytest.fixture
def own_box(prepared: tuple[Home, str, str]) -> Iterator[Callable[..., Box]]:
    """Starts boxes of a test's own on the shared store; they are ended after it."""
    home, _, key = prepared
    running: list[Box] = []

    def start(*arguments: str, wait: bool = True) -> Box:
        running.append(start_box(home, *arguments, key=key, wait=wait))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path)
