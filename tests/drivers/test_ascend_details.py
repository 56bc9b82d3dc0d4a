"""What npu-smi is asked for one by one, and how its answers complete the devices. Pure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ascend_details import Question, questions, with_answer, with_links
from drivers.types import Device, Health, LinkKind, MemoryErrors, Vendor

FOLDER = Path(__file__).parents[1] / "fixtures/npu_smi"
KNOWN = Device(
    Vendor.ASCEND,
    0,
    "Ascend 910B3",
    chip="910B3",
    card_id=0,
    chip_id=0,
    memory_kind="hbm",
    memory_total_bytes=1 << 36,
    memory_free_bytes=1 << 35,
    health=Health.OK,
    temperature_celsius=40,
    power_watts=100,
    firmware_version="7.8",
    memory_errors=MemoryErrors(0, 0, 0, 0),
)


def text_of(name: str) -> str:
    return (FOLDER / name).read_text().partition("\n")[2]


def asked(*devices: Device) -> list[str]:
    return [" ".join(question.arguments) for question in questions(devices)]


def test_nothing_is_asked_of_a_device_that_is_known() -> None:
    assert asked(KNOWN) == []


def test_the_most_important_comes_first() -> None:
    unknown = Device(Vendor.ASCEND, None, "x", card_id=7, chip_id=0, health=Health.ALARM)
    other = replace(unknown, chip_id=1, health=Health.OK)
    assert asked(unknown, other) == [
        "-t health -i 7 -c 0",
        "-t usages -i 7",
        "-t topo",
        "-t common -i 7",
        "-t temp -i 7",
        "-t board -i 7",
    ]


def test_what_a_chip_does_not_have_is_not_asked_for_except_power() -> None:
    """The board's controller knows the power that a 310P does not tell."""
    one = replace(KNOWN, power_watts=None, firmware_version=None, unsupported=("power_watts", "firmware_version"))
    assert asked(one) == ["-t common -i 0"]
    assert asked(replace(KNOWN, links=()), replace(KNOWN, chip_id=1, unsupported=("links",))) == []


@pytest.mark.parametrize("chip_id", [0, None])
def test_health_codes(chip_id: int | None) -> None:
    one = replace(KNOWN, chip_id=chip_id, health=Health.ALARM)
    (question,) = questions([one])
    ((told,), findings) = with_answer([one], question, text_of("910a-23.0.7-health-three-codes.txt"))
    assert [fault.code for fault in told.faults] == ["8C03A000", "8C084E00", "A4025021"]
    assert told.faults[2].meaning == "ascend_monitor adda heart beat lost error"
    assert findings == ()


def test_power_of_the_board_stands_on_the_first_chip() -> None:
    two = [replace(KNOWN, card_id=1, chip_id=chip, power_watts=None, temperature_celsius=None) for chip in (0, 1)]
    told, _ = with_answer(two, Question("common", 1), text_of("310p-common.txt"))
    assert [(one.power_watts, one.temperature_celsius, one.clock_mhz) for one in told] == [
        (13.4, 43, 960),
        (None, None, None),
    ]


def test_values_without_a_number_are_of_no_chip_of_two() -> None:
    two = [replace(KNOWN, chip_id=chip, temperature_celsius=None) for chip in (0, 1)]
    text = text_of("950-vendor-doc-temp.txt")
    assert with_answer(two, Question("temp", 0), text) == (tuple(two), ())
    assert with_answer(two[:1], Question("temp", 0), text)[0][0].temperature_celsius == 53


def test_answer_about_another_card_changes_nothing() -> None:
    two = [replace(KNOWN, card_id=2, power_watts=None), replace(KNOWN, card_id=3, power_watts=None)]
    assert with_answer(two, Question("common", 2), text_of("310p-common.txt")) == (tuple(two), ())


def test_what_is_known_stays() -> None:
    for name in ("310p-common.txt", "910b-25.5.1-usages.txt", "910b-25.5.1-board.txt", "910a-ecc.txt"):
        for card in (0, 1):
            one = replace(KNOWN, card_id=card, clock_mhz=1, utilization_percent=5)
            assert with_answer([one], Question("any", card), text_of(name))[0] == (one,)


def test_memory_has_its_kind_but_no_free_part() -> None:
    """The tool gives a rounded rate: what is free would be a guess."""
    one = replace(KNOWN, memory_kind=None, memory_total_bytes=None, memory_free_bytes=None)
    ((told,), _) = with_answer([one], Question("usages", 0), text_of("910b-25.5.1-usages.txt"))
    assert (told.memory_kind, told.memory_total_bytes, told.memory_free_bytes) == ("hbm", 65536 << 20, None)


def test_firmware_of_a_board_is_that_of_all_its_chips() -> None:
    two = [replace(KNOWN, chip_id=chip, firmware_version=None) for chip in (0, 1)]
    text = text_of("910b-25.5.1-board.txt")
    told, findings = with_answer(
        two, Question("board", 0), text.replace("Compatibility                  : OK", "Compatibility : NOK")
    )
    assert [one.firmware_version for one in told] == ["7.8.0.6.201"] * 2
    assert [(finding.code, finding.device) for finding in findings] == [("firmware_incompatible", "ascend:0.0")]


def test_topology_by_the_number_of_the_node() -> None:
    two = [replace(KNOWN, chip_id=chip, index=chip, node=f"/dev/davinci{12 + chip}") for chip in (0, 1)]
    told, _ = with_answer(two, Question("topo"), text_of("a3-910c-topo-two-dies.txt"))
    assert [[(link.peer, link.kind) for link in one.links] for one in told] == [
        [("ascend:0.1", LinkKind.SIO)],
        [("ascend:0.0", LinkKind.SIO)],
    ]
    assert with_links([replace(KNOWN, index=None)], {(0, 1): LinkKind.UB}) == (replace(KNOWN, index=None),)
    same = [replace(KNOWN, chip_id=chip, node="/dev/davinci1") for chip in (0, 1)]
    assert with_links(same, {(0, 1): LinkKind.UB}) == tuple(same)


@given(st.text(), st.sampled_from(["health", "usages", "topo", "common", "temp", "board", "ecc"]))
def test_any_answer_changes_no_known_value(text: str, kind: str) -> None:
    told, _ = with_answer([KNOWN], Question(kind, None if kind == "topo" else 0), text)
    assert told == (KNOWN,)
