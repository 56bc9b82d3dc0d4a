"""Fitting a file that is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from drivers.types import Vendor
from models.errors import CannotCompute, ContextTooLong, MemoryUnknown, NotAChatModel, TooLarge
from models.fit import fit_installed, largest_layer_bytes
from models.gguf import GgufHeader, read_header
from models.types import HOST
from tests.fakes.gguf_writer import small_metadata, small_tensors, write_gguf, write_small
from tests.models import machines
from tests.models.machines import ascend, gib, host, machine, nvidia
from tests.models.smollm2 import SMOLLM2
from tests.models.test_gguf import mla_metadata, write_r1_7b


@pytest.fixture(scope="module")
def r1_7b(tmp_path_factory: pytest.TempPathFactory) -> GgufHeader:
    return read_header(write_r1_7b(tmp_path_factory.mktemp("r1") / "DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf"))


def test_demo_model_on_a_processor_gets_eight_seats() -> None:
    found = fit_installed(read_header(SMOLLM2), machines.CPU_24)
    assert (found.seats, found.context_tokens, found.gpu_layers, found.devices) == (8, 4096, 0, ())
    assert found.notes == ()
    memory = found.memory[0]
    assert memory.device == HOST
    assert memory.weights_bytes == 96_576_768
    assert memory.kv_bytes == 8 * 4096 * 30 * 2 * 3 * 64 * 2


def test_demo_model_in_a_small_container_gets_fewer_seats() -> None:
    found = fit_installed(read_header(SMOLLM2), machine(host(0.75, 0.7)))
    assert found.seats < 8
    assert found.memory[0].total_bytes <= found.memory[0].available_bytes


def test_r1_on_a_card(r1_7b: GgufHeader) -> None:
    found = fit_installed(r1_7b, machines.T4)
    assert found.devices == ("nvidia:0",)
    assert found.gpu_layers == 29
    assert (found.seats, found.context_tokens) == (8, 16_384)
    assert found.flash_attention
    assert found.decode_tokens_per_s is not None


def test_r1_over_two_cards(r1_7b: GgufHeader) -> None:
    two = machine(host(64), *(nvidia("Tesla P4", 6, "6.1", i) for i in range(2)))
    found = fit_installed(r1_7b, two, 4, 8192)
    assert found.devices == ("nvidia:0", "nvidia:1")
    assert sum(found.tensor_split) == 29
    assert largest_layer_bytes(r1_7b, 28) >= (4_677_120_000 - 306_561_024 - 447_068_160) / 28


def test_what_is_asked_for_is_kept_or_refused(r1_7b: GgufHeader) -> None:
    assert fit_installed(r1_7b, machines.T4, 3, 5000).total_context_tokens == 15_000
    with pytest.raises(ContextTooLong):
        fit_installed(r1_7b, machines.T4, 1, 131_073)
    with pytest.raises(ValueError, match="seats"):
        fit_installed(r1_7b, machines.T4, 0)
    with pytest.raises(TooLarge) as caught:
        fit_installed(r1_7b, machines.T4, 64, 32_768, allow_cpu=False)
    assert caught.value.details["seats"] == 64


def test_too_large_says_both_numbers(r1_7b: GgufHeader) -> None:
    with pytest.raises(TooLarge) as caught:
        fit_installed(r1_7b, machines.CPU_4)
    needed, available = caught.value.details["needed_bytes"], caught.value.details["available_bytes"]
    assert isinstance(needed, int)
    assert available == gib(3.6)
    assert needed > 4_677_120_000
    assert caught.value.http_status == 507


def test_k_quants_on_ascend_are_refused_or_said_to_run_on_the_processor(r1_7b: GgufHeader) -> None:
    with pytest.raises(CannotCompute, match="Q4_K, Q6_K would be computed on the processor"):
        fit_installed(r1_7b, machines.TWO_910B3, allow_cpu=False)
    found = fit_installed(r1_7b, machines.TWO_910B3)
    assert found.devices == ()
    assert "although the machine has cards" in found.notes[0]


def test_q8_0_on_ascend_is_computed_on_the_card(tmp_path: Path) -> None:
    found = fit_installed(read_header(write_small(tmp_path / "m.gguf")), machines.TWO_910B3)
    assert found.devices == ("ascend:0.0",)
    assert found.flash_attention


def test_310p_takes_f16_without_flash_attention(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", small_metadata(general__file_type=1), small_tensors(type_name="F16"))
    found = fit_installed(read_header(path), machines.ONE_DUO_48)
    assert found.devices
    assert not found.flash_attention


def test_card_too_small_falls_to_the_processor_only_when_allowed(r1_7b: GgufHeader) -> None:
    small = machine(host(64), nvidia("Tesla P4", 3, "6.1"))
    found = fit_installed(r1_7b, small)
    assert found.devices == ()
    assert "nvidia:0" in found.notes[0]
    with pytest.raises(TooLarge) as caught:
        fit_installed(r1_7b, small, allow_cpu=False)
    assert caught.value.details["device"] == "nvidia:0"


def test_a_processor_has_flash_attention_only_where_its_smaller_buffers_decide(r1_7b: GgufHeader) -> None:
    roomy = fit_installed(r1_7b, machine(host(64)))
    assert not roomy.flash_attention
    tight = fit_installed(r1_7b, machine(host(8)))
    assert tight.flash_attention
    assert tight.seats * tight.context_tokens > 0


def test_unknown_memory_and_engines_without_the_cards(r1_7b: GgufHeader) -> None:
    with pytest.raises(MemoryUnknown):
        fit_installed(r1_7b, machine(replace(host(64), memory_available_bytes=None)))
    blind = machine(host(64), replace(ascend("910B3", 62), memory_free_bytes=None))
    with pytest.raises((MemoryUnknown, CannotCompute)):
        fit_installed(r1_7b, blind, allow_cpu=False)
    found = fit_installed(r1_7b, machines.T4, usable_vendors=frozenset[Vendor]())
    assert found.devices == ()
    assert "not built for nvidia" in found.notes[0]


def test_legacy_671b_gets_its_71_times_larger_cache(tmp_path: Path) -> None:
    split = read_header(write_gguf(tmp_path / "a.gguf", mla_metadata(legacy=False), small_tensors()))
    legacy = read_header(write_gguf(tmp_path / "b.gguf", mla_metadata(legacy=True), small_tensors()))
    h20 = machine(host(512), nvidia("NVIDIA H20", 95.6, "9.0"))
    good, old = (fit_installed(h, h20, 1, 4096) for h in (split, legacy))
    assert old.memory[0].kv_bytes == pytest.approx(71.1 * good.memory[0].kv_bytes, rel=0.001)
    assert good.flash_attention
    assert not old.flash_attention


def test_a_header_without_dimensions_is_no_model(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", small_metadata(qwen2__attention__head_count=None), small_tensors())
    with pytest.raises(NotAChatModel):
        fit_installed(read_header(path), machines.CPU_24)
