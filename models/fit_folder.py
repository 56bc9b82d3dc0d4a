"""Fits a model in safetensors that is in the store onto the machine that is there, for vLLM and its kin. Pure.

The counterpart of ``models.fit`` for the engines that divide every layer over their devices:

1. the engine that is made for the cards here and is installed (vLLM on NVIDIA, vLLM-Ascend before MindIE on Ascend), or
   the one that was asked for;
2. the cards that compute the model's form under it, the most seats x context on the fewest of them;
3. without cards, vLLM's processor build where the caller allows it;
4. otherwise a typed error.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from drivers.types import HardwareSnapshot, Vendor
from models.cards import parallel_band
from models.catalogue import kv_elements_per_token
from models.errors import CannotCompute, ContextTooLong, MemoryUnknown, NeedsOtherEngine, TooLarge
from models.gate import Computes
from models.hub_forms import judge_form
from models.machine import Group, Machine, Room, read_machine
from models.memory import KV_BYTES_PER_ELEMENT, kv_bytes
from models.parallel import ParallelLoad, Split, load_of, place_in_parallel, splits
from models.placement import Shortfall
from models.seating import Seating, seating, small_model_seating
from models.types import HOST, Catalogue, EngineName, FitPlan, InstalledModel, KvType, MemoryEstimate, ModelShape

PREFILL_TOKENS = 8192
_LONG_CONTEXT_TOKENS = 32_768
_PROCESSOR_WORK_BYTES = 2 * 1024**3
"""What a vLLM on the processor takes beside weights and cache: Python, torch, the activations of a prefill."""

_MADE_FOR: tuple[tuple[Vendor, tuple[EngineName, ...]], ...] = (
    (Vendor.NVIDIA, (EngineName.VLLM,)),
    (Vendor.ASCEND, (EngineName.VLLM_ASCEND, EngineName.MINDIE)),
)
_MODEL_SLIM_FILE = "quant_model_description"
"""ModelSlim's forms have such a file (``..._w8a8.json``) and say nothing in config.json."""


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """A stored model as far as a plan needs it. ``shape`` as config.json says; of a variant of the catalogue the
    catalogue's is used, which knows experts and MLA."""

    model: InstalledModel
    shape: ModelShape

    @property
    def weights_bytes(self) -> int:
        """Bytes of its tensors' files."""
        files = self.model.files
        return sum(f.size_bytes for f in files if f.name.endswith(".safetensors")) or self.model.size_bytes

    @property
    def form(self) -> str:
        """Its quantization in the catalogue's words."""
        for file in self.model.files:
            if file.name.startswith(_MODEL_SLIM_FILE):
                return "W4A8" if "w4a8" in file.name.lower() else "W8A8"
        return self.model.quantization


def fit_folder(
    facts: FolderFacts,
    catalogue: Catalogue,
    snapshot: HardwareSnapshot,
    seats: int | None = None,
    context_tokens: int | None = None,
    *,
    engines: Collection[EngineName],
    allow_cpu: bool = True,
) -> FitPlan:
    """How to serve the model here. ``engines`` are those that are installed, or the one that the operator wants.

    Seats and context that are given are kept exactly. Raises ``NeedsOtherEngine`` (there is none),
    ``ContextTooLong``, ``CannotCompute``, ``MemoryUnknown``, ``TooLarge``, ``ValueError`` (seats or context below
    one).
    """
    model = facts.model
    if not engines:
        raise NeedsOtherEngine(model.id, model.format.value)
    variant = None if model.variant is None else catalogue.variant(model.variant)
    shape = facts.shape if variant is None else variant.shape
    if context_tokens is not None and context_tokens > shape.context_length:
        raise ContextTooLong(model.name, context_tokens, shape.context_length)
    load = ParallelLoad(shape, facts.weights_bytes) if variant is None else load_of(variant, facts.weights_bytes)
    levels = usual_levels(shape, seats, context_tokens)
    machine = read_machine(snapshot)
    reasons: list[str] = []
    shortfalls: list[Shortfall] = []
    for engine, group, verdict_code in candidates(facts, machine, engines, reasons):
        found = _climb(load, engine, group, levels)
        if isinstance(found, Shortfall):
            shortfalls.append(found)
            continue
        level, split, memory = found
        return _on_cards(facts, load, engine, group, levels, level, split, memory, as_half=verdict_code == "as_f16")
    if shortfalls:
        worst = min(shortfalls, key=lambda s: s.missing_bytes)
        raise too_large(facts, levels, worst)
    if allow_cpu and EngineName.VLLM in engines:
        return _on_processor(facts, load, machine, levels, has_cards=bool(snapshot.devices), reasons=reasons)
    raise CannotCompute(model.name, "; ".join(dict.fromkeys(reasons)) or nothing_installed(machine, engines))


def needs_half(plan: FitPlan) -> bool:
    """Whether the plan's chips have no BF16, so that the engine has to run it in F16."""
    return HALF_NOTE in plan.notes


HALF_NOTE = "Runs in F16: the chip has no BF16."


def usual_levels(shape: ModelShape, seats: int | None, context_tokens: int | None) -> Seating:
    if seats is None and context_tokens is None and shape.context_length < _LONG_CONTEXT_TOKENS:
        return small_model_seating(shape.context_length)
    return seating(seats, context_tokens, shape.context_length)


