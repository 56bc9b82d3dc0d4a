"""From a stored model to engine and chat: what is decided, with real headers and described machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.engine.factory import LlamaCppFactory
from appliance.model_setup import (
    MOST_SEATS,
    DraftModelUnfit,
    TooManySeats,
    choose_draft,
    remember_memory,
    residual_store,
    set_up,
    visible_devices,
)
from appliance.serving.types import ProfileName
from appliance.settings import Settings, load_settings
from drivers.types import Device, HardwareSnapshot, Health, Host, Vendor
from models.dry_fit import fit_exactly
from models.errors import CannotCompute, ModelNotFound, NeedsOtherEngine, TooLarge
from models.gguf_set import installed_header
from models.importer import import_gguf, import_path
from models.model_store import ModelStore
from models.types import InstalledModel
from tests.models.cards import build_fake_cards, shown
from tests.models.store_samples import split_gguf

TINY_R1 = Path(__file__).parents[1] / "fixtures" / "tiny_r1" / "gguf" / "Tiny-R1-Q8_0.gguf"
GIB = 1024**3
HOST = Host(cpu_cores=6, memory_total_bytes=32 * GIB, memory_available_bytes=30 * GIB)


def card(vendor: Vendor, index: int | None, name: str, chip: str) -> Device:
    return Device(
        vendor=vendor,
        index=index,
        name=name,
        chip=chip,
        card_id=index,
        chip_id=0 if vendor == Vendor.ASCEND else None,
        memory_total_bytes=24 * GIB,
        memory_free_bytes=23 * GIB,
        compute_capability="8.9" if vendor == Vendor.NVIDIA else None,
        health=Health.OK,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> InstalledModel:
    return import_gguf(ModelStore(tmp_path_factory.mktemp("store")), TINY_R1).model


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"state_dir": tmp_path, "models_dir": tmp_path})


def test_on_a_machine_without_cards_it_runs_on_the_cores(installed: InstalledModel, settings: Settings) -> None:
    setup = set_up(installed, HardwareSnapshot(HOST), settings)
    assert (setup.engine.threads, setup.engine.gpu_layers, setup.engine.environment) == (6, 0, {})
    assert setup.engine.model_path == installed.path
    assert (setup.plan.devices, setup.plan.notes) == ((), ())


def test_the_profile_and_the_visible_tags_come_from_the_file(installed: InstalledModel, settings: Settings) -> None:
    setup = set_up(installed, HardwareSnapshot(HOST), settings)
    assert setup.served.profile.name is ProfileName.R1
    assert setup.served.bos_token == "<｜begin▁of▁sentence｜>"
    assert {"<think>", "</think>", "<｜tool▁calls▁begin｜>"} <= set(setup.engine.visible_tokens)
    assert "<｜User｜>" in setup.served.control_tokens
    assert "<｜User｜>" not in setup.engine.visible_tokens


def test_seats_context_and_threads_are_kept_when_given(installed: InstalledModel, settings: Settings) -> None:
    asked = settings.model_copy(update={"seats": 3, "context_tokens": 1024, "threads": 2})
    engine = set_up(installed, HardwareSnapshot(HOST), asked).engine
    assert (engine.seats, engine.context_tokens, engine.threads) == (3, 1024, 2)


def test_more_seats_than_the_engine_has_are_refused(installed: InstalledModel, settings: Settings) -> None:
    asked = settings.model_copy(update={"seats": MOST_SEATS + 1})
    with pytest.raises(TooManySeats, match=f"{MOST_SEATS} sequences"):
        set_up(installed, HardwareSnapshot(HOST), asked)


def test_cards_that_this_build_cannot_use_are_said_in_a_note(installed: InstalledModel, settings: Settings) -> None:
    snapshot = HardwareSnapshot(HOST, (card(Vendor.NVIDIA, 0, "NVIDIA L4", "L4"),))
    with pytest.raises(CannotCompute, match="would not run on the cards"):
        set_up(installed, snapshot, settings)
    setup = set_up(installed, snapshot, settings.model_copy(update={"allow_cpu_fallback": True}))
    assert setup.engine.gpu_layers == 0
    assert "although the machine has cards" in setup.plan.notes[0]


@pytest.mark.parametrize(
    ("vendor", "name", "chip", "expected"),
    [
        (Vendor.NVIDIA, "NVIDIA L4", "L4", {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0,2"}),
        (Vendor.ASCEND, "910B3", "910B3", {"ASCEND_RT_VISIBLE_DEVICES": "0,2"}),
    ],
)
def test_the_engine_sees_the_plans_devices_alone(
    installed: InstalledModel, settings: Settings, vendor: Vendor, name: str, chip: str, expected: dict[str, str]
) -> None:
    devices = tuple(card(vendor, index, name, chip) for index in (0, 1, 2))
    plan = replace(set_up(installed, HardwareSnapshot(HOST), settings).plan, devices=(devices[0].key, devices[2].key))
    assert visible_devices(plan, devices) == expected


def test_an_unknown_index_hides_nothing(installed: InstalledModel, settings: Settings) -> None:
    device = card(Vendor.NVIDIA, None, "NVIDIA L4", "L4")
    plan = replace(set_up(installed, HardwareSnapshot(HOST), settings).plan, devices=(device.key,))
    assert visible_devices(plan, (device,)) == {}


def test_a_part_of_a_card_is_named_by_its_selector(installed: InstalledModel, settings: Settings) -> None:
    whole = card(Vendor.NVIDIA, 1, "NVIDIA L4", "L4")
    part = replace(whole, index=None, card_id=0, chip_id=3, selector="MIG-0a1b", parent="nvidia:0")
    plan = set_up(installed, HardwareSnapshot(HOST), settings).plan

    def seen(*devices: Device) -> str:
        chosen = replace(plan, devices=tuple(device.key for device in devices))
        return visible_devices(chosen, (whole, part))["CUDA_VISIBLE_DEVICES"]

    assert seen(part) == "MIG-0a1b"
    assert seen(whole, part) == "1,MIG-0a1b"


def test_the_first_device_is_no_missing_one(installed: InstalledModel, settings: Settings) -> None:
    """Index 0 is an index."""
    first = card(Vendor.ASCEND, 0, "910B3", "910B3")
    plan = replace(set_up(installed, HardwareSnapshot(HOST), settings).plan, devices=(first.key,))
    assert visible_devices(plan, (first,)) == {"ASCEND_RT_VISIBLE_DEVICES": "0"}


def test_all_parts_of_a_split_model_are_planned_for(
    tmp_path: Path, installed: InstalledModel, settings: Settings
) -> None:
    store = ModelStore(tmp_path / "store")
    split = import_path(store, split_gguf(TINY_R1, tmp_path / "parts", 3)[1]).model
    whole, parts = set_up(installed, HardwareSnapshot(HOST), settings), set_up(split, HardwareSnapshot(HOST), settings)
    assert parts.plan.memory == whole.plan.memory
    assert parts.engine.model_path == split.files[0].path
    assert parts.served.chat_template == whole.served.chat_template


def test_a_model_for_another_engine_is_refused(tmp_path: Path, settings: Settings) -> None:
    model = import_path(ModelStore(tmp_path / "store"), TINY_R1.parents[1] / "hf").model
    with pytest.raises(NeedsOtherEngine, match="vLLM"):
        set_up(model, HardwareSnapshot(HOST), settings)


def test_scarce_memory_is_laid_out_by_llama_cpp_itself(installed: InstalledModel, settings: Settings) -> None:
    """The formulas' plan fills most of the host: the figures are those of the dry run."""
    asked = settings.model_copy(update={"seats": 2, "context_tokens": 512})
    roomy = set_up(installed, HardwareSnapshot(HOST), asked).plan
    line = roomy.memory[0]
    used = line.total_bytes - line.reserve_bytes
    scarce = replace_host(HOST, available_bytes=int(used * 1.3) + (256 << 20))
    plan = set_up(installed, HardwareSnapshot(scarce), asked).plan
    exact = fit_exactly(installed_header(installed), HardwareSnapshot(scarce), 2, 512, usable_vendors=frozenset())
    assert exact.dry_run is not None
    assert plan.memory == exact.plan.memory
    assert plan.memory[0].weights_bytes == installed_header(installed).tensor_bytes


