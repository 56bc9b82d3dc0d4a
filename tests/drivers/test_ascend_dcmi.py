"""What a DCMI reading means: pure, from values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ascend_dcmi import ABSENT, device_of, interpret_chips, power_once, sample_of, samples_of
from drivers.dcmi_reading import DcmiChip, DcmiChipSample, DcmiEcc, DcmiReading, DcmiStart
from drivers.types import Device, Health, LayerState, LinkKind, MemoryErrors, Vendor

MIB = 1 << 20
START = DcmiStart(api=1, driver_version="25.2.0")


def device(**values: Any) -> Device:
    return device_of(DcmiChip(card_id=values.pop("card_id", 0), device_id=values.pop("device_id", 0), **values), START)


@pytest.mark.parametrize(
    ("chip_name", "npu_name", "chip"),
    [
        ("310", None, "310"),
        ("310P3", "310P3", "310P3"),
        ("310B1", None, "310B1"),
        ("310B4", "310B4", "310B4"),
        ("910A", None, "910A"),
        ("910ProA", None, "910A"),
        ("910B1", "910B1", "910B1"),
        ("910B2C", "910B2C", "910B2C"),
        ("910B4", "910B4", "910B4"),
        ("910B4-1", None, "910B4-1"),
        ("Ascend910", "9392", "910C"),
        ("Ascend910_9362", None, "910C"),
        ("Ascend950PR", "9579", "950PR"),
        ("Ascend950DT", None, "950DT"),
        (None, None, None),
        ("MiniD", None, None),
    ],
)
def test_chip_names(chip_name: str | None, npu_name: str | None, chip: str | None) -> None:
    assert device(chip_name=chip_name, npu_name=npu_name).chip == chip


@pytest.mark.parametrize(
    ("values", "memory"),
    [
        ({"hbm_total_mb": 65536, "hbm_used_mb": 3000, "ddr_total_mb": 1000}, ("hbm", 65536, 62536)),
        ({"hbm_total_mb": 0, "ddr_total_mb": 44280, "ddr_available_mb": 42751}, ("ddr", 44280, 42751)),
        ({"hbm_total_mb": 65536}, ("hbm", 65536, None)),
        ({"hbm_total_mb": 100, "hbm_used_mb": 200}, ("hbm", 100, None)),
        ({"ddr_total_mb": 100, "ddr_available_mb": 200}, ("ddr", 100, None)),
        ({}, (None, None, None)),
    ],
)
def test_memory(values: dict[str, int], memory: tuple[str | None, int | None, int | None]) -> None:
    one = device(**values)
    expected = tuple(part * MIB if isinstance(part, int) else part for part in memory)
    assert (one.memory_kind, one.memory_total_bytes, one.memory_free_bytes) == expected


@pytest.mark.parametrize(
    ("word", "health"),
    [(0, Health.OK), (1, Health.WARNING), (2, Health.ALARM), (3, Health.CRITICAL), (7, Health.UNKNOWN)],
)
def test_health_words(word: int, health: Health) -> None:
    assert device(health=word).health is health
    assert sample_of(DcmiChipSample(0, 0, health=word)).health is health


def test_absent_is_silent_and_not_a_health() -> None:
    chips = interpret_chips(DcmiReading(START, (DcmiChip(0, 0, health=ABSENT),), complete=True))
    assert chips.devices == ()
    ((one, code),) = chips.silent
    assert (one.key, one.layers.library, code) == ("ascend:0.0", LayerState.BROKEN, -8008)
    assert sample_of(DcmiChipSample(0, 0, health=ABSENT)).problem is not None


def test_aicore_before_npu_and_what_is_out_of_range_is_unknown() -> None:
    assert device(aicore_percent=12, npu_percent=40).utilization_percent == 12
    assert device(npu_percent=40).utilization_percent == 40
    assert device(aicore_percent=300, npu_percent=40).utilization_percent == 40
    assert device(temperature_celsius=32767).temperature_celsius is None
    assert device(power_deciwatts=0).power_watts is None
    assert device(power_deciwatts=128).power_watts == 12.8


def test_ecc_of_the_memory_that_models_use() -> None:
    hbm, ddr = DcmiEcc(1, 2, 3, 4, 5, 6, enabled=True), DcmiEcc(7, 7, 7, 7, 7, 7)
    assert device(hbm_total_mb=1, ecc_hbm=hbm, ecc_ddr=ddr).memory_errors == MemoryErrors(1, 2, 3, 4, retired_pages=11)
    assert device(ddr_total_mb=1, ecc_hbm=hbm, ecc_ddr=ddr).memory_errors == MemoryErrors(7, 7, 7, 7, retired_pages=14)
    assert device(hbm_total_mb=1, ecc_hbm=DcmiEcc(1, 1, 1, 1, enabled=False)).memory_errors is None


def test_unsupported_is_apart_from_failed() -> None:
    one = device(errors={"power": -8255, "hbm": -8255, "aicore": -8255, "npu": -99998, "temperature": -8009})
    assert one.unsupported == ("power_watts", "utilization_percent", "memory_clock_mhz")
    reading = DcmiReading(START, (DcmiChip(0, 0, errors={"power": -8255, "temperature": -8009}),), complete=True)
    (finding,) = interpret_chips(reading).findings
    assert "temperature: -8009" in finding.message
    assert "power" not in finding.message


def test_second_api_names_no_chip() -> None:
    one = device_of(DcmiChip(3, None, logic_id=3, phy_id=7), DcmiStart(api=2))
    assert (one.key, one.index, one.node) == ("ascend:3", 3, "/dev/davinci7")
    assert sample_of(DcmiChipSample(3)).key == "ascend:3"


def test_no_address_is_none() -> None:
    assert device(pci_address="0000:00:00.0").pci_address is None
    assert device(pci_address="0000:C1:00.0").pci_address == "0000:c1:00.0"


def chips(names: list[str], topology: dict[str, int]) -> tuple[Device, ...]:
    first = DcmiChip(0, 0, chip_name=names[0], npu_name="9392" if names[0] == "Ascend910" else None)
    second = DcmiChip(0, 1, chip_name=names[1], npu_name=first.npu_name, topology=topology)
    return interpret_chips(DcmiReading(START, (first, second), complete=True)).devices


@pytest.mark.parametrize(
    ("name", "number", "kind"),
    [
        ("910B3", 0, None),
        ("910B3", 1, LinkKind.SYS),
        ("910B3", 2, LinkKind.PHB),
        ("910B3", 3, LinkKind.HCCS),
        ("910B3", 4, LinkKind.PXB),
        ("910B3", 5, LinkKind.PIX),
        ("910B3", 6, None),
        ("910B3", 7, None),
        ("310P3", 6, None),
        ("Ascend910", 6, LinkKind.SIO),
        ("Ascend910", 7, LinkKind.HCCS_SW),
        ("Ascend910", 8, None),
        ("Ascend950PR", 6, LinkKind.SIO),
        ("Ascend950PR", 8, LinkKind.UB),
        ("Ascend950PR", 9, None),
        ("Ascend950PR", -5, None),
    ],
)
def test_topology_by_generation(name: str, number: int, kind: LinkKind | None) -> None:
    first, second = chips([name, name], {"0.0": number})
    assert [link.kind for link in first.links] == ([] if kind is None else [kind])
    assert [link.peer for link in second.links] == ([] if kind is None else ["ascend:0.0"])


def test_two_dies_with_hbm_are_an_a3() -> None:
    """Old libraries tell no module's name, and call the first and the third generation 910."""
    dies = tuple(DcmiChip(0, die, chip_name="Ascend910", hbm_total_mb=65536) for die in (0, 1))
    found = interpret_chips(DcmiReading(START, dies, complete=True)).devices
    assert [(one.chip, one.name) for one in found] == [("910C", "Ascend 910C")] * 2
    found = interpret_chips(DcmiReading(START, dies[:1], complete=True)).devices
    assert [one.chip for one in found] == ["910"]


