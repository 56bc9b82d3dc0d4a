"""Whether a bundle's model fits a machine, from the manifest alone: before a byte is copied.

A GGUF is judged by the very function that opens models (``models.fit``), on a header made of the manifest's numbers; so
the judgement before the import and the one after it agree. Safetensors are placed as ``models.hub_planner`` places
them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from drivers.types import HardwareSnapshot, Vendor
from models.bundle.manifest import BundleManifest
from models.errors import CannotCompute, MemoryUnknown, ModelError, TooLarge
from models.fit import fit_installed
from models.gate import Computes
from models.gguf_format import FILE_TYPES
from models.gguf_header import GgufHeader, TensorInfo, Value
from models.hub_forms import judge_form
from models.machine import read_machine
from models.parallel import ParallelLoad, place_in_parallel, splits
from models.placement import Shortfall
from models.seating import seating
from models.store_types import ModelFormat
from models.types import EngineName, FitPlan

_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Judgement:
    """``fits`` is ``None`` when it cannot be said (memory unknown). ``reason`` is a sentence without its full stop;
    the bytes are there where memory decides. ``plan`` is llama.cpp's, where there is one."""

    fits: bool | None
    engine: EngineName
    reason: str
    needed_bytes: int | None = None
    available_bytes: int | None = None
    plan: FitPlan | None = None


def judge(
    manifest: BundleManifest,
    snapshot: HardwareSnapshot,
    *,
    usable_vendors: Collection[Vendor] | None = None,
    allow_cpu: bool = False,
) -> Judgement:
    """Whether the model runs on the machine of ``snapshot``: on its cards, or on the processor of one without cards.

    ``usable_vendors`` are those the installed llama.cpp was built for (``None``: all). ``allow_cpu``: the processor
    will do on a machine with cards too.
    """
    if manifest.model.format is ModelFormat.GGUF:
        return _judge_gguf(manifest, snapshot, usable_vendors, allow_cpu=allow_cpu or not snapshot.devices)
    return _judge_parallel(manifest, snapshot)


def _judge_gguf(
    manifest: BundleManifest, snapshot: HardwareSnapshot, usable_vendors: Collection[Vendor] | None, *, allow_cpu: bool
) -> Judgement:
    engine = EngineName.LLAMA_CPP
    try:
        header = header_of(manifest)
        plan = fit_installed(header, snapshot, allow_cpu=allow_cpu, usable_vendors=usable_vendors)
    except TooLarge as error:
        needed, available = int(str(error.details["needed_bytes"])), int(str(error.details["available_bytes"]))
        where = error.details["device"]
        reason = f"it needs {_gib(needed)} on {where} for the smallest seating, {_gib(available)} are there"
        return Judgement(False, engine, reason, needed, available)
    except CannotCompute as error:
        return Judgement(False, engine, str(error.details["reason"]))
    except MemoryUnknown as error:
        return Judgement(None, engine, error.message.rstrip("."))
    except ModelError as error:
        return Judgement(False, engine, error.message.rstrip("."))
    plan = replace(plan, variant=manifest.model.variant or manifest.name, quantization=manifest.model.quantization)
    where = ", ".join(plan.devices) or "the processor"
    largest = max(plan.memory, key=lambda line: line.total_bytes)
    reason = f"{plan.seats} seats x {plan.context_tokens:,} tokens on {where}"
    return Judgement(True, engine, reason, largest.total_bytes, largest.available_bytes, plan)


