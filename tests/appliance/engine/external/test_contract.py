"""The contract of every engine, in front of servers that speak vLLM's and MindIE's protocols."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.engine.base import EngineInfo, Feature
from appliance.engine.external.engine import ExternalEngine
from tests.appliance.engine.contract import EngineContract, Prompts
from tests.appliance.engine.external.fake_servers import engine_of, fake_mindie, fake_vllm
from tests.fakes.engine_server import ANSWER, ENDLESS


@pytest.fixture
def prompts() -> Prompts:
    return Prompts(short="Where is Paris?", answer=ANSWER, endless=ENDLESS, structured="Is it ok?")


class TestVllm(EngineContract):
    @pytest.fixture
    async def engine(self, tmp_path: Path) -> AsyncIterator[ExternalEngine]:
        engine = engine_of(fake_vllm(tmp_path))
        yield engine
        await engine.stop(5)

    @pytest.fixture(autouse=True)
    async def started(self, engine: ExternalEngine) -> EngineInfo:
        return await engine.start(60)


class TestMindie(EngineContract):
    @pytest.fixture
    async def engine(self, tmp_path: Path) -> AsyncIterator[ExternalEngine]:
        engine = engine_of(fake_mindie(tmp_path))
        yield engine
        await engine.stop(5)

    @pytest.fixture(autouse=True)
    async def started(self, engine: ExternalEngine) -> EngineInfo:
        return await engine.start(60)

    async def test_log_probabilities_are_of_each_token_and_only_when_asked_for(
        self, engine: object, started: EngineInfo, prompts: Prompts
    ) -> None:
        assert Feature.LOGPROBS not in started.features

    async def test_a_structured_answer_has_its_form(
        self, engine: object, started: EngineInfo, prompts: Prompts
    ) -> None:
        assert Feature.STRUCTURE not in started.features
