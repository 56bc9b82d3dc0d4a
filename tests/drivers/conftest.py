"""Fixtures of the driver tests: the compiled fake NVML, fake trees of /sys and a fake npu-smi."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from drivers.command import minimal_environment
from drivers.host import Memory
from drivers.nvidia import NvidiaProbe
from drivers.types import ProbeResult
from tests.fakes.dcmi.build import build_fake_dcmi
from tests.fakes.nvml.build import build_fake_nvml, write_scenario

HOST_MEMORY = Memory(total_bytes=128 << 30, available_bytes=100 << 30)


HANG_LIMITS_S = (1.0, 5.0, 25.0)
"""Time limits to try in turn on something that prints and then hangs: a busy machine may need longer to print."""


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that holds the fake libnvidia-ml.so.1."""
    return build_fake_nvml(tmp_path_factory.mktemp("nvml")).parent


@pytest.fixture(scope="session")
def old_fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without the second version of the memory call."""
    return build_fake_nvml(tmp_path_factory.mktemp("nvml-old"), defines=["NO_MEMORY_V2"]).parent


@pytest.fixture
def add_pci(tmp_path: Path) -> Callable[..., Path]:
    """Adds a function to the fake sysfs below ``tmp_path`` and returns its folder."""

    def add(
        address: str,
        vendor: str,
        device: str,
        class_code: str,
        *,
        driver: str | None = None,
        numa_node: int = -1,
        virtual: bool = False,
        subsystem_device: str = "0x0000",
    ) -> Path:
        folder = tmp_path / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        for name, text in {
            "vendor": vendor,
            "device": device,
            "class": class_code,
            "subsystem_device": subsystem_device,
            "numa_node": str(numa_node),
        }.items():
            (folder / name).write_text(text + "\n")
        if driver is not None:
            (folder / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")
        if virtual:
            (folder / "physfn").symlink_to("../0000:00:00.0")
            (tmp_path / "sys/bus/pci/devices/0000:00:00.0").mkdir(exist_ok=True)
        return folder

    return add


@pytest.fixture
def empty_pci(tmp_path: Path) -> Path:
    """A readable PCI bus without any accelerator."""
    folder = tmp_path / "sys/bus/pci/devices"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def probe_nvidia(tmp_path: Path, fake_nvml: Path) -> Callable[..., ProbeResult]:
    """Runs the NVIDIA probe in its child process against the fake library with the given scenario."""

    def probe(settings: Mapping[str, object], *, timeout_s: float = 20.0, library: Path = fake_nvml) -> ProbeResult:
        scenario = write_scenario(tmp_path / "scenario", settings)
        environment = minimal_environment(LD_LIBRARY_PATH=str(library), FAKE_NVML_SCENARIO=str(scenario))
        return NvidiaProbe(
            tmp_path, timeout_s=timeout_s, environment=environment, host_memory=lambda: HOST_MEMORY
        ).probe()

    return probe


@pytest.fixture
def fake_tool(tmp_path: Path) -> Callable[[str], Path]:
    """Writes an executable shell script as ``usr/local/bin/npu-smi`` below ``tmp_path``."""

    def write(body: str) -> Path:
        tool = tmp_path / "usr/local/bin/npu-smi"
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.write_text("#!/bin/sh\n" + body)
        tool.chmod(0o755)
        return tool

    return write


@pytest.fixture(scope="session")
def fake_dcmi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake libdcmi.so with both sets of functions."""
    return build_fake_dcmi(tmp_path_factory.mktemp("dcmi"))
