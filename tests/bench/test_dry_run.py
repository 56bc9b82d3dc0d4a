"""The closed formulas against llama.cpp's dry run over the whole grid, and what dry runs cost.

Prints a row for each model with the errors of each buffer in percent (least and greatest), and the times. Decides
nothing: tests/models/test_dry_run_accuracy.py does, on a part of the grid.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.dry_run import DryRun, Offload, Opening, dry_run
from models.gguf import GgufHeader, read_header
from models.memory import header_weights, variant_weights
from models.types import KvType
from tests.bench.load import median
from tests.models.cards import build_fake_cards, shown
from tests.models.smollm2 import SMOLLM2
from tests.models.test_dry_run_accuracy import VARIANTS, on_cards, on_processor, written

pytestmark = pytest.mark.bench

QUANTIZATIONS = ("Q4_K_M", "Q8_0", "BF16")
ROUNDS = 5
Errors = dict[str, tuple[float, float]]


def openings(*, flash_attention: bool) -> list[Opening]:
    caches = (KvType.F16, KvType.Q8_0) if flash_attention else (KvType.F16,)
    return [
        Opening(seats, tokens // seats, cache, flash_attention, ubatch)
        for tokens in (8192, 32_768, 131_072)
        for cache in caches
        for ubatch in (128, 512)
        for seats in (1, 4, 16)
    ]


def add(errors: Errors, buffer: str, estimated: int, laid_out: int) -> None:
    error = 100 * (estimated - laid_out) / laid_out
    low, high = errors.get(buffer, (error, error))
    errors[buffer] = (min(low, error), max(high, error))


def answers(header: GgufHeader, wanted: list[Opening], offload: Offload | None) -> Iterator[DryRun]:
    for answer in dry_run(header, wanted, offload):
        assert isinstance(answer, DryRun), answer
        yield answer


def test_errors_over_the_whole_grid(tmp_path: Path) -> None:
    cards = build_fake_cards(tmp_path)
    started = time.monotonic()
    contexts = 0
    print()
    for variant in VARIANTS:
        for quantization in QUANTIZATIONS:
            header = written(tmp_path, variant, quantization)
            weights = variant_weights(variant, variant.quantizations[quantization])
            for flash in (True, False):
                host: Errors = {}
                card: Errors = {}
                wanted = openings(flash_attention=flash)
                for answer in answers(header, wanted, None):
                    for buffer, (estimated, laid_out) in on_processor(variant.shape, weights, answer).items():
                        add(host, buffer, estimated, laid_out)
                one = Offload(variant.shape.layers + 1, (), (cards,), shown(1))
                for answer in answers(header, wanted, one):
                    for buffer, (estimated, laid_out) in on_cards(variant.shape, weights, answer).items():
                        add(card, buffer, estimated, laid_out)
                contexts += 2 * len(wanted)
                for where, errors in (("processor", host), ("card", card)):
                    words = "  ".join(f"{b} {low:+.2f}..{high:+.2f}" for b, (low, high) in errors.items())
                    print(f"{variant.id:24} {quantization:7} FA {'on ' if flash else 'off'} {where:9} {words}")
    print(f"{contexts} contexts in {time.monotonic() - started:.1f} s, files written included")


def test_time_of_a_dry_run() -> None:
    header = read_header(SMOLLM2)
    assert header_weights(header).total_bytes > 0
    print()
    for count in (1, 25):
        times = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            found = dry_run(header, [Opening(1, 256 * (i + 1)) for i in range(count)])
            times.append(time.perf_counter() - started)
            assert all(isinstance(a, DryRun) for a in found)
        print(f"SmolLM2, {count:2} openings: {1000 * median(times):.0f} ms, the child's start included")
