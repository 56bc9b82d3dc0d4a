"""Requests that schemathesis makes from the box's own OpenAPI document, fitting it and violating it, as everybody who
may ask: no crash, no hang, documented answers, and every refusal in the envelope.

R1BOX_FUZZ_EXAMPLES is how many of each kind every operation gets; with more than usual they are random.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode

from appliance.security.keys import Grant
from appliance.security.roles import EVERYTHING, Role
from tests.appliance.api.asgi import Reply, call
from tests.appliance.api.box import MODEL, Box
from tests.appliance.api.chats.page import ask, new_chat
from tests.appliance.api.people import log_in, make_user

USUAL_EXAMPLES = 6
EXAMPLES = int(os.environ.get("R1BOX_FUZZ_EXAMPLES", USUAL_EXAMPLES))
GROUPS = {
    "protocols": r"/v1/|/api/(chat|generate|embed|tags|show|ps|version)$",
    "page": r"/api/(chats|attachments|page)",
    "accounts": r"/api/auth/|/api/admin/(users|keys|sessions)",
    "operations": r"/api/admin/(?!users|keys|sessions)",
    "open": r"/(healthz|readyz|metrics)",
}
STATUSES = {200, 201, 202, 204, 400, 401, 403, 404, 405, 409, 413, 421, 422, 429, 503}
Who = tuple[str, dict[str, str]]


@dataclasses.dataclass
class Things:
    """What the box has, for requests that are to find something."""

    ids: dict[str, Any]
    callers: list[Who]


def operations(document: dict[str, Any], group: str) -> list[Any]:
    """Schemathesis' operations of one group."""
    schema = schemathesis.openapi.from_dict(document)
    found = [result.ok() for result in schema.get_all_operations()]
    return [operation for operation in found if re.match(GROUPS[group], operation.path)]


def cases(operation: Any, mode: GenerationMode) -> list[Any]:
    """Requests to one operation; none where nothing can be violated."""
    made: list[Any] = []
    try:
        strategy = operation.as_strategy(generation_mode=mode)
    except Exception:
        if mode is GenerationMode.POSITIVE:
            raise
        return []  # schemathesis has many for "there is nothing to violate"

    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=EXAMPLES <= USUAL_EXAMPLES,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def collect(case: Any) -> None:
        made.append(case)

    try:
        collect()
    except Exception:
        if mode is GenerationMode.POSITIVE:
            raise
    return made


async def things(box: Box, client: httpx.AsyncClient, people: dict[str, Role], operation: Any, number: int) -> Things:
    """A chat with an answer, a file, a response, a user, a key, as the operation needs them; and everybody who may ask,
    newly logged in, with a new key: requests before may have ended all of them."""
    grant = Grant(scopes=EVERYTHING)
    box.key = (await asyncio.to_thread(box.keys.create, f"tester {number}", grant)).secret
    client.headers.update(box.authorization)
    ids: dict[str, Any] = {"session_id": 1, "model_id": MODEL, "user_id": 1}
    if "chat" in operation.path:
        ids["chat_id"] = await new_chat(client)
        ids["answer_id"] = (await ask(client, ids["chat_id"], "Hi?"))["answer"]["id"]
    if "attachment" in operation.path:
        file = await client.post("/api/attachments", content=b"text", headers={"X-File-Name": "a.txt"})
        ids["attachment_id"] = file.json()["id"]
    if "response" in operation.path:
        response = await client.post("/v1/responses", json={"model": MODEL, "input": "Hi", "store": True})
        ids["response_id"] = response.json()["id"]
    if "key" in operation.path:
        ids["key_id"] = (await asyncio.to_thread(box.keys.create, f"victim {number}", grant)).record.id
    callers: list[Who] = [("key", box.authorization)]
    for name in people:
        async with log_in(box, name) as browser:
            token = browser.headers["X-R1Box-CSRF"]
            cookie = f"r1box_session={browser.cookies['r1box_session']}"
            callers.append((name, {"Cookie": cookie, "X-R1Box-CSRF": token, "Origin": "http://box"}))
    callers.append(("stranger", {}))
    return Things(ids, callers)


