"""DCMI, npu-smi and the bus joined: pure, from values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from drivers.ascend_dcmi import Chips
from drivers.ascend_ground import Ground
from drivers.ascend_install import Install
from drivers.ascend_join import card_row, join, tool_devices
from drivers.ascend_tool import ToolReading
from drivers.nodes import DeviceNode, DeviceNodes
from drivers.npu_smi import MappedChip, NpuInfo
from drivers.pci import PciFunction
from drivers.types import Device, DeviceLayers, Health, LayerState, Vendor


def function(number: int, chip: str | None = "910B", chips: int = 1) -> PciFunction:
    return PciFunction(f"0000:{number:02x}:00.0", "ascend", 0x19E5, 0xD802, chip, "x", number, chips, "Ascend")


def device(card: int, chip: int | None = 0, **values: Any) -> Device:
    return Device(Vendor.ASCEND, values.pop("index", None), "Ascend", card_id=card, chip_id=chip, **values)


def ground(*functions: PciFunction, nodes: tuple[DeviceNode, ...] = ()) -> Ground:
    return Ground(functions, DeviceNodes(nodes), Install(Path("/usr/local/Ascend")), None)


def table(*devices: Device, chips: tuple[MappedChip, ...] = ()) -> ToolReading:
    return ToolReading(NpuInfo(devices), None, chips)


def test_each_source_fills_what_the_other_does_not_know() -> None:
    by_dcmi = device(0, health=Health.OK, temperature_celsius=40, memory_kind="hbm", memory_total_bytes=8)
    by_tool = device(0, index=3, health=Health.ALARM, temperature_celsius=50, utilization_percent=5, power_watts=9)
    by_tool = replace(by_tool, memory_kind="ddr", memory_total_bytes=4, memory_free_bytes=2, chip="910B3", name="Named")
    (joined,) = join(ground(), Chips((by_dcmi,)), True, table(by_tool)).devices
    assert (joined.index, joined.utilization_percent, joined.power_watts, joined.name) == (3, 5, 9, "Named")
    assert (joined.health, joined.temperature_celsius) == (Health.OK, 40)
    assert (joined.memory_kind, joined.memory_total_bytes, joined.memory_free_bytes) == ("hbm", 8, None)


def test_power_of_a_card_is_not_doubled_by_the_second_source() -> None:
    by_dcmi = (device(0, 0, power_watts=50), device(0, 1))
    by_tool = (device(0, 0), device(0, 1, power_watts=50))
    joined = join(ground(), Chips(by_dcmi), True, table(*by_tool)).devices
    assert [one.power_watts for one in joined] == [50, None]


def test_logic_id_comes_before_the_number_of_the_node() -> None:
    """In a container an A3 has the nodes 8 and 9 and the logic ids 0 and 1."""
    shown = [device(0, chip, index=8 + chip, node=f"/dev/davinci{8 + chip}") for chip in (0, 1)]
    listed = (MappedChip(0, 0, 0, 8), MappedChip(0, 1, 1, 9))
    assert [(one.index, one.node) for one in tool_devices(table(*shown, chips=listed))] == [
        (0, "/dev/davinci8"),
        (1, "/dev/davinci9"),
    ]
    assert [one.index for one in tool_devices(table(*shown))] == [8, 9]


def test_950_by_its_card_alone() -> None:
    listed = (MappedChip(0, 0, None, 5),)
    assert [(one.index, one.node) for one in tool_devices(table(device(0, None), chips=listed))] == [
        (5, "/dev/davinci5")
    ]


def test_the_only_function_left_is_the_silent_chips() -> None:
    answering = device(0, pci_address="0000:01:00.0")
    chips = Chips((answering,), ((device(1), -8012),))
    joined = join(ground(function(1), function(2)), chips, True, None)
    assert [one.pci_address for one in joined.silent] == ["0000:02:00.0"]
    assert "0000:02:00.0, 19e5:d802" in joined.findings[0].message
    joined = join(ground(function(1), function(2), function(3)), chips, True, None)
    assert [one.pci_address for one in joined.silent] == [None], "which of two it is nobody tells"


def test_silent_chip_that_the_tool_tells_is_no_row_twice() -> None:
    chips = Chips((device(0),), ((device(1), -8006),))
    joined = join(ground(), chips, False, table(device(0), device(1)))
    assert [one.key for one in (*joined.devices, *joined.silent)] == ["ascend:0.0", "ascend:1.0"]


def test_functions_are_left_alone_where_a_device_has_no_address() -> None:
    joined = join(ground(function(1), function(2)), Chips((device(0),)), True, None)
    assert (joined.silent, joined.findings) == ((), ())


def test_layers_of_a_device() -> None:
    nodes = (DeviceNode("/dev/davinci0", exists=True, usable=True), DeviceNode("/dev/davinci1", exists=True))
    found = join(
        ground(function(1), nodes=nodes),
        Chips(
            tuple(
                device(
                    card,
                    pci_address="0000:01:00.0",
                    node=f"/dev/davinci{card}",
                    layers=DeviceLayers(library=LayerState.OK),
                )
                for card in range(3)
            )
        ),
        True,
        None,
    ).devices
    assert [one.layers.node for one in found] == [LayerState.OK, LayerState.BROKEN, LayerState.BROKEN]
    assert {(one.layers.pci, one.layers.library, one.numa_node) for one in found} == {(LayerState.OK, LayerState.OK, 1)}


def test_row_of_a_card_without_a_public_name() -> None:
    row = card_row(replace(function(1, None), device_id=0xD807))
    assert (row.name, row.key, row.index) == ("Ascend card 19e5:d807", "ascend:0000:01:00.0", None)


DEVICES = st.lists(
    st.builds(
        device,
        st.integers(0, 2),
        st.integers(0, 1),
        pci_address=st.one_of(st.none(), st.integers(1, 3).map(lambda n: f"0000:{n:02x}:00.0")),
    ),
    max_size=4,
    unique_by=lambda one: one.key,
)


@given(DEVICES, DEVICES, DEVICES, st.integers(0, 3), st.booleans(), st.booleans())
def test_every_device_once(
    found: list[Device], silent: list[Device], listed: list[Device], cards: int, asked: bool, complete: bool
) -> None:
    keys = {one.key for one in found}
    chips = Chips(tuple(found), tuple((one, -8012) for one in silent if one.key not in keys))
    where = ground(*(function(number + 1, chips=2) for number in range(cards)))
    joined = join(where, chips, complete, table(*listed) if asked else None)
    rows = [one.key for one in (*joined.devices, *joined.silent)]
    assert len(rows) == len(set(rows))
    assert keys <= set(rows)
    assert {one.key for one in silent} <= set(rows)
    assert all(finding.hint for finding in joined.findings)
