"""Declared routes: flat when they serve, with all that the levels above them say."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response
from starlette.routing import BaseRoute

from appliance.api.routes import Routes
from appliance.security.identity import Caller
from appliance.security.keys import Grant
from tests.appliance.api.box import MODEL, Box


class Told(BaseModel):
    word: str


def note(word: str) -> Any:
    async def add(request: Request) -> None:
        request.scope.setdefault("said", []).append(word)

    return Depends(add)


def declared() -> Routes:
    inner = Routes(prefix="/inner", tags=["b"], dependencies=(note("inner"),))
    outer = Routes(prefix="/outer", tags=["a"], dependencies=(note("outer"),))
    outer.include_router(inner, prefix="/between")

    @inner.get("/{name}", response_model=Told, responses={404: {"model": Told}}, operation_id="tell")
    async def tell(request: Request, name: str, more: int = 0) -> Response:
        return Response(f"{name} {more} {request.scope['said']}")

    @outer.head("/x", include_in_schema=False)
    @outer.post("/x", status_code=201)
    async def say() -> Response:
        return Response("x", status_code=201)

    return outer


def of(routes: list[BaseRoute]) -> list[APIRoute]:
    return [route for route in routes if isinstance(route, APIRoute)]


async def test_a_route_has_the_prefixes_and_dependencies_of_all_levels() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    declared().mount(app)
    assert [(route.path, sorted(route.methods)) for route in of(app.routes)] == [
        ("/outer/between/inner/{name}", ["GET"]),
        ("/outer/x", ["POST"]),
        ("/outer/x", ["HEAD"]),
    ]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://box") as client:
        assert (await client.get("/outer/between/inner/li?more=3")).text == "li 3 ['outer', 'inner']"
        assert (await client.get("/outer/between/inner/li?more=x")).status_code == 422
        assert (await client.post("/outer/x")).status_code == 201
        assert (await client.get("/outer/x")).status_code == 405
        assert (await client.get("/inner/li")).status_code == 404


def test_what_only_the_description_needs_is_in_the_description_alone() -> None:
    routes = declared()
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    routes.mount(app)
    serving, described = of(app.routes)[0], next(iter(routes.declared())).described()
    assert (serving.response_field, serving.response_fields) == (None, {})
    assert described.response_model is Told
    assert set(described.response_fields) == {404}
    assert (described.tags, described.operation_id) == (["a", "b"], "tell")
    assert [one.include_in_schema for one in routes.declared()] == [True, True, False]


async def test_a_program_that_asks_again_is_not_looked_up_again(stranger: httpx.AsyncClient, box: Box) -> None:
    asked: list[str] = []
    look_up = box.accounts.caller_by_key

    def counted(key: str, address: str | None) -> Caller | None:
        asked.append(key)
        return look_up(key, address)

    box.accounts.caller_by_key = counted  # type: ignore[method-assign]
    key = (await asyncio.to_thread(box.keys.create, "program", Grant())).secret
    headers = {"Authorization": f"Bearer {key}"}
    body = {"model": MODEL, "messages": [{"role": "user", "content": "2 + 2?"}]}
    for _ in range(5):
        assert (await stranger.post("/v1/chat/completions", json=body, headers=headers)).status_code == 200
    # The second look-up is there because the first one noted the key's first use.
    assert asked == [key, key]
    await asyncio.to_thread(box.keys.revoke, "program")
    assert (await stranger.post("/v1/chat/completions", json=body, headers=headers)).status_code == 401
    for _ in range(3):
        refused = await stranger.get("/v1/models", headers={"Authorization": "Bearer " + key[:-1] + "x"})
        assert refused.status_code == 401
    assert len(asked) == 6, "who is not let in is looked up each time"
