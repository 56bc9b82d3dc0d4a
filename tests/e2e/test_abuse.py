"""Strangers, broken programs and greedy ones against the real daemon: refused, logged, and chats go on meanwhile."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.box import Box, Home, loops, start_box

PASSWORD = "three blind mice 7"
HELLO = [{"role": "user", "content": "What is the capital of France?"}]
WAIT_S = 60


class Target:
    """The box, and what a test does to it."""

    def __init__(self, home: Home, box: Box, model: str, keys: dict[str, str]) -> None:
        self.home = home
        self.box = box
        self.model = model
        self.keys = keys
        host, _, port = box.url.removeprefix("http://").partition(":")
        self.address = (host, int(port))

    def head(self, path: str, *more: str, key: str | None = "probe", method: str = "POST", host: str = "box") -> bytes:
        who = [] if key is None else [f"Authorization: Bearer {self.keys[key]}"]
        return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *who, *more, "", ""]).encode()

    def chat(self, key: str, *, stream: bool = False, **fields: Any) -> bytes:
        """A whole chat request as bytes."""
        body = json.dumps({"model": self.model, "messages": HELLO, "stream": stream, **fields}).encode()
        return self.head("/v1/chat/completions", f"Content-Length: {len(body)}", key=key) + body

    def probe(self) -> None:
        """A chat is answered, with a new connection, within what people put up with."""
        began_s = time.monotonic()
        reply = self.box.post({"model": self.model, "messages": HELLO, "temperature": 0}, key=self.keys["probe"])
        assert reply.status_code == 200, reply.text
        assert reply.json()["choices"][0]["message"]["content"] == "The capital of France is Paris."
        assert time.monotonic() - began_s < WAIT_S

    def say(self, *pieces: bytes) -> bytes:
        """All that comes back until the box closes the connection."""
        with socket.create_connection(self.address, timeout=WAIT_S) as connection:
            try:
                for piece in pieces:
                    connection.sendall(piece)
            except ConnectionError:
                pass  # refused before all was sent
            said = b""
            try:
                while data := connection.recv(65_536):
                    said += data
            except ConnectionError:
                pass
            return said

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.box.url}{path}", headers=headers, timeout=WAIT_S)

    def logged(self, pattern: str) -> str:
        """A line of the log that matches; waits for it."""
        found: str = self.box.wait_until(
            lambda: next((line for line in list(self.box.errors) if re.search(pattern, line)), None)
        )
        return found

    def files(self) -> int:
        return psutil.Process(self.box.process.pid).num_fds()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    home = Home(tmp_path_factory.mktemp("abuse"))
    model = home.import_model()
    keys = {name: home.create_key(name) for name in ("probe", "flood")}
    home.environment["R1BOX_MAX_WAITING"] = "2000"
    box = start_box(home, "--seats", "4", "--context", "1024", key=keys["probe"])
    yield Target(home, box, model, keys)
    assert box.stop() == 0
    assert not [line for line in box.errors if "Traceback" in line]


@pytest.fixture(autouse=True)
def _service_unharmed(target: Target) -> Iterator[None]:
    """A chat is answered after each attack, by the same process, and nothing is left of the attack."""
    files = target.files()
    yield
    target.probe()
    target.box.wait_until(lambda: target.files() <= files + 8)


async def test_slow_clients_are_shown_the_door_and_nobody_notices(target: Target) -> None:
    """Slowloris, in the headers and in the body, some that trickle; with a key and without. 15 s and 20 s are the
    bounds: what takes the time here is the box's patience."""
    upload = target.head("/v1/chat/completions", "Content-Length: 100000") + b'{"model": '
    pieces = [b"GET / HTTP/1.1\r\nHost: box\r\n", b"", upload]
    opened = [await asyncio.open_connection(*target.address) for _ in range(450)]
    for number, (_, writer) in enumerate(opened):
        writer.write(pieces[number % 3])

    async def trickle() -> None:
        while True:
            for number, (reader, writer) in enumerate(opened[:60]):
                if number % 3 != 1 and not reader.at_eof() and not writer.is_closing():
                    writer.write(b"X: y\r\n" if number % 3 == 0 else b" ")
            await asyncio.sleep(0.5)  # the attackers' pace

    trickling = asyncio.create_task(trickle())
    await asyncio.to_thread(target.probe)
    async with asyncio.timeout(WAIT_S):
        said = await asyncio.gather(*(reader.read() for reader, _ in opened), return_exceptions=True)
    trickling.cancel()
    for _, writer in opened:
        writer.close()
    for kind, expected in enumerate((b"408", b"", b"408")):
        answers = [one for one in said[kind::3] if isinstance(one, bytes)]
        assert len(answers) > 100
        assert all((one.split(b" ", 2)[1] if one else b"") == expected for one in answers)
    assert "times" in target.logged("connection_refused.*request_timeout|request_timeout.*connection_refused")


