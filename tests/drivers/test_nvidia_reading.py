"""The lines of the NVML child: whatever they hold, a result comes out and no exception."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.command import minimal_environment
from drivers.nvidia import interpret
from drivers.nvidia_ground import NvidiaGround
from drivers.nvidia_reading import NvmlReading, NvmlStart, child_argv, parse_reading
from drivers.nvidia_xid import XidEvent, XidLog
from drivers.pci import PciFunction
from drivers.types import ProbeResult
from tests.drivers.conftest import HOST_MEMORY
from tests.fakes.nvml import scenarios
from tests.fakes.nvml.build import write_scenario

FUNCTIONS = tuple(
    PciFunction(f"0000:0{number}:00.0", "nvidia", 0x10DE, 0x26BA, "L20", driver, None, maker="NVIDIA")
    for number, driver in enumerate(("nvidia", "nvidia", None, "nouveau", "vfio-pci"), start=1)
)
LOG = XidLog(tuple(XidEvent(function.address, code, "x") for function in FUNCTIONS for code in (13, 79, 999)), "kmsg")


def judged(text: str, functions: tuple[PciFunction, ...] | None) -> ProbeResult:
    """What becomes of the lines; checks what holds for every result."""
    lost = frozenset({FUNCTIONS[1].address, FUNCTIONS[4].address})
    ground = NvidiaGround(functions, lost if functions else frozenset(), {FUNCTIONS[0].address: 3})
    result = interpret(parse_reading(text), ground, host_memory=lambda: HOST_MEMORY, log=LOG)
    assert all(finding.source == "nvidia" and finding.message for finding in result.findings)
    for device in result.devices:
        assert device.memory_total_bytes != 0
        assert device.memory_total_bytes is not None or device.memory_free_bytes is None
    return result


NUMBER = st.none() | st.integers(-5, 1 << 45)
ERRORS = st.dictionaries(
    st.sampled_from(["memory", "memory_v2", "power", "throttle", "throttle_old", "processes", "recovery", "x"]),
    st.sampled_from([2, 3, 4, 13, 15, 16, 999]),
    max_size=4,
)
LINK = st.fixed_dictionaries(
    {"link": st.integers(0, 17), "active": st.booleans()},
    optional={
        "remote_type": st.sampled_from([None, 0, 1, 2, 255]),
        "remote_bus_id": st.sampled_from([None, "", "00000000:02:00.0", "nonsense"]),
    },
)
PROCESS = st.fixed_dictionaries({"pid": st.integers(0, 1 << 22)}, optional={"memory_bytes": NUMBER, "name": st.text()})
INSTANCE = st.fixed_dictionaries(
    {"instance": st.integers(0, 7)},
    optional={
        "error": st.sampled_from([None, 4, 999]),
        "uuid": st.text(max_size=5),
        "name": st.none() | st.text(max_size=5),
        "size_mb": NUMBER,
        "gpu_slices": NUMBER,
        "compute_slices": NUMBER,
        "memory_total_bytes": NUMBER,
        "memory_free_bytes": NUMBER,
    },
)
DEVICE = st.fixed_dictionaries(
    {"kind": st.just("device"), "index": st.integers(-1, 6)},
    optional={
        "error": st.sampled_from([None, 4, 15, 16, 999]),
        "errors": ERRORS,
        "name": st.none() | st.text(max_size=5) | st.sampled_from(["NVIDIA L20", "NVIDIA GB10", "Orin (nvgpu)"]),
        "pci_bus_id": st.sampled_from([None, "", "00000000:01:00.0", "00000000:03:00.0", "ffff", "00000000:77:00.0"]),
        "pci_device_id": NUMBER,
        "minor_number": NUMBER,
        "memory_total_bytes": NUMBER,
        "memory_free_bytes": NUMBER,
        "memory_reserved_bytes": NUMBER,
        "power_milliwatts": NUMBER,
        "throttle_mask": NUMBER,
        "recovery_action": NUMBER,
        "remapped_rows": st.none() | st.lists(st.integers(0, 9), min_size=4, max_size=4),
        "retired_pages": NUMBER,
        "retirement_pending": st.none() | st.booleans(),
        "ecc": st.none() | st.fixed_dictionaries({}, optional={"uncorrected": NUMBER, "corrected": NUMBER}),
        "persistence": NUMBER,
        "virtualization": NUMBER,
        "memory_numa_node": NUMBER,
        "nvlinks": st.lists(LINK, max_size=3),
        "processes": st.none() | st.lists(PROCESS, max_size=2),
        "mig_mode": st.sampled_from([None, 0, 1]),
        "mig_pending": st.sampled_from([None, 0, 1]),
        "instances": st.lists(INSTANCE, max_size=2),
    },
)
START = st.fixed_dictionaries(
    {"kind": st.just("start")},
    optional={
        "error": st.none() | st.sampled_from([0, 3, 4, 9, 12, 15, 17, 18, 999]),
        "count": st.none() | st.integers(-1, 8),
        "driver_version": st.none() | st.text(max_size=5),
        "library_version": st.none() | st.text(max_size=5),
        "cuda_version": NUMBER,
    },
)
TOPOLOGY = st.fixed_dictionaries(
    {
        "kind": st.just("topology"),
        "pairs": st.lists(
            st.tuples(st.integers(-1, 6), st.integers(-1, 6), st.sampled_from([0, 10, 50, 60])), max_size=4
        ),
    }
)
END = st.fixed_dictionaries({"kind": st.just("end")}, optional={"cuda_library": st.none() | st.booleans()})


@given(
    st.lists(st.one_of(START, DEVICE, DEVICE, TOPOLOGY, END), max_size=7),
    st.integers(0, 4000),
    st.sampled_from([None, (), FUNCTIONS, FUNCTIONS[:2], FUNCTIONS[3:], FUNCTIONS[4:]]),
)
def test_any_records_cut_anywhere_are_judged(
    records: list[Mapping[str, Any]], cut: int, functions: tuple[PciFunction, ...] | None
) -> None:
    text = "\n".join(json.dumps(record) for record in records)
    judged(text, functions)
    judged(text[:cut], functions)


@given(st.text(), st.sampled_from(["[", '{"a":', '{"kind":"device","index":', "\ud800"]), st.integers(1, 2000))
def test_any_text_is_read(text: str, part: str, times: int) -> None:
    assert parse_reading(text + part * times).devices == ()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, fake_nvml: Path) -> str:
    """What the child really prints for eight cards and a cut-up one."""
    folder = tmp_path_factory.mktemp("recorded")
    path = write_scenario(folder / "scenario", scenarios.h20_box(2) | scenarios.mig_a100())
    environment = minimal_environment(LD_LIBRARY_PATH=str(fake_nvml), FAKE_NVML_SCENARIO=str(path))
    return subprocess.run(child_argv(), env=environment, capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_whole_recording_is_complete(recorded: str) -> None:
    reading = parse_reading(recorded)
    assert reading.complete
    assert reading.cuda_library is True
    assert (len(reading.devices), reading.start) == (
        1,
        NvmlStart(
            driver_version="550.54.15",
            cuda_version=12040,
            count=1,
            library_version="12.550.54.15",
            library_path=reading.start.library_path if reading.start else None,
        ),
    )
    assert reading.start is not None
    assert (reading.start.library_path or "").endswith("libnvidia-ml.so.1")


@given(st.randoms(use_true_random=False))
def test_a_garbled_recording_is_judged(recorded: str, chance: random.Random) -> None:
    letters = list(recorded)
    for _ in range(chance.randint(1, 20)):
        letters[chance.randrange(len(letters))] = chance.choice('{}[]",:0x\n\0é')
    judged("".join(letters), FUNCTIONS)


def test_nothing_at_all_is_an_incomplete_reading() -> None:
    assert parse_reading("") == NvmlReading()
    assert parse_reading('{"kind":"start","error":9}').complete
