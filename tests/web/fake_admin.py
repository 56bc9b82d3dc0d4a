"""What the fake box tells operators."""

from __future__ import annotations

import math
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


class FakeAdmin:
    """The state behind ``/api/admin``."""

    def __init__(self) -> None:
        self.models = [
            model(MODEL, state="ready", default=True, seats=8, context_tokens=16384, devices=["nvidia:0"],
                  offload="VERIFIED", running=2, waiting=1),
            model("R1-Distill-Llama-70B", error=None),
        ]  # fmt: skip
        self.issues: list[Json] = [
            {"id": "certificate_ending", "severity": "warning", "message": "The certificate ends in 9 days.",
             "since": now(), "hint": "Renew it; programs keep trusting the box.", "subject": None,
             "fixups": [{"name": "renew", "label": "Renew the certificate"}]}
        ]  # fmt: skip
        self.keys: list[Json] = []

    def answer(self, box: FakeBox, method: str, path: str, body: Json) -> tuple[int, Json]:
        """Status and body of a route below ``/api/admin``."""
        parts = path.removeprefix("/api/admin/").split("/")
        if parts == ["telemetry"]:
            return 200, telemetry()
        if parts == ["telemetry", "history"]:
            return 200, history()
        if parts[0] == "models":
            return self._models(parts)
        if parts[0] == "issues":
            if method == "POST":
                self.issues.clear()
                return 200, {"message": "The certificate was renewed.", "issues": []}
            return 200, {"issues": self.issues, "checked_at": now()}
        if parts[0] == "keys":
            return self._keys(method, parts, body)
        if parts[0] == "users":
            return self._users(box, method, body)
        if parts[0] == "usage":
            day = datetime.now(UTC).date().isoformat()
            row = {"day": day, "subject": "user:1", "name": "ward", "requests": 12, "errors": 1, "prompt_tokens": 900,
                   "thinking_tokens": 4000, "answer_tokens": 5100, "total_tokens": 6000}  # fmt: skip
            return 200, {"items": [row]}
        if parts[0] == "requests":
            row = {"id": 1, "at": now(), "name": "ward", "model": MODEL, "finish": "stop", "error_code": None,
                   "prompt_tokens": 90, "thinking_tokens": 400, "answer_tokens": 510, "first_token_s": 0.8,
                   "duration_s": 21.0}  # fmt: skip
            return 200, {"items": [row], "next": None}
        return 404, {"error": {"code": "not_found", "message": f"There is nothing at {path}."}}

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
