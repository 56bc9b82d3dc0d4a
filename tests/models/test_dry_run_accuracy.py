"""The closed formulas against llama.cpp's own dry run, for the models of the catalogue and two others.

+3 % / -1 % for every buffer and for the total; the whole grid (all quantizations, caches, micro-batches and seats) is
tests/bench/test_dry_run.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from models.catalogue import load_catalogue
from models.dry_run import DryRun, Offload, Opening, dry_run
from models.fit import fit_installed
from models.gguf import GgufHeader, read_header
from models.memory import (
    Weights,
    compute_bytes,
    header_weights,
    host_compute_bytes,
    host_output_bytes,
    kv_bytes,
    variant_weights,
)
from models.planner import plan
from models.requantize import plan_types
from models.types import HOST, KvType, ModelShape, Variant
from tests.models.cards import build_fake_cards, shown
from tests.models.golden_machines import build
from tests.models.r1_files import write_variant
from tests.models.smollm2 import SMOLLM2
from tests.models.tiny_r1_files import Q8_0

ABOVE = 0.03
UNDER = 0.01
CATALOGUE = load_catalogue()
VARIANTS = [v for v in CATALOGUE.variants if v.id != "R1-0528-671B"]
"""Both generations of the 671B have the same shape."""
OPENINGS = [
    Opening(4, tokens // 4, flash_attention=flash) for tokens in (8192, 32_768, 131_072) for flash in (True, False)
]
OTHERS = [
    Opening(16, 2048, KvType.Q8_0),
    Opening(1, 8192, KvType.Q8_0, ubatch_tokens=128),
    Opening(16, 8192, flash_attention=False, ubatch_tokens=128),
]
LARGE = "8 H20 95.6 / host 2048"
MANY_SEATS = [Opening(64, tokens // 64, ubatch_tokens=128) for tokens in (8192, 32_768)]
"""The logits fill the buffer; how the rows beside them lie then varies, and the formula takes the most."""


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_cards(tmp_path_factory.mktemp("cards"))


def written(folder: Path, variant: Variant, quantization: str) -> GgufHeader:
    """A sparse file in a quantization; the types of a mixture are asked of llama.cpp's quantizer."""
    types = None
    if quantization == "Q4_K_M":
        full = read_header(write_variant(folder / "full.gguf", variant, "BF16"))
        types = plan_types(full, quantization, pure=False)
    return read_header(write_variant(folder / f"{quantization}.gguf", variant, quantization, types))


def answers(header: GgufHeader, openings: list[Opening], offload: Offload | None = None) -> list[DryRun]:
    found = dry_run(header, openings, offload)
    assert [a for a in found if not isinstance(a, DryRun)] == []
    return [a for a in found if isinstance(a, DryRun)]


def on_processor(shape: ModelShape, weights: Weights, answer: DryRun) -> dict[str, tuple[int, int]]:
    """Buffer -> (estimated, laid out)."""
    o = answer.opening
    tokens = o.seats * o.context_tokens
    host = answer.on(HOST)
    compute = compute_bytes(
        shape,
        tokens,
        flash_attention=o.flash_attention,
        kv_type=o.kv_type,
        ubatch_tokens=o.ubatch_tokens,
        outputs=o.sequences,
        sequences=o.sequences,
    )
    found = {
        "model": (weights.total_bytes, host.model_bytes),
        "kv": (kv_bytes(shape, tokens, o.kv_type), host.kv_bytes),
        "compute": (compute, host.compute_bytes),
        "output": (host_output_bytes(shape, o.sequences), host.output_bytes),
    }
    return found | {"total": (sum(e for e, _ in found.values()), answer.total_bytes)}


def on_cards(
    shape: ModelShape, weights: Weights, answer: DryRun, *, count: int = 1, pipeline: bool = False
) -> dict[str, tuple[int, int]]:
    """As ``on_processor``; with several cards their compute buffers against the largest of them."""
    o = answer.opening
    tokens = o.seats * o.context_tokens
    own = [answer.on(f"CUDA{i}") for i in range(count)]
    host = answer.on(HOST)
    compute = compute_bytes(
        shape,
        tokens,
        flash_attention=o.flash_attention,
        kv_type=o.kv_type,
        ubatch_tokens=o.ubatch_tokens,
        outputs=o.sequences,
        sequences=o.sequences,
        on_card=True,
        pipeline=pipeline,
    )
    on_host = host_compute_bytes(
        shape,
        tokens,
        flash_attention=o.flash_attention,
        kv_type=o.kv_type,
        ubatch_tokens=o.ubatch_tokens,
        sequences=o.sequences,
        pipeline=pipeline,
    )
    kv = kv_bytes(shape, tokens, o.kv_type)
    return {
        "model": (weights.on_cards_bytes, sum(b.model_bytes for b in own)),
        "kv": (kv, sum(b.kv_bytes for b in own)),
        "compute": (compute, max(b.compute_bytes for b in own)),
        "total": (weights.on_cards_bytes + kv + count * compute, sum(b.total_bytes for b in own)),
        "host model": (weights.embedding_bytes, host.model_bytes),
        "host compute": (on_host, host.compute_bytes),
        "output": (host_output_bytes(shape, o.sequences), host.output_bytes),
    }


