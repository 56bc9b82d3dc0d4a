"""The golden machines worked out a second time, from the facts alone: nothing here comes from ``models``.

Weights are those of every single block, compute buffers those that llama.cpp laid out (tests/fixtures/golden), caches
follow from elements per token. The rules are written out again below: which form is better, what a chip computes, what
is kept free. Layers are packed onto the cards one by one in their order, which no division can beat; a candidate that
does not fit here fits nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = 1024**3
FACTS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "golden" / "facts.json").read_text(encoding="utf-8")
)["variants"]

ORDER = (
    "R1-0528-671B", "R1-671B", "R1-Distill-Llama-70B", "R1-Distill-Qwen-32B", "R1-Distill-Llama-70B below Q5_K_M",
    "R1-0528-Qwen3-8B", "R1-Distill-Qwen-14B", "R1-Distill-Qwen-7B", "R1-Distill-Llama-8B", "R1-Distill-Qwen-1.5B",
)  # fmt: skip
"""Best first, by GPQA-Diamond; 70B under Q5_K_M falls behind 32B, which is as good in less memory."""
FORMS = (
    "Q8_0", "FP8", "W8A8", "W8A16", "BF16", "F16", "Q6_K", "UD-Q5_K_XL", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0",
    "UD-Q4_K_XL", "Q4_K_M", "AWQ", "W4A16", "GPTQ-Int4", "Q4_K_S", "IQ4_NL", "IQ4_XS", "Q4_1", "Q4_0", "Q4_0-pure",
    "UD-Q3_K_XL", "Q3_K_L", "Q3_K_M", "IQ3_M", "UD-IQ2_M",
)  # fmt: skip
"""Best first. Q8_0 before 16 bits: no measurable loss in half the bytes."""
FLOOR = {
    "R1-0528-671B": "UD-IQ2_M", "R1-671B": "UD-IQ2_M", "R1-Distill-Llama-70B": "IQ3_M", "R1-Distill-Qwen-32B": "IQ3_M",
    "R1-Distill-Qwen-1.5B": "Q5_K_M",
}  # fmt: skip
USUAL_FLOOR = "Q4_0-pure"
UNSLOTH_GB = {"UD-Q5_K_XL": 481, "UD-Q4_K_XL": 384, "UD-Q3_K_XL": 296, "UD-IQ2_M": 229}
"""671B of 0528, published in rounded gigabytes: one percent is added, and their layers may be uneven by 16 %."""
PURE_BYTES = {
    "R1-Distill-Llama-70B": (40741667072, 1116340224), "R1-Distill-Qwen-32B": (19212095488, 827228160),
    "R1-0528-Qwen3-8B": (5230678016, 661225472), "R1-Distill-Qwen-14B": (9089601536, 827228160),
    "R1-Distill-Qwen-7B": (4829927424, 579059712), "R1-Distill-Llama-8B": (5043273984, 558170112),
}  # fmt: skip
"""Q4_0-pure: all bytes, and those of the embedding (as many as the output's)."""
READ_PER_TOKEN = {"Q8_0": 39230359552, "Q6_K": 30510044672, "Q5_K_M": 26217521152, "Q4_K_M": 22296018944}
"""671B: what one token reads."""

LEVELS = ((1, 4096), (1, 8192), (2, 8192), (4, 8192), (4, 16384), (8, 16384), (8, 32768), (16, 32768))
USUAL = 3
Q8_CACHE = 34 / 32
GB_PER_S = {
    "T4": 320, "A2": 200, "P4": 192, "V100": 900, "L4": 300, "A10": 600, "3090": 936, "4090": 1008, "4090D": 1008,
    "5090": 1792, "L20": 864, "L40S": 864, "PRO6000": 1792, "A100-40": 1555, "A100-80": 2039, "A800": 2039,
    "H100": 3350, "H800": 3350, "H20": 4000, "H200": 4800, "GB10": 273, "310P3": 204, "910B4": 800, "910B3": 1600,
    "910B1": 1600, "910C": 1600,
}  # fmt: skip
CAPABILITY = {
    "T4": 7.5, "A2": 8.6, "P4": 6.1, "K80": 3.7, "V100": 7.0, "L4": 8.9, "A10": 8.6, "3090": 8.6, "4090": 8.9,
    "4090D": 8.9, "5090": 12.0, "L20": 8.9, "L40S": 8.9, "PRO6000": 12.0, "A100-40": 8.0, "A100-80": 8.0, "A800": 8.0,
    "H100": 9.0, "H800": 9.0, "H20": 9.0, "H200": 9.0, "GB10": 12.1,
}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """One device of a machine."""

    kind: str
    total: int
    free: int

    @property
    def nvidia(self) -> bool:
        return self.kind in CAPABILITY


@dataclass(frozen=True)
class Found:
    """A candidate at a level: how many devices (0: the processor), the cache's form."""

    level: int
    devices: int
    cache: str


@dataclass(frozen=True)
class Missing:
    """What a candidate needs and what is there, all devices together."""

    needed: int
    available: int
    devices: int


def parse(line: str) -> tuple[list[Card], int, int]:
    """The cards of a line, and total and available memory of its host."""
    words, _, memory = line.partition("/")
    total = int(float(memory.split()[1]) * GIB)
    cards: list[Card] = []
    for part in filter(None, (one.strip() for one in words.split("+"))):
        count, kind, gib = part.split()
        size = float(gib)
        free = size * 0.98 if kind in CAPABILITY else size - {"310P3": 1.5, "910A": 2.0}.get(kind, 3.0)
        cards += [Card(kind, int(size * GIB), int(free * GIB))] * int(count)
    return cards, total, int(float(memory.split()[1]) * 0.9 * GIB)


def reserve_of_host(total: int) -> int:
    return min(max(total // 10, GIB // 4), 16 * GIB)


def of(variant: str) -> dict[str, Any]:
    facts: dict[str, Any] = FACTS["R1-671B" if variant == "R1-0528-671B" else variant]
    return facts


def weights(variant: str, form: str) -> tuple[list[int], int, int] | None:
    """Bytes of every block, of the embedding and of the output; ``None`` where the form does not exist."""
    facts = of(variant)
    count = facts["layers"]
    if form in UNSLOTH_GB:
        if variant != "R1-0528-671B":
            return None
        return [int(UNSLOTH_GB[form] * 1.01e9 / count)] * count, 0, 0
    if form == "Q4_0-pure":
        if variant not in PURE_BYTES:
            return None
        total, embedding = PURE_BYTES[variant]
        return [(total - 2 * embedding) // count] * count, embedding, embedding
    known = facts["forms"].get("BF16" if form == "F16" else form)
    if known is None or (form == "F16" and "671B" in variant):
        return None
    layers = [size for times, size in known["layers"] for _ in range(times)]
    return layers, known["embedding_bytes"], known["output_bytes"]


def computes(card: Card, variant: str, form: str) -> bool:
    """Whether llama.cpp computes the form on the card."""
    if card.nvidia:
        return CAPABILITY[card.kind] >= (8.0 if form == "BF16" else 6.1)
    if "671B" in variant:
        return False
    if card.kind == "310P3":
        return form == "F16"
    return card.kind in ("910B1", "910B3", "910B4", "910C") and form in ("F16", "BF16", "Q8_0", "Q4_0-pure")


def candidates() -> Iterator[tuple[str, str]]:
    """Variant and form, best first, down to each variant's floor."""
    for entry in ORDER:
        variant, _, below = entry.partition(" below ")
        for form in FORMS[: FORMS.index(FLOOR.get(variant, USUAL_FLOOR)) + 1]:
            weak = FORMS.index(form) > FORMS.index("Q5_K_M")
            if variant != "R1-Distill-Llama-70B" or weak == bool(below):
                yield variant, form


def on_processor(variant: str, form: str, total: int, available: int) -> Found | Missing | None:
    parts = weights(variant, form)
    if parts is None:
        return None
    layers, embedding, output = parts
    facts = of(variant)
    for level in range(len(LEVELS) - 1, USUAL - 1, -1):
        tokens = LEVELS[level][0] * LEVELS[level][1]
        needed = sum(layers) + embedding + output + facts["kv_elements_per_token"] * 2 * tokens
        needed += facts["buffers"]["host"]["fa f16"][level][1] + reserve_of_host(total)
        if needed <= available:
            return Found(level, 0, "f16")
        if level == USUAL:
            missing = Missing(needed, available, 0)
    return missing


def on_cards(variant: str, form: str, cards: list[Card], host: tuple[int, int]) -> Found | Missing | None:
    """The highest level on the fewest of these cards (best first), or what the usual level lacks."""
    parts = weights(variant, form)
    if parts is None:
        return None
    missing: Missing | None = None
    for level in range(len(LEVELS) - 1, USUAL - 1, -1):
        for cache in _caches(cards[0], level):
            uneven = 1.16 if form in UNSLOTH_GB else 1.0
            found = _pack(parts, of(variant), cards, host, level, cache, uneven)
            if isinstance(found, Found):
                return found
            if level == USUAL and (missing is None or found.needed < missing.needed):
                missing = found
    assert missing is not None
    return missing


def _caches(card: Card, level: int) -> tuple[str, ...]:
    if card.kind == "310P3":
        return "no fa 512", "no fa 128"
    return ("fa f16", "fa q8_0") if card.nvidia and level <= USUAL else ("fa f16",)


def _pack(
    parts: tuple[list[int], int, int],
    facts: dict[str, Any],
    cards: list[Card],
    host: tuple[int, int],
    level: int,
    cache: str,
    uneven: float,
) -> Found | Missing:
    layers, embedding, output = parts
    tokens = LEVELS[level][0] * LEVELS[level][1]
    kv = facts["kv_elements_per_token"] * tokens * (Q8_CACHE if cache == "fa q8_0" else 2) / len(layers)
    whole = sum(layers) + kv * len(layers) + output
    host_total, host_available = host
    ranked = sorted(range(len(cards)), key=lambda i: (-cards[i].free, i))
    missing: Missing | None = None
    for count in range(1, len(cards) + 1):
        chosen = [cards[i] for i in sorted(ranked[:count])]
        where = "card" if count == 1 else "pipeline" if chosen[0].nvidia else "several"
        compute, on_host = facts["buffers"][where][cache][level]
        kept = GIB
        free = [card.free for card in chosen]
        host_needs = embedding + on_host + reserve_of_host(host_total)
        if chosen[0].kind == "GB10":
            free = [min(chosen[0].free, host_available)]
            kept = GIB + host_needs
        elif host_needs > host_available:
            return Missing(host_needs, host_available, 0)
        rest = [whole] if count == 1 else [*(size * uneven + kv for size in layers), output]
        for room in free:
            left = room - kept - compute
            while rest and rest[0] <= left:
                left -= rest.pop(0)
        if not rest:
            return Found(level, count, cache.split()[1] if cache.startswith("fa") else "f16")
        missing = Missing(int(whole) + count * (kept + compute), sum(free), count)
    assert missing is not None
    return missing


def best_speed(variant: str, form: str, cards: list[Card]) -> float:
    """The most tokens per second that one stream may reach on these cards, one after the other."""
    parts = weights(variant, form)
    assert parts is not None
    layers, _, output = parts
    read = sum(layers) + output
    share = 0.85 if cards[0].nvidia else 0.8
    if "671B" in variant:
        read, share = READ_PER_TOKEN.get(form, read * 6 // 100), 0.15
    read += of(variant)["kv_elements_per_token"] * 2 * 4096
    slowest = min(GB_PER_S[card.kind] for card in cards)
    return slowest * 1e9 * share / read


def groups(cards: list[Card]) -> list[list[Card]]:
    """Cards of one kind (of one compute capability); then all of NVIDIA's together."""
    kinds: dict[object, list[Card]] = {}
    for card in cards:
        kinds.setdefault(CAPABILITY.get(card.kind, card.kind), []).append(card)
    nvidia = [card for card in cards if card.nvidia]
    mixed = [nvidia] if sum(group[0].nvidia for group in kinds.values()) > 1 else []
    return [*kinds.values(), *mixed]


def judge(line: str, variant: str, form: str) -> tuple[str, Found | Missing | None]:
    """``fits``, ``slow``, ``gate``, ``memory`` or ``none`` (no such form), with the figures."""
    cards, total, available = parse(line)
    if not cards:
        found = on_processor(variant, form, total, available)
        if isinstance(found, Found) and found.level >= USUAL:
            return "slow" if _processor_is_slow(variant, form) else "fits", found
        return ("none", None) if found is None else ("memory", found)
    able = [group for group in groups(cards) if all(computes(card, variant, form) for card in group)]
    if weights(variant, form) is None:
        return "none", None
    if not able:
        return "gate", None
    # Cards of one kind are enough where they are: a slower one beside them would hold them up.
    alone = [group for group in able if len({CAPABILITY.get(card.kind, card.kind) for card in group}) == 1]
    answers = [(group, on_cards(variant, form, group, (total, available))) for group in alone]
    if not any(isinstance(found, Found) for _, found in answers):
        together = [group for group in able if group not in alone]
        answers += [(group, on_cards(variant, form, group, (total, available))) for group in together]
    fitting = [(g, f) for g, f in answers if isinstance(f, Found) and f.level >= USUAL]
    if fitting:
        group, best = max(fitting, key=lambda pair: pair[1].level)
        return "slow" if best_speed(variant, form, group) < 5 else "fits", best
    lacking = [f for _, f in answers if isinstance(f, Missing)]
    return "memory", min(lacking, key=lambda f: f.needed - f.available)


def _processor_is_slow(variant: str, form: str) -> bool:
    """Between a desktop's 17.5 GB/s in effect and a server's 160 the geometric middle is 52.9; 4 tokens/s are the
    least."""
    parts = weights(variant, form)
    assert parts is not None
    read = sum(parts[0]) + parts[2]
    if "671B" in variant:
        read = READ_PER_TOKEN.get(form, read * 6 // 100)
    return 52.9e9 / (read + of(variant)["kv_elements_per_token"] * 2 * 4096) < 4


def best(line: str) -> tuple[str, str, Found] | None:
    """The first candidate that fits, is computed on the cards and is fast enough."""
    for variant, form in candidates():
        verdict, found = judge(line, variant, form)
        if verdict == "fits" and isinstance(found, Found):
            return variant, form, found
    return None


def reasons(line: str) -> tuple[str, ...]:
    """Why nothing better was chosen: of the better candidates the one that lacks the least memory, the first that would
    be too slow, the first that the cards do not compute; of those there are."""
    chosen = best(line)
    nearest: tuple[int, str] | None = None
    slow = gate = ""
    for variant, form in candidates():
        if chosen is not None and (variant, form) == chosen[:2]:
            break
        verdict, found = judge(line, variant, form)
        if verdict == "memory" and isinstance(found, Missing):
            lacks = found.needed - found.available
            if nearest is None or lacks < nearest[0]:
                where = f"x{found.devices} " if found.devices else ""
                # Where the sum would do no division into whole layers does.
                how = "lacks" if lacks > 0 else "whole layers:"
                there = f"{found.needed / GIB:.2f} of {found.available / GIB:.2f} GiB"
                nearest = lacks, f"{variant} {form} {where}{how} {there}"
        elif verdict == "slow":
            slow = slow or f"{variant} {form} slow"
        elif verdict == "gate":
            gate = gate or f"{variant} {form} not on the card"
    return tuple(filter(None, (nearest[1] if nearest else "", slow, gate)))


def holds(line: str, variant: str, form: str, split: tuple[int, ...], level: int, cache: str) -> bool:
    """Whether the cards of this number hold these very blocks, each with its reserve and what llama.cpp lays out."""
    cards, host_total, host_available = parse(line)
    parts = weights(variant, form)
    assert parts is not None
    layers, embedding, output = parts
    facts = of(variant)
    kv = facts["kv_elements_per_token"] * LEVELS[level][0] * LEVELS[level][1] * (Q8_CACHE if "q8" in cache else 2)
    able = next(g for g in [*groups(cards), cards] if computes(g[0], variant, form) and len(g) >= len(split))
    ranked = sorted(able, key=lambda card: -card.free)[: len(split)]
    where = "card" if len(split) == 1 else "pipeline" if ranked[0].nvidia else "several"
    compute, on_host = facts["buffers"][where][cache][level]
    first = 0
    for number, count in enumerate(split):
        last = number == len(split) - 1
        own = count - 1 if last else count
        needed = sum(layers[first : first + own]) + kv * own / len(layers) + compute + GIB + (output if last else 0)
        room = ranked[number].free
        if ranked[number].kind == "GB10":
            needed += embedding + on_host + reserve_of_host(host_total)
            room = min(room, host_available)
        if needed > room:
            return False
        first += own
    return first == len(layers)
