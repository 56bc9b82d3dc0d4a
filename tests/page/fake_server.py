"""A box that is none: serves the chat page and speaks the API the page uses, with scripted answers.

In tests it runs in a thread and its fields are set directly; a `Hold` in a script makes the stream wait until the test
lets it go on, so that no test sleeps. For work on the page: `python tests/page/fake_server.py --port 8123 --pace 0.02`,
key `r1b_demo`; what the last message contains picks the answer (see SCRIPTS).
"""

from __future__ import annotations

import argparse
import json
import mimetypes
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WEB = Path(__file__).resolve().parents[2] / "appliance" / "api" / "web"
KEY = "r1b_demo"
MODEL = "R1-Distill-Qwen-7B"
CSP = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


@dataclass(frozen=True, slots=True)
class Think:
    """Reasoning text, streamed in pieces."""

    text: str


@dataclass(frozen=True, slots=True)
class Say:
    """Answer text, streamed in pieces."""

    text: str


@dataclass(frozen=True, slots=True)
class Comment:
    """A line of the stream that is no event, such as a place in the queue."""

    text: str


@dataclass(slots=True)
class Hold:
    """The stream waits here until the test calls `release`."""

    event: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        self.event.set()


@dataclass(frozen=True, slots=True)
class Fail:
    """An error inside the stream."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends without an ending."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The end, with its reason and the counted tokens."""

    reason: str = "stop"
    prompt_tokens: int = 118
    completion_tokens: int = 1514
    reasoning_tokens: int = 1204


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP error instead of a stream."""

    status: int
    code: str
    message: str
    hint: str | None = None
    retry_after_s: int | None = None


Step = Think | Say | Comment | Hold | Fail | Cut | Finish
Script = list[Step] | Refusal

MARKDOWN = """## Fever in adults

A temperature **above 38 °C** is a fever. It is a *sign*, not an illness; see `RR-210` in the ward handbook.

1. Measure twice, ten minutes apart
   - ear or rectal, not under the arm
   - note the time
2. Offer fluids
3. Call the doctor if one of these holds:

| Sign | Limit | What to do |
|:-----|------:|:----------:|
| Temperature | 39.5 °C | call |
| Pulse | 120 /min | call |
| Systolic pressure | 90 mmHg | **call at once** |

> The numbers are the house rule, not a diagnosis.

```python
def celsius(fahrenheit: float) -> float:
    return (fahrenheit - 32) * 5 / 9
```

The dose follows from \\( d = \\frac{m}{V} \\times 10^2 \\), so

$$ d = \\boxed{42\\ \\text{mg}} $$

More at <https://example.org/fever> or in [the handbook](https://example.org/handbook).
"""

CHINESE = """### 发热的处理

**注意：**体温超过 **38 °C** 即为发热。发热是*症状*，不是疾病。

1. 间隔十分钟测量两次
   - 耳温或肛温
   - 记录时间
2. 补充水分

| 指标 | 上限 | 处理 |
|:--|--:|:--|
| 体温 | 39.5 °C | 通知医生 |
| 脉搏 | 120 次/分 | **立即通知** |

因此剂量为 \\(\\boxed{42\\,\\text{mg}}\\)。
"""

HOSTILE = """<script>window.pwned = 1</script> <img src=x onerror="window.pwned = 2">

