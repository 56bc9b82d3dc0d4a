"""What a busy box answers on the screens behind the dashboard: bodies of the daemon's own schemas."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from appliance.schemas.accounts import KeyBody, KeyList, UserBody, UserList
from appliance.schemas.backups import BackupItem, BackupList, LastRestore
from appliance.schemas.jobs import Job, JobError, JobList, JobProgress
from appliance.schemas.logs import LogItem
from appliance.schemas.operators import (
    About,
    Component,
    LiveRequest,
    LiveRequests,
    ServingHistory,
    Stick,
    StickItem,
    StickList,
)
from appliance.schemas.plans import CounterWish, MachineCards, Plan, PlanMemory, Plans, Speed, WhyNot
from appliance.schemas.settings import SettingItem, SettingList
from appliance.schemas.telemetry import Hardware, HistorySeries, TelemetryHistory
from tests.tui.moments import GIB, NOON


def serving() -> ServingHistory:
    """An hour of 60 minutes with a dip every ten."""
    speeds = tuple(118.0 if minute % 10 < 7 else 40.0 for minute in range(60))
    return ServingHistory(
        start=NOON - timedelta(hours=1),
        step_s=60,
        now_tokens_per_s=118.0,
        tokens_per_s=(None,) * 5 + speeds[5:],
        running=(5.0,) * 60,
        waiting=(2.0,) * 60,
    )


def live(waiting: int = 2, answered: int = 2) -> LiveRequests:
    """One thinks, the others of ``answered`` are written to; the rest waits."""
    common: dict[str, Any] = {"model": "r1-32b", "prompt_tokens": 812, "most_tokens": 8192}
    running = (
        LiveRequest(
            id="req_1", name="nurse-app", subject="key:1", state="answering", age_s=94, generated_tokens=1514,
            thinking_tokens=1204, tokens_per_s=14.2, **common,
        ),
        LiveRequest(
            id="req_2", name="chen", subject="user:7", state="thinking", age_s=63, generated_tokens=882,
            thinking_tokens=882, tokens_per_s=13.9, **common,
        ),
    )  # fmt: skip
    more = tuple(
        running[0].model_copy(update={"id": f"req_more_{number}", "name": f"app-{number:03}"})
        for number in range(answered - len(running))
    )
    queue = tuple(
        LiveRequest(
            id=f"req_{place + 10}", name="batch-night", subject="key:3", state="queued", batch=True, age_s=20 + place,
            position=place, wait_s=12.0 * place, **common,
        )
        for place in range(1, waiting + 1)
    )  # fmt: skip
    return LiveRequests(requests=running + more + queue, running=answered, waiting=waiting)


def jobs() -> JobList:
    """One that goes on, one that waits, and three that have ended, each its way."""

    def job(number: int, kind: Any, state: Any, request: dict[str, Any], **values: Any) -> Job:
        began = NOON - timedelta(minutes=10 * number)
        ended = None if state in ("running", "queued") else began + timedelta(minutes=4)
        return Job(
            id=f"job_{number}", kind=kind, state=state, request=request, created_by="chen", created_at=began,
            started_at=None if state == "queued" else began, ended_at=ended, **values,
        )  # fmt: skip

    progress = JobProgress(
        phase="download", done_bytes=12 * GIB, total_bytes=35 * GIB, fraction=12 / 35, bytes_per_s=98e6, eta_s=251
    )
    failed = JobError(
        code="hub_unreachable", message="huggingface.co does not answer.", hint="Pull from modelscope, or use a stick."
    )
    report = {
        "summary": "Two Ascend cards serve.",
        "checks": [
            {"vendor": "ascend", "layer": "pci", "state": "ok", "detail": "2 cards", "findings": []},
            {"vendor": "ascend", "layer": "cann", "state": "broken", "detail": "7.0.0", "findings": ["old"]},
        ],
        "breaks": [
            {
                "message": "CANN 7.0.0 is too old for driver 25.2.0.", "fix": "Install CANN 8.5.0.",
                "commands": ["sh Ascend-cann-toolkit_8.5.0_linux-aarch64.run --install"],
            }
        ],
        "notes": [{"message": "Driver 25.2.0 and CANN 8.5.0 are a known pair."}],
    }  # fmt: skip
    return JobList(
        jobs=(
            job(0, "pull", "running", {"target": "R1-Distill-Qwen-32B:Q8_0"}, progress=progress),
            job(1, "verify", "queued", {"model": "r1-32b"}),
            job(2, "doctor", "succeeded", {}, cancellable=False, result=report),
            job(3, "pull", "failed", {"target": "R1-Distill-Qwen-7B:Q8_0"}, error=failed),
            job(4, "import", "cancelled", {"path": "/media/stick/models/r1.gguf"}),
        ),
        folders=("/media/stick",),
    )


def keys(count: int = 4) -> KeyList:
    """A limited one, one that is batch, one that has expired, and others."""

    def key(number: int, **values: Any) -> KeyBody:
        base: dict[str, Any] = {
            "id": number, "name": f"app-{number}", "prefix": f"r1b_{number:04d}", "scopes": ("inference",),
            "created_at": NOON - timedelta(days=30), "priority": "interactive", "may_override_sampling": False,
            "last_used_at": NOON - timedelta(minutes=number),
        }  # fmt: skip
        return KeyBody(**{**base, **values})

    special = {
        1: {"name": "nurse-app", "requests_per_minute": 30, "tokens_per_day": 500_000, "user_name": "chen"},
        2: {"name": "batch-night", "priority": "batch", "last_used_at": None},
        3: {"name": "old", "expires_at": NOON - timedelta(days=1)},
    }
    return KeyList(items=tuple(key(number, **special.get(number, {})) for number in range(1, count + 1)))


def users() -> UserList:
    """An administrator, and somebody who is disabled."""

    def user(number: int, name: str, role: Any, **values: Any) -> UserBody:
        base: dict[str, Any] = {
            "id": number, "name": name, "role": role, "language": "en", "has_password": True,
            "must_change_password": False, "disabled": False, "created_at": NOON - timedelta(days=90),
        }  # fmt: skip
        return UserBody(**{**base, **values})

    return UserList(
        items=(
            user(1, "li.wei", "admin", language="zh", last_login_at=NOON - timedelta(hours=2)),
            user(2, "chen", "operator", must_change_password=True),
            user(3, "guest", "user", disabled=True, disabled_at=NOON - timedelta(days=2)),
        )
    )


def plans() -> Plans:
    """Two that fit and three that do not, the large one among them."""

    def memory(device: str, weights: float) -> PlanMemory:
        return PlanMemory(
            device=device, weights_bytes=int(weights * GIB), kv_bytes=8 * GIB, compute_bytes=GIB,
            reserve_bytes=2 * GIB, total_bytes=int((weights + 11) * GIB), available_bytes=62 * GIB,
        )  # fmt: skip

    return Plans(
        cards=(MachineCards(name="910B3", count=2, memory_total_bytes=64 * GIB),),
        host_memory_available_bytes=471 * GIB,
        plans=(
            Plan(
                variant="R1-Distill-Qwen-32B", quantization="Q8_0", engine="llama.cpp",
                devices=("ascend:0", "ascend:1"), seats=8, context_tokens=16384, kv_type="f16", file_bytes=35 * GIB,
                memory=(memory("ascend:0", 17.5), memory("ascend:1", 16.8)),
                decode_tokens_per_s=Speed(low=19, high=27),
            ),
            Plan(
                variant="R1-Distill-Qwen-14B", quantization="BF16", engine="llama.cpp", devices=("ascend:0",), seats=4,
                context_tokens=16384, kv_type="f16", file_bytes=29 * GIB, memory=(memory("ascend:0", 29),),
                reduced=True, notes=("The context is kept in q8_0 to save memory.",),
            ),
        ),
        rejections=(
            WhyNot(
                variant="R1-Distill-Llama-70B", quantization="Q8_0", engine="llama.cpp", code="memory",
                reason="8 x 16,384 tokens need 64.9 GiB on each card, 62.0 GiB are there; 4 x 8,192 would fit",
                needed_bytes=65 * GIB, available_bytes=62 * GIB,
                counter_offer=CounterWish(seats=4, context_tokens=8192),
            ),
            WhyNot(
                variant="R1-Distill-Qwen-32B", quantization="Q4_K_M", engine="llama.cpp", code="cpu_fallback",
                reason="llama.cpp on Ascend computes K-quants on the processor",
            ),
            WhyNot(
                variant="R1-671B", quantization="Q4_0", engine="vllm-ascend", code="memory",
                reason="needs one A3 or two A2 boxes with vLLM-Ascend",
            ),
        ),
    )  # fmt: skip


def sticks() -> StickList:
    """A stick with a signed bundle, one that nobody signed, and a file."""
    items = (
        StickItem(
            path="/media/stick/r1-32b", kind="bundle", name="R1-Distill-Qwen-32B", size_bytes=35 * GIB,
            quantization="Q8_0", signed=True, bundle_id="r1-32b", sticks=2,
        ),
        StickItem(path="/media/stick/other", kind="bundle", name="Other", size_bytes=GIB, signed=False, bundle_id="o"),
        StickItem(path="/media/stick/tiny.gguf", kind="gguf", name="tiny.gguf", size_bytes=3_400_000),
        StickItem(path="/media/stick/bad", kind="bundle", name="bad", problem="Its manifest cannot be read."),
    )  # fmt: skip
    stick = Stick(folder="/media/stick", free_bytes=20 * GIB, total_bytes=64 * GIB, items=items)
    return StickList(sticks=(stick,))


def about() -> About:
    """A box with two engines' parts and three packages."""
    return About(
        version="0.1.0", licence="Apache-2.0", started_at=NOON - timedelta(days=3), python="3.11.7",
        platform="Linux 5.10.0 aarch64", hostname="ward-3",
        engines=(Component(name="llama-cpp-python", version="0.3.36"),),
        models=(Component(name="r1-32b", version="Q8_0", licence="MIT", summary="R1-Distill-Qwen-32B"),),
        components=(
            Component(name="fastapi", version="0.165.0", licence="MIT", summary="A web framework"),
            Component(name="textual", version="8.2.8", licence="MIT", summary="Terminal applications"),
            Component(name="odd", version="1"),
        ),
    )  # fmt: skip


