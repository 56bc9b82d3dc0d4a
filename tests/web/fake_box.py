"""What the fake box knows: chats as trees, answers that are written whether or not anybody listens."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .scripts import DEFAULT, SCRIPTS, Cut, Fail, Finish, Hold, Queued, Refusal, Say, Script, Step, Think

KEY = "r1b_demo"
MODEL = "R1-Distill-Qwen-7B"
SETUP_TOKEN = "token-of-the-console"
PIECE = 5
"""Characters of an event."""

Json = dict[str, Any]


def without_texts(message: Json) -> Json:
    """As the last event tells a message: its reader has the texts."""
    return {**message, "content": None, "reasoning": None}


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@dataclass
class Writing:
    """An answer while it is written: its message, and the events so far, the first with id 1."""

    message: Json
    events: list[tuple[str, Json]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    stopped: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)
    cuts: int = 0

    def tell(self, name: str, data: Json) -> None:
        with self.changed:
            self.events.append((name, data))
            self.changed.notify_all()

    def cut(self) -> None:
        with self.changed:
            self.cuts += 1
            self.changed.notify_all()

    @property
    def over(self) -> bool:
        return bool(self.events) and self.events[-1][0] == "done"


class FakeBox:
    """State of the fake, shared by its request threads. `questions` keeps every body of a question that arrived."""

    def __init__(self, pace_s: float = 0.0) -> None:
        self.state = "ready"
        self.load_fraction: float | None = None
        self.error: str | None = None
        self.models = [MODEL]
        self.efforts = ["low", "medium", "high"]
        self.keys = {KEY: "demo"}
        self.users: dict[str, Json] = {}
        self.sessions: dict[str, str] = {}
        self.pace_s = pace_s
        self.scripts: dict[str, Script] = dict(SCRIPTS)
        self.questions: list[Json] = []
        self.chats: dict[int, Json] = {}
        self.attachments: dict[int, Json] = {}
        self.writings: dict[int, Writing] = {}
        self.lock = threading.RLock()
        self._ids = 0

    def add_user(self, name: str, password: str, role: str = "user", must_change: bool = False) -> None:
        reading = ["admin:read", "metrics"]
        more = {
            "viewer": [],
            "user": ["inference"],
            "operator": ["inference", "admin:write", "accounts:read"],
            "admin": ["inference", "admin:write", "accounts:read", "accounts:write", "audit:read", "settings:write"],
        }
        self.users[name] = {
            "password": password,
            "role": role,
            "language": None,
            "must_change": must_change,
            "permissions": reading + more[role],
        }

    def new_id(self) -> int:
        with self.lock:
            self._ids += 1
            return self._ids

    # ---- chats

    def create_chat(self, owner: str, title: str | None, model: str | None) -> Json:
        with self.lock:
            chat = {
                "id": self.new_id(),
                "title": title or "",
                "model": model,
                "created_at": now(),
                "updated_at": now(),
                "pinned": False,
                "leaf_id": None,
                "owner": owner,
                "messages": [],
            }
            self.chats[chat["id"]] = chat
            return chat

    def summary(self, chat: Json) -> Json:
        names = ("id", "title", "model", "pinned", "leaf_id", "created_at", "updated_at")
        return {name: chat[name] for name in names}

    def found(self, owner: str, query: str) -> list[Json]:
        wanted = query.lower()
        rows = []
        for chat in self.chats.values():
            if chat["owner"] != owner:
                continue
            snippet = None
            for message in chat["messages"] if wanted else ():
                at = message["content"].lower().find(wanted)
                if at >= 0 and snippet is None:
                    start = max(at - 10, 0)
                    text = message["content"][start : at + 50]
                    snippet = {"message_id": message["id"], "text": text, "marks": [[at - start, len(wanted)]]}
            if wanted in chat["title"].lower() or snippet:
                rows.append({**self.summary(chat), "snippet": snippet})
        return sorted(rows, key=lambda row: str(row["updated_at"]), reverse=True)

    def script_for(self, text: str) -> Script:
        if self.state != "ready":
            return Refusal(503, "model_not_ready", "No model is ready to answer: it is loading.", retry_after_s=1)
        return next((script for word, script in self.scripts.items() if word in text), DEFAULT)

    def message(self, role: str, parent_id: str | None, content: str, state: str = "done") -> Json:
        return {
            "id": self.new_id(),
            "parent_id": parent_id,
            "role": role,
            "content": content,
            "reasoning": "",
            "model": MODEL if role == "assistant" else None,
            "state": state,
            "finish_reason": None,
            "thinking_end": None,
            "usage": None,
            "thinking_ms": None,
            "total_ms": None,
            "error": None,
            "attachments": [],
            "created_at": now(),
        }

    def ask(self, chat: Json, body: Json) -> Refusal | Json:
        """The 202's body, with the answer begun in a thread of its own; or the refusal, with nothing kept."""
        with self.lock:
            by_id = {message["id"]: message for message in chat["messages"]}
            content = body["content"] if body["content"] is not None else by_id[body["parent_id"]]["content"]
            script = self.script_for(content)
            if isinstance(script, Refusal):
                return script
            self.questions.append(body)
            question = None
            parent_id = body["parent_id"]
            if body["content"] is not None:
                question = self.message("user", parent_id, body["content"])
                question["attachments"] = [self.attachments[one] for one in body["attachment_ids"]]
                chat["messages"].append(question)
                parent_id = question["id"]
            answer = self.message("assistant", parent_id, "", "streaming")
            answer["model"] = body.get("model") or MODEL
            chat["messages"].append(answer)
            chat["leaf_id"], chat["updated_at"] = answer["id"], now()
            chat["title"] = chat["title"] or content.strip().split("\n")[0][:60]
            writing = self.writings[answer["id"]] = Writing(answer)
            told = {"user_message": question, "answer": dict(answer), "chat": self.summary(chat)}
        threading.Thread(target=self._write, args=(writing, list(script)), daemon=True).start()
        return told

    def _write(self, writing: Writing, script: list[Step]) -> None:  # noqa: C901 - one case for each kind of step
        message, started = writing.message, time.monotonic()
        thinking_from: float | None = None
        for step in script:
            if writing.stopped.is_set():
                break
            match step:
                case Queued(position, wait_s):
                    writing.tell("queued", {"position": position, "wait_s": wait_s})
                    time.sleep(self.pace_s * 60)
                case Think(text) | Say(text):
                    name = "reasoning" if isinstance(step, Think) else "content"
                    if name == "reasoning":
                        thinking_from = thinking_from or time.monotonic()
                    elif thinking_from is not None and message["thinking_ms"] is None:
                        message["thinking_ms"] = round((time.monotonic() - thinking_from) * 1000)
                    for at in range(0, len(text), PIECE):
                        piece = text[at : at + PIECE]
                        message[name] += piece
                        writing.tell(name, {"text": piece})
                        time.sleep(self.pace_s)
                        if writing.stopped.is_set() or (name == "reasoning" and writing.asked.is_set()):
                            break
                case Hold(event):
                    while not (event.wait(0.02) or writing.stopped.is_set() or writing.asked.is_set()):
                        pass
                case Cut():
                    writing.cut()
                case Fail(code, text):
                    message["state"], message["error"] = "error", {"code": code, "message": text}
                    writing.tell("error", message["error"])
                    writing.tell("done", {"message": without_texts(message)})
                    return
                case Finish():
                    self._finish(writing, step, started)
                    return
        self._finish(writing, Finish("stop", 20, 12, 6), started)

    def _finish(self, writing: Writing, step: Finish, started: float) -> None:
        message = writing.message
        message["state"] = "stopped" if writing.stopped.is_set() else "done"
        message["finish_reason"] = step.reason
        message["thinking_end"] = "asked" if writing.asked.is_set() else step.thinking_end
        message["total_ms"] = round((time.monotonic() - started) * 1000)
        message["usage"] = {
            "prompt": step.prompt,
            "completion": step.completion,
            "reasoning": step.reasoning,
            "cached": 0,
        }
        writing.tell("usage", message["usage"])
        writing.tell("done", {"message": without_texts(message)})
