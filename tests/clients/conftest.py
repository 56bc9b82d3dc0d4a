"""Fixtures of the clients' tests: a real box with the tiny R1, and the programs that ask it.

The clients live in an environment of their own and in node_modules, which a fresh machine has not: these tests are
collected only when the command line names this folder, as ``make test-clients`` does. Named, they fail where something
is missing; they never skip.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.clients.programs import Place
from tests.e2e.box import Home, start_box

HERE = Path(__file__).resolve().parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    named = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path == HERE or HERE in path.parents for path in named) else True


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("box"))


@pytest.fixture(scope="session")
def model(home: Home) -> str:
    return home.import_model()


@pytest.fixture(scope="session")
def place(home: Home, model: str) -> Iterator[Place]:
    """The box over plain HTTP."""
    key = home.create_key("clients")
    running = start_box(home, "--seats", "4", "--context", "2048", key=key)
    yield Place(running.url, key, model)
    assert running.stop() == 0


@pytest.fixture(scope="session")
def secure_place(place: Place, home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A second one with HTTPS and the box's own authority."""
    running = start_box(home, "--tls", "local", "--seats", "2", "--context", "2048", key=place.key, wait=False)
    authority = tmp_path_factory.mktemp("office") / "authority.crt"
    home.run("tls", "export", str(authority))
    context = ssl.create_default_context(cafile=str(authority))
    running.wait_until(lambda: httpx.get(f"{running.url}/readyz", verify=context, timeout=5).status_code == 200)
    yield Place(running.url, place.key, place.model, authority)
    assert running.stop() == 0