def hardware() -> Hardware:
    """Two cards joined by HCCS, a program on the first."""
    devices = [
        {
            "vendor": "ascend", "index": index, "card_id": index, "chip_id": None, "driver_version": "25.2.0",
            "firmware_version": "7.7.0", "pci_address": f"0000:0{index + 1}:00.0", "numa_node": index,
            "node": f"/dev/davinci{index}", "memory_kind": "HBM2e", "power_limit_watts": 400,
            "processes": [{"pid": 4711, "name": "r1box", "memory_bytes": 41 * GIB}] if index == 0 else [],
            "links": [{"peer": f"ascend:{1 - index}", "kind": "hccs", "lanes": None}], "faults": [],
        }
        for index in range(2)
    ]  # fmt: skip
    return Hardware(detected_at=NOON, duration_s=1.2, snapshot={"devices": devices, "findings": []})


def history(key: str = "ascend:0") -> TelemetryHistory:
    """An hour of a card that works in waves."""
    waves = tuple(20.0 + 60 * (minute % 12) / 12 for minute in range(60))

    def series(field: str, values: tuple[float | None, ...]) -> HistorySeries:
        return HistorySeries(subject=key, field=field, minimum=values, mean=values, maximum=values)

    return TelemetryHistory(
        start=NOON - timedelta(hours=1),
        step_s=60,
        buckets=60,
        series=(
            series("utilization_percent", waves),
            series("memory_used_bytes", (41.0 * GIB,) * 60),
            series("temperature_celsius", tuple(40 + wave / 5 for wave in waves)),
            series("power_watts", (None,) * 30 + tuple(90 + wave for wave in waves[30:])),
        ),
    )


