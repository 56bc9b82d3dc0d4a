"""A box that is none: serves the chat page and speaks the API the page uses, with scripted answers.

In tests it runs in threads and its box's fields are set directly; a `Hold` in a script makes the answer wait until the
test lets it go on, so that no test sleeps. For work on the page: `python -m tests.web.fake_server --pace 0.02`,
key `r1b_demo`, user `ward` with password `correct horse`; a word in the question picks the answer (see SCRIPTS).
"""

from __future__ import annotations

import argparse
import json
import re
import threading
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from appliance.api.pages import WEB_FOLDER, Page, load_pages

from .fake_admin import LEVELS, FakeAdmin
from .fake_box import KEY, MODEL, SETUP_TOKEN, FakeBox, Json
from .scripts import Hold, Refusal

UNKNOWN = Refusal(404, "not_found", "There is nothing at this address.")


class FakeServer:
    """The fake box at an address of its own."""

    def __init__(self, box: FakeBox | None = None, port: int = 0) -> None:
        self.box = box or FakeBox()
        self.admin = FakeAdmin()
        self.disconnected = threading.Event()
        server = self

        class BoundHandler(Handler):
            fake = server.box
            left = server.disconnected
            admin = server.admin

        self._http = ThreadingHTTPServer(("127.0.0.1", port), BoundHandler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/"

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        for script in self.box.scripts.values():
            for step in script if isinstance(script, list) else []:
                if isinstance(step, Hold):
                    step.release()
        for writing in self.box.writings.values():
            writing.stopped.set()
            writing.cut()
        self._http.shutdown()
        self._http.server_close()


class Handler(BaseHTTPRequestHandler):
    """Routes and streams; `fake`, `left` and `admin` are bound by FakeServer."""

    fake: FakeBox
    left: threading.Event
    admin: FakeAdmin
    protocol_version = "HTTP/1.1"
    pages: ClassVar[dict[str, Page]] = {page.url_path: page for page in load_pages(WEB_FOLDER)}

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        return

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.raw = self.rfile.read(length)
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        path = parts.path
        page = self.pages.get(path)
        if page is not None and method == "GET":
            self._send(200, page.content, page.media_type, dict(page.headers()))
        elif path == "/readyz":
            self._readiness()
        elif path == "/api/page":
            self._page()
        elif path in {"/api/auth/login", "/api/auth/setup"}:
            self._come_in(path)
        elif (caller := self._caller()) is None:
            if self.headers.get("Authorization"):
                self._refuse(Refusal(401, "invalid_api_key", "The API key is not valid."))
            else:
                self._refuse(Refusal(401, "not_logged_in", "You are not logged in."))
        elif method != "GET" and not self.headers.get("Authorization") and self.headers.get("X-R1Box-CSRF") != "csrf":
            self._refuse(Refusal(403, "csrf_rejected", "The request came without the header X-R1Box-CSRF."))
        else:
            self._route(method, path, caller)

    # ---- who asks

    def _caller(self) -> str | None:
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if key:
            return f"key {self.fake.keys[key]}" if key in self.fake.keys else None
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("r1box_session")
        return None if cookie is None else self.fake.sessions.get(cookie.value)

    def _me(self, caller: str) -> Json:
        if caller.startswith("key "):
            name = caller.removeprefix("key ")
            return {"kind": "key", "name": name, "permissions": ["inference"], "user_id": None, "role": None,
                    "language": None, "must_change_password": False, "csrf_token": None}  # fmt: skip
        user = self.fake.users[caller]
        return {"kind": "session", "name": caller, "permissions": user["permissions"], "user_id": 1,
                "role": user["role"], "language": user["language"], "must_change_password": user["must_change"],
                "csrf_token": "csrf"}  # fmt: skip

    def _come_in(self, path: str) -> None:
        body = json.loads(self.raw)
        if path.endswith("setup"):
            if body["token"] != SETUP_TOKEN:
                self._refuse(Refusal(403, "setup_closed", "The setup token is not right."))
                return
            self.fake.add_user(body["name"], body["password"], "admin")
        user = self.fake.users.get(body["name"])
        if user is None or user["password"] != body["password"]:
            self._refuse(Refusal(401, "login_failed", "The name or the password is not right."))
            return
        secret = f"session-{self.fake.new_id()}"
        self.fake.sessions[secret] = body["name"]
        self._json(200, self._me(body["name"]), {"Set-Cookie": f"r1box_session={secret}; Path=/; HttpOnly"})

    # ---- routes

    def _readiness(self) -> None:
        box = self.fake
        ready = box.state == "ready"
        body = {"ready": ready, "state": box.state, "model": MODEL, "load_fraction": box.load_fraction,
                "context_tokens": 16384 if ready else None, "error": box.error}  # fmt: skip
        self._json(200 if ready else 503, body)

    def _page(self) -> None:
        caller = self._caller()
        needed = not any(user["role"] == "admin" for user in self.fake.users.values())
        if caller is None:
            self._json(200, {"user": None, "setup_needed": needed, "languages": ["en", "zh"]})
            return
        models = [
            {"id": name, "name": name, "state": self.fake.state, "context_tokens": 16384, "profile": "r1",
             "thinks": True, "efforts": self.fake.efforts, "default": index == 0}
            for index, name in enumerate(self.fake.models)
        ]  # fmt: skip
        limits = {"question_characters": 1_000_000, "attachment_bytes": 20_000_000, "attachments_per_message": 10,
                  "attachment_characters": 1_000_000, "answers_at_once": 4, "keep_days": None}  # fmt: skip
        body = {"version": "0.1.0", "user": self._me(caller), "models": models, "setup_needed": needed,
                "languages": ["en", "zh"], "limits": limits}  # fmt: skip
        self._json(200, body)

    def _route(self, method: str, path: str, caller: str) -> None:
        body = json.loads(self.raw) if self.raw and path != "/api/attachments" else {}
        if path.startswith("/api/auth/"):
            self._account(method, path, caller, body)
        elif path == "/api/admin/logs/events":
            self._follow_log()
        elif path.startswith("/api/admin/"):
            status, answer = self.admin.answer(self.fake, method, path, body)
            self._json(status, answer)
        elif path == "/api/attachments":
            name = unquote(self.headers["X-File-Name"])
            if name.endswith(".exe"):
                self._refuse(Refusal(422, "attachment_unreadable", f"'{name}' cannot be read: it is a program."))
                return
            file = {"id": self.fake.new_id(), "name": name, "bytes": len(self.raw), "kind": "text",
                    "characters": len(self.raw), "tokens": len(self.raw) // 4, "truncated": False}  # fmt: skip
            self.fake.attachments[file["id"]] = file
            self._json(201, file)
        elif path.startswith("/api/attachments/"):
            self._send(204, b"", "application/json", {})
        elif re.fullmatch(r"/api/chats(/\d+)?/count", path):
            used = 100 + len(body["content"]) // 4
            fits = used < 12_288
            self._json(200, {"prompt_tokens": used, "context_tokens": 16384, "fits": fits, "answer_room": 4096})
        elif path == "/api/chats":
            self._chats(method, caller, body)
        elif match := re.fullmatch(r"/api/chats/(\d+)(/.*)?", path):
            chat = self.fake.chats.get(int(match[1]))
            if chat is None or chat["owner"] != caller:
                self._refuse(Refusal(404, "chat_not_found", "There is no such chat."))
            else:
                self._chat(method, chat, match[2] or "", body)
        else:
            self._refuse(UNKNOWN)

    def _account(self, method: str, path: str, caller: str, body: Json) -> None:
        if path == "/api/auth/me":
            if method == "PATCH":
                self.fake.users[caller]["language"] = body["language"]
            self._json(200, self._me(caller))
        elif path == "/api/auth/password":
            user = self.fake.users[caller]
            if user["password"] != body["old"]:
                self._refuse(Refusal(403, "bad_password", "The password until now is not right."))
                return
            user["password"], user["must_change"] = body["new"], False
            self._send(204, b"", "application/json", {})
        else:
            self.fake.sessions.clear()
            self._send(204, b"", "application/json", {})

    def _chats(self, method: str, caller: str, body: Json) -> None:
        box = self.fake
        if method == "POST":
            self._json(201, box.summary(box.create_chat(caller, body.get("title"), body.get("model"))))
        elif method == "DELETE":
            for chat in [chat for chat in box.chats.values() if chat["owner"] == caller]:
                del box.chats[chat["id"]]
            self._send(204, b"", "application/json", {})
        else:
            rows = box.found(caller, self.query.get("query", ""))
            at, limit = int(self.query.get("cursor", 0)), int(self.query["limit"])
            more = str(at + limit) if len(rows) > at + limit else None
            self._json(200, {"items": rows[at : at + limit], "next_cursor": more})

    def _chat(self, method: str, chat: Json, rest: str, body: Json) -> None:
        box = self.fake
        if rest == "" and method == "GET":
            with box.lock:
                self._json(200, {**box.summary(chat), "leaf_id": chat["leaf_id"], "messages": chat["messages"]})
        elif rest == "" and method == "PATCH":
            chat.update(body)
            self._json(200, box.summary(chat))
        elif rest == "" and method == "DELETE":
            del box.chats[chat["id"]]
            self._send(204, b"", "application/json", {})
        elif rest == "/export":
            self._send(200, f"# {chat['title']}\n".encode(), "text/markdown; charset=utf-8", {})
        elif rest == "/messages":
            told = box.ask(chat, body)
            if isinstance(told, Refusal):
                self._refuse(told)
            else:
                self._json(202, told)
        elif match := re.fullmatch(r"/answers/(\d+)/(events|stop|answer_now)", rest):
            writing = box.writings[int(match[1])]
            if match[2] == "events":
                self._events(int(match[1]))
                return
            (writing.stopped if match[2] == "stop" else writing.asked).set()
            self._send(204, b"", "application/json", {})
        else:
            self._refuse(UNKNOWN)

    def _events(self, answer_id: int) -> None:
        writing = self.fake.writings[answer_id]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        cuts = writing.cuts
        try:
            last = self.headers.get("Last-Event-ID")
            with writing.changed:
                if last is None:
                    at = len(writing.events)
                    message = writing.message
                    snapshot = {name: message[name] for name in ("content", "reasoning", "state")}
                    self._event(at, "snapshot", snapshot)
                    if at and writing.events[-1][0] == "queued":
                        self._event(at, *writing.events[-1])
                    if writing.over:
                        self._event(at, *writing.events[-1])
                        return
                else:
                    at = int(last)
            while True:
                with writing.changed:
                    while at == len(writing.events) and cuts == writing.cuts:
                        if not writing.changed.wait(0.1):
                            self.wfile.write(b": keep-alive\n\n")  # notices a reader who left
                    fresh = list(enumerate(writing.events[at:], at + 1))
                    if cuts != writing.cuts and not fresh:
                        return
                for number, (name, data) in fresh:
                    self._event(number, name, data)
                at += len(fresh)
                if fresh and fresh[-1][1][0] == "done":
                    return
        except (BrokenPipeError, ConnectionResetError):
            self.left.set()

    def _follow_log(self) -> None:
        """Lines of the level and with the text that were asked for, until the reader leaves."""
        at, level = int(self.query.get("after", 0)), LEVELS.index(self.query["level"])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            while True:
                with self.admin.logged:
                    if at == len(self.admin.log) and not self.admin.logged.wait(0.1):
                        self.wfile.write(b": keep-alive\n\n")
                    fresh, at = self.admin.log[at:], len(self.admin.log)
                for line in fresh:
                    told = json.dumps(line)
                    if LEVELS.index(line["level"]) >= level and self.query.get("text", "").lower() in told.lower():
                        self.wfile.write(f"id: {line['seq']}\ndata: {told}\n\n".encode())
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.left.set()

    def _event(self, number: int, name: str, data: Json) -> None:
        self.wfile.write(f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def _refuse(self, refusal: Refusal) -> None:
        error = {"message": refusal.message, "type": "invalid_request_error", "param": None, "code": refusal.code}
        if refusal.hint is not None:
            error["hint"] = refusal.hint
        headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
        self._json(refusal.status, {"error": error}, headers)

    def _json(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", headers or {})

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if status != 204:
            self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--pace", type=float, default=0.02, help="seconds between two pieces of an answer")
    arguments = parser.parse_args()
    box = FakeBox(arguments.pace)
    box.add_user("ward", "correct horse", "admin")
    server = FakeServer(box, arguments.port)
    print(f"{server.url}#key={KEY}")
    server._http.serve_forever()


if __name__ == "__main__":
    main()