def check(found: dict[str, tuple[int, int]], opening: Opening, above: float = ABOVE) -> None:
    for buffer, (estimated, laid_out) in found.items():
        # The log rounds to hundredths of a MiB.
        assert estimated >= laid_out * (1 - UNDER) - 5300, (buffer, opening)
        assert estimated <= laid_out * (1 + above) + 5300, (buffer, opening)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.id)
def test_formulas_against_the_dry_run_on_processor_and_card(variant: Variant, cards: Path, tmp_path: Path) -> None:
    header = written(tmp_path, variant, "Q8_0")
    weights = variant_weights(variant, variant.quantizations["Q8_0"])
    for answer in answers(header, OPENINGS + OTHERS):
        check(on_processor(variant.shape, weights, answer), answer.opening)
    for answer in answers(header, MANY_SEATS):
        check(on_processor(variant.shape, weights, answer), answer.opening, above=0.16)
    one = Offload(variant.shape.layers + 1, (), (cards,), shown(1))
    for answer in answers(header, OPENINGS + OTHERS, one):
        assert answer.stray_tensors == 0
        check(on_cards(variant.shape, weights, answer), answer.opening)


@pytest.mark.parametrize("quantization", ["Q4_K_M", "BF16"])
@pytest.mark.parametrize("variant", [VARIANTS[0], VARIANTS[-1]], ids=lambda v: v.id)
def test_the_quantization_changes_the_weights_alone(variant: Variant, quantization: str, tmp_path: Path) -> None:
    header = written(tmp_path, variant, quantization)
    weights = variant_weights(variant, variant.quantizations[quantization])
    # The catalogue's mixtures are those made with an importance matrix: a little larger.
    above = 0.012 if quantization == "Q4_K_M" else 0.0
    for answer in answers(header, OPENINGS[:2]):
        found = on_processor(variant.shape, weights, answer)
        check(found, answer.opening)
        assert found["model"][1] <= found["model"][0] <= found["model"][1] * (1 + above)


@pytest.mark.parametrize("pipeline", [True, False])
@pytest.mark.parametrize(
    ("variant_id", "count"), [("R1-Distill-Qwen-32B", 2), ("R1-Distill-Llama-70B", 4), ("R1-671B", 8)]
)
def test_several_cards(variant_id: str, count: int, cards: Path, tmp_path: Path, *, pipeline: bool) -> None:
    """CUDA's cards work as a pipeline, for which every input is there four times; CANN's do not."""
    variant = CATALOGUE.variant(variant_id)
    assert variant is not None
    header = written(tmp_path, variant, "Q8_0")
    weights = variant_weights(variant, variant.quantizations["Q8_0"])
    layers = variant.shape.layers
    split = [layers // count] * (count - 1)
    split.append(layers + 1 - sum(split))
    environment = shown(count, **({"FAKE_CARDS_ASYNC": "1"} if pipeline else {}))
    openings = [Opening(8, 32_768), Opening(4, 8192, KvType.Q8_0), Opening(4, 8192, flash_attention=False)]
    for answer in answers(header, openings, Offload(layers + 1, tuple(split), (cards,), environment)):
        check(on_cards(variant.shape, weights, answer, count=count, pipeline=pipeline), answer.opening)


@pytest.mark.parametrize(("variant_id", "line"), [("R1-Distill-Llama-70B", "4 L4 22.5 / host 256"), ("R1-671B", LARGE)])
def test_every_card_holds_what_the_plan_says(variant_id: str, line: str, cards: Path, tmp_path: Path) -> None:
    """Q4_K_M gives the last layers more bits: in the 671B they are 13 % above the mean."""
    variant = CATALOGUE.variant(variant_id)
    assert variant is not None
    header = written(tmp_path, variant, "Q4_K_M")
    plans = [fit_installed(header, build(line), 4, 8192)]
    plans += [
        p for p in plan(CATALOGUE, build(line), 4, 8192).plans if (p.variant, p.quantization) == (variant_id, "Q4_K_M")
    ]
    assert len(plans) == 2
    for found in plans:
        count = len(found.devices)
        assert count > 1
        offload = Offload(found.gpu_layers, found.tensor_split, (cards,), shown(count, FAKE_CARDS_ASYNC="1"))
        (answer,) = answers(header, [Opening(4, 8192, found.kv_type)], offload)
        for number, memory in enumerate(found.memory[:count]):
            real = answer.on(f"CUDA{number}")
            # The catalogue's form is that made with an importance matrix, a little larger.
            assert memory.weights_bytes == pytest.approx(real.model_bytes, rel=0.012)
            assert memory.total_bytes - memory.reserve_bytes >= real.total_bytes * (1 - UNDER)
            assert real.total_bytes + memory.reserve_bytes <= memory.available_bytes


@pytest.mark.parametrize("path", [SMOLLM2, Q8_0], ids=["SmolLM2", "Tiny-R1"])
def test_shapes_that_the_formulas_were_not_made_from(path: Path) -> None:
    header = read_header(path)
    shape = header.shape()
    openings = [Opening(8, 4096), Opening(1, 8192, flash_attention=False), Opening(2, 1024, KvType.Q8_0)]
    for answer in answers(header, openings, Offload(extra_buffers=False)):
        check(on_processor(shape, header_weights(header), answer), answer.opening, above=0.042)
