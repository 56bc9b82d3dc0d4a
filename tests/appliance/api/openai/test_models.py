from __future__ import annotations

import httpx
import openai as openai_package
import pytest
from openai import AsyncOpenAI

from appliance.engine.base import EngineState, EngineStatus
from tests.appliance.api.box import MODEL, Box


async def test_models_through_the_official_client(openai: AsyncOpenAI) -> None:
    page = await openai.models.list()
    [model] = page.data
    assert (model.id, model.created, model.object, model.owned_by) == (MODEL, 1_700_000_000, "model", "r1box")
    assert (await openai.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(openai_package.NotFoundError, match="'none' is not served"):
        await openai.models.retrieve("none")


async def test_context_window_is_that_of_the_loaded_engine(client: httpx.AsyncClient, box: Box) -> None:
    assert (await client.get(f"/v1/models/{MODEL}")).json()["context_window"] == 512
    box.manager.told = EngineStatus(state=EngineState.STARTING, model_id=MODEL)
    assert (await client.get("/v1/models")).json()["data"][0]["context_window"] is None
