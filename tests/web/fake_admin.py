"""What the fake box tells operators."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from .fake_box import MODEL, FakeBox, Json, now

GIB = 1 << 30
BUCKETS = 60


def telemetry() -> Json:
    present: Json = {
        "key": "nvidia:0", "name": "NVIDIA A800", "chip": None, "state": "present", "problem": None, "health": "ok",
        "utilization_percent": 63.0, "memory_used_bytes": 41 * GIB, "memory_total_bytes": 80 * GIB,
        "temperature_celsius": 54.0, "power_watts": 287.0, "clock_mhz": 1410, "throttle_reasons": [],
    }  # fmt: skip
    lost = {**dict.fromkeys(present), "key": "ascend:4", "chip": "310P3", "state": "lost",
            "problem": "The driver gives no answer (-8012 not ready).", "health": "unknown",
            "throttle_reasons": []}  # fmt: skip
    host = {"cpu_percent": 12.5, "load_1": 0.71, "memory_used_bytes": 31 * GIB, "memory_total_bytes": 512 * GIB,
            "disk_free_bytes": 3200 * GIB, "network_in_bytes_per_s": 2048.0,
            "network_out_bytes_per_s": 90_000.0}  # fmt: skip
    event = {"id": 1, "time": now(), "kind": "device_lost", "subject": "ascend:4", "severity": "error",
             "message": "ascend:4 gives no answer any more."}  # fmt: skip
    return {"enabled": True, "host": host, "devices": [present, lost], "events": [event]}


def history() -> Json:
    def wave(middle: float, swing: float) -> list[float | None]:
        curve = [middle + swing * math.sin(bucket / 5) for bucket in range(BUCKETS)]
        return [None, *curve[1:]]

    rows = [
        ("nvidia:0", "utilization_percent", wave(60, 35)),
        ("nvidia:0", "memory_used_bytes", wave(41 * GIB, 2 * GIB)),
        ("nvidia:0", "temperature_celsius", wave(54, 6)),
        ("nvidia:0", "power_watts", wave(280, 90)),
        ("host", "cpu_percent", wave(15, 9)),
        ("host", "memory_used_bytes", wave(31 * GIB, GIB)),
    ]
    series = [{"subject": subject, "field": field, "mean": mean} for subject, field, mean in rows]
    start = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    return {"start": start, "step_s": 60.0, "buckets": BUCKETS, "series": series}


def model(name: str, **more: Any) -> Json:
    return {"id": name, "name": name, "quantization": "Q8_0", "size_bytes": 8 * GIB, "state": "installed",
            "default": False, "pinned": False, "load_fraction": None, "error": None, "seats": None,
            "context_tokens": None, "devices": [], "offload": None, "running": 0, "waiting": 0, **more}  # fmt: skip


def offload() -> Json:
    return {"model": MODEL, "state": "DEGRADED", "reasons": [{"code": "slow", "message": "It is slower than planned."}],
            "proof": ["The card's memory grew by 8.1 GiB with the load.", "24.1 tokens/s"], "devices": ["nvidia:0"],
            "checked_at": now(), "decode_tokens_per_s": 24.13, "prefill_tokens_per_s": 812.0,
            "expected_tokens_per_s": [40.2, 61.0]}  # fmt: skip


def plans() -> Json:
    def plan(variant: str, quantization: str, **more: Any) -> Json:
        return {"variant": variant, "quantization": quantization, "engine": "llama.cpp", "devices": ["nvidia:0"],
                "seats": 8, "context_tokens": 16384, "file_bytes": 8 * GIB, "installed": True,
                "decode_tokens_per_s": {"low": 40.2, "high": 61.0}, **more}  # fmt: skip

    def why_not(number: int) -> Json:
        return {"variant": f"R1-Distill-Llama-{number}B", "quantization": "Q8_0", "engine": "llama.cpp",
                "code": "too_large", "reason": f"It needs {number} GiB; a card has 80.",
                "counter_offer": {"seats": 4, "context_tokens": 8192} if number == 90 else None}  # fmt: skip

    elsewhere = plan("R1-Distill-Qwen-14B", "BF16", engine="vllm", installed=False, decode_tokens_per_s=None)
    fitting = [plan("R1-Distill-Qwen-32B", "Q4_K_M"), elsewhere]
    return {"cards": [{"name": "NVIDIA A800", "count": 2, "memory_total_bytes": 80 * GIB}],
            "host_memory_available_bytes": 64 * GIB, "plans": fitting,
            "rejections": [why_not(number) for number in range(90, 110)], "notes": []}  # fmt: skip


def job(job_id: str, wish: Json, **more: Any) -> Json:
    progress = {"phase": "download", "done_bytes": 3 * GIB, "total_bytes": 8 * GIB, "fraction": 0.375,
                "bytes_per_s": 52_428_800.0, "eta_s": 102.0}  # fmt: skip
    return {"id": job_id, "kind": wish["kind"], "state": "running", "request": wish, "created_by": "ward",
            "created_at": now(), "started_at": now(), "ended_at": None, "cancellable": True, "progress": progress,
            "result": None, "error": None, **more}  # fmt: skip


LEVELS = ["debug", "info", "warning", "error"]


def line(seq: int, event: str, level: str = "info", **fields: Any) -> Json:
    return {"seq": seq, "at": now(), "level": level, "part": "jobs", "logger": "appliance.jobs.service", "event": event,
            "request_id": None, "fields": fields}  # fmt: skip


def setting(name: str, value: Any, kind: Json, description: str, **more: Any) -> Json:
    return {"name": name, "value": value, "stored": value, "default": None, "source": "default", "origin": "",
            "applies": "now", "locked": False, "pending": False, "secret": False, "kind": kind,
            "description": description, **more}  # fmt: skip


def settings() -> list[Json]:
    number = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}
    return [
        setting("chat_keep_days", None, number, "Days after its last message that a chat of the page is kept."),
        setting("tls", "off", {"type": "string", "enum": ["off", "local", "files"]}, "How the port is encrypted.",
                applies="restart"),
        setting("port", 8081, {"type": "integer"}, "TCP port to listen on.", source="flag", origin="--port",
                locked=True, applies="restart"),
        setting("state_dir", "/var/lib/r1box", {"type": "string"}, "Folder of the database.", applies="file"),
    ]  # fmt: skip


IDENTITY: Json = {
    "version": "0.1.0", "hostname": "ward-3", "started_at": "2026-11-22T08:00:00Z",
    "urls": ["https://r1box.local:8080/", "https://10.0.4.17:8080/"], "mdns_name": "r1box.local", "only_local": False,
    "certificate": {"fingerprint": ":".join(["AB"] * 32), "issuer": "R1 Box", "names": ["r1box.local"],
                    "not_before": "2026-11-01T00:00:00Z", "not_after": "2027-12-01T00:00:00Z"},
    "authority": None,
}  # fmt: skip


class FakeAdmin:
    """The state behind ``/api/admin``."""

    def __init__(self) -> None:
        self.models = [
            model(MODEL, state="ready", default=True, seats=8, context_tokens=16384, devices=["nvidia:0"],
                  offload="VERIFIED", running=2, waiting=1),
            model("R1-Distill-Llama-70B", error=None),
        ]  # fmt: skip
        self.issues: list[Json] = [
            {"id": "certificate_ends", "code": "certificate_ends", "severity": "warning",
             "message": "The certificate ends in 9 days.",
             "since": now(), "hint": "Renew it; programs keep trusting the box.", "subject": None,
             "fixups": [{"name": "renew", "label": "Renew the certificate"}]}
        ]  # fmt: skip
        self.keys: list[Json] = []
        self.jobs: list[Json] = []
        self.settings = settings()
        self.log = [line(1, "daemon_started", version="0.1.0"), line(2, "model_slow", "warning", model=MODEL)]
        self.logged = threading.Condition()
        self.wishes: list[Json] = []
        self.folders = ["/media/stick"]
        self.logged_in: list[Json] = [
            {"id": 7, "user_name": "anna", "created_at": now(), "last_seen_at": now(), "address": "10.0.4.31",
             "user_agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
                           "Chrome/131.0 Safari/537.36 Edg/131.0", "current": False}
        ]  # fmt: skip

    def answer(self, box: FakeBox, method: str, path: str, body: Json) -> tuple[int, Json]:
        """Status and body of a route below ``/api/admin``."""
        parts = path.removeprefix("/api/admin/").split("/")
        routes: dict[str, Callable[[], tuple[int, Json]]] = {
            "telemetry": lambda: (200, history() if parts[1:] else telemetry()),
            "models": lambda: self._models(parts),
            "offload": lambda: (200, {"models": [offload()]}),
            "plans": lambda: (200, plans()),
            "jobs": lambda: self._jobs(method, parts, body),
            "issues": lambda: self._issues(method),
            "audit": lambda: self._audit(parts),
            "sessions": lambda: self._sessions(method, parts),
            "keys": lambda: self._keys(method, parts, body),
            "users": lambda: self._users(box, method, body),
            "settings": lambda: self._settings(body),
            "box": lambda: (200, IDENTITY),
            "usage": self._usage,
            "requests": self._requests,
        }
        if parts[0] in routes:
            return routes[parts[0]]()
        return 404, {"error": {"code": "not_found", "message": f"There is nothing at {path}."}}

    def write_log(self, event: str, level: str = "info", **fields: Any) -> None:
        with self.logged:
            self.log.append(line(len(self.log) + 1, event, level, **fields))
            self.logged.notify_all()

    def _settings(self, body: Json) -> tuple[int, Json]:
        for name, value in body.get("values", {}).items():
            [found] = [one for one in self.settings if one["name"] == name]
            if name == "chat_keep_days" and not isinstance(value, int | None):
                message = f"'{value}' is no value for chat_keep_days: a whole number is wanted."
                return 422, {"error": {"code": "setting_not_usable", "message": message}}
            now_holds = found["applies"] == "now"
            found |= {"stored": value, "source": "changed", "pending": not now_holds}
            found |= {"value": value} if now_holds else {}
        waiting = [one["name"] for one in self.settings if one["pending"]]
        return 200, {"items": self.settings, "restart_needed": waiting, "file": "/var/lib/r1box/changed.toml"}

    def _issues(self, method: str) -> tuple[int, Json]:
        if method == "POST":
            self.issues.clear()
            return 200, {"message": "The certificate was renewed.", "issues": []}
        return 200, {"issues": self.issues, "checked_at": now()}

    def _sessions(self, method: str, parts: list[str]) -> tuple[int, Json]:
        if method == "DELETE":
            self.logged_in = [one for one in self.logged_in if str(one["id"]) != parts[1]]
            return 200, {}
        return 200, {"items": self.logged_in, "next": None}

    def _usage(self) -> tuple[int, Json]:
        day = datetime.now(UTC).date().isoformat()
        row = {"day": day, "subject": "user:1", "name": "ward", "requests": 12, "errors": 1, "prompt_tokens": 900,
               "thinking_tokens": 4000, "answer_tokens": 5100, "total_tokens": 6000}  # fmt: skip
        return 200, {"items": [row]}

    def _requests(self) -> tuple[int, Json]:
        row = {"id": 1, "at": now(), "name": "ward", "model": MODEL, "finish": "stop", "error_code": None,
               "prompt_tokens": 90, "thinking_tokens": 400, "answer_tokens": 510, "first_token_s": 0.8,
               "duration_s": 21.0}  # fmt: skip
        return 200, {"items": [row], "next": None}

    def _jobs(self, method: str, parts: list[str], body: Json) -> tuple[int, Json]:
        if method == "POST":
            self.wishes.append(body)
            self.jobs.insert(0, job(f"job_{len(self.wishes)}", body))
            return 202, self.jobs[0]
        if method == "DELETE":
            [found] = [one for one in self.jobs if one["id"] == parts[1]]
            found["state"], found["ended_at"] = "cancelled", now()
            return 202, found
        return 200, {"jobs": self.jobs, "folders": self.folders}

    def _audit(self, parts: list[str]) -> tuple[int, Json]:
        if parts[1:] == ["verify"]:
            return 200, {"whole": True, "rows": 1204, "problem": None}
        row = {"seq": 1, "at": now(), "actor_name": "chief", "address": "10.0.4.17", "action": "key.create",
               "target": "key:3", "details": {"name": "nurse-app", "scopes": ["inference"]}}  # fmt: skip
        return 200, {"items": [row], "next": None}

    def _models(self, parts: list[str]) -> tuple[int, Json]:
        if len(parts) == 3:
            [found] = [one for one in self.models if one["id"] == parts[1]]
            found["state"] = "installed" if parts[2] == "unload" else "ready"
            return 200, found
        return 200, {"models": self.models, "load_on_request": "swap"}

    def _keys(self, method: str, parts: list[str], body: Json) -> tuple[int, Json]:
        if method == "POST":
            key = {"id": len(self.keys) + 1, "prefix": "r1b_abcd", "last_used_at": None, "expires_at": None,
                   "user_name": None, "scopes": ["inference"], "tokens_per_minute": None, **body}  # fmt: skip
            self.keys.append(key)
            return 201, {**key, "key": "r1b_abcdefghijklmnop"}
        if method == "PUT":
            [key] = [key for key in self.keys if str(key["id"]) == parts[1]]
            key.update(body)
            return 200, key
        if method == "DELETE":
            self.keys = [key for key in self.keys if str(key["id"]) != parts[1]]
            return 200, {}
        return 200, {"items": self.keys, "next": None}

    def _users(self, box: FakeBox, method: str, body: Json) -> tuple[int, Json]:
        if method == "POST":
            box.add_user(body["name"], body["password"], body["role"], must_change=True)
            return 201, {}
        rows = [
            {"id": number, "name": name, "role": user["role"], "has_password": True, "disabled": False,
             "must_change_password": user["must_change"], "last_login_at": None}
            for number, (name, user) in enumerate(box.users.items(), 1)
        ]  # fmt: skip
        return 200, {"items": rows, "next": None}
