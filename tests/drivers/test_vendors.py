"""Adding a vendor is one module and one line: the module that docs/drivers.md shows is taken from there and used."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import drivers
from appliance.cli.detect_view import snapshot_lines
from drivers.errors import MonitorFailed
from drivers.probe import default_probes, detect
from drivers.snapshot_json import SnapshotError, from_json, to_json
from drivers.support import VendorSupport
from drivers.types import DeviceSample, Health, Host, LayerState, Monitor, Vendor
from drivers.vendors import VENDORS
from models.machine import read_machine

DOCUMENT = Path(drivers.__file__).parents[1] / "docs" / "drivers.md"
HOST = Host(hostname="box")
GIB = 1 << 30


def blocks() -> list[str]:
    """The Python of the document: the module, and its line in vendors.py."""
    return re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def amd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VendorSupport:
    """The document's vendor, in the list of vendors by the document's own line."""
    module_text, line_text = blocks()
    file = tmp_path / "amd.py"
    file.write_text(module_text, "utf-8")
    spec = importlib.util.spec_from_file_location("drivers.amd", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "drivers.amd", module)
    spec.loader.exec_module(module)
    names = {vendor.name.upper(): vendor for vendor in VENDORS} | {"VendorSupport": VendorSupport}
    exec(compile(line_text, "vendors.py", "exec"), names)  # type: ignore[arg-type]
    vendors = names["VENDORS"]
    for place in ("drivers.probe", "drivers.snapshot_json"):
        monkeypatch.setattr(f"{place}.VENDORS", vendors)
    found: VendorSupport = module.AMD
    return found


@pytest.fixture
def two_cards(add_pci: Callable[..., Path]) -> None:
    """A card with its driver, one without, the sound function of the first and a processor's own graphics."""
    card = add_pci("0000:03:00.0", "0x1002", "0x744c", "0x030000", driver="amdgpu", numa_node=1)
    for name, value in {
        "mem_info_vram_total": 24 * GIB,
        "mem_info_vram_used": 3 * GIB,
        "gpu_busy_percent": 41,
    }.items():
        (card / name).write_text(f"{value}\n")
    add_pci("0000:03:00.1", "0x1002", "0xab30", "0x040300", driver="snd_hda_intel")
    add_pci("0000:83:00.0", "0x1002", "0x74a1", "0x120000")
    add_pci("0000:e5:00.0", "0x1002", "0x164e", "0x030000", driver="amdgpu")


def test_the_documents_line_is_the_list_with_one_more(amd: VendorSupport) -> None:
    assert [probe.name for probe in default_probes()] == ["nvidia", "ascend", "amd"]
    today = (Path(drivers.__file__).with_name("vendors.py")).read_text("utf-8")
    added = [line for line in blocks()[1].splitlines() if line not in today.splitlines()]
    assert added == ["from drivers.amd import AMD", "    AMD,"]


def test_its_devices_are_found(amd: VendorSupport, two_cards: None, tmp_path: Path) -> None:
    snapshot = detect(default_probes(tmp_path), lambda: HOST)
    first, second = snapshot.devices
    assert (first.key, first.name, first.memory_total_bytes, first.memory_free_bytes) == (
        "amd:0",
        "AMD RX 7900",
        24 * GIB,
        21 * GIB,
    )
    assert (first.health, first.utilization_percent, first.numa_node) == (Health.OK, 41, 1)
    assert (second.name, second.memory_total_bytes, second.layers.library) == ("AMD MI300X", None, LayerState.BROKEN)
    assert [(one.code, one.device, one.source) for one in snapshot.findings] == [("driver_not_loaded", "amd:1", "amd")]
    assert [(one.layer, one.state) for one in snapshot.layers] == [
        ("pci", LayerState.OK),
        ("module", LayerState.BROKEN),
    ]


def test_the_rest_takes_them_as_they_are(amd: VendorSupport, two_cards: None, tmp_path: Path) -> None:
    snapshot = detect(default_probes(tmp_path), lambda: HOST)
    assert from_json(to_json(snapshot)) == snapshot
    text = "\n".join(line.plain for line in snapshot_lines(snapshot, width=80, labels={"amd": amd.label}))
    assert "3.0 / 24.0 GiB" in text
    assert "AMD    PCI ✓ 2 cards   module ✗" in text
    notes = read_machine(snapshot, usable_vendors=tuple(Vendor)).notes
    assert [note.rpartition(": ")[2] for note in notes] == ["this engine was not built for amd."] * 2


def test_without_its_line_nobody_knows_it(two_cards: None, tmp_path: Path) -> None:
    assert "amd" not in [probe.name for probe in default_probes(tmp_path)]
    with pytest.raises(SnapshotError):
        from_json({"schema": 1, "devices": [{"vendor": "amd", "name": "A"}]})


def test_its_monitor_samples(amd: VendorSupport, two_cards: None, tmp_path: Path) -> None:
    monitor: Monitor = amd.monitor(tmp_path)
    first, second = monitor.sample()
    assert first == DeviceSample(
        "amd:0",
        health=Health.OK,
        utilization_percent=41,
        memory_used_bytes=3 * GIB,
        memory_total_bytes=24 * GIB,
    )
    assert second.key == "amd:1"
    assert replace(second, problem=None) == DeviceSample("amd:1")
    assert second.problem
    monitor.close()
    monitor.close()


def test_a_machine_without_such_a_card_has_no_trace_of_it(amd: VendorSupport, empty_pci: Path, tmp_path: Path) -> None:
    result = amd.probe(tmp_path).probe()
    assert (result.devices, result.findings, result.layers) == ((), (), ())
    with pytest.raises(MonitorFailed) as caught:
        amd.monitor(tmp_path).sample()
    assert caught.value.code == "monitor_unavailable"


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_every_vendor_has_what_the_page_asks_for(vendor: VendorSupport, empty_pci: Path, tmp_path: Path) -> None:
    probe, monitor = vendor.probe(tmp_path), vendor.monitor(tmp_path)
    assert probe.name == monitor.name == vendor.name
    assert vendor.label
    assert monitor.interval_s >= 1
    monitor.close()


def test_the_documents_module_is_as_small_as_it_says() -> None:
    module_text = blocks()[0]
    assert ast.get_docstring(ast.parse(module_text))
    assert max(len(line) for line in module_text.splitlines()) <= 120
