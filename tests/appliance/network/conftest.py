from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.network import FakeNetwork


@pytest.fixture(params=["networkd", "networkmanager"])
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> FakeNetwork:
    """A machine under each of the two services."""
    return FakeNetwork(tmp_path / "machine", request.param)


@pytest.fixture
def networkd(tmp_path: Path) -> FakeNetwork:
    return FakeNetwork(tmp_path / "machine")