def logs() -> tuple[LogItem, ...]:
    """A request, a warning, a crash with its traceback."""

    def line(number: int, level: Any, part: str, event: str, **fields: Any) -> LogItem:
        at = NOON + timedelta(seconds=number)
        return LogItem(
            seq=number, at=at, level=level, part=part, logger=f"appliance.{part}", event=event, fields=fields
        )

    return (
        line(1, "info", "api", "request", method="POST", path="/v1/chat/completions", status=200, duration_ms=812.4),
        line(2, "warning", "daemon", "placement", model="r1-32b", note="The context is kept in q8_0."),
        line(3, "error", "api", "request_crashed", exception="Traceback:\n  File api.py\nValueError: odd"),
    )


def settings() -> SettingList:
    """One of each kind."""

    def item(name: str, value: Any, kind: dict[str, Any], **values: Any) -> SettingItem:
        base: dict[str, Any] = {
            "name": name, "value": value, "stored": value, "default": value, "source": "default",
            "origin": "built in", "applies": "now", "locked": False, "pending": False, "secret": False, "kind": kind,
            "description": f"What {name} is for.",
        }  # fmt: skip
        return SettingItem(**{**base, **values})

    return SettingList(
        items=(
            item("max_waiting", 64, {"type": "integer", "minimum": 0}),
            item("sampling_policy", "clamp", {"enum": ["clamp", "free", "strict"], "type": "string"}, applies="load"),
            item("seats", None, {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}, stored=8,
                 source="changed", origin="settings changed here", applies="restart", pending=True),
            item("port", 8080, {"type": "integer"}, source="flag", origin="--port", applies="restart", locked=True),
            item("state_dir", "/var/lib/r1box", {"type": "string", "format": "path"}, applies="file"),
            item("allow_cpu_fallback", False, {"type": "boolean"}),
        ),
        restart_needed=("seats",),
        file="/var/lib/r1box/settings.json",
    )  # fmt: skip