def request_of(case: Any, found: dict[str, Any] | None) -> requests.PreparedRequest | None:
    """The case as a request, to things that exist where ``found`` has them. None for one that HTTP cannot carry."""
    if found is not None:
        for name in case.path_parameters or {}:
            if name in found:
                case.path_parameters[name] = found[name]
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = MODEL
    # Downloads would go out to the hubs.
    if isinstance(case.body, dict) and case.body.get("kind") == "pull":
        return None
    for name in list(case.headers or {}):
        if name.lower() in ("authorization", "cookie", "x-api-key"):
            del case.headers[name]
    if case.cookies:
        case.cookies.clear()
    try:
        return requests.Request(**_known(case.as_transport_kwargs(base_url="http://box"))).prepare()
    except (ValueError, UnicodeError, requests.RequestException):
        return None


def _known(options: dict[str, Any]) -> dict[str, Any]:
    known = ("method", "url", "headers", "params", "data", "json", "files", "cookies")
    return {name: value for name, value in options.items() if name in known}


def problems(operation: Any, document: dict[str, Any], reply: Reply) -> Iterator[str]:
    """What is wrong with a reply."""
    if reply.status not in STATUSES:
        yield f"the status {reply.status}"
    if "x-request-id" not in reply.headers:
        yield "no request id"
    declared = document["paths"][operation.path][operation.method.lower()]["responses"]
    is_json = reply.headers.get("content-type", "").startswith("application/json")
    if reply.status < 400:
        if str(reply.status) not in declared:
            yield f"the status {reply.status}, which is not documented"
        schema = declared.get(str(reply.status), {}).get("content", {}).get("application/json", {}).get("schema")
        if is_json and schema:
            checker = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
            for error in checker.iter_errors(json.loads(reply.body)):
                yield f"another body than is documented: {error.json_path} {error.message[:200]}"
    elif operation.path not in ("/readyz",):
        if not is_json:
            yield f"an error of the type {reply.headers.get('content-type')}"
            return
        error = json.loads(reply.body).get("error")
        text = error if isinstance(error, str) else (error or {}).get("message")
        if not text:
            yield "an error without a message"
        if not isinstance(error, str) and error.get("code") == "internal_error":
            yield "a crash"
    if b"Traceback" in reply.body:
        yield "a traceback"


@pytest.fixture
def people(box: Box) -> dict[str, Role]:
    """Users of every role, and one to do things to."""
    make_user(box, "victim", Role.USER)
    roles = {role.value: role for role in Role}
    for name, role in roles.items():
        make_user(box, name, role)
    return roles


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.timeout(900)
async def test_nothing_crashes_hangs_or_surprises(
    box: Box, client: httpx.AsyncClient, people: dict[str, Role], log: io.StringIO, group: str
) -> None:
    document = (await client.get("/openapi.json")).json()
    wrong: list[str] = []
    statuses: Counter[int] = Counter()
    for count, operation in enumerate(await asyncio.to_thread(operations, document, group)):
        made = [case for mode in GenerationMode for case in await asyncio.to_thread(cases, operation, mode)]
        there = await things(box, client, people, operation, count)
        for number, case in enumerate(made):
            name, headers = there.callers[number % len(there.callers)]
            request = request_of(case, there.ids if number % 2 else None)
            if request is None:
                continue
            body = request.body or b""
            body = body.encode() if isinstance(body, str) else body
            sent = [(one, value) for one, value in request.headers.items() if _fits(one) and _fits(value)]
            reply = await call(
                box.app,
                operation.method.upper(),
                str(request.url),
                [("Host", "box"), *sent, *headers.items()],
                body,
                patient=False,
            )
            statuses[reply.status] += 1
            shown = f"{operation.label} as {name}: {request.url} {body[:300]!r} -> {reply.status} {reply.body[:300]!r}"
            wrong += [f"{problem}: {shown}" for problem in problems(operation, document, reply)]
    assert not wrong, "\n".join(wrong[:20])
    # A fuzzer that is always turned away at the door finds nothing.
    assert sum(times for status, times in statuses.items() if status < 300) > sum(statuses.values()) // 20, statuses
    crashes = [line for line in log.getvalue().splitlines() if "Traceback" in line or '"level": "error"' in line]
    assert not crashes, "\n".join(crashes[:5])
    answer = await client.post(
        "/v1/chat/completions", json={"model": MODEL, "messages": [{"role": "user", "content": "2+2?"}]}
    )
    assert answer.json()["choices"][0]["message"]["content"] == "It is 4."
    assert box.admission.stats().running == 0


def _fits(text: Any) -> bool:
    """Whether a header can carry it."""
    try:
        return isinstance(text, str) and not re.search(r"[\x00-\x1f\x7f]", text) and bool(text.encode("latin-1") or 1)
    except UnicodeEncodeError:
        return False