async def test_a_thousand_idle_streams_of_one_key(target: Target) -> None:
    """They take the seats, most of the queue, and their connections, and read nothing. Another key is served in its
    turn; when they leave nothing is left of them."""
    endless = loops()[0]
    stream = target.chat("flood", stream=True, messages=endless, max_tokens=300)
    opened = []
    for start in range(0, 1000, 100):
        opened += await asyncio.gather(*(asyncio.open_connection(*target.address) for _ in range(100)))
        for _, writer in opened[start:]:
            writer.write(stream)
    async with asyncio.timeout(WAIT_S):
        firsts = await asyncio.gather(*(reader.readuntil(b"\r\n") for reader, _ in opened))
    assert {first.split()[1] for first in firsts} == {b"200"}
    await asyncio.to_thread(target.probe)
    assert (await asyncio.to_thread(target.get, "/readyz")).status_code == 200
    for _, writer in opened:
        writer.close()
    await asyncio.to_thread(target.probe)


def test_a_queue_that_is_full_says_why_and_when(target: Target) -> None:
    """The flood alone may not fill it: its own next request is refused, another key's is queued."""
    home = target.home
    home.environment["R1BOX_MAX_WAITING"] = "8"
    box = start_box(home, "--seats", "1", "--context", "1024", key=target.keys["probe"])
    small = Target(home, box, target.model, target.keys)
    try:
        connections = []
        for _ in range(7):
            connection = socket.create_connection(small.address, timeout=WAIT_S)
            connection.sendall(small.chat("flood", stream=True, messages=loops()[0], max_tokens=900))
            assert connection.recv(12) == b"HTTP/1.1 200"
            connections.append(connection)
        refused = small.say(small.chat("flood").replace(b"Host: box", b"Host: box\r\nConnection: close"))
        head, _, body = refused.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429")
        assert re.search(rb"(?i)retry-after: \d+", head)
        error = json.loads(body)["error"]
        assert error["code"] == "queue_full"
        assert "6 of the 6 requests that wait are this key's or person's" in error["message"]
        small.probe()
        for connection in connections:
            connection.close()
    finally:
        assert box.stop() == 0
        home.environment["R1BOX_MAX_WAITING"] = "2000"


def test_huge_bodies_stop_where_they_are_too_large(target: Target) -> None:
    declared = target.say(target.head("/v1/chat/completions", f"Content-Length: {64 << 30}") + b"{")
    assert declared.startswith(b"HTTP/1.1 413")
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    streamed = target.say(target.head("/v1/chat/completions", "Transfer-Encoding: chunked"), *[piece] * 40)
    assert streamed.startswith(b"HTTP/1.1 413")
    stranger = target.say(target.head("/v1/chat/completions", "Transfer-Encoding: chunked", key=None), *[piece] * 40)
    assert stranger.startswith(b"HTTP/1.1 401")
    before = psutil.Process(target.box.process.pid).memory_info().rss
    assert before < 2 << 30


