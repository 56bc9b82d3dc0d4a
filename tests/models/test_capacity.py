"""docs/capacity.md is what the planner reckons, and what it reckons holds together."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.capacity import BOXES, KINDS, VARIANTS, BoxKind, capacity, page
from models.catalogue import load_catalogue

PAGE = Path(__file__).parents[2] / "docs" / "capacity.md"
CATALOGUE = load_catalogue()


def test_the_page_is_what_the_planner_reckons() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m models.capacity > docs/capacity.md"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title)
@pytest.mark.parametrize("name", VARIANTS)
def test_more_boxes_never_give_fewer_seats_and_nothing_exceeds_a_device(kind: BoxKind, name: str) -> None:
    variant = CATALOGUE.variant(name)
    assert variant is not None
    before = 0
    for boxes in BOXES:
        found = capacity(CATALOGUE, kind, variant, boxes)
        if found is None:
            assert before == 0
            continue
        assert found.seats >= before
        before = found.seats
        assert found.groups * found.split.devices <= boxes * kind.devices
        assert found.seats % (found.groups * found.split.data) == 0
        assert found.weights_bytes + found.cache_bytes < 0.9 * kind.total_gib * 1024**3


def test_what_vendors_say_of_the_671b_holds() -> None:
    """One Atlas 800 A3 or two A2 hold the W8A8 form (vLLM-Ascend's tutorial); one A2 does not."""
    variant = CATALOGUE.variant("R1-0528-671B")
    assert variant is not None
    a2, a3 = KINDS[0], KINDS[1]
    assert capacity(CATALOGUE, a2, variant, 1) is None
    for kind, boxes in ((a2, 2), (a3, 1)):
        found = capacity(CATALOGUE, kind, variant, boxes)
        assert found is not None
        assert (found.form, found.boxes_of_group(kind)) == ("W8A8", boxes)