def backups() -> BackupList:
    """A week's nights, one by hand, one on a stick, and a file that is none."""

    def item(days: int, label: str, folder: str = "/var/lib/r1box/backups", **values: Any) -> BackupItem:
        at, host = NOON - timedelta(days=days, hours=9), values.get("host", "ward-3")
        name = values.pop("name", f"r1box-{host}-{at:%Y%m%dT%H%M%SZ}-{label}.r1backup")
        fields = {"size_bytes": (38 - days) * 1024**2, "created_at": at.isoformat(), "version": "0.1.0", "host": host}
        return BackupItem(**{"name": name, "path": f"{folder}/{name}", "label": label, **fields, **values})

    nights = [item(day, "nightly") for day in range(4)]
    broken = "It cannot be read as a backup: it does not begin as one."
    return BackupList(
        folder="/var/lib/r1box/backups",
        free_bytes=412 * GIB,
        keep=14,
        has_passphrase=True,
        backups=(
            *nights,
            item(4, "manual"),
            item(9, "", name="old.r1backup", created_at=None, version=None, host=None, size_bytes=512, problem=broken),
        ),
        on_sticks=(item(21, "manual", "/media/stick", host="ward-2"),),
        folders=("/media/stick",),
        last_restore=LastRestore(
            backup="r1box-ward-3-20260521T030000Z-nightly.r1backup",
            created_at="2026-05-21T03:00:00+00:00",
            restored_at=(NOON - timedelta(days=11)).isoformat(),
            host="ward-3",
            version="0.1.0",
            models=("r1-32b",),
            settings_left_out=("old_setting",),
        ),
    )


def bodies() -> dict[str, Any]:
    """By path."""
    return {
        "/api/admin/serving/history": serving(),
        "/api/admin/requests/live": live(),
        "/api/admin/jobs": jobs(),
        "/api/admin/keys": keys(),
        "/api/admin/users": users(),
        "/api/admin/plans": plans(),
        "/api/admin/sticks": sticks(),
        "/api/admin/about": about(),
        "/api/admin/hardware": hardware(),
        "/api/admin/telemetry/history": history(),
        "/api/admin/logs/events": logs(),
        "/api/admin/settings": settings(),
        "/api/admin/backups": backups(),
    }