DEEP = 200_000


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * DEEP, id="deep list"),
        pytest.param(b'{"a":' * DEEP, id="deep object"),
        pytest.param(b'{"model": "m", "messages": ' + b"[" * 500 + b"]" * 500 + b"}", id="deep messages"),
        pytest.param(b'{"metadata": ' + b'{"a":' * 150 + b"1" + b"}" * 150 + b"}", id="deep metadata"),
        pytest.param(b'{"model": "\xff\xfe"}', id="bad UTF-8"),
        pytest.param(b'{"model": "\xed\xa0\x80"}', id="surrogate in UTF-8"),
        pytest.param(b"\x00" * 1000, id="zeros"),
        pytest.param(b'{"model": 1e999999999}', id="huge exponent"),
        pytest.param(b'{"max_tokens": ' + b"9" * 100_000 + b"}", id="huge number"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"model": "m", "model": "n"}' * 1000, id="several documents"),
        pytest.param(b'{"' + b'a": 1, "' * 150_000 + b'b": 1}', id="150,000 keys"),
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"),
        *("/api/chat", "/api/generate", "/api/auth/login"),
    ],
)
def test_json_that_hurts(target: Target, path: str, body: bytes) -> None:
    reply = target.box.post(body, path=path)
    assert 400 <= reply.status_code < 500
    assert reply.json()["error"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('"\\u0000\\u0000"', id="NUL"),
        pytest.param('"\\ud800"', id="half a pair"),
        pytest.param('"\\udc00\\ud800"', id="a pair the wrong way"),
        pytest.param('"\\uffff\\ufdd0"', id="noncharacters"),
        pytest.param('"\\u202e\\u2066 right to left"', id="directions"),
        pytest.param('"' + "e\\u0301" * 200 + "\\u0489" * 200 + '"', id="marks"),
        pytest.param('"\\u001b[2J\\u0007"', id="terminal"),
    ],
)
def test_odd_characters_are_text_or_refused(target: Target, text: str) -> None:
    """In what the model reads, and in names that end up in logs and lists."""
    chat = '{"model": "%s", "max_tokens": 4, "messages": [{"role": "user", "content": %s}]}'
    reply = target.box.post((chat % (target.model, text)).encode())
    assert reply.status_code in (200, 400), reply.text
    named = target.box.post((chat % ("x", text)).replace('"x"', text).encode())
    assert named.status_code in (400, 404), named.text
    key = target.box.post(f'{{"name": {text}}}'.encode(), path="/api/admin/keys")
    assert key.status_code in (201, 400), key.text
    user = target.box.post(f'{{"name": {text}, "role": "user"}}'.encode(), path="/api/admin/users")
    assert user.status_code in (201, 400), user.text
    assert not any("\x1b[2J" in line or "\x00" in line for line in target.box.errors)


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/assets/../../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2f..%2fetc%2fpasswd",
        "/assets/%252e%252e/r1box.db",
        "/assets/..\\..\\r1box.db",
        "//etc/passwd",
        "/%00/etc/passwd",
        "/r1box.db",
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1/models/%00",
        "/api/admin/models/..%2f..%2f..",
        "/v1/%ff%fe",
        "/v1/" + "a/" * 4000,
    ],
)
def test_paths_lead_nowhere_else(target: Target, path: str) -> None:
    said = target.say(target.head(path, "Connection: close", method="GET"))
    assert re.match(rb"HTTP/1.1 (400|404|405|414) ", said), said[:200]
    assert b"root:" not in said
    assert b"SQLite" not in said


def test_a_key_in_an_address_is_refused_and_never_logged(target: Target) -> None:
    key = target.keys["probe"]
    for path in (
        f"/v1/models?api_key={key}",
        f"/v1/models?x={key}",
        f"/v1/models?x=r1b%5F{key[4:]}",
        f"/v1/models/{key}",
        f"/{key.replace('_', '%5F', 1)}",
        "/v1/models?access_token=anything",
        "/v1/models?ACCESS_TOKEN=anything",
    ):
        reply = target.get(path, Authorization=f"Bearer {key}")
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "key_in_url"), path
        assert key[4:] not in reply.text
    target.logged("key_in_url|/v1/models")
    assert not any(key[4:] in line for line in target.box.errors)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://box.evil.example", "file://", "http://[::1"]
)
def test_pages_of_other_servers_are_refused(target: Target, origin: str) -> None:
    key = target.keys["probe"]
    for method in ("GET", "POST", "OPTIONS"):
        reply = httpx.request(
            method,
            f"{target.box.url}/v1/models",
            headers={"Origin": origin, "Authorization": f"Bearer {key}"},
            timeout=WAIT_S,
        )
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "foreign_origin")
        assert not [name for name in reply.headers if name.startswith("access-control-")]


