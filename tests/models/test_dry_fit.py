"""Plans with llama.cpp's own figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers.types import HardwareSnapshot
from models.child import ChildEnd
from models.dry_fit import fit_exactly
from models.dry_run import DryRunFailureKind
from models.errors import TooLarge
from models.fit import fit_installed
from models.gguf import GgufHeader, read_header
from models.types import HOST, FitPlan
from tests.models import machines
from tests.models.cards import build_fake_cards, shown
from tests.models.machines import host, machine, nvidia
from tests.models.smollm2 import SMOLLM2

MIB = 1024**2
T4 = machine(host(32), nvidia("Tesla T4", 15, "7.5"))


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_cards(tmp_path_factory.mktemp("cards"))


@pytest.fixture(scope="module")
def smollm2() -> GgufHeader:
    return read_header(SMOLLM2)


def visible(plan: FitPlan) -> Mapping[str, str]:
    return shown(len(plan.devices))


def log_of(compute_mib: float, context: int = 4096) -> Callable[..., ChildEnd]:
    """A llama.cpp whose compute buffer on the card is this large, whatever it is asked."""

    def run(
        _module: str, request: dict[str, Any], on_record: Callable[[dict[str, Any]], None], **_: object
    ) -> ChildEnd:
        lines = [f"load_tensors: layer {n} assigned to device CUDA0, is_swa = 0" for n in range(31)]
        on_record({"kind": "start", "build": "b"})
        for line in lines:
            on_record({"kind": "log", "text": line})
        on_record({"kind": "model", "loaded": True})
        tokens = request["openings"][0]["context"]
        for line in (
            "llama_kv_cache: layer 0: dev = CUDA0",
            f"llama_kv_cache: size = {tokens * 23_040 / MIB:.2f} MiB",
            f"sched_reserve: CUDA0 compute buffer size = {compute_mib * tokens / context:.2f} MiB",
            "sched_reserve: CUDA_Host compute buffer size = 1.00 MiB",
        ):
            on_record({"kind": "log", "text": line})
        on_record({"kind": "context", "opened": True})
        return ChildEnd(0)

    return run


def test_on_a_card_the_figures_are_llama_cpps(smollm2: GgufHeader, cards: Path) -> None:
    plain = fit_installed(smollm2, T4)
    found = fit_exactly(smollm2, T4, backend_dirs=(cards,), environment=visible)
    assert found.dry_run is not None
    assert found.failure is None
    assert replace(found.plan, memory=()) == replace(plain, memory=())
    card, memory = found.plan.memory
    assert card.weights_bytes == found.dry_run.on("CUDA0").model_bytes
    assert card.compute_bytes == found.dry_run.on("CUDA0").compute_bytes
    assert memory.compute_bytes == found.dry_run.on(HOST).compute_bytes + found.dry_run.on(HOST).output_bytes
    for exact, estimated in zip(found.plan.memory, plain.memory, strict=True):
        assert (exact.device, exact.reserve_bytes) == (estimated.device, estimated.reserve_bytes)
        assert exact.total_bytes == pytest.approx(estimated.total_bytes, rel=0.01)


def test_on_two_cards_each_has_its_own(smollm2: GgufHeader, cards: Path) -> None:
    two = machine(host(64), *(nvidia("Tesla P4", 1.35, "6.1", i) for i in range(2)))
    found = fit_exactly(smollm2, two, 4, 4096, allow_cpu=False, backend_dirs=(cards,), environment=visible)
    assert found.plan.devices == ("nvidia:0", "nvidia:1")
    assert found.dry_run is not None
    assert [m.kv_bytes for m in found.plan.memory[:2]] == [found.dry_run.on(f"CUDA{i}").kv_bytes for i in range(2)]


def test_on_the_processor(smollm2: GgufHeader) -> None:
    found = fit_exactly(smollm2, machines.CPU_24)
    assert found.dry_run is not None
    assert found.plan.memory[0].weights_bytes == smollm2.tensor_bytes


def test_unified_memory_holds_the_hosts_part_too(smollm2: GgufHeader, cards: Path) -> None:
    found = fit_exactly(smollm2, machines.GB10, 4, 4096, backend_dirs=(cards,), environment=visible)
    assert found.dry_run is not None
    assert [m.device for m in found.plan.memory] == ["nvidia:0"]
    assert found.plan.memory[0].total_bytes - found.plan.memory[0].reserve_bytes == found.dry_run.total_bytes


def test_without_the_cards_backend_the_formulas_stand(smollm2: GgufHeader) -> None:
    found = fit_exactly(smollm2, T4)
    assert found.plan == fit_installed(smollm2, T4)
    assert found.dry_run is None


def test_a_dry_run_that_fails_leaves_the_plan(smollm2: GgufHeader, cards: Path) -> None:
    found = fit_exactly(
        smollm2, T4, backend_dirs=(cards,), environment=lambda plan: {**visible(plan), "FAKE_CARDS_CRASH": "1"}
    )
    assert found.plan == fit_installed(smollm2, T4)
    assert found.failure is not None
    assert found.failure.kind is DryRunFailureKind.ABORTED


def small_card(free_gib: float) -> HardwareSnapshot:
    return machine(host(32), nvidia("Tesla T4", free_gib, "7.5"))


def test_what_llama_cpp_needs_more_costs_seats(smollm2: GgufHeader) -> None:
    box = small_card(2.6)
    plain = fit_installed(smollm2, box)
    found = fit_exactly(smollm2, box, run=log_of(256.0))
    assert found.dry_run is not None
    assert found.plan.total_context_tokens < plain.total_context_tokens
    assert all(m.total_bytes <= m.available_bytes for m in found.plan.memory)


def test_what_was_asked_for_is_refused_when_it_does_not_fit_really(smollm2: GgufHeader) -> None:
    box = small_card(2.6)
    fit_installed(smollm2, box, 8, 4096, allow_cpu=False)
    with pytest.raises(TooLarge):
        fit_exactly(smollm2, box, 8, 4096, allow_cpu=False, run=log_of(256.0))