def test_links_lead_to_chips_that_are_there() -> None:
    first, second = chips(["910B3", "910B3"], {"9.9": 3, "0.1": 3, "what": 3})
    assert (first.links, second.links) == ((), ())


def test_reading_that_stopped_names_the_chip_that_hangs() -> None:
    start = DcmiStart(api=1, listed=("0.0", "1.0", "2.0", "x"))
    reading = DcmiReading(start, (DcmiChip(0, 0, health=0),), complete=False)
    found = interpret_chips(reading, timed_out=True)
    assert [device.key for device in found.devices] == ["ascend:0.0"]
    assert [(device.key, code) for device, code in found.silent] == [("ascend:1.0", -8006), ("ascend:2.0", None)]


def test_chip_that_is_listed_twice_counts_once() -> None:
    reading = DcmiReading(START, (DcmiChip(0, 0), DcmiChip(0, 0)), complete=True)
    assert len(interpret_chips(reading).devices) == 1


def test_power_stands_on_the_first_chip_that_tells_it() -> None:
    cards = [
        Device(Vendor.ASCEND, None, "x", card_id=c, chip_id=d, power_watts=p)
        for c, d, p in ((0, 0, None), (0, 1, 5.0), (0, 2, 6.0), (1, 0, 7.0))
    ]
    assert [one.power_watts for one in power_once(cards)] == [None, 5.0, None, 7.0]
    samples = samples_of([DcmiChipSample(0, 0, power_deciwatts=50), DcmiChipSample(0, 1, power_deciwatts=50)])
    assert [one.power_watts for one in samples] == [5.0, None]