def header_of(manifest: BundleManifest) -> GgufHeader:
    """A GGUF header with the manifest's numbers: the same shape, weights, layers and tensor types."""
    hardware, model = manifest.hardware, manifest.model
    shape, a = hardware.shape, model.architecture
    numbers = {
        "block_count": shape.layers,
        "context_length": shape.context_length,
        "embedding_length": shape.embedding_length,
        "feed_forward_length": shape.feed_forward_length,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.key_length": shape.key_length,
        "attention.value_length": shape.value_length,
        "attention.kv_lora_rank": shape.kv_lora_rank if not hardware.legacy_mla else 1,
        "attention.key_length_mla": shape.key_length if shape.kv_lora_rank else None,
        "attention.value_length_mla": shape.value_length if shape.kv_lora_rank else None,
        "rope.dimension_count": shape.rope_length,
        "expert_count": shape.experts,
        "expert_used_count": shape.experts_used,
    }
    metadata: dict[str, Value] = {f"{a}.{name}": value for name, value in numbers.items() if value is not None}
    metadata |= {"general.architecture": a, "general.name": manifest.name}
    label = next((number for number, (name, _) in FILE_TYPES.items() if name == model.quantization), None)
    if label is not None:
        metadata["general.file_type"] = label
    return GgufHeader(
        path=Path(manifest.files[0].name),
        version=3,
        file_bytes=manifest.size_bytes,
        header_bytes=0,
        alignment=32,
        metadata=metadata,
        arrays={},
        tensors=_tensors(manifest),
        special_tokens={},
    )


def _tensors(manifest: BundleManifest) -> tuple[TensorInfo, ...]:
    hardware = manifest.hardware
    shape = hardware.shape
    types = hardware.matrix_types or ("F16",)
    first = types[0]
    rest_bytes = hardware.repeating_bytes - hardware.largest_layer_bytes
    tensors = [TensorInfo("token_embd.weight", (1, shape.vocab_size), first, 0, hardware.embedding_bytes)]
    if not hardware.tied:
        tensors.append(TensorInfo("output.weight", (1, shape.vocab_size), first, 0, hardware.output_bytes))
    # The manifest knows the largest layer alone: without the others the layers are packed at its size.
    tensors.append(TensorInfo("blk.0.all.weight", (1, 1), first, 0, hardware.largest_layer_bytes))
    tensors.append(TensorInfo("rest.weight", (1, 1), first, 0, rest_bytes))
    tensors += [TensorInfo(f"blk.0.{kind}.weight", (1, 1), kind, 0, 0) for kind in types[1:]]
    return tuple(tensors)


def _judge_parallel(manifest: BundleManifest, snapshot: HardwareSnapshot) -> Judgement:
    """The most seats x context that some number of like devices gives, over the engines that read the form."""
    hardware, model = manifest.hardware, manifest.model
    load = ParallelLoad(hardware.shape, hardware.weights_bytes - hardware.expert_bytes, hardware.expert_bytes)
    levels = seating(None, None, hardware.shape.context_length).levels
    reasons: list[str] = []
    shortfalls: list[tuple[Shortfall, EngineName]] = []
    for engine in hardware.engines:
        for group in read_machine(snapshot).groups:
            verdict = judge_form(group.chip, engine, model.architecture, model.quantization)
            if verdict.computes is not Computes.ON_CARD:
                reasons.append(verdict.reason)
                continue
            for seats, context_tokens in reversed(levels):
                for split in splits(hardware.shape, engine, len(group.rooms)):
                    placed = place_in_parallel(load, split, group.rooms, seats, context_tokens)
                    if isinstance(placed, Shortfall):
                        shortfalls.append((placed, engine))
                        continue
                    said = f"{seats} seats x {context_tokens:,} tokens on {len(placed)} devices with {engine}"
                    return Judgement(True, engine, said, placed[0].total_bytes, placed[0].available_bytes)
    if shortfalls:
        short, engine = min(shortfalls, key=lambda s: s[0].missing_bytes)
        available = max(short.available_bytes, 0)
        said = f"it needs {_gib(short.needed_bytes)} on {short.where}, {_gib(available)} are there"
        return Judgement(False, engine, said, short.needed_bytes, available)
    said = "; ".join(dict.fromkeys(reasons)) or "this form runs on cards alone, and the machine has none to use"
    return Judgement(False, hardware.engines[0], said)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f} GiB"
