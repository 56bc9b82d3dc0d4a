"""What real loads took beside the plan: kept, bounded, added to the next plan and never taken off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import load_catalogue
from models.errors import TooLarge
from models.fit import fit_installed
from models.gguf import GgufHeader, read_header
from models.importer import import_gguf
from models.model_store import ModelStore
from models.planner import plan
from models.residuals import (
    MOST_ENTRIES,
    MOST_FILE_BYTES,
    Corrections,
    Difference,
    Extra,
    Residual,
    ResidualStore,
    by_plan_devices,
    catalogue_corrections,
    difference,
)
from models.types import HOST, InstalledModel
from tests.models import machines
from tests.models.machines import GIB, gib, host, machine, nvidia
from tests.models.smollm2 import SMOLLM2
from tests.models.test_gguf import write_r1_7b
from tests.models.tiny_r1_files import Q8_0

MIB = 1024**2
SHA = "ab" * 32
R = Residual(SHA, "Tesla T4", "llama.cpp 1", 8, 16_384, 300 * MIB, 20 * MIB, "2026-11-22T00:00:00+00:00")


def other(**changes: object) -> Residual:
    return msgspec.structs.replace(R, **changes)


@pytest.fixture
def store(tmp_path: Path) -> ResidualStore:
    return ResidualStore(tmp_path / "residuals.json")


@pytest.fixture(scope="module")
def r1_7b(tmp_path_factory: pytest.TempPathFactory) -> GgufHeader:
    return read_header(write_r1_7b(tmp_path_factory.mktemp("r1") / "DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf"))


def test_what_is_added_is_there_and_a_new_one_replaces_it(store: ResidualStore, tmp_path: Path) -> None:
    assert store.load() == ()
    store.add(R)
    store.add(other(model_sha256="cd" * 32))
    store.add(other(device_bytes=5))
    assert [(r.model_sha256[:2], r.device_bytes) for r in store.load()] == [("cd", 300 * MIB), ("ab", 5)]
    assert [p.name for p in tmp_path.iterdir()] == ["residuals.json"]
    assert store.corrections(SHA, "llama.cpp 1").residuals == (other(device_bytes=5),)
    assert store.corrections(SHA, "another build").residuals == ()


def test_the_oldest_go_first(store: ResidualStore) -> None:
    for number in range(MOST_ENTRIES + 3):
        store.add(other(seats=number + 1))
    kept = store.load()
    assert len(kept) == MOST_ENTRIES
    assert (kept[0].seats, kept[-1].seats) == (4, MOST_ENTRIES + 3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"schema":2,"entries":[]}',
        b'{"schema":1,"entries":[{"seats":1}]}',
        b'{"schema":1,"entries":[]}' + b" " * MOST_FILE_BYTES,
    ],
)
def test_a_file_that_cannot_be_read_counts_as_empty(store: ResidualStore, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "residuals.json").write_bytes(content)
    assert store.load() == ()
    store.add(R)
    assert store.load() == (R,)


def test_entries_that_cannot_be_are_left_out(store: ResidualStore, tmp_path: Path) -> None:
    store.add(R)
    document = json.loads((tmp_path / "residuals.json").read_bytes())
    bad = [{"seats": 0}, {"context_tokens": -5}, {"device_bytes": 1 << 60}, {"chip": "x" * 300}]
    document["entries"] += [{**document["entries"][0], **change} for change in bad]
    (tmp_path / "residuals.json").write_text(json.dumps(document))
    assert store.load() == (R,)
    with pytest.raises(ValueError, match="no measurement"):
        store.add(other(seats=0))


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "residuals.json"
    folder.mkdir()
    (folder / "inside").touch()
    with pytest.raises(IsADirectoryError):
        ResidualStore(folder).add(R)
    assert [p.name for p in tmp_path.iterdir()] == ["residuals.json"]


def test_the_same_opening_first_else_the_nearest() -> None:
    known = Corrections((R, other(seats=4, context_tokens=8192, device_bytes=100), other(chip="L4", device_bytes=7)))
    assert known.for_opening("Tesla T4", 8, 16_384) == Extra(300 * MIB, 20 * MIB)
    assert known.for_opening("Tesla T4", 4, 8192).device_bytes == 100
    assert known.for_opening("Tesla T4", 16, 8192).device_bytes == 300 * MIB
    assert known.for_opening("Tesla T4", 1, 512).device_bytes == 100
    assert known.for_opening("L4", 1, 512).device_bytes == 7
    assert known.for_opening("910B3", 8, 16_384) == Extra()
    assert Corrections().for_opening("L4", 8, 16_384) == Extra()


def test_less_than_planned_is_never_taken_off(r1_7b: GgufHeader) -> None:
    plain = fit_installed(r1_7b, machines.T4)
    less = Corrections((other(device_bytes=-GIB, host_bytes=-GIB),))
    assert less.for_opening("Tesla T4", 8, 16_384) == Extra()
    assert fit_installed(r1_7b, machines.T4, corrections=less) == plain


def test_a_positive_difference_is_added_to_the_plan(r1_7b: GgufHeader) -> None:
    plain = fit_installed(r1_7b, machines.T4, 4, 8192)
    chip = machines.T4.devices[0].chip or machines.T4.devices[0].name
    more = Corrections((other(chip=chip, seats=4, context_tokens=8192),))
    corrected = fit_installed(r1_7b, machines.T4, 4, 8192, corrections=more)
    assert [c.total_bytes - p.total_bytes for c, p in zip(corrected.memory, plain.memory, strict=True)] == [
        300 * MIB,
        20 * MIB,
    ]
    assert corrected.devices == plain.devices


def test_what_no_longer_fits_gets_fewer_seats_or_is_refused(r1_7b: GgufHeader) -> None:
    plain = fit_installed(r1_7b, machines.T4)
    chip = machines.T4.devices[0].chip or machines.T4.devices[0].name
    missing = plain.memory[0].available_bytes - plain.memory[0].total_bytes + 1
    more = Corrections(
        (other(chip=chip, seats=plain.seats, context_tokens=plain.context_tokens, device_bytes=missing),)
    )
    corrected = fit_installed(r1_7b, machines.T4, corrections=more)
    assert corrected.total_context_tokens < plain.total_context_tokens
    with pytest.raises(TooLarge):
        fit_installed(
            r1_7b,
            machines.T4,
            8,
            16_384,
            allow_cpu=False,
            corrections=Corrections((other(chip=chip, device_bytes=20 * GIB),)),
        )


def test_on_the_processor_the_host_gets_it() -> None:
    header = read_header(SMOLLM2)
    plain = fit_installed(header, machines.CPU_24)
    more = Corrections((other(chip="cpu", seats=8, context_tokens=4096),))
    corrected = fit_installed(header, machines.CPU_24, corrections=more)
    assert corrected.memory[0].total_bytes == plain.memory[0].total_bytes + 20 * MIB


def test_every_card_of_several_gets_it(r1_7b: GgufHeader) -> None:
    two = machine(host(64), *(nvidia("Tesla P4", 6, "6.1", i) for i in range(2)))
    plain = fit_installed(r1_7b, two, 4, 8192)
    chip = two.devices[0].chip or two.devices[0].name
    corrected = fit_installed(
        r1_7b,
        two,
        4,
        8192,
        corrections=Corrections((other(chip=chip, seats=4, context_tokens=8192, device_bytes=MIB),)),
    )
    assert [c.compute_bytes - p.compute_bytes for c, p in zip(corrected.memory, plain.memory, strict=True)] == [
        MIB,
        MIB,
        20 * MIB,
    ]


@settings(max_examples=50, deadline=None)
@given(device=st.integers(-(1 << 34), 1 << 34), on_host=st.integers(-(1 << 34), 1 << 34))
def test_a_correction_never_makes_a_plan_smaller(device: int, on_host: int) -> None:
    header = read_header(SMOLLM2)
    box = machine(host(64), nvidia("Tesla T4", 15, "7.5"))
    chip = box.devices[0].chip or box.devices[0].name
    plain = fit_installed(header, box, 2, 1024)
    known = Corrections((other(chip=chip, device_bytes=device, host_bytes=on_host),))
    try:
        corrected = fit_installed(header, box, 2, 1024, corrections=known)
    except TooLarge:
        assert max(device, on_host) > 0
        return
    if corrected.devices == plain.devices:
        assert all(c.total_bytes >= p.total_bytes for c, p in zip(corrected.memory, plain.memory, strict=True))


def test_the_difference_of_a_load(r1_7b: GgufHeader) -> None:
    two = machine(host(64), *(nvidia("Tesla P4", 6, "6.1", i) for i in range(2)))
    plan = fit_installed(r1_7b, two, 4, 8192)
    planned = {m.device: m.total_bytes - m.reserve_bytes for m in plan.memory}
    found = by_plan_devices(
        plan, {"CUDA1": planned["nvidia:1"] + 7, "CUDA0": planned["nvidia:0"] - 9, HOST: planned[HOST] - 3}
    )
    assert difference(plan, found) == Difference(7, -3)
    # The reserve is there for what a driver and its pools take beside the buffers.
    lost = {device: size + gib(1) for device, size in found.items()}
    assert difference(plan, lost, with_pools=True) == Difference(
        7, planned[HOST] - 3 + gib(1) - plan.memory[-1].total_bytes
    )


def test_devices_that_do_not_correspond(r1_7b: GgufHeader) -> None:
    plan = fit_installed(r1_7b, machines.T4, 4, 8192)
    assert by_plan_devices(plan, {"CUDA0": 1, "CUDA1": 1, HOST: 1}) == {}
    assert difference(plan, {HOST: 1}) is None
    assert difference(plan, {"nvidia:9": 1}) is None
    on_processor = fit_installed(read_header(SMOLLM2), machines.CPU_24)
    assert difference(on_processor, {}) is None
    assert difference(on_processor, {HOST: 0}) is not None
    assert difference(replace(plan, memory=()), {"nvidia:0": 1}) is None


def test_ten_devices_are_in_the_order_of_their_numbers(r1_7b: GgufHeader) -> None:
    plan = replace(fit_installed(r1_7b, machines.T4, 4, 8192), devices=tuple(f"nvidia:{i}" for i in range(11)))
    found = by_plan_devices(plan, {f"CUDA{i}": i for i in (10, 9, 2, 1, 0, 3, 4, 5, 6, 7, 8)})
    assert found == {f"nvidia:{i}": i for i in range(11)}


# --- plans of the whole catalogue ------------------------------------------------------------------------------------


def as_variant(model: InstalledModel, variant: str, quantization: str) -> InstalledModel:
    return replace(model, variant=variant, quantization=quantization, sha256=SHA)


@pytest.fixture
def installed(tmp_path: Path) -> InstalledModel:
    return import_gguf(ModelStore(tmp_path / "store"), Q8_0).model


def test_a_measured_form_is_planned_with_what_it_took(installed: InstalledModel) -> None:
    catalogue = load_catalogue()
    box = machine(host(64), nvidia("NVIDIA L20", 44.5, "8.9"))
    model = as_variant(installed, "R1-Distill-Qwen-32B", "Q8_0")
    measured = other(chip="NVIDIA L20", seats=4, context_tokens=8192, device_bytes=300 * MIB, host_bytes=-5)
    known = catalogue_corrections([measured, other(build="other", device_bytes=GIB)], "llama.cpp 1", [model])
    plain = {(p.variant, p.quantization): p for p in plan(catalogue, box).plans}
    corrected = {(p.variant, p.quantization): p for p in plan(catalogue, box, corrections=known).plans}
    form = ("R1-Distill-Qwen-32B", "Q8_0")
    assert corrected[form].memory[0].compute_bytes == plain[form].memory[0].compute_bytes + 300 * MIB
    assert corrected[form].memory[1] == plain[form].memory[1]
    del plain[form], corrected[form]
    assert corrected == plain
    elsewhere = machine(host(64), nvidia("NVIDIA L40S", 44.5, "8.9"))
    assert plan(catalogue, elsewhere, corrections=known) == plan(catalogue, elsewhere)


def test_a_correction_can_turn_a_plan_down(installed: InstalledModel) -> None:
    """Where less fits beside what was measured the form falls behind, and the next one comes first."""
    catalogue = load_catalogue()
    box = machine(host(64), nvidia("NVIDIA L20", 44.5, "8.9"))
    model = as_variant(installed, "R1-Distill-Qwen-32B", "Q8_0")
    large = other(chip="NVIDIA L20", seats=4, context_tokens=8192, device_bytes=9 * GIB)
    result = plan(catalogue, box, corrections=catalogue_corrections([large], "llama.cpp 1", [model]))
    assert (result.plans[0].variant, result.plans[0].quantization) == ("R1-Distill-Qwen-32B", "Q6_K")
    (fewer,) = (p for p in result.plans if (p.variant, p.quantization) == ("R1-Distill-Qwen-32B", "Q8_0"))
    assert fewer.reduced
    assert all(line.total_bytes <= line.available_bytes for line in fewer.memory)


def test_models_that_are_no_variant_correct_nothing(installed: InstalledModel) -> None:
    assert installed.variant is None
    named = other(model_sha256=installed.sha256)
    assert catalogue_corrections([named], "llama.cpp 1", [installed]).by_form == {}