def candidates(
    facts: FolderFacts, machine: Machine, engines: Collection[EngineName], reasons: list[str]
) -> list[tuple[EngineName, Group, str]]:
    """Engines and groups that compute the form on the card, in the order of preference; why the others do not goes to
    ``reasons``."""
    architecture, form = facts.model.architecture, "BF16" if facts.form in ("F16", "F32") else facts.form
    found = []
    for group in machine.groups:
        vendor = next((room.device.vendor for room in group.rooms if room.device is not None), None)
        for made_for, names in _MADE_FOR:
            if vendor != made_for:
                continue
            there = [name for name in names if name in engines]
            if not there:
                reasons.append(f"{' or '.join(names)} serves safetensors on these cards, and none is installed")
            for name in there:
                verdict = judge_form(group.chip, name, architecture, form)
                if verdict.computes is Computes.ON_CARD:
                    found.append((name, group, verdict.code))
                else:
                    reasons.append(f"{verdict.reason} ({name})")
    return found


def _climb(
    load: ParallelLoad, engine: EngineName, group: Group, levels: Seating
) -> tuple[int, Split, tuple[MemoryEstimate, ...]] | Shortfall:
    """The highest level that fits, on the fewest devices that give it."""
    last = Shortfall("the devices", load.total_bytes, 0)
    for level in range(len(levels.levels) - 1, -1, -1):
        for split in splits(load.shape, engine, len(group.rooms)):
            placed = place_in_parallel(load, split, group.rooms, *levels.levels[level])
            if not isinstance(placed, Shortfall):
                return level, split, placed
            last = placed
    return last


def _on_cards(
    facts: FolderFacts,
    load: ParallelLoad,
    engine: EngineName,
    group: Group,
    levels: Seating,
    level: int,
    split: Split,
    memory: Sequence[MemoryEstimate],
    *,
    as_half: bool,
) -> FitPlan:
    shape = load.shape
    chosen = {line.device for line in memory}
    devices = tuple(room.device for room in group.rooms if room.device is not None and room.name in chosen)
    read_bytes = load.dense_bytes
    if shape.experts and shape.experts_used:
        read_bytes += load.expert_bytes * shape.experts_used // shape.experts
    per_token = float(kv_elements_per_token(shape) * KV_BYTES_PER_ELEMENT[KvType.F16])
    plan = plan_of(facts, engine, levels, level, tuple(memory))
    return replace(
        plan,
        devices=tuple(line.device for line in memory),
        gpu_layers=shape.layers + 1,
        tensor_parallel=split.tensor,
        data_parallel=split.data,
        decode_tokens_per_s=parallel_band(devices, read_bytes, per_token, experts=shape.experts is not None),
        notes=(HALF_NOTE,) if as_half else (),
    )


def _on_processor(
    facts: FolderFacts,
    load: ParallelLoad,
    machine: Machine,
    levels: Seating,
    *,
    has_cards: bool,
    reasons: Sequence[str],
) -> FitPlan:
    if machine.host is None:
        raise MemoryUnknown(HOST)
    shortfall = Shortfall(HOST, load.total_bytes, 0)
    for level in range(len(levels.levels) - 1, -1, -1):
        line = host_line(load, machine.host, *levels.levels[level])
        if line.total_bytes <= line.available_bytes:
            why = "; ".join(dict.fromkeys(reasons))
            notes = (f"Runs on the processor although the machine has cards: {why}.",) if has_cards else ()
            return replace(plan_of(facts, EngineName.VLLM, levels, level, (line,)), notes=notes)
        shortfall = Shortfall(HOST, line.total_bytes, line.available_bytes)
    raise too_large(facts, levels, shortfall)


def host_line(load: ParallelLoad, host: Room, seats: int, context_tokens: int) -> MemoryEstimate:
    return MemoryEstimate(
        device=HOST,
        weights_bytes=load.total_bytes,
        kv_bytes=kv_bytes(load.shape, seats * context_tokens, KvType.F16),
        compute_bytes=_PROCESSOR_WORK_BYTES,
        reserve_bytes=host.reserve_bytes,
        available_bytes=host.available_bytes,
    )


def plan_of(
    facts: FolderFacts, engine: EngineName, levels: Seating, level: int, memory: tuple[MemoryEstimate, ...]
) -> FitPlan:
    seats, context_tokens = levels.levels[level]
    return FitPlan(
        variant=facts.model.variant or facts.model.name,
        quantization=facts.form,
        engine=engine,
        devices=(),
        seats=seats,
        context_tokens=context_tokens,
        kv_type=KvType.F16,
        flash_attention=True,
        ubatch_tokens=PREFILL_TOKENS,
        gpu_layers=0,
        tensor_split=(),
        memory=memory,
        file_bytes=facts.weights_bytes,
        reduced=levels.reduced(level),
    )


def too_large(facts: FolderFacts, levels: Seating, shortfall: Shortfall) -> TooLarge:
    seats, context_tokens = levels.levels[0]
    name = f"{facts.model.name} {facts.form}"
    available = max(shortfall.available_bytes, 0)
    return TooLarge(name, shortfall.needed_bytes, available, shortfall.where, seats, context_tokens)


def nothing_installed(machine: Machine, engines: Collection[EngineName]) -> str:
    if not machine.groups and EngineName.VLLM in engines:
        return "there are no cards, and the processor is not allowed"
    return f"{', '.join(sorted(engines))} does not run here"