NUMBERS = st.one_of(st.none(), st.integers(-(1 << 31), 1 << 33))
CHIPS = st.builds(
    DcmiChip,
    card_id=st.integers(0, 3),
    device_id=st.one_of(st.none(), st.integers(0, 1)),
    error=st.one_of(st.none(), st.just(-8012)),
    errors=st.dictionaries(st.sampled_from(["power", "hbm", "x"]), st.sampled_from([-8255, -8009])),
    logic_id=NUMBERS,
    phy_id=NUMBERS,
    chip_name=st.one_of(st.none(), st.text(max_size=12)),
    pci_address=st.one_of(st.none(), st.text(max_size=12)),
    health=NUMBERS,
    error_codes=st.lists(st.integers(-(1 << 31), 1 << 32), max_size=3).map(tuple),
    temperature_celsius=NUMBERS,
    power_deciwatts=NUMBERS,
    aicore_percent=NUMBERS,
    hbm_total_mb=NUMBERS,
    hbm_used_mb=NUMBERS,
    ddr_total_mb=NUMBERS,
    ddr_available_mb=NUMBERS,
    topology=st.dictionaries(st.sampled_from(["0.0", "1.0", "0", "y"]), st.integers(-1, 10)),
)


@given(st.lists(CHIPS, max_size=6).map(tuple), st.booleans())
def test_any_reading_gives_values_in_range(found: tuple[DcmiChip, ...], timed_out: bool) -> None:
    judged = interpret_chips(DcmiReading(START, found, complete=not timed_out), timed_out=timed_out)
    keys = [one.key for one in judged.devices] + [one.key for one, _ in judged.silent]
    assert len(keys) == len(set(keys))
    for one in judged.devices:
        assert one.index is None or one.index >= 0
        assert one.power_watts is None or one.power_watts > 0
        assert one.utilization_percent is None or 0 <= one.utilization_percent <= 100
        assert one.memory_total_bytes is None or one.memory_total_bytes > 0
        if one.memory_free_bytes is not None:
            assert one.memory_total_bytes is not None
            assert 0 <= one.memory_free_bytes <= one.memory_total_bytes
