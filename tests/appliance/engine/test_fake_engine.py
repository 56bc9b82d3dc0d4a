"""The fake engine keeps the contract, so what is tested with it is tested against an engine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from appliance.engine.base import EngineInfo
from tests.appliance.engine.contract import EngineContract, Prompts
from tests.fakes.engine import FAKE_INFO, FakeEngine


def reply(prompt: str) -> Sequence[str]:
    if "structured" in prompt:
        return ['{"ok"', ": true}"]
    return list(itertools.repeat("loop ", 5000)) if "endless" in prompt else ["Hello", ", ", "world"]


@pytest.fixture
async def engine() -> FakeEngine:
    return FakeEngine(reply)


@pytest.fixture
async def started(engine: FakeEngine) -> EngineInfo:
    assert await engine.start(5) == FAKE_INFO
    return FAKE_INFO


@pytest.fixture
def prompts() -> Prompts:
    return Prompts("short", "Hello, world", "endless", "structured")


class TestFakeEngine(EngineContract):
    """See EngineContract."""
