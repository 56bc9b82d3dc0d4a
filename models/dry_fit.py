"""Fits a file by llama.cpp's own figures: the plan of ``models.fit``, checked by a dry run and mended if need be.

1. a plan from the closed formulas (and what earlier loads of the file taught);
2. a dry run of exactly that plan; when there is none (no backend for the cards in this build, a child that dies), the
   plan stands as it is and says so;
3. every device has room for the exact buffers and its reserve: the plan, with these figures;
4. otherwise what is missing is added to the formulas, and from 1 again, a few times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from drivers.types import HardwareSnapshot, Vendor
from models.child import RunChild, run_child
from models.dry_run import DeviceBuffers, DryRun, DryRunFailure, Offload, Opening, dry_run
from models.fit import chip_name, fit_installed
from models.gguf_header import GgufHeader
from models.residuals import Corrections, Residual, by_plan_devices
from models.types import HOST, FitPlan, MemoryEstimate

MOST_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class DryFit:
    """The plan; ``dry_run`` is ``None`` where its figures are the formulas', and ``failure`` says why."""

    plan: FitPlan
    dry_run: DryRun | None = None
    failure: DryRunFailure | None = None


def fit_exactly(
    header: GgufHeader,
    snapshot: HardwareSnapshot,
    seats: int | None = None,
    context_tokens: int | None = None,
    *,
    allow_cpu: bool = True,
    usable_vendors: Collection[Vendor] | None = None,
    corrections: Corrections | None = None,
    offload: bool = False,
    backend_dirs: tuple[Path, ...] = (),
    environment: Callable[[FitPlan], Mapping[str, str]] | None = None,
    run: RunChild = run_child,
) -> DryFit:
    """As ``fit_installed``, with exact buffers. ``environment`` shows llama.cpp the devices of a plan, as the engine
    will see them. One dry run is the rule. Raises what ``fit_installed`` raises."""
    known = corrections or Corrections()
    devices = {device.key: device for device in snapshot.devices}
    for _ in range(MOST_ROUNDS):
        plan = fit_installed(
            header,
            snapshot,
            seats,
            context_tokens,
            allow_cpu=allow_cpu,
            usable_vendors=usable_vendors,
            corrections=known,
            offload=offload,
        )
        seen = environment(plan) if environment is not None else None
        where = Offload(plan.gpu_layers, plan.tensor_split, backend_dirs, seen, experts_on_host=plan.experts_on_host)
        answer = dry_run(header, [_opening(plan)], where, run=run)[0]
        if isinstance(answer, DryRunFailure):
            return DryFit(plan, failure=answer)
        exact = _exact(plan, answer)
        if exact is None:
            return DryFit(plan)
        if all(m.total_bytes <= m.available_bytes for m in exact.memory):
            return DryFit(exact, answer)
        known = _taught(known, exact, chip_name(tuple(devices[key] for key in plan.devices)))
        left = DryFit(plan, answer)
    return left


def _opening(plan: FitPlan) -> Opening:
    return Opening(plan.seats, plan.context_tokens, plan.kv_type, plan.flash_attention, plan.ubatch_tokens)


def _exact(plan: FitPlan, answer: DryRun) -> FitPlan | None:
    """The plan with the dry run's figures; ``None`` when llama.cpp did not see the plan's devices."""
    found: dict[str, DeviceBuffers] = {b.device: b for b in answer.buffers}
    names = by_plan_devices(plan, {name: index for index, name in enumerate(found)})
    if not names:
        return None
    order = list(found.values())
    memory: list[MemoryEstimate] = []
    unified = HOST not in {m.device for m in plan.memory}
    for line in plan.memory:
        parts = [order[names[line.device]]] if line.device in names else []
        if unified and HOST in names and line is plan.memory[0]:
            parts.append(order[names[HOST]])
        memory.append(
            replace(
                line,
                weights_bytes=sum(b.model_bytes for b in parts),
                kv_bytes=sum(b.kv_bytes for b in parts),
                compute_bytes=sum(b.compute_bytes + b.output_bytes for b in parts),
            )
        )
    return replace(plan, memory=tuple(memory))


def _taught(known: Corrections, exact: FitPlan, chip: str) -> Corrections:
    """``known`` and what this opening lacks beyond it."""
    before = known.for_opening(chip, exact.seats, exact.context_tokens)
    missing = {m.device: max(0, m.total_bytes - m.available_bytes) for m in exact.memory}
    on_devices = before.device_bytes + max((missing[key] for key in exact.devices), default=0)
    on_host = before.host_bytes + missing.get(HOST, 0)
    new = Residual("", chip, "", exact.seats, exact.context_tokens, on_devices, on_host, "")
    others = tuple(
        r for r in known.residuals if (r.chip, r.seats, r.context_tokens) != (chip, exact.seats, exact.context_tokens)
    )
    return Corrections((*others, new))
