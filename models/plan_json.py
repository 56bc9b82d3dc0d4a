"""Plans as JSON values (schema 1), for ``r1box plan --json`` and the API."""

from __future__ import annotations

from typing import Any

from models.types import FitPlan, MemoryEstimate, PlanResult, Rejection

PLAN_SCHEMA = 1


def plan_result_to_json(result: PlanResult) -> dict[str, Any]:
    """``{"schema", "plans", "rejections", "notes"}``; plans in their rank, rejections the nearest first."""
    return {
        "schema": PLAN_SCHEMA,
        "plans": [plan_to_json(p) for p in result.plans],
        "rejections": [rejection_to_json(r) for r in result.rejections],
        "notes": list(result.notes),
    }


def plan_to_json(plan: FitPlan) -> dict[str, Any]:
    """One plan. Bytes are whole numbers, speeds tokens per second of one stream or null."""
    speed = plan.decode_tokens_per_s
    return {
        "variant": plan.variant,
        "quantization": plan.quantization,
        "engine": str(plan.engine),
        "devices": list(plan.devices),
        "seats": plan.seats,
        "context_tokens": plan.context_tokens,
        "kv_type": str(plan.kv_type),
        "flash_attention": plan.flash_attention,
        "ubatch_tokens": plan.ubatch_tokens,
        "gpu_layers": plan.gpu_layers,
        "tensor_split": list(plan.tensor_split),
        "tensor_parallel": plan.tensor_parallel,
        "data_parallel": plan.data_parallel,
        "repository": plan.repository,
        "installed": plan.installed,
        "host_layers": plan.host_layers,
        "experts_on_host": plan.experts_on_host,
        "draft": plan.draft,
        "memory": [_memory_to_json(m) for m in plan.memory],
        "file_bytes": plan.file_bytes,
        "decode_tokens_per_s": None if speed is None else {"low": speed.low, "high": speed.high},
        "reduced": plan.reduced,
        "notes": list(plan.notes),
    }


def rejection_to_json(rejection: Rejection) -> dict[str, Any]:
    """One rejection; byte counts are null where memory is not the reason."""
    offer = rejection.counter_offer
    return {
        "variant": rejection.variant,
        "quantization": rejection.quantization,
        "engine": str(rejection.engine),
        "code": rejection.code,
        "reason": rejection.reason,
        "needed_bytes": rejection.needed_bytes,
        "available_bytes": rejection.available_bytes,
        "counter_offer": None if offer is None else {"seats": offer.seats, "context_tokens": offer.context_tokens},
    }


def _memory_to_json(memory: MemoryEstimate) -> dict[str, Any]:
    return {
        "device": memory.device,
        "weights_bytes": memory.weights_bytes,
        "kv_bytes": memory.kv_bytes,
        "compute_bytes": memory.compute_bytes,
        "reserve_bytes": memory.reserve_bytes,
        "draft_bytes": memory.draft_bytes,
        "total_bytes": memory.total_bytes,
        "available_bytes": memory.available_bytes,
    }
