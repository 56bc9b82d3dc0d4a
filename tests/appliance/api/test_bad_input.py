"""What strangers and broken programs send: each gets an envelope with the right status, and the box goes on."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai as openai_package
import pytest
from openai import AsyncOpenAI
from starlette.types import Message

from appliance.schemas.errors import ErrorEnvelope
from tests.appliance.api.box import MAX_REQUEST_BYTES, MODEL, Box

CHAT = "/v1/chat/completions"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **fields}


def error_of(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-request-id"].startswith("req_")
    assert "Traceback" not in response.text
    ErrorEnvelope.model_validate_json(response.content, strict=True)
    error: dict[str, Any] = response.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    return error


@pytest.fixture(autouse=True)
async def _box_goes_on(client: httpx.AsyncClient, box: Box) -> AsyncIterator[None]:
    yield
    answer = await client.post(CHAT, json=body())
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "It is 4."
    assert box.admission.stats().running == 0


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer r1b_{'A' * 43}",
        "Basic dXNlcjpwYXNz",
        f"Bearer {'x' * 5000}",
        "Bearer r1b_\u00e9",
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/models/x", "/openapi.json"])
async def test_wrong_keys(stranger: httpx.AsyncClient, header: str | None, path: str) -> None:
    headers = [] if header is None else [(b"Authorization", header.encode("latin-1"))]
    response = await stranger.request("POST" if path == CHAT else "GET", path, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="r1box"'
    error = error_of(response)
    assert error["code"] == "invalid_api_key"
    assert "r1box keys create" in error["hint"]


async def test_unknown_model(client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, json=body(model="gpt-4o"))
    assert response.status_code == 404
    error = error_of(response)
    assert error["code"] == "model_not_found"
    assert "gpt-4o" in error["message"]
    assert MODEL in error["message"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
async def test_wrong_values(client: httpx.AsyncClient, fields: dict[str, Any], param: str, stream: bool) -> None:
    response = await client.post(CHAT, json=body(stream=stream, **fields))
    assert response.status_code == 400
    error = error_of(response)
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "invalid_value", param)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 50_000, json.dumps(body()).encode()[:-1]])
async def test_malformed_json(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post(CHAT, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert error_of(response)["code"] == "invalid_json"


@pytest.mark.parametrize("stream", [True, False])
async def test_prompt_of_ten_megabytes(client: httpx.AsyncClient, stream: bool) -> None:
    prompt = "word " * (2 * 1024 * 1024)
    response = await client.post(CHAT, json=body(stream=stream, messages=[{"role": "user", "content": prompt}]))
    assert response.status_code == 400
    error = error_of(response)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert "512" in error["message"]


async def test_prompt_just_too_long(client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, json=body(messages=[{"role": "user", "content": "word " * 600}]))
    assert response.status_code == 400
    error = error_of(response)
    assert error["code"] == "context_length_exceeded"
    assert "tokens" in error["message"]
    assert "512" in error["message"]


async def test_declared_length_over_the_limit(client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, content=b"x" * (MAX_REQUEST_BYTES + 1))
    assert response.status_code == 413
    error = error_of(response)
    assert error["code"] == "request_too_large"
    assert f"{MAX_REQUEST_BYTES:,}" in error["message"]


async def test_undeclared_length_over_the_limit(address: str, box: Box) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(13):
            yield b" " * 1024 * 1024

    async with await asyncio.to_thread(httpx.AsyncClient, headers=box.authorization) as client:
        response = await client.post(address + CHAT, content=pieces())
    assert response.status_code == 413
    assert error_of(response)["code"] == "request_too_large"


async def test_reading_stops_at_the_limit(box: Box) -> None:
    sent: list[Message] = []
    received = 0

    async def receive() -> Message:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b" " * 1024 * 1024, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": CHAT,
        "raw_path": CHAT.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"authorization", f"Bearer {box.key}".encode())],
    }
    await box.app(scope, receive, send)
    assert sent[0]["status"] == 413
    assert received == MAX_REQUEST_BYTES // 1024**2 + 1


async def test_strangers_bodies_are_not_read(box: Box) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("read before the key was checked")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": CHAT}
    await box.app({**scope, "query_string": b"", "root_path": "", "headers": []}, receive, send)
    assert sent[0]["status"] == 401


async def test_client_that_leaves_in_mid_upload(address: str, box: Box, log: io.StringIO) -> None:
    _, writer = await asyncio.open_connection(*address.removeprefix("http://").split(":"))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: box\r\nAuthorization: Bearer {box.key}\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode() + b"{")
    await writer.drain()
    writer.close()
    while '"status": 499' not in log.getvalue():
        await asyncio.sleep(0)
    assert "Traceback" not in log.getvalue()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/completions/", 404, "not_found"),
        ("GET", "/v1/models/", 404, "model_not_found"),
        ("GET", "/v1/models/a/b", 404, "model_not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/", 405, "method_not_allowed"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/js/../../r1box.db", 404, "not_found"),
        ("GET", "/js/%2e%2e/secret.key", 404, "not_found"),
        ("GET", "/secret.key", 404, "not_found"),
    ],
)
async def test_wrong_addresses(client: httpx.AsyncClient, method: str, path: str, status: int, code: str) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    assert error_of(response)["code"] == code
    assert ("allow" in response.headers) is (status == 405)


async def test_unexpected_exception(
    client: httpx.AsyncClient, box: Box, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(key: str) -> None:
        raise RuntimeError(f"secret detail about {key}")

    with monkeypatch.context() as patch:
        patch.setattr(box.keys, "verify", broken)
        response = await client.get("/v1/models")
    assert response.status_code == 500
    error = error_of(response)
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "secret" not in response.text
    [crash] = [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == "request_crashed"]
    assert "RuntimeError: secret detail about r1b_***" in crash["exception"]
    assert crash["request_id"] == response.headers["x-request-id"]


async def test_official_client_raises_its_own_types(openai: AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    create = openai.chat.completions.create
    with pytest.raises(openai_package.NotFoundError):
        await create(model="unknown", messages=messages)
    with pytest.raises(openai_package.BadRequestError) as caught:
        await create(model=MODEL, messages=messages, max_tokens=-1)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "max_tokens")
    with pytest.raises(openai_package.AuthenticationError):
        await openai.with_options(api_key="r1b_wrong").models.list()


async def test_prompts_and_keys_are_not_logged(client: httpx.AsyncClient, box: Box, log: io.StringIO) -> None:
    secret = "the patient in room nine"
    for fields in ({}, {"max_tokens": -1}, {"stream": True}, {"mood": secret}):
        await client.post(CHAT, json=body(**{"messages": [{"role": "user", "content": secret}], **fields}))
    await client.post(CHAT, content=b'{"messages": "' + secret.encode())
    await client.get(f"/v1/models?key={box.key}")
    await client.get(f"/{box.key}")
    assert secret not in log.getvalue()
    assert box.key not in log.getvalue()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["status"] for line in requests] == [200, 400, 200, 400, 400, 400, 400]
    assert [line["caller"] for line in requests] == ["tester"] * 5 + [None] * 2
    assert len({line["request_id"] for line in requests}) == len(requests)
