"""Accelerators on a fake PCI bus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ascend_ids import ASCEND_PCI
from drivers.nvidia_ids import NVIDIA_PCI
from drivers.pci import list_accelerators, normalize_address
from drivers.types import Vendor

Add = Callable[..., Path]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0000:C1:00.0", "0000:c1:00.0"),
        ("00000000:01:00.0", "0000:01:00.0"),
        ("0000000F:01:00.0", "000f:01:00.0"),
        ("00010000:01:00.0", "10000:01:00.0"),
        ("3d:00.0", "0000:3d:00.0"),
        ("NA", None),
        ("", None),
        ("0000:01:00.8", None),
    ],
)
def test_addresses_are_written_as_in_sysfs(text: str, address: str | None) -> None:
    assert normalize_address(text) == address


@given(st.text())
def test_any_text_is_an_address_or_none(text: str) -> None:
    address = normalize_address(text)
    assert address is None or normalize_address(address) == address


def test_no_bus_is_unknown_and_an_empty_bus_is_empty(tmp_path: Path) -> None:
    assert list_accelerators(tmp_path, NVIDIA_PCI, ASCEND_PCI) is None
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    assert list_accelerators(tmp_path, NVIDIA_PCI, ASCEND_PCI) == ()


def test_only_accelerators_are_counted(tmp_path: Path, add_pci: Add) -> None:
    add_pci("0000:41:00.0", "0x10de", "0x26ba", "0x030200", driver="nvidia", numa_node=1)
    add_pci("0000:02:00.0", "0x10de", "0x2684", "0x030000", driver="nouveau")
    add_pci("0000:02:00.1", "0x10de", "0x22ba", "0x040300", driver="snd_hda_intel")
    add_pci("0000:05:00.0", "0x10de", "0x22a3", "0x068000")
    add_pci("0000:c1:00.0", "0x19e5", "0xd802", "0x120000", driver="devdrv_device_driver")
    add_pci("0000:c2:00.0", "0x20c6", "0xd500", "0x120000")
    add_pci("0000:01:00.0", "0x19e5", "0x1711", "0x030000", driver="hibmc-drm")
    add_pci("0000:03:00.0", "0x19e5", "0x1822", "0x020000", driver="hinic")
    add_pci("0000:75:00.0", "0x19e5", "0xa250", "0x120000", driver="hisi_zip")
    add_pci("0000:06:00.0", "0x8086", "0x56c0", "0x038000")
    found = list_accelerators(tmp_path, NVIDIA_PCI, ASCEND_PCI)
    assert found is not None
    assert [(one.address, one.vendor, one.chip, one.driver, one.numa_node) for one in found] == [
        ("0000:02:00.0", Vendor.NVIDIA, "GeForce RTX 4090", "nouveau", None),
        ("0000:41:00.0", Vendor.NVIDIA, "L20", "nvidia", 1),
        ("0000:c1:00.0", Vendor.ASCEND, "910B", "devdrv_device_driver", None),
        ("0000:c2:00.0", Vendor.ASCEND, "310P", None, None),
    ]


def test_virtual_functions_are_left_out(tmp_path: Path, add_pci: Add) -> None:
    add_pci("0000:c1:00.0", "0x19e5", "0xd802", "0x120000")
    add_pci("0000:c1:00.1", "0x19e5", "0xd805", "0x120000", virtual=True)
    found = list_accelerators(tmp_path, NVIDIA_PCI, ASCEND_PCI)
    assert found is not None
    assert [one.address for one in found] == ["0000:c1:00.0"]


def test_one_function_may_stand_for_two_chips(tmp_path: Path, add_pci: Add) -> None:
    add_pci("0000:07:00.0", "0x19e5", "0xd500", "0x120000", subsystem_device="0x0110")
    add_pci("0000:08:00.0", "0x19e5", "0xd500", "0x120000", subsystem_device="0x0100")
    found = list_accelerators(tmp_path, NVIDIA_PCI, ASCEND_PCI)
    assert found is not None
    assert [one.chips for one in found] == [2, 1]


def test_unreadable_entries_are_left_out(tmp_path: Path, add_pci: Add) -> None:
    add_pci("0000:01:00.0", "garbage", "0xd802", "0x120000")
    add_pci("no-address", "0x19e5", "0xd802", "0x120000")
    (tmp_path / "sys/bus/pci/devices/0000:09:00.0").mkdir()
    assert list_accelerators(tmp_path, NVIDIA_PCI, ASCEND_PCI) == ()


def test_a_card_without_a_known_name_is_given_by_its_ids(tmp_path: Path, add_pci: Add) -> None:
    add_pci("0000:01:00.0", "0x10de", "0x9999", "0x030200")
    found = list_accelerators(tmp_path, NVIDIA_PCI, ASCEND_PCI)
    assert found is not None
    assert found[0].label == "NVIDIA card 10de:9999 at 0000:01:00.0"
