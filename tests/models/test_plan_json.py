"""The JSON of plans keeps its shape."""

from __future__ import annotations

import json

from models.plan_json import plan_result_to_json
from models.planner import plan
from models.types import Catalogue
from tests.models import machines

PLAN_KEYS = {
    "variant",
    "quantization",
    "engine",
    "devices",
    "seats",
    "context_tokens",
    "kv_type",
    "flash_attention",
    "memory",
    "draft",
    "decode_tokens_per_s",
}
MEMORY_KEYS = {
    "device",
    "weights_bytes",
    "kv_bytes",
    "compute_bytes",
    "reserve_bytes",
    "draft_bytes",
    "total_bytes",
    "available_bytes",
}
REJECTION_KEYS = {
    "variant",
    "quantization",
    "engine",
    "code",
    "reason",
    "needed_bytes",
    "available_bytes",
    "counter_offer",
}


def test_shape_of_the_json(catalogue: Catalogue) -> None:
    raw = json.loads(json.dumps(plan_result_to_json(plan(catalogue, machines.RTX_4090, 8, 32_768))))
    assert raw["schema"] == 1
    best = raw["plans"][0]
    assert best.keys() >= PLAN_KEYS
    assert best["engine"] == "llama.cpp"
    assert best["devices"] == ["nvidia:0"]
    assert set(best["memory"][0]) == MEMORY_KEYS
    parts = ("weights_bytes", "kv_bytes", "compute_bytes", "reserve_bytes", "draft_bytes")
    assert best["memory"][0]["total_bytes"] == sum(best["memory"][0][p] for p in parts)
    assert set(best["decode_tokens_per_s"]) == {"low", "high"}
    rejected = raw["rejections"][0]
    assert set(rejected) == REJECTION_KEYS
    assert any(r["counter_offer"] == {"seats": 4, "context_tokens": 32_768} for r in raw["rejections"])


def test_processor_plan_has_no_devices(catalogue: Catalogue) -> None:
    best = plan_result_to_json(plan(catalogue, machines.CPU_24))["plans"][0]
    assert best["devices"] == []
    assert best["memory"][0]["device"] == "host"