def replace_host(host: Host, *, available_bytes: int) -> Host:
    return replace(host, memory_total_bytes=available_bytes, memory_available_bytes=available_bytes)


def test_what_a_load_took_corrects_the_next_plan(installed: InstalledModel, settings: Settings) -> None:
    snapshot = HardwareSnapshot(HOST)
    setup = set_up(installed, snapshot, settings)
    planned = setup.plan.memory[0]
    taken = planned.total_bytes - planned.reserve_bytes + 5_000_000
    remember_memory(setup, {"host": taken}, snapshot, settings)
    again = set_up(installed, snapshot, settings).plan.memory[0]
    assert again.compute_bytes == planned.compute_bytes + 5_000_000
    # What was less than planned is never taken off.
    remember_memory(setup, {"host": planned.total_bytes - planned.reserve_bytes - 5_000_000}, snapshot, settings)
    assert set_up(installed, snapshot, settings).plan.memory[0] == planned


def test_a_measure_of_other_devices_is_not_kept(installed: InstalledModel, settings: Settings) -> None:
    snapshot = HardwareSnapshot(HOST)
    setup = set_up(installed, snapshot, settings)
    remember_memory(setup, {"CUDA0": 1, "host": 1}, snapshot, settings)
    assert residual_store(settings).load() == ()


