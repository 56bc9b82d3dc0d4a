"""What clients ask of models before they chat, and what they ask for in vain."""

from __future__ import annotations

import base64
from datetime import datetime

import httpx
import pytest
from ollama import AsyncClient, ResponseError

from appliance.api.ollama.models import parameter_size
from tests.appliance.api.box import MODEL, Box
from tests.fakes.engine import FAKE_INFO

NAME = f"{MODEL}:latest"


async def test_the_list(ollama: AsyncClient, box: Box) -> None:
    [model] = (await ollama.list()).models
    assert (model.model, model.size, model.digest) == (NAME, 3_400_000, "ab" * 32)
    assert model.modified_at is not None
    assert model.modified_at.timestamp() == 1_700_000_000
    details = model.details
    assert details is not None
    assert (details.format, details.family, details.parameter_size, details.quantization_level) == (
        "gguf",
        "qwen2",
        "1.5M",
        "Q8_0",
    )


async def test_what_is_loaded(ollama: AsyncClient) -> None:
    [model] = (await ollama.ps()).models
    assert (model.model, model.name, model.context_length) == (NAME, NAME, FAKE_INFO.context_tokens)
    assert (model.size, model.size_vram) == (5_000_000, 5_000_000)
    assert model.expires_at is not None
    assert model.expires_at.year == 2200


@pytest.mark.parametrize("name", [NAME, MODEL])
async def test_what_a_model_is(ollama: AsyncClient, box: Box, name: str) -> None:
    facts = await ollama.show(name)
    assert facts.capabilities == ["completion", "tools", "thinking"]
    assert facts.template == box.models[MODEL].chat_template
    assert facts.modelinfo == {
        "general.architecture": "qwen2",
        "general.basename": "Tiny R1",
        "general.parameter_count": 1_500_000,
        "qwen2.context_length": FAKE_INFO.context_tokens,
    }
    assert (facts.parameters or "").split() == ["temperature", "0.6", "top_p", "0.95", "num_ctx", "512"]
    with pytest.raises(ResponseError) as caught:
        await ollama.show("other")
    assert caught.value.status_code == 404


async def test_a_model_that_is_not_loaded(client: httpx.AsyncClient, box: Box) -> None:
    box.models.clear()
    told = (await client.post("/api/show", json={"name": MODEL, "verbose": True})).json()
    assert (told["template"], told["capabilities"]) == ("", ["completion", "tools"])
    missing = await client.post("/api/show", json={})
    assert (missing.status_code, missing.json()["param"]) == (400, "model")


async def test_the_version_is_three_numbers(client: httpx.AsyncClient) -> None:
    told = (await client.get("/api/version")).json()
    assert tuple(int(part) for part in told["version"].split(".")) >= (0, 6, 4)
    assert told["r1box"] == "1.2.3"
    for path in ("/api/version", "/api/tags"):
        assert (await client.head(path)).status_code == 200


async def test_every_route_wants_a_key(stranger: httpx.AsyncClient) -> None:
    for method, path in (
        *(("GET", f"/api/{name}") for name in ("version", "tags", "ps")),
        *(("POST", f"/api/{name}") for name in ("show", "chat", "generate", "embed", "pull")),
    ):
        response = await stranger.request(method, path)
        assert (response.status_code, response.json()["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("credentials", "status"),
    [("anybody:KEY", 200), (":KEY", 200), ("KEY", 401), ("KEY:", 401), ("anybody:wrong", 401)],
)
async def test_the_key_may_be_a_password(stranger: httpx.AsyncClient, box: Box, credentials: str, status: int) -> None:
    encoded = base64.b64encode(credentials.replace("KEY", box.key).encode()).decode()
    for path in ("/api/tags", "/v1/models"):
        response = await stranger.get(path, headers={"Authorization": f"Basic {encoded}"})
        assert response.status_code == status
    for broken in ("Basic ?", "Basic", "Basic /w==", "Digest x"):
        assert (await stranger.get("/api/tags", headers={"Authorization": broken})).status_code == 401


@pytest.mark.parametrize("name", ["embed", "embeddings"])
async def test_embeddings_are_refused(client: httpx.AsyncClient, name: str) -> None:
    response = await client.post(f"/api/{name}", json={"model": MODEL, "input": "x"})
    assert (response.status_code, response.json()["code"]) == (400, "embeddings_not_offered")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", f"/api/{name}") for name in ("pull", "push", "create", "copy", "blobs/sha256:00")),
        ("DELETE", "/api/delete"),
    ],
)
async def test_models_are_not_changed_by_clients(client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, path, json={"model": MODEL})
    assert (response.status_code, response.json()["code"]) == (403, "not_by_this_api")
    assert isinstance(response.json()["error"], str)


async def test_a_sign_of_life_without_a_page(stranger: httpx.AsyncClient) -> None:
    for accept in ("*/*", "application/json"):
        response = await stranger.get("/", headers={"Accept": accept})
        assert (response.status_code, response.text) == (200, "Ollama is running")
        assert "Accept" in response.headers["vary"]
    assert (await stranger.head("/")).status_code == 200
    page = await stranger.get("/", headers={"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"})
    assert page.text.startswith("<!doctype html>")
    assert page.headers["vary"] == "Accept, Accept-Encoding"


async def test_other_protocols_take_the_tag_too(client: httpx.AsyncClient, box: Box) -> None:
    question = [{"role": "user", "content": "Hi"}]
    assert (await client.get(f"/v1/models/{NAME}")).json()["id"] == MODEL
    for path, fields in (
        ("/v1/chat/completions", {"messages": question}),
        ("/v1/completions", {"prompt": "Hi"}),
        ("/v1/responses", {"input": "Hi"}),
        ("/v1/messages", {"messages": question, "max_tokens": 50}),
    ):
        response = await client.post(path, json={"model": NAME, **fields})
        assert response.status_code == 200, response.text
        assert len(box.engine.requests) > 0


async def test_the_time_is_one_that_clients_read(client: httpx.AsyncClient) -> None:
    [model] = (await client.get("/api/tags")).json()["models"]
    assert datetime.fromisoformat(model["modified_at"]).tzinfo is not None


def test_sizes_are_short() -> None:
    sizes = {7_615_616_512: "7.6B", 671_026_419_200: "671B", 134_515_008: "135M", 8_000_000_000: "8B", 900: "900"}
    assert {number: parameter_size(number) for number in sizes} == sizes
