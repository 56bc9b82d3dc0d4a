"""Whether a draft model fits beside a model, on the shapes of R1-Distill-Qwen-1.5B and 7B."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.catalogue import load_catalogue
from models.draft import DRAFTS, draft_opening, place_draft, with_draft
from models.dry_run import DryRun, dry_run
from models.fit import fit_installed
from models.gguf import GgufHeader, read_header
from models.plan_json import plan_to_json
from models.residuals import difference
from models.types import HOST, FitPlan
from tests.fakes.gguf_writer import write_gguf
from tests.models import machines
from tests.models.machines import host, machine, nvidia
from tests.models.r1_files import write_variant
from tests.models.test_gguf import R1_7B, write_r1_7b

_SMALLER = {3584: 1536, 18944: 8960, 512: 256, 152064: 151936}
_METADATA = {
    "qwen2.embedding_length": 1536,
    "qwen2.feed_forward_length": 8960,
    "qwen2.attention.head_count": 12,
    "qwen2.attention.head_count_kv": 2,
    "qwen2.vocab_size": 151936,
}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> GgufHeader:
    return read_header(write_r1_7b(tmp_path_factory.mktemp("r1") / "DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> GgufHeader:
    """The 7B's header with the 1.5B's dimensions (catalogue)."""
    metadata = {**R1_7B["metadata"], **_METADATA}
    tensors = [(n, tuple(_SMALLER.get(size, size) for size in shape), t) for n, shape, t in R1_7B["tensors"]]
    path = tmp_path_factory.mktemp("draft") / "DeepSeek-R1-Distill-Qwen-1.5B-Q4_K_M.gguf"
    return read_header(write_gguf(path, metadata, tensors))


def with_spare(plan: FitPlan, spare: dict[str, int]) -> FitPlan:
    """The plan on a machine that has so many bytes left on each device."""
    lines = [replace(line, available_bytes=line.total_bytes + spare[line.device]) for line in plan.memory]
    return replace(plan, memory=tuple(lines))


def test_the_small_headers_shape_is_the_catalogues(small: GgufHeader) -> None:
    variant = load_catalogue().variant("R1-Distill-Qwen-1.5B")
    assert variant is not None
    shape = small.shape()
    assert (shape.layers, shape.embedding_length, shape.kv_heads) == (28, 1536, 2)
    assert small.parameters == variant.parameters


def test_it_takes_weights_cache_and_buffers_of_what_a_card_has_left(large: GgufHeader, small: GgufHeader) -> None:
    plan = fit_installed(large, machines.T4, 4, 8192)
    place = place_draft(with_spare(plan, {"nvidia:0": 8 * 2**30, HOST: 2**30}), small)
    assert place is not None
    assert place.device == 0
    cache = 4 * 8192 * 28 * 2 * 2 * 128 * 2
    weights = small.tensor_bytes - small.token_embd_bytes
    assert weights + cache < place.needed_bytes < weights + cache + 200 * 2**20
    exactly = with_spare(plan, {"nvidia:0": place.needed_bytes, HOST: 2**30})
    assert place_draft(exactly, small) == place
    assert place_draft(with_spare(plan, {"nvidia:0": place.needed_bytes - 1, HOST: 2**30}), small) is None
    assert place_draft(with_spare(plan, {"nvidia:0": 8 * 2**30, HOST: 2**20}), small) is None


def test_of_several_cards_it_takes_the_one_with_most_left(large: GgufHeader, small: GgufHeader) -> None:
    two = machine(host(64), *(nvidia("Tesla P4", 6, "6.1", i) for i in range(2)))
    plan = fit_installed(large, two, 4, 8192)
    assert len(plan.devices) == 2
    place = place_draft(with_spare(plan, {"nvidia:0": 2**30, "nvidia:1": 5 * 2**30, HOST: 2**30}), small)
    assert place is not None
    assert place.device == 1


def test_beside_a_model_on_the_processor_it_takes_of_the_hosts_memory(large: GgufHeader, small: GgufHeader) -> None:
    plan = fit_installed(large, machine(host(64)), 2, 4096)
    place = place_draft(plan, small)
    assert place is not None
    assert place.device is None
    assert place.needed_bytes > small.tensor_bytes
    assert place_draft(with_spare(plan, {HOST: place.needed_bytes - 1}), small) is None


def test_a_model_that_is_hardly_smaller_or_knows_less_context_is_none(large: GgufHeader, small: GgufHeader) -> None:
    plan = fit_installed(large, machine(host(64)), 2, 4096)
    assert place_draft(plan, large) is None
    assert place_draft(replace(plan, file_bytes=2 * small.file_bytes), small) is None
    assert place_draft(replace(plan, file_bytes=2 * small.file_bytes), small, smaller_by=1.0) is not None
    assert place_draft(replace(plan, context_tokens=small.shape().context_length + 1, seats=1), small) is None


def test_the_plan_has_a_line_of_what_the_draft_model_takes(large: GgufHeader, small: GgufHeader) -> None:
    plan = fit_installed(large, machines.T4, 4, 8192)
    roomy = with_spare(plan, {"nvidia:0": 8 * 2**30, HOST: 2**30})
    place = place_draft(roomy, small)
    assert place is not None
    whole = with_draft(roomy, "small", place)
    card, on_host = whole.memory
    assert (whole.draft, card.draft_bytes, on_host.draft_bytes) == ("small", place.needed_bytes, place.host_bytes)
    # The token embedding, logits and inputs.
    assert small.token_embd_bytes < place.host_bytes < small.token_embd_bytes + 60 * 2**20
    assert card.total_bytes == plan.memory[0].total_bytes + place.needed_bytes <= card.available_bytes
    told = plan_to_json(whole)
    assert (told["draft"], told["memory"][0]["draft_bytes"]) == ("small", place.needed_bytes)
    assert told["memory"][0]["total_bytes"] == card.total_bytes
    # What the log of a load says is without it.
    measured = {"nvidia:0": plan.memory[0].total_bytes - plan.memory[0].reserve_bytes}
    found = difference(whole, measured)
    assert found is not None
    assert found.device_bytes == 0


@pytest.mark.parametrize(("seats", "context"), [(1, 4096), (4, 8192), (16, 2048)])
def test_the_formula_is_what_llama_cpp_lays_out(tmp_path: Path, large: GgufHeader, seats: int, context: int) -> None:
    """A dry run of the draft model as the worker opens it, on the processor: +3 % / -1 % as every other estimate."""
    variant = load_catalogue().variant("R1-Distill-Qwen-1.5B")
    assert variant is not None
    header = read_header(write_variant(tmp_path / "draft.gguf", variant, "Q8_0"))
    plan = fit_installed(large, machine(host(256)), seats, context)
    place = place_draft(plan, header, smaller_by=1.0)
    (found,) = dry_run(header, [draft_opening(plan)])
    assert place is not None
    assert isinstance(found, DryRun)
    assert found.opening.sequences == seats
    assert 0.99 * found.total_bytes <= place.needed_bytes <= 1.03 * found.total_bytes


def test_every_pair_is_of_one_vocabulary() -> None:
    catalogue = load_catalogue()
    for variant, draft in DRAFTS.items():
        large_one, small_one = catalogue.variant(variant), catalogue.variant(draft)
        assert large_one is not None
        assert small_one is not None
        assert abs(large_one.shape.vocab_size - small_one.shape.vocab_size) <= 128
        assert large_one.parameters > 3 * small_one.parameters
