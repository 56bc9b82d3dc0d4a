"""The parser of ``npu-smi info -t topo``: recorded matrices, new columns, other orders, and broken text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.npu_smi_topo import parse_topo
from drivers.types import LinkKind

FOLDER = Path(__file__).parents[1] / "fixtures/npu_smi"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "topologies.json").read_text())


def text_of(name: str) -> str:
    return (FOLDER / name).read_text()


def ways(expected: dict[str, Any]) -> dict[tuple[int, int], LinkKind]:
    numbers = expected["numbers"]
    found = {(one, other): LinkKind(expected["all"]) for one in numbers for other in numbers if one != other}
    for one, other, word in expected["but"]:
        found[one, other] = found[other, one] = LinkKind(word)
    return found


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_recorded_matrix(name: str) -> None:
    assert parse_topo(text_of(name)) == ways(EXPECTED[name])


def test_columns_are_found_by_their_names() -> None:
    """Made up: columns in another order than the rows, and the network cards of newer tools."""
    text = """
           NIC0  NPU4   NPU0   CPU Affinity
    NPU0   PHB   HCCS_SW  X    0-23
    NPU4   SYS   X      HCCS_SW  24-47
    NIC0   X     SYS    PHB
"""
    assert parse_topo(text) == {(0, 4): LinkKind.HCCS_SW, (4, 0): LinkKind.HCCS_SW}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "This device does not support querying topo.\n",
        "  NPU0 NPU1\nNPU0 X HCCS\n",  # the second row is missing
        "  NPU0 NPU1\nNPU0 X HCCS\nNPU1 SYS X\n",  # the rows contradict
        "  NPU0 NPU1\nNPU0 HCCS X\nNPU1 X HCCS\n",  # shifted
        "  NPU0 NPU1\nNPU0 X NA\nNPU1 NA X\n",
        "  NPU0 NPU1\nNPU0 X WARP\nNPU1 WARP X\n",
        "  NPU0 NPU0\nNPU0 X HCCS\nNPU0 HCCS X\n",
        "  NPU0 NPU1\nNPU0 X HCCS\nNPU1 HCCS X\nNPU1 SIO X\n",
        "  NPU0 NPU1\nNPU0 X HCCS_SW\nNPU1 HCCS X",
    ],
)
def test_what_is_not_certain_is_left_out(text: str) -> None:
    assert parse_topo(text) == {}


CAPTURES = st.sampled_from(sorted(EXPECTED)).map(text_of)
WORDS = st.sampled_from(["NPU0", "NPU1", "Phy-ID2", "NIC0", "X", "HCCS", "SIO", "NA", "\n", " ", "CPU Affinity", "0-3"])


@given(st.one_of(st.text(), st.lists(WORDS, max_size=60).map(" ".join)))
def test_any_text_is_read_without_an_exception(text: str) -> None:
    found = parse_topo(text)
    assert all(found[other, one] is kind for (one, other), kind in found.items())


@given(CAPTURES, st.data())
def test_a_cut_or_changed_matrix_never_invents_a_way(text: str, data: st.DataObject) -> None:
    whole = parse_topo(text)
    cut = text[: data.draw(st.integers(0, len(text)))]
    assert parse_topo(cut).items() <= whole.items()
    place = data.draw(st.integers(0, len(text) - 1))
    changed = parse_topo(text[:place] + data.draw(st.sampled_from(" \nXSU_0")) + text[place + 1 :])
    assert all(whole.get(pair, kind) is kind for pair, kind in changed.items() if set(pair) <= {p[0] for p in whole})
