from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from appliance.engine.base import EngineState, EngineStatus
from appliance.schemas.health import Readiness
from tests.appliance.api.box import MODEL, Box
from tests.fakes.engine import FAKE_INFO


async def test_alive_without_a_key_whatever_the_engine_does(stranger: httpx.AsyncClient, box: Box) -> None:
    box.manager.told = EngineStatus(state=EngineState.FAILED, error="broken")
    response = await stranger.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert (await stranger.head("/healthz")).status_code == 200


async def test_ready(stranger: httpx.AsyncClient) -> None:
    response = await stranger.get("/readyz")
    assert response.status_code == 200
    assert Readiness.model_validate_json(response.content, strict=True) == Readiness(
        ready=True, state="ready", model=MODEL, seats=FAKE_INFO.seats, context_tokens=FAKE_INFO.context_tokens
    )


@pytest.mark.parametrize("state", [state for state in EngineState if state is not EngineState.READY])
async def test_not_ready(stranger: httpx.AsyncClient, box: Box, state: EngineState) -> None:
    box.manager.told = EngineStatus(state=state, model_id=MODEL, load_fraction=0.25, restarts=2, error="why")
    response = await stranger.get("/readyz")
    assert response.status_code == 503
    told = response.json()
    assert (told["ready"], told["state"], told["model"]) == (False, state.value, MODEL)
    assert (told["load_fraction"], told["restarts"], told["error"]) == (0.25, 2, "why")


async def test_chat_while_loading(client: httpx.AsyncClient, box: Box) -> None:
    box.manager.told = EngineStatus(state=EngineState.STARTING, model_id=MODEL)
    message = {"role": "user", "content": "hello"}
    response = await client.post("/v1/chat/completions", json={"model": MODEL, "messages": [message], "stream": True})
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "model_not_ready"
    assert response.headers["retry-after"] == "5"


def test_folder_of_the_page_is_in_the_package() -> None:
    from appliance.api.pages import WEB_FOLDER, load_pages

    assert WEB_FOLDER.parent == Path(__file__).parents[3] / "appliance" / "api"
    assert "/" in {page.url_path for page in load_pages(WEB_FOLDER)}