async def test_a_model_that_is_too_large_for_the_card_is_served_with_a_part_on_the_host(
    tmp_path: Path, installed: InstalledModel, settings: Settings
) -> None:
    """Only when asked; plan, worker and what the load took agree. The card is the processor under another name."""
    asked = settings.model_copy(update={"seats": 2, "context_tokens": 512, "backends_dir": build_fake_cards(tmp_path)})
    small = replace(card(Vendor.NVIDIA, 0, "NVIDIA L4", "L4"), memory_free_bytes=GIB + 10 * 1024**2)
    snapshot = HardwareSnapshot(HOST, (small,))
    with pytest.raises(TooLarge, match="nvidia:0"):
        set_up(installed, snapshot, asked)
    setup = set_up(installed, snapshot, asked.model_copy(update={"offload": True}))
    assert setup.plan.devices == ("nvidia:0",)
    assert 0 < setup.plan.host_layers < 4
    assert setup.engine.gpu_layers == 5 - setup.plan.host_layers
    engine = LlamaCppFactory(
        replace(setup.engine, environment={**setup.engine.environment, **shown(1, FAKE_CARDS_OFFLOAD="1")})
    )()
    info = await engine.start(60)
    await engine.stop(5)
    assert "CUDA0" in info.backends
    assert info.measured_bytes is not None
    card_line, host_line = setup.plan.memory
    for name, line in (("CUDA0", card_line), ("host", host_line)):
        assert info.measured_bytes[name] <= line.total_bytes - line.reserve_bytes <= line.available_bytes
    remember_memory(setup, info.measured_bytes, snapshot, settings)
    assert residual_store(settings).load()[0].chip == "L4"


def test_a_draft_model_that_is_asked_for_goes_to_the_engine(tmp_path: Path, settings: Settings) -> None:
    store = ModelStore(tmp_path)
    model = import_gguf(store, TINY_R1).model
    draft = import_gguf(store, TINY_R1.with_name("Tiny-R1-Q4_K_M.gguf")).model
    asked = settings.model_copy(update={"draft_model": draft.id})
    setup = set_up(model, HardwareSnapshot(HOST), asked)
    engine = setup.engine
    assert (engine.draft_model_path, engine.speculates) == (draft.path, True)
    line, plain = setup.plan.memory[0], set_up(model, HardwareSnapshot(HOST), settings).plan.memory[0]
    assert setup.plan.draft == draft.id
    assert draft.size_bytes < line.draft_bytes == line.total_bytes - plain.total_bytes
    assert LlamaCppFactory(engine)
    # What is known to fit is nothing here: auto finds none.
    assert set_up(model, HardwareSnapshot(HOST), settings).engine.draft_model_path is None
    for off in ({"draft_model": "off"}, {"draft_model": draft.id, "speculation": False}):
        assert set_up(model, HardwareSnapshot(HOST), settings.model_copy(update=off)).engine.draft_model_path is None
    with pytest.raises(DraftModelUnfit, match="not smaller"):
        set_up(draft, HardwareSnapshot(HOST), settings.model_copy(update={"draft_model": model.id}))
    with pytest.raises(ModelNotFound):
        set_up(model, HardwareSnapshot(HOST), settings.model_copy(update={"draft_model": "nothing"}))


def test_an_installed_sibling_is_taken_where_it_fits(tmp_path: Path, settings: Settings) -> None:
    store = ModelStore(tmp_path)
    large = replace(import_gguf(store, TINY_R1).model, variant="R1-Distill-Qwen-7B")
    sibling = replace(
        import_gguf(store, TINY_R1.with_name("Tiny-R1-Q4_K_M.gguf")).model, variant="R1-Distill-Qwen-1.5B"
    )
    plan = set_up(large, HardwareSnapshot(HOST), settings).plan
    assert choose_draft(large, replace(plan, file_bytes=10**9), "auto", [large, sibling]) is not None
    # Too large beside this one, and of no use for another variant.
    assert choose_draft(large, plan, "auto", [large, sibling]) is None
    assert choose_draft(replace(large, variant=None), replace(plan, file_bytes=10**9), "auto", [sibling]) is None
