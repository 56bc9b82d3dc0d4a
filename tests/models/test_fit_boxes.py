"""Plans over several boxes: the same arithmetic as the capacity sheet, and sizes that the heads allow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers.types import HardwareSnapshot
from models.capacity import KINDS, capacity
from models.errors import CannotCompute, ContextTooLong, NeedsOtherEngine, TooLarge
from models.fit_boxes import BoxesPlan, OneOfBoxes, fit_boxes
from models.types import EngineName
from tests.models.golden_machines import build
from tests.models.test_fit_folder import CATALOGUE, GIB, LLAMA_70B, stored

ALL = frozenset(EngineName)
A2 = "8 910B3 64 / host 1024"
R1_W8A8 = stored("R1-0528-671B", "BF16", 640, architecture="deepseek2", file="quant_model_description_w8a8.json")
LLAMA_BF16 = stored("R1-Distill-Llama-70B", "BF16", 131.5, architecture="llama")
SMALL = stored("R1-Distill-Qwen-1.5B", "BF16", 3.3)


def boxes(line: str, count: int, engines: frozenset[EngineName] = ALL) -> list[OneOfBoxes]:
    return [OneOfBoxes(f"box-{number}", build(line), engines) for number in range(1, count + 1)]


def over(line: str, count: int, facts: object = R1_W8A8, **wish: int) -> BoxesPlan:
    return fit_boxes(facts, CATALOGUE, boxes(line, count), **wish)  # type: ignore[arg-type]


def free(gib: float, line: str = A2) -> list[OneOfBoxes]:
    """Boxes as the capacity sheet has them: idle, with so much free on each card."""
    snapshot = build(line)
    devices = tuple(replace(one, memory_free_bytes=int(gib * GIB)) for one in snapshot.devices)
    return [OneOfBoxes(f"box-{n}", replace(snapshot, devices=devices), ALL) for n in (1, 2)]


def test_the_671b_over_two_a2_is_the_capacity_sheets() -> None:
    kind = next(one for one in KINDS if one.title.startswith("Atlas 800I A2"))
    variant = CATALOGUE.variant("R1-0528-671B")
    assert variant is not None
    sheet = capacity(CATALOGUE, kind, variant, 2)
    assert sheet is not None
    found = fit_boxes(R1_W8A8, CATALOGUE, free(kind.free_gib), seats=sheet.seats, context_tokens=32_768)
    layout = found.layout
    assert (layout.boxes, layout.tensor, layout.data, layout.per_box) == (2, sheet.split.tensor, sheet.split.data, 8)
    assert (found.plan.engine, found.plan.quantization) == (EngineName.VLLM_ASCEND, "W8A8")
    with pytest.raises(TooLarge):
        fit_boxes(R1_W8A8, CATALOGUE, free(kind.free_gib), seats=sheet.seats * 2, context_tokens=32_768)


def test_the_plan_is_the_first_boxes_and_seats_are_the_wholes() -> None:
    found = over(A2, 2)
    assert found.plan.devices == tuple(device.key for device in build(A2).devices)
    assert len(found.plan.memory) == 8
    assert all(line.total_bytes <= line.available_bytes for line in found.plan.memory)
    assert found.layout.words == "2 boxes, 8 devices each: TP4 DP4"


def test_a_dense_model_gives_each_box_some_of_its_layers() -> None:
    line = "8 L20 44.5 / host 1024"
    found = over(line, 2, LLAMA_BF16, seats=8, context_tokens=16_384)
    assert (found.layout.tensor, found.layout.pipeline, found.layout.data) == (8, 2, 1)
    alone = over("4 L20 44.5 / host 1024", 2, LLAMA_BF16, seats=2, context_tokens=8192)
    assert (alone.layout.tensor, alone.layout.pipeline) == (4, 2)


def test_one_that_no_box_holds_is_held_by_two() -> None:
    from models.fit_folder import fit_folder

    line = "1 L20 44.5 / host 1024"
    with pytest.raises(TooLarge):
        fit_folder(LLAMA_70B, CATALOGUE, build(line), 1, 8192, engines=ALL)
    assert over(line, 2, LLAMA_70B, seats=1, context_tokens=8192).layout.pipeline == 2


@pytest.mark.parametrize(("count", "tensor", "pipeline"), [(2, 2, 1), (3, 1, 3), (4, 4, 1)])
def test_boxes_without_cards_divide_heads_where_they_can(count: int, tensor: int, pipeline: int) -> None:
    found = over("/ host 32", count, SMALL)
    assert (found.layout.tensor, found.layout.pipeline, found.layout.per_box) == (tensor, pipeline, 0)
    assert found.plan.devices == ()


def test_a_boxes_part_is_smaller_than_the_whole() -> None:
    parts = [over("/ host 64", count, SMALL, seats=2, context_tokens=4096).plan.memory[0] for count in (2, 4)]
    assert parts[1].weights_bytes < parts[0].weights_bytes < SMALL.weights_bytes
    assert parts[0].weights_bytes >= SMALL.weights_bytes // 2


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ([*boxes(A2, 1), *boxes("8 L20 44.5 / host 1024", 1)], "same cards"),
        ([*boxes(A2, 1), *boxes("/ host 1024", 1)], "no cards"),
    ],
)
def test_boxes_that_differ_are_refused(found: list[OneOfBoxes], reason: str) -> None:
    with pytest.raises(CannotCompute, match=reason):
        fit_boxes(R1_W8A8, CATALOGUE, found)


def test_what_else_cannot_be() -> None:
    with pytest.raises(NeedsOtherEngine):
        fit_boxes(R1_W8A8, CATALOGUE, [*boxes(A2, 1), *boxes(A2, 1, frozenset({EngineName.MINDIE}))])
    with pytest.raises(ContextTooLong):
        over(A2, 2, context_tokens=10_000_000)
    with pytest.raises(TooLarge):
        over("8 L4 22.5 / host 512", 2, stored("R1-0528-671B", "FP8", 640, architecture="deepseek2"))
    with pytest.raises(ValueError):
        over(A2, 1)


def test_the_smallest_box_decides() -> None:
    big, small = boxes("8 910B3 64 / host 1024", 1)[0], boxes("4 910B3 64 / host 1024", 1)[0]
    try:
        found = fit_boxes(LLAMA_BF16, CATALOGUE, [big, small], seats=1, context_tokens=4096)
    except CannotCompute:
        pytest.fail("boxes of one chip work together")
    assert found.layout.per_box == 4
    assert isinstance(big.snapshot, HardwareSnapshot)
