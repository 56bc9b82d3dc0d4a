"""As ``golden_review`` for the engines that divide every layer over their devices (vLLM, vLLM-Ascend, MindIE).

Weights by bits of a form, cache divided by heads, 2 GiB and the activations of 8,192 tokens for the work, 90 % of a
device or what is free but half a gibibyte.
"""

from __future__ import annotations

from typing import Any

from tests.models.golden_review import (
    CAPABILITY,
    GB_PER_S,
    GIB,
    LEVELS,
    READ_PER_TOKEN,
    USUAL,
    Card,
    candidates,
    groups,
    of,
    parse,
    reserve_of_host,
)

_PUBLISHED = {
    "vllm": {
        "R1-0528-671B": ("FP8",), "R1-671B": ("FP8", "AWQ", "W4A16"),
        "R1-Distill-Llama-70B": ("FP8", "W8A8", "BF16", "AWQ", "W4A16"),
        "R1-Distill-Qwen-32B": ("FP8", "W8A8", "BF16", "AWQ", "GPTQ-Int4"),
        "R1-0528-Qwen3-8B": ("W8A16", "BF16", "W4A16"),
        "R1-Distill-Qwen-14B": ("FP8", "W8A8", "BF16", "AWQ", "W4A16"),
        "R1-Distill-Qwen-7B": ("BF16", "AWQ", "GPTQ-Int4"), "R1-Distill-Llama-8B": ("W8A8", "BF16", "AWQ", "W4A16"),
        "R1-Distill-Qwen-1.5B": ("BF16",),
    },
    "vllm-ascend": {"R1-0528-671B": ("W8A8",), "R1-671B": ("W8A8",), "*": ("BF16",)},
    "mindie": {"R1-0528-671B": ("W8A8",), "R1-671B": ("W8A8",), "*": ("BF16",)},
}  # fmt: skip
_BITS = {"FP8": 8.0, "W8A8": 8.0, "W8A16": 8.0, "BF16": 16.0, "AWQ": 4.15625, "W4A16": 4.15625, "GPTQ-Int4": 4.15625}


def hub_bytes(variant: str, form: str) -> float:
    """Layers in the form's bits, embedding and output in 16; 8 bits of the 671B are 640 GiB as published."""
    facts = of(variant)
    if "671B" in variant and _BITS[form] == 8.0:
        return 640.0 * GIB
    rest = 2 * facts["vocabulary"] * facts["embedding"]
    return float((facts["parameters"] - rest) * _BITS[form] / 8 + rest * 2)


def hub_computes(card: Card, engine: str, variant: str, form: str) -> bool:
    if engine == "vllm":
        return card.nvidia and CAPABILITY[card.kind] >= 7.5 and not (form == "W8A8" and CAPABILITY[card.kind] >= 10)
    if card.kind == "310P3":
        return engine == "mindie" and form == "BF16" and "671B" not in variant
    return card.kind in ("910B1", "910B3", "910B4", "910C") and form in ("BF16", "W8A8")


def _divides(facts: dict[str, Any], engine: str, variant: str, count: int) -> int | None:
    """Tensor parallel on so many devices; of the 671B vLLM-Ascend wants 32, 64 or 128 heads left on each."""
    if "671B" in variant:
        if engine == "vllm":
            return count
        return next((t for t in (count, 4, 2, 1) if count % t == 0 and 128 // t in (32, 64, 128)), None)
    heads, kv_heads = facts["heads"], facts["kv_heads"]
    return count if heads % count == 0 and (kv_heads % count == 0 or count % kv_heads == 0) else None


def hub_level(line: str, variant: str, form: str, engine: str) -> tuple[int, int] | None:
    """The highest level from the usual on, and the fewest devices that give it; ``None`` when nothing fits or is fast
    enough."""
    cards, _, host_available = parse(line)
    facts = of(variant)
    total = hub_bytes(variant, form)
    experts = 0.0
    if "671B" in variant:
        known = facts["forms"]["Q8_0"]
        routed = (known["tensor_bytes"] - known["embedding_bytes"] - READ_PER_TOKEN["Q8_0"]) * 256 / 248
        experts = total * routed / known["tensor_bytes"]
    for level in range(len(LEVELS) - 1, USUAL - 1, -1):
        for group in groups(cards)[: len({CAPABILITY.get(c.kind, c.kind) for c in cards})]:
            if not hub_computes(group[0], engine, variant, form):
                continue
            count = 1
            while count <= len(group):
                tensor = _divides(facts, engine, variant, count)
                if tensor is not None:
                    seats = -(-LEVELS[level][0] // (count // tensor))
                    kv = facts["kv_elements_per_token"] * 2 * seats * LEVELS[level][1]
                    if "671B" not in variant:
                        kv /= min(tensor, facts["kv_heads"])
                    width = 4 * facts["embedding"] + 2 * facts["feed_forward"] / tensor
                    work = 2 * GIB + 8192 * width * 2
                    needed = (total - experts) / tensor + experts / count + kv + work
                    card = group[0]
                    room = min(card.free - GIB / 2, card.total * 0.9)
                    if card.kind == "GB10":
                        host_total = parse(line)[1]
                        room = min(card.free, host_available) - reserve_of_host(host_total) - GIB * 1.5
                    if needed <= room:
                        slow = _hub_speed(facts, variant, total - experts, experts, card, count) < 5
                        return None if slow else (level, count)
                count *= 2
    return None


def _hub_speed(facts: dict[str, Any], variant: str, dense: float, experts: float, card: Card, count: int) -> float:
    share = 0.8 if card.nvidia else 0.65
    if count == 1:
        share = 0.85 if card.nvidia else 0.8
    if "671B" in variant:
        share = 0.15
    read = dense + experts * 8 / 256 + facts["kv_elements_per_token"] * 2 * 4096
    return count * GB_PER_S[card.kind] * 1e9 * share / read


def best_of_hubs(line: str) -> tuple[str, str, str, int, int] | None:
    """Variant, form, engine, level and devices of the best of the other engines."""
    for variant, form in candidates():
        # vLLM-Ascend calls the distilled models experimental, and is what the 671B was made for.
        ascend = ("vllm-ascend", "mindie") if "671B" in variant else ("mindie", "vllm-ascend")
        for engine in ("vllm", *ascend):
            if form in _PUBLISHED[engine].get(variant, _PUBLISHED[engine].get("*", ())):
                found = hub_level(line, variant, form, engine)
                if found is not None:
                    return variant, form, engine, *found
    return None
