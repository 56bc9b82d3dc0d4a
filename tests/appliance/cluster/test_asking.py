"""Questions of other boxes: what the engines' own dialect says goes through, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from appliance.cluster.asking import Question, Questions
from appliance.engine.external.completions import VllmCompletions
from appliance.engine.external.connection import OWNER_HEADER, REQUEST_HEADER
from appliance.engine.external.dialect import Call
from appliance.engine.external.launch import Endpoint
from appliance.engine.request import Priority, SamplingParams, Structure, StructureKind
from appliance.errors import AppError
from appliance.serving.admission import Admission
from tests.appliance.cluster.parts import LOOPBACK, free_port

SCHEMA = '{"type":"object"}'
FORMS = (
    None,
    Structure(kind=StructureKind.JSON_OBJECT),
    Structure(kind=StructureKind.JSON_SCHEMA, text=SCHEMA),
    Structure(kind=StructureKind.REGEX, text="[a-z]+"),
    Structure(kind=StructureKind.GRAMMAR, text='start: "a"'),
)


def body(**more: Any) -> dict[str, Any]:
    sampling = SamplingParams(temperature=0)
    call = Call(request_id="x-1", model="r1", tokens=(1, 2, 3), max_tokens=5, sampling=sampling, seed=7, **more)
    return VllmCompletions().body(call)


@pytest.mark.parametrize("form", FORMS)
def test_what_a_box_says_is_understood_and_passed_on_as_it_was(form: Structure | None) -> None:
    said = body(structure=form, logprobs=2, priority=Priority.BATCH)
    raw = json.dumps(said).encode()
    question = msgspec.json.decode(raw, type=Question)
    passed = json.loads(msgspec.json.encode(question))
    missing = {name for name in said if passed.get(name) != json.loads(raw)[name]} - {"stream_options"}
    assert missing == set()


@pytest.mark.parametrize(
    "more",
    [
        {"logits_processors": ["os.system"]},
        {"prompt_embeds": "AAAA"},
        {"stream": False},
        {"prompt": "text"},
        {"prompt": [-1]},
        {"max_tokens": 0},
        {"structured_outputs": {"structural_tag": "x"}},
        {"n": 100},
        {"echo": True},
        {"priority": -5},
    ],
)
def test_nothing_else_is(more: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps({**body(), **more}).encode(), type=Question)


@dataclass
class Rig:
    """A server that answers slowly, and an application in front of it."""

    app: Starlette
    admission: Admission
    allowed: list[bool] = field(default_factory=lambda: [True])
    running: int = 0
    most: int = 0
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    breaks: bool = False


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    path = tmp_path / "engine.sock"
    admission = Admission(seats=2, max_waiting=2)
    questions = Questions(lambda model: admission)
    endpoint = Endpoint(url="http://engine", unix_socket=path, model="r1", dialect=VllmCompletions(), api_key="k")

    async def ask(request: Request) -> Response:
        try:
            return await questions.answer("box-2", request, endpoint, lambda: found.allowed[0])
        except AppError as error:
            return Response(error.message, status_code=error.http_status)

    found = Rig(Starlette(routes=[Route("/ask", ask, methods=["POST"])]), admission)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"authorization: Bearer k" in head.lower().replace(b"bearer", b"Bearer")
        found.running += 1
        found.most = max(found.most, found.running)
        try:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            writer.write(b"3\r\none\r\n")
            await writer.drain()
            left = asyncio.create_task(reader.read())
            on = asyncio.create_task(found.go_on.wait())
            await asyncio.wait({left, on}, return_when=asyncio.FIRST_COMPLETED)
            if on.done() and not left.done() and not found.breaks:
                writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
                await writer.drain()
            left.cancel()
            on.cancel()
        finally:
            found.running -= 1
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    yield found
    server.close()


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    """Over a real connection: what leaving means is the server's business."""
    import uvicorn

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(rig.app, host=LOOPBACK, port=port, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as found:
        yield found
    server.should_exit = True
    rig.go_on.set()
    await task


def named(name: str) -> dict[str, str]:
    return {REQUEST_HEADER: name, OWNER_HEADER: "key%3A1"}


async def test_bytes_come_as_they_are(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.go_on.set()
    answer = await client.post("/ask", json=body(), headers=named("a"))
    assert (answer.status_code, answer.text) == (200, "onetwo")
    assert rig.admission.stats().running == 0


async def test_questions_wait_for_seats_and_what_a_question_asks_further_does_not(
    rig: Rig, client: httpx.AsyncClient
) -> None:
    tasks = [asyncio.create_task(client.post("/ask", json=body(), headers=named(name))) for name in "abcd"]
    while rig.admission.stats().waiting < 2:
        await asyncio.sleep(0.01)
    full = await client.post("/ask", json=body(), headers=named("e"))
    assert full.status_code == 429
    while rig.running < 2:
        await asyncio.sleep(0.01)
    seated = next(name for name, ticket in zip("abcd", "1111", strict=True) if ticket)
    rig.go_on.set()
    assert [answer.text for answer in await asyncio.gather(*tasks)] == ["onetwo"] * 4
    assert rig.most == 2
    entered = rig.admission.stats().entered
    assert (await client.post("/ask", json=body(), headers=named(seated))).text == "onetwo"
    assert rig.admission.stats().entered == entered


async def test_who_leaves_frees_the_seat_and_ends_it_at_the_server(rig: Rig, client: httpx.AsyncClient) -> None:
    async with client.stream("POST", "/ask", json=body(), headers=named("a")) as answer:
        async for _ in answer.aiter_raw():
            break
        assert rig.running == 1
    async with asyncio.timeout(10):
        while rig.running or rig.admission.stats().running:
            await asyncio.sleep(0.01)


async def test_an_answer_that_breaks_off_does_not_look_whole(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.breaks = True
    rig.go_on.set()
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/ask", json=body(), headers=named("a"))
    assert rig.admission.stats().running == 0


async def test_a_box_that_is_taken_out_meanwhile_gets_no_more(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.allowed[0] = False
    rig.go_on.set()
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/ask", json=body(), headers=named("a"))


async def test_another_model_is_refused(rig: Rig, client: httpx.AsyncClient) -> None:
    answer = await client.post("/ask", json={**body(), "model": "other"})
    assert answer.status_code == 400