def test_a_forged_request_with_the_cookie_changes_nothing(target: Target) -> None:
    target.home.run("users", "create", "li.wei", "--role", "admin", "--password-stdin", input_text=PASSWORD + "\n")
    with httpx.Client(base_url=target.box.url, timeout=WAIT_S) as browser:
        login = browser.post("/api/auth/login", json={"name": "li.wei", "password": PASSWORD})
        assert login.status_code == 200, login.text
        assert "httponly" in login.headers["set-cookie"].lower()
        assert "samesite=strict" in login.headers["set-cookie"].lower()
        for headers in ({}, {"X-R1Box-CSRF": "0" * 64}, {"X-R1Box-CSRF": ""}, {"Content-Type": "text/plain"}):
            forged = browser.post("/api/admin/keys", content=b'{"name": "mine"}', headers=headers)
            assert (forged.status_code, forged.json()["error"]["code"]) == (403, "csrf_rejected")
        foreign = browser.post(
            "/api/admin/keys",
            json={"name": "mine"},
            headers={"Origin": "https://evil.example", "X-R1Box-CSRF": login.json()["csrf_token"]},
        )
        assert foreign.json()["error"]["code"] == "foreign_origin"
        # With "simple" content types of forms, and methods in disguise.
        for disguise in ("X-HTTP-Method-Override", "X-Method-Override"):
            reply = browser.get("/api/admin/keys", headers={disguise: "DELETE"})
            assert reply.status_code == 200
    assert "mine" not in target.home.run("keys", "list").stdout


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "box.evil.example", "1.2.3.4.evil.example", "", "a b"]
)
def test_a_name_that_could_be_anybodys_opens_no_door(target: Target, host: str) -> None:
    """DNS rebinding: the attacker's page and the box have one name, so there is no foreign origin."""
    body = b'{"name": "li.wei", "password": "guess number 1"}'
    for path, method in (("/api/auth/login", "POST"), ("/api/auth/setup", "POST"), ("/api/page", "GET"), ("/", "GET")):
        length = f"Content-Length: {len(body) if method == 'POST' else 0}"
        origin = f"Origin: http://{host}"
        lines = (length, origin, "X-Api-Key: anything", "Connection: close")
        said = target.say(
            target.head(path, *lines, key=None, method=method, host=host) + (body if method == "POST" else b"")
        )
        assert re.match(rb"HTTP/1.1 (421|400|403) ", said), (path, said[:300])
        assert b"set-cookie" not in said.lower()
    own = target.say(target.head("/api/page", "Connection: close", key=None, method="GET", host="127.0.0.1:8080"))
    assert own.startswith(b"HTTP/1.1 200")
    program = target.say(target.head("/v1/models", "Connection: close", method="GET", host="ai.hospital.example"))
    assert program.startswith(b"HTTP/1.1 200")


def test_guessing_is_slowed_down_and_counted(target: Target) -> None:
    target.home.run("users", "create", "chen", "--role", "user", "--password-stdin", input_text=PASSWORD + "\n")
    with httpx.Client(base_url=target.box.url, timeout=WAIT_S) as client:
        codes = [
            client.post("/api/auth/login", json={"name": "chen", "password": f"guess number {n}"}).status_code
            for n in range(12)
        ]
        assert codes[:5] == [401] * 5
        assert codes[-1] == 429
        right = client.post("/api/auth/login", json={"name": "chen", "password": PASSWORD})
        assert right.status_code == 429
        assert int(right.headers["retry-after"]) >= 1
        # Keys: wrong ones cost little, are counted, and lock nobody out.
        for number in range(200):
            key = f"r1b_{number:043d}"
            assert client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 401
    assert "127.0.0.1" in target.logged("caller_refused")
    assert sum("caller_refused" in line for line in target.box.errors) < 10
    assert "session.login_failed" in target.home.run("audit", "list").stdout


def test_tls_spoken_to_a_plain_port_and_plain_to_nothing(target: Target) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(target.address, timeout=WAIT_S) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)


def test_connections_cut_at_every_place(target: Target) -> None:
    """A client may leave after any byte."""
    whole = target.chat("probe", stream=True, max_tokens=30)
    cuts = sorted({*range(0, len(whole), max(len(whole) // 60, 1)), len(whole)})
    for cut in cuts:
        with socket.create_connection(target.address, timeout=WAIT_S) as connection:
            connection.sendall(whole[:cut])
    target.box.wait_until(lambda: _running(target) == 0)


def _running(target: Target) -> float:
    text = target.get("/metrics", Authorization=f"Bearer {target.keys['probe']}").text
    values = [line.split()[-1] for line in text.splitlines() if re.match(r"r1box_\w*running\w*[{ ]", line)]
    assert values, text[:500]
    return sum(map(float, values))
