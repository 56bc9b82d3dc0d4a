"""Detection with eight fake NVIDIA cards, in a fresh process, in a warm one, beside a tool that hangs; and starting.

Prints figures and decides nothing. The library is the compiled fake, which answers at once: what is measured is our own
part, the child process above all. ``pynvml`` in one process is the peer and the lower bound. Every figure is the median
of ``ROUNDS`` runs, ours and the peer's in turn.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from drivers.ascend import AscendProbe
from drivers.command import minimal_environment
from drivers.nvidia import NvidiaProbe
from drivers.probe import detect
from drivers.types import HardwareSnapshot
from tests.bench.load import median
from tests.drivers.ascend_box import Box
from tests.drivers.nvidia_box import load_module, make_nodes
from tests.e2e.box import R1BOX
from tests.fakes.nvml.build import SCENARIO_NAME, build_fake_nvml, write_scenario
from tests.fakes.nvml.scenarios import h20_box

pytestmark = pytest.mark.bench

ROUNDS = 7
HANGING_ROUNDS = 3
CARDS = 8
SOURCES = Path(__file__).parents[2]

COLD = """
import sys
from pathlib import Path
from drivers.ascend import AscendProbe
from drivers.command import minimal_environment
from drivers.nvidia import NvidiaProbe
from drivers.probe import detect
root, environment = Path(sys.argv[1]), minimal_environment(LD_LIBRARY_PATH=sys.argv[2])
found = detect((NvidiaProbe(root, environment=environment), AscendProbe(root, search_path="")))
assert len(found.devices) == int(sys.argv[3])
"""
PEER = """
import time
started = time.perf_counter()
import pynvml as nvml
nvml.nvmlInit()
for index in range(nvml.nvmlDeviceGetCount()):
    card = nvml.nvmlDeviceGetHandleByIndex(index)
    nvml.nvmlDeviceGetName(card), nvml.nvmlDeviceGetUUID(card), nvml.nvmlDeviceGetPciInfo(card)
    nvml.nvmlDeviceGetMemoryInfo(card), nvml.nvmlDeviceGetUtilizationRates(card)
    nvml.nvmlDeviceGetTemperature(card, 0), nvml.nvmlDeviceGetPowerUsage(card)
print(time.perf_counter() - started)
"""


@dataclass(frozen=True)
class Machine:
    """A fake root folder and the folder of the fake library, whose scenario lies beside it."""

    root: Path
    library: Path


def snapshot(machine: Machine) -> HardwareSnapshot:
    """All that ``r1box detect`` asks, with the fake library and root."""
    environment = minimal_environment(LD_LIBRARY_PATH=str(machine.library))
    probes = (NvidiaProbe(machine.root, environment=environment), AscendProbe(machine.root, search_path=""))
    return detect(probes)


def make_machine(folder: Path) -> Machine:
    library, root = folder / "lib", folder / "root"
    library.mkdir(parents=True)
    build_fake_nvml(library)
    scenario = h20_box(CARDS)
    write_scenario(library / SCENARIO_NAME, scenario)
    box = Box(root)
    load_module(root, str(scenario["driver"]))
    make_nodes(root, CARDS)
    for number in range(CARDS):
        address = str(scenario[f"{number}.bus"])[4:].lower()
        box.card(address, "0x2329", driver="nvidia", vendor="0x10de")
        box.write(f"sys/bus/pci/devices/{address}/class", "0x030200\n")
    return Machine(root, library)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return make_machine(tmp_path_factory.mktemp("cards"))


@pytest.fixture(scope="module")
def machine_with_tool_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The same and an npu-smi that never answers, without any Ascend card in sight."""
    made = make_machine(tmp_path_factory.mktemp("left-behind"))
    Box(made.root).write("usr/local/bin/npu-smi", "#!/bin/sh\nexec sleep 600\n", 0o755)
    return made


@pytest.fixture(scope="module")
def machine_with_hanging_tool(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The same and an Ascend card whose npu-smi never answers."""
    made = make_machine(tmp_path_factory.mktemp("hanging"))
    box = Box(made.root)
    box.card("0000:f1:00.0")
    box.nodes(1)
    box.write("usr/local/bin/npu-smi", "#!/bin/sh\nexec sleep 600\n", 0o755)
    return made


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def run(*command: str, library: Path | None = None) -> str:
    environment = os.environ | ({} if library is None else {"LD_LIBRARY_PATH": str(library)})
    done = subprocess.run(command, env=environment, cwd=SOURCES, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def ms(runs: list[float]) -> str:
    return f"{median(runs) * 1000:7.0f} ms   ({min(runs) * 1000:.0f} to {max(runs) * 1000:.0f})"


def test_snapshot_of_eight_cards(machine: Machine) -> None:
    """A warm process (the daemon), a fresh one, and pynvml by itself."""
    fresh, warm, peer_process, peer_inside = [], [], [], []
    assert len(snapshot(machine).devices) == CARDS
    for _ in range(ROUNDS):
        warm.append(seconds(lambda: snapshot(machine)))
        fresh.append(
            seconds(lambda: run(sys.executable, "-c", COLD, *map(str, (machine.root, machine.library, CARDS))))
        )
        peer_process.append(
            seconds(lambda: peer_inside.append(float(run(sys.executable, "-c", PEER, library=machine.library))))
        )
    print(f"\nsnapshot of {CARDS} cards, warm process     {ms(warm)}")
    print(f"snapshot of {CARDS} cards, fresh process    {ms(fresh)}")
    print(f"pynvml in one fresh process        {ms(peer_process)}")
    print(f"  of it import, init and questions {ms(peer_inside)}")


def test_snapshot_beside_a_tool_that_hangs(
    machine_with_tool_left_behind: Machine, machine_with_hanging_tool: Machine
) -> None:
    """The other vendor's cards are there, and the time is the hanging one's limit: short when it has no card."""
    print()
    for machine, title in ((machine_with_tool_left_behind, "without a card"), (machine_with_hanging_tool, "with one")):
        runs: list[float] = []
        for _ in range(HANGING_ROUNDS):
            found: list[HardwareSnapshot] = []
            runs.append(seconds(lambda machine=machine, found=found: found.append(snapshot(machine))))  # type: ignore[misc]
            assert sum(device.memory_total_bytes is not None for device in found[0].devices) == CARDS
        print(f"{CARDS} cards, an npu-smi that hangs {title:<16} {ms(runs)}")


def test_starting_the_command() -> None:
    """``r1box detect`` on this machine as it is, beside an interpreter that does nothing."""
    commands = {
        "python -c pass": (sys.executable, "-c", "pass"),
        "r1box --version": (str(R1BOX), "--version"),
        "r1box detect": (str(R1BOX), "detect"),
        "r1box detect --json": (str(R1BOX), "detect", "--json"),
        "r1box detect --schema": (str(R1BOX), "detect", "--schema"),
    }
    runs: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            runs[name].append(seconds(lambda command=command: run(*command)))  # type: ignore[misc]
    print()
    for name, taken in runs.items():
        print(f"{name:<34} {ms(taken)}")