[click](javascript:window.pwned=3) [data](data:text/html,<script>window.pwned=4</script>) [good](https://example.org/)

![pic](https://evil.example/track.png) <a href="javascript:window.pwned=5">x</a> <svg onload="window.pwned=6">

`<b>code</b>` **<i>bold</i>**

```html" onmouseover="window.pwned=7
<script>window.pwned = 8</script>
```

| <img src=x onerror=window.pwned=9> | [a](vbscript:x) |
|---|---|
| [b]( javascript:alert(1)) | <iframe src=javascript:window.pwned=10> |
"""

THOUGHTS = (
    "The user asks about fever in adults. I should give the limit first, then what to do on the ward.\n\n"
    "The house rule names three limits: temperature, pulse and pressure. A table is the clearest form.\n\n"
    "Wait, the conversion must be right: (F - 32) * 5 / 9. For 104 that is 40. Yes.\n"
)

SCRIPTS: dict[str, Script] = {
    "fever": [Think(THOUGHTS), Say(MARKDOWN), Finish()],
    "发热": [Think("用户询问发热的处理。先给出界限，再列出步骤。\n表格最清楚。\n"), Say(CHINESE), Finish()],
    "hostile": [Say(HOSTILE), Finish(reasoning_tokens=0)],
    "queue": [Comment("queued position=3 wait_s=22"), Comment("queued position=1 wait_s=6"), Say("Now."), Finish()],
    "essay": [Say("\n\n".join(f"Paragraph {i} of a long answer, with **bold** words." for i in range(400))), Finish()],
    "crash": [Say("The first half of"), Fail("engine_died", "The model's process ended while it answered.")],
    "cut": [Say("The first half of"), Cut()],
    "busy": Refusal(503, "queue_full", "All 8 seats are taken and 32 requests wait.", retry_after_s=5),
    "rate": Refusal(429, "rate_limit_exceeded", "This key may send 10 requests a minute.", retry_after_s=20),
    "too long": Refusal(
        400,
        "context_length_exceeded",
        "The conversation has 18,204 tokens and 4,096 are reserved for the answer; a seat of this model holds 16,384.",
        hint="Shorten it by 5,916 tokens, or lower max_tokens.",
    ),
}
DEFAULT: Script = [Think("A short thought.\n"), Say("A short answer."), Finish("stop", 20, 12, 6)]


class FakeBox:
    """State of the fake, shared by its request threads. `requests` keeps every chat body that arrived."""

    def __init__(self, port: int = 0, pace_s: float = 0.0) -> None:
        self.state = "ready"
        self.load_fraction: float | None = None
        self.error: str | None = None
        self.models = [MODEL]
        self.keys = {KEY}
        self.pace_s = pace_s
        self.scripts = dict(SCRIPTS)
        self.requests: list[dict[str, Any]] = []
        self.disconnected = threading.Event()
        box = self

        class BoundHandler(Handler):
            fake = box

        self.server = ThreadingHTTPServer(("127.0.0.1", port), BoundHandler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def start(self) -> None:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        for script in self.scripts.values():
            for step in script if isinstance(script, list) else []:
                if isinstance(step, Hold):
                    step.release()
        self.server.shutdown()
        self.server.server_close()

    def script_for(self, body: dict[str, Any]) -> Script:
        if self.state != "ready":
            return Refusal(503, "model_loading", "The model is loading.", retry_after_s=2)
        text = str(body["messages"][-1]["content"])
        found = [script for word, script in self.scripts.items() if word in text]
        return found[0] if found else DEFAULT


class Handler(BaseHTTPRequestHandler):
    """Routes and streams; `fake` is bound by FakeBox."""

    fake: FakeBox
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        return

    def do_GET(self) -> None:
        if self.path == "/readyz":
            box = self.fake
            ready = box.state == "ready"
            body = {
                "ready": ready,
                "state": box.state,
                "model": MODEL,
                "load_fraction": box.load_fraction,
                "context_tokens": 16384 if ready else None,
                "error": box.error,
            }
            self._json(200 if ready else 503, body)
        elif self.path == "/v1/models":
            if self._authorised():
                data = [
                    {"id": name, "object": "model", "context_window": 16384 if self.fake.state == "ready" else None}
                    for name in self.fake.models
                ]
                self._json(200, {"object": "list", "data": data})
        else:
            self._static()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._authorised():
            return
        self.fake.requests.append(body)
        script = self.fake.script_for(body)
        if isinstance(script, Refusal):
            self._refuse(script)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for piece in self._pieces(script):
                self.wfile.write(piece.encode())
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.fake.disconnected.set()

    def _pieces(self, script: list[Step]) -> Iterator[str]:
        for step in script:
            match step:
                case Comment(text):
                    yield f": {text}\n\n"
                    time.sleep(self.fake.pace_s * 60)
                case Think(text) | Say(text):
                    name = "reasoning_content" if isinstance(step, Think) else "content"
                    for at in range(0, len(text), 5):
                        yield _chunk({"delta": {name: text[at : at + 5]}, "finish_reason": None})
                        time.sleep(self.fake.pace_s)
                case Hold(event):
                    while not event.wait(0.05):
                        yield ": keep-alive\n\n"  # notices a reader who left
                case Fail(code, message):
                    error = {"message": message, "type": "server_error", "param": None, "code": code}
                    yield f"data: {json.dumps({'error': error})}\n\n"
                case Finish():
                    yield _chunk({"delta": {}, "finish_reason": step.reason})
                    details = {"reasoning_tokens": step.reasoning_tokens}
                    usage = {"prompt_tokens": step.prompt_tokens, "completion_tokens": step.completion_tokens}
                    yield _data({"choices": [], "usage": {**usage, "completion_tokens_details": details}})
                    yield "data: [DONE]\n\n"
                case Cut():
                    return

    def _authorised(self) -> bool:
        if self.headers.get("Authorization", "").removeprefix("Bearer ") in self.fake.keys:
            return True
        self._refuse(Refusal(401, "invalid_api_key", "This key is not known."))
        return False

    def _refuse(self, refusal: Refusal) -> None:
        error = {"message": refusal.message, "type": "invalid_request_error", "param": None, "code": refusal.code}
        if refusal.hint is not None:
            error["hint"] = refusal.hint
        headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
        self._json(refusal.status, {"error": error}, headers)

    def _static(self) -> None:
        name = self.path.partition("?")[0].lstrip("/") or "index.html"
        path = (WEB / name).resolve()
        if not path.is_file() or not path.is_relative_to(WEB):
            self._send(HTTPStatus.NOT_FOUND, b"", "text/plain", {})
            return
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        kind = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        headers = {"Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
        self._send(200, path.read_bytes(), kind, headers)

    def _json(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", headers or {})

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _data(value: object) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _chunk(choice: dict[str, Any]) -> str:
    return _data({"object": "chat.completion.chunk", "model": MODEL, "choices": [{"index": 0, **choice}]})


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the chat page with scripted answers.")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--pace", type=float, default=0.02, help="seconds between pieces")
    parser.add_argument("--loading", type=float, default=0.0, help="seconds the model seems to load")
    arguments = parser.parse_args()
    box = FakeBox(arguments.port, arguments.pace)
    print(f"{box.url}#key={KEY}", flush=True)
    box.start()
    start = time.monotonic()
    while (loaded_s := time.monotonic() - start) < arguments.loading:
        box.state, box.load_fraction = "starting", loaded_s / arguments.loading
        time.sleep(0.2)
    box.state, box.load_fraction = "ready", None
    threading.Event().wait()


if __name__ == "__main__":
    main()
