"""From a described machine to the checklist: every gap is named at its layer, with its fix, and decides the verdict."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.compute_types import ComputeResult, ComputeState
from drivers.doctor import diagnose, find_devices, known_software, seen_vendors, usable
from drivers.doctor_fixes import commands_for
from drivers.doctor_json import report_to_dict
from drivers.doctor_types import Break, DoctorReport, EngineFacts
from drivers.requirements import RequirementState, load_requirements
from drivers.types import (
    Device,
    Finding,
    HardwareSnapshot,
    Health,
    Host,
    Layer,
    LayerReport,
    LayerState,
    ProbeResult,
    Severity,
    Software,
)
from tests.drivers.doctor_machines import (
    CANN_BUILD,
    CPU_BUILD,
    CUDA_12,
    CUDA_BUILD,
    FOUR_CHIPS,
    LABELS,
    MACHINES,
    NVIDIA_DRIVER,
    NVIDIA_OK,
    SILENT,
    chain,
    duo,
    error,
    examined,
    h20,
    snapshot,
)

DATA = load_requirements()


def look(machine: HardwareSnapshot, engine: EngineFacts, *installed: Software, **options: object) -> DoctorReport:
    return diagnose(machine, installed, engine, DATA, labels=LABELS, **options)  # type: ignore[arg-type]


def breaks(report: DoctorReport) -> list[Break]:
    return [one for vendor in report.vendors for one in vendor.breaks]


@pytest.mark.parametrize(
    ("name", "cards", "serves", "found"),
    [
        ("nvidia-well", True, True, []),
        ("ascend-well", True, True, []),
        ("no-cards", False, False, []),
        ("nvidia-no-driver", True, False, [("module", "driver_missing"), ("engine", "engine_without_backend")]),
        ("nvidia-nouveau", True, False, [("module", "nouveau_bound")]),
        ("nvidia-version-mismatch", True, False, [("library", "driver_version_mismatch")]),
        ("nvidia-build-without-cuda", True, False, [("engine", "engine_without_backend")]),
        ("nvidia-driver-too-old", True, False, []),
        ("nvidia-one-lost", True, True, [(None, "device_lost")]),
        ("ascend-access", True, False, [("access", "no_permission")]),
        ("ascend-no-cann", True, False, [("runtime", "cann_missing")]),
        ("ascend-booting", True, False, [("nodes", "nodes_waiting")]),
        ("ascend-pair-refused", True, False, []),
        ("ascend-passed-through", True, False, [("pci", "card_passed_through"), (None, "driver_not_ready")]),
        ("both-one-works", True, True, [("engine", "engine_without_backend")]),
    ],
)
def test_each_gap(name: str, cards: bool, serves: bool, found: list[tuple[str | None, str]]) -> None:
    report = examined(name)
    assert (report.has_cards, report.serves_from_cards) == (cards, serves)
    assert [(one.layer and one.layer.value, one.code) for one in breaks(report)] == found


def test_every_machine_is_judged_above() -> None:
    marks = [mark for mark in test_each_gap.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == set(MACHINES)


@pytest.mark.parametrize("name", MACHINES)
def test_all_layers_are_reported_in_their_order(name: str) -> None:
    for vendor in examined(name).vendors:
        assert [report.layer for report in vendor.layers] == list(Layer)
        assert {report.vendor for report in vendor.layers} == {vendor.vendor}


def test_the_engine_waits_for_what_it_rests_on_but_a_wrong_build_is_told_at_once() -> None:
    right_build = examined("nvidia-nouveau").vendors[0].layers[-1]
    wrong_build = examined("nvidia-no-driver").vendors[0].layers[-1]
    assert (right_build.state, wrong_build.state) == (LayerState.NOT_REACHED, LayerState.BROKEN)
    assert wrong_build.findings == ("engine_without_backend",)


def test_an_engine_that_is_not_installed() -> None:
    machine = MACHINES["nvidia-well"].snapshot
    report = look(machine, EngineFacts("llama.cpp", None, frozenset()))
    assert [one.code for one in breaks(report)] == ["engine_missing"]
    assert not report.serves_from_cards


def test_of_another_machines_engine_nothing_is_known() -> None:
    report = look(MACHINES["nvidia-well"].snapshot, EngineFacts("llama.cpp"))
    assert report.vendors[0].layers[-1].state is LayerState.UNKNOWN
    assert report.serves_from_cards
    assert report.summary == "This box can serve from its NVIDIA cards, with an engine built for them."


def test_a_pair_that_the_vendor_refuses_keeps_the_box_from_serving() -> None:
    report = examined("ascend-pair-refused")
    states = {(one.rule, one.needs): (one.state, one.blocks) for one in report.vendors[0].requirements}
    assert states["cann-driver", "ascend-driver"] == (RequirementState.TOO_OLD, True)
    assert states["torch-npu", "torch"] == (RequirementState.TOO_OLD, False)
    assert not report.serves_from_cards


def test_a_sick_card_does_not_keep_the_other_from_serving() -> None:
    vendor = examined("nvidia-one-lost").vendors[0]
    assert (vendor.devices, vendor.usable, vendor.serves) == (2, 1, True)
    machine = snapshot((h20(0, health=Health.CRITICAL),), chain("nvidia", *NVIDIA_OK), (), (NVIDIA_DRIVER,))
    assert not look(machine, CUDA_BUILD, CUDA_12).serves_from_cards


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (h20(0), True),
        (h20(0, SILENT), False),
        (replace(h20(0), partitioned=True), False),
        (replace(h20(0), health=Health.ALARM), True),
        (Device("nvidia", 0, "T4"), False),
        (Device("nvidia", 0, "T4", memory_total_bytes=1), True),
    ],
)
def test_which_device_can_take_work(device: Device, expected: bool) -> None:
    assert usable(device) is expected


def test_a_probe_without_layers_is_judged_by_its_devices() -> None:
    machine = snapshot(FOUR_CHIPS)
    layers = {report.layer: report.state for report in look(machine, CANN_BUILD).vendors[0].layers}
    assert layers[Layer.LIBRARY] is LayerState.OK
    assert layers[Layer.RUNTIME] is LayerState.UNKNOWN
    machine = snapshot((), (), (error("ascend", "probe_crashed", "The library crashed."),))
    layers = {report.layer: report.state for report in look(machine, CANN_BUILD).vendors[0].layers}
    assert layers[Layer.LIBRARY] is LayerState.BROKEN


def test_a_broken_layer_that_nobody_explains_still_says_what_and_how() -> None:
    machine = snapshot(FOUR_CHIPS, chain("ascend", *[LayerState.OK] * 5, LayerState.BROKEN))
    found = breaks(look(machine, CANN_BUILD))
    assert [(one.code, one.layer) for one in found] == [("runtime_broken", Layer.RUNTIME)]
    assert found[0].fix == "Install CANN, then restart the service."
    machine = snapshot((), chain("nvidia", LayerState.OK, (LayerState.BROKEN, "not loaded"), LayerState.NOT_REACHED))
    assert "'module'" in breaks(look(machine, CUDA_BUILD))[0].message


def test_a_vendor_that_is_asked_for_is_told_even_when_nothing_of_it_is_there() -> None:
    report = examined("nvidia-well", asked=["ascend"])
    assert [one.vendor for one in report.vendors] == ["ascend"]
    assert [one.code for one in breaks(report)] == ["pci_broken"]
    assert (report.has_cards, report.serves_from_cards) == (False, False)


def test_findings_of_no_vendor_are_notes() -> None:
    odd = Finding("snapshot_field_unknown", "A field was ignored.", source="snapshot")
    assert look(snapshot((), (), (odd,)), CPU_BUILD).notes == (odd,)
    about_nvidia = Finding("driver_not_loaded", "Not loaded.", severity=Severity.INFO, source="nvidia")
    assert look(snapshot((), (), (about_nvidia,)), CPU_BUILD).notes == (about_nvidia,)
    assert look(snapshot((), (), (about_nvidia,)), CPU_BUILD, asked=["ascend"]).notes == ()


def test_vendors_that_are_only_looked_for_are_not_seen() -> None:
    nothing = chain("ascend", (LayerState.BROKEN, "no card"), *[LayerState.NOT_REACHED] * 5)
    assert seen_vendors(snapshot((), nothing)) == ()
    soc = (LayerReport("ascend", Layer.PCI, LayerState.NOT_NEEDED), LayerReport("ascend", Layer.NODES, LayerState.OK))
    assert seen_vendors(snapshot((), soc)) == ("ascend",)


def test_devices_tell_versions_that_the_probe_did_not() -> None:
    machine = snapshot((replace(h20(0), driver_version="570.26"), h20(1, capability="7.5")))
    found = {(one.name, one.version) for one in known_software(machine, [])}
    assert found == {("nvidia-driver", "570.26"), ("compute-capability", "9.0"), ("compute-capability", "7.5")}
    read = replace(machine, software=(Software("nvidia-driver", "570.26.01", "/proc"),))
    assert [one.version for one in known_software(read, []) if one.name == "nvidia-driver"] == ["570.26.01"]


def test_the_group_to_join_is_the_one_that_the_probe_names() -> None:
    told = error("ascend", "no_permission", "Closed.", "Run usermod -aG npu r1box, then restart the service.")
    machine = snapshot((), chain("ascend", *[LayerState.OK] * 3, (LayerState.BROKEN, None, "no_permission")), (told,))
    assert "sudo usermod -aG npu ward" in breaks(look(machine, CANN_BUILD, user="ward"))[0].commands


def test_in_a_container_only_the_engine_has_commands() -> None:
    machine = MACHINES["nvidia-no-driver"]
    found = breaks(look(machine.snapshot, machine.engine, in_container=True))
    assert {one.layer: bool(one.commands) for one in found} == {Layer.MODULE: False, Layer.ENGINE: True}


def test_what_only_needs_time_has_nothing_to_type() -> None:
    assert breaks(examined("ascend-booting"))[0].commands == ()
    assert breaks(examined("ascend-booting"))[0].severity is Severity.WARNING


def test_a_warning_that_breaks_a_layer_is_an_error() -> None:
    missing = Finding("cann_missing", "No CANN.", "Install it.", Severity.WARNING, "ascend")
    machine = snapshot(
        FOUR_CHIPS, chain("ascend", *[LayerState.OK] * 5, (LayerState.BROKEN, None, "cann_missing")), (missing,)
    )
    assert breaks(look(machine, CANN_BUILD))[0].severity is Severity.ERROR


def test_a_broken_layer_behind_another_adds_no_words() -> None:
    told = error("nvidia", "nouveau_bound", "Held by nouveau.")
    states = (LayerState.OK, (LayerState.BROKEN, None, "nouveau_bound"), LayerState.NOT_REACHED, LayerState.NOT_REACHED)
    machine = snapshot((), chain("nvidia", *states, (LayerState.BROKEN, "no library")), (told,))
    assert [one.code for one in breaks(look(machine, CUDA_BUILD))] == ["nouveau_bound"]


COMPUTED = [
    ComputeResult("nvidia:0", "llama.cpp", ComputeState.PASSED, "right", name="CUDA0"),
    ComputeResult("nvidia:1", "llama.cpp", ComputeState.FAILED, "wrong", name="CUDA1", code="product_wrong"),
]


def test_a_card_that_computes_wrongly_serves_nothing() -> None:
    machine = MACHINES["nvidia-well"].snapshot
    assert look(machine, CUDA_BUILD, CUDA_12, compute=COMPUTED).vendors[0].usable == 1
    assert not look(
        machine, CUDA_BUILD, CUDA_12, compute=[COMPUTED[1], replace(COMPUTED[1], device="nvidia:0")]
    ).serves_from_cards
    crashed = ComputeResult(None, "llama.cpp", ComputeState.FAILED, "crashed")
    assert look(machine, CUDA_BUILD, CUDA_12, compute=[crashed]).vendors[0].usable == 0
    unavailable = ComputeResult(None, "torch-npu", ComputeState.UNAVAILABLE, "not installed")
    assert look(machine, CUDA_BUILD, CUDA_12, compute=[unavailable]).serves_from_cards


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        ("ascend:0.1", ["ascend:0.1"]),
        ("ASCEND:0.1", ["ascend:0.1"]),
        ("32768", ["ascend:32768.0", "ascend:32768.1"]),
        ("0000:81:00.0", ["ascend:32768.0", "ascend:32768.1"]),
        ("81:00.0", ["ascend:32768.0", "ascend:32768.1"]),
        ("5", ["ascend:32768.1"]),
        ("0", ["ascend:0.0", "ascend:0.1"]),
        ("7", []),
        ("", []),
        ("9" * 5000, []),
    ],
)
def test_finding_a_device(wanted: str, keys: list[str]) -> None:
    assert [device.key for device in find_devices(snapshot(FOUR_CHIPS), wanted)] == keys


def test_finding_a_device_by_its_uuid() -> None:
    device = replace(h20(0), uuid="GPU-1a")
    assert find_devices(snapshot((device, h20(1))), "gpu-1A") == (device,)


@pytest.mark.parametrize("vendor", ["nvidia", "ascend"])
@pytest.mark.parametrize("layer", list(Layer))
def test_every_layer_has_commands_that_a_shell_can_read(vendor: str, layer: Layer) -> None:
    commands = commands_for(vendor, layer, "")
    assert commands
    for code in ("driver_missing", "driver_not_loaded", "no_permission", "nouveau_bound", "device_unhealthy"):
        commands += commands_for(vendor, layer, code, user="r1box", card=32)
    for command in commands:
        subprocess.run(["sh", "-n", "-c", command], check=True)
        assert "{" not in command


def test_commands_name_the_user_and_the_card() -> None:
    joining = commands_for("ascend", Layer.ACCESS, "", user="ward", group="npu")
    assert joining == ("ls -l /dev/davinci*", "sudo usermod -aG npu ward", "sudo systemctl restart r1box")
    assert "sudo usermod" not in " ".join(commands_for("ascend", Layer.ACCESS, "", user="ward"))
    assert commands_for("ascend", None, "device_unhealthy", card=32)[-1] == "npu-smi info -t health -i 32"
    assert commands_for("ascend", None, "device_unhealthy") == ("npu-smi info",)
    assert commands_for("other", Layer.PCI, "driver_missing") == ()


@pytest.mark.parametrize("name", MACHINES)
def test_json_has_everything_in_plain_values(name: str) -> None:
    report = examined(name)
    values = json.loads(json.dumps(report_to_dict(report)))
    assert list(values) == [
        "schema",
        "serves_from_cards",
        "has_cards",
        "summary",
        "engine",
        "vendors",
        "checks",
        "breaks",
        "requirements",
        "notes",
        "software",
        "compute",
    ]
    assert values["schema"] == 1
    assert values["serves_from_cards"] is report.serves_from_cards
    assert len(values["checks"]) == 7 * len(values["vendors"])
    assert [one["code"] for one in values["breaks"]] == [one.code for one in breaks(report)]


def test_json_of_a_requirement() -> None:
    values = report_to_dict(examined("ascend-pair-refused"))["requirements"][0]
    assert values["state"] == "too_old"
    assert values["blocks"] is True
    assert values["subject"] == {"name": "cann", "version": "9.1.0", "path": None}
    assert values["found"]["version"] == "25.0.rc1"
    assert values["accepted"] == ["25.2.*", "25.3.*", "25.5.*", "25.7.*", "26.0.*", "26.1.*"]
    assert values["source"]["grade"] == "vendor document"


def as_snapshot(result: ProbeResult) -> HardwareSnapshot:
    return HardwareSnapshot(Host(), result.devices, result.findings, result.layers, result.software)


def test_what_the_real_probe_says_of_nouveau(
    probe_nvidia: Callable[..., ProbeResult], add_pci: Callable[..., Path]
) -> None:
    add_pci("0000:01:00.0", "0x10de", "0x26ba", "0x030200", driver="nouveau")
    report = look(as_snapshot(probe_nvidia({"init": 9})), CUDA_BUILD, CUDA_12)
    assert (report.has_cards, report.serves_from_cards) == (True, False)
    assert [(one.layer, one.code) for one in breaks(report)] == [(Layer.MODULE, "nouveau_bound")]
    assert "blacklist nouveau" in breaks(report)[0].commands[0]


def test_what_the_real_probe_says_of_a_half_upgraded_driver(
    probe_nvidia: Callable[..., ProbeResult], add_pci: Callable[..., Path]
) -> None:
    add_pci("0000:01:00.0", "0x10de", "0x26ba", "0x030200", driver="nvidia")
    found = breaks(look(as_snapshot(probe_nvidia({"init": 18})), CUDA_BUILD, CUDA_12))
    assert "sudo reboot" in next(one for one in found if one.code == "driver_version_mismatch").commands


def test_a_machine_without_cards_has_nothing_to_report(
    probe_nvidia: Callable[..., ProbeResult], empty_pci: Path
) -> None:
    report = look(as_snapshot(probe_nvidia({"init": 12})), CPU_BUILD)
    assert (report.vendors, report.has_cards) == ((), False)


STATES = st.sampled_from(list(LayerState))
CODES = st.sampled_from(["driver_missing", "no_permission", "odd", "card_passed_through"])
LAYERS = st.builds(
    LayerReport,
    st.sampled_from(["nvidia", "ascend", "other"]),
    st.sampled_from(list(Layer)),
    STATES,
    st.none() | st.text(max_size=30),
    st.lists(CODES, max_size=2).map(tuple),
)
FINDINGS = st.builds(
    Finding,
    CODES,
    st.text(max_size=40),
    st.none() | st.text(max_size=20),
    st.sampled_from(list(Severity)),
    st.sampled_from(["nvidia", "ascend", "other", "snapshot", None]),
    st.none() | st.just("ascend:0.0"),
)
DEVICES = st.lists(
    st.sampled_from([h20(0), h20(1, SILENT), duo(0, 0, 0), duo(0, 1, 1, SILENT)]), max_size=4, unique=True
)


@given(DEVICES, st.lists(LAYERS, max_size=10), st.lists(FINDINGS, max_size=6), st.sampled_from([CPU_BUILD, CUDA_BUILD]))
def test_whatever_probes_report_each_problem_is_told_once(
    devices: list[Device], layers: list[LayerReport], findings: list[Finding], engine: EngineFacts
) -> None:
    machine = HardwareSnapshot(Host(), tuple(devices), tuple(findings), tuple(layers))
    report = look(machine, engine)
    told = [(one.code, one.message) for one in breaks(report)]
    told += [(one.code, one.message) for vendor in report.vendors for one in vendor.notes]
    told += [(one.code, one.message) for one in report.notes]
    assert {(one.code, one.message) for one in findings} <= set(told)
    for vendor in report.vendors:
        blocked = {LayerState.BROKEN, LayerState.WAITING, LayerState.NOT_REACHED}
        assert not vendor.serves or not blocked & {layer.state for layer in vendor.layers}
    assert json.dumps(report_to_dict(report))
