"""``r1box doctor``: the checklist as people read it, JSON and exit codes as programs do, commands ready to paste."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.cells import cell_len
from typer.testing import CliRunner

from appliance.cli.app import app
from appliance.cli.doctor import EXIT_CANNOT_SERVE
from appliance.cli.doctor_card import card_lines
from appliance.cli.doctor_view import SIGNS, WORDS, fix_lines, report_lines
from drivers.compute_types import ComputeResult, ComputeState
from drivers.errors import DriverError
from drivers.snapshot_json import to_json
from drivers.types import (
    DeviceFault,
    DeviceLink,
    DeviceProcess,
    Finding,
    HardwareSnapshot,
    LinkKind,
    MemoryErrors,
    Severity,
)
from tests.appliance.cli.doctor_golden import FORMS, GOLDEN, rendered
from tests.drivers.doctor_machines import FOUR_CHIPS, GIB, MACHINES, error, examined, h20, snapshot

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def machine(tmp_path: Path) -> Any:
    """Writes a machine as 'r1box detect --json' does and returns the option that names it."""

    def write(described: str | HardwareSnapshot) -> list[str]:
        found = MACHINES[described].snapshot if isinstance(described, str) else described
        file = tmp_path / "machine.json"
        file.write_text(to_json(found), encoding="utf-8")
        return ["--machine", str(file)]

    return write


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MACHINES)
def test_golden_texts(name: str, form: str) -> None:
    assert rendered(name, form) == (GOLDEN / f"{name}-{form}.txt").read_text("utf-8")


def test_there_is_no_other_golden_text() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}-{form}.txt" for name in MACHINES for form in FORMS}


@pytest.mark.parametrize("name", MACHINES)
def test_only_commands_are_longer_than_80_columns(name: str) -> None:
    commands = {command for vendor in examined(name).vendors for one in vendor.breaks for command in one.commands}
    long = [line for line in rendered(name, "80").splitlines() if cell_len(line) > 80]
    assert [line for line in long if line.strip() not in commands] == []


@pytest.mark.parametrize("name", MACHINES)
def test_words_are_ascii(name: str) -> None:
    assert rendered(name, "piped-words").isascii()


@pytest.mark.parametrize(
    ("name", "code"),
    [("ascend-well", 0), ("nvidia-one-lost", 0), ("no-cards", 0), ("ascend-access", 3), ("nvidia-no-driver", 3)],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_exit_code(machine: Any, name: str, code: int, form: list[str]) -> None:
    assert EXIT_CANNOT_SERVE == 3
    assert doctor(*machine(name), *form).exit_code == code


def test_a_machine_that_has_to_have_cards(machine: Any) -> None:
    assert doctor(*machine("no-cards"), "--require-cards").exit_code == EXIT_CANNOT_SERVE
    assert doctor(*machine("ascend-well"), "--require-cards").exit_code == 0


def test_no_cards_is_said_plainly(machine: Any) -> None:
    assert doctor(*machine("no-cards")).output == "No accelerator card: models run on the processor.\n"


def test_piped_output_is_plain(machine: Any) -> None:
    output = doctor(*machine("ascend-access")).output
    assert "\x1b" not in output
    assert "access ✗" in output
    assert "\n  Fix: usermod -aG HwHiAiUser r1box, then restart the service.\n" in output


def test_json(machine: Any) -> None:
    values = json.loads(doctor(*machine("ascend-no-cann"), "--json").output)
    assert (values["schema"], values["serves_from_cards"], values["has_cards"]) == (1, False, True)
    assert values["vendors"][0]["usable_devices"] == 4
    assert {one["layer"]: one["state"] for one in values["checks"]}["runtime"] == "broken"
    assert values["breaks"][0]["commands"][0] == "sudo sh ./Ascend-cann-toolkit_*.run --install"
    assert values["engine"] == {"name": "llama.cpp", "version": None, "vendors": None}


def test_one_vendor_alone(machine: Any) -> None:
    values = json.loads(doctor(*machine("both-one-works"), "--vendor", "ascend", "--json").output)
    assert [one["vendor"] for one in values["vendors"]] == ["ascend"]
    assert {one["vendor"] for one in values["requirements"]} == {"ascend"}
    assert doctor("--vendor", "amd").exit_code == 2


@pytest.mark.parametrize("option", [["--compute"], ["--venv", "/opt/vllm"]])
def test_another_machine_cannot_be_asked_what_only_this_one_knows(machine: Any, option: list[str]) -> None:
    assert doctor(*machine("ascend-well"), *option).exit_code == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = doctor("--machine", str(tmp_path / "gone.json"))
    assert result.exit_code == 1
    assert "no such file" in str(result.exception)


def test_fixes_are_only_what_a_shell_takes(machine: Any) -> None:
    result = doctor(*machine("ascend-access"), "--fix", "access")
    assert result.exit_code == 0
    subprocess.run(["sh", "-n"], input=result.output, text=True, check=True)
    commands = [line for line in result.output.splitlines() if line and not line.startswith("#")]
    assert commands[1].startswith("sudo usermod -aG HwHiAiUser ")
    assert commands[2:] == ["sudo systemctl restart r1box"]
    assert "/dev/davinci_manager belongs to HwHiAiUser" in result.output


@pytest.mark.parametrize("name", ["runtime", "cann", "CANN", "cann_missing", "all"])
def test_names_of_a_fix(machine: Any, name: str) -> None:
    assert "Ascend-cann-toolkit" in doctor(*machine("ascend-no-cann"), "--fix", name).output


def test_fixes_that_are_not_needed_or_not_known(machine: Any) -> None:
    option = machine("ascend-no-cann")
    assert doctor(*option, "--fix", "access").output == "# Nothing to fix: access\n"
    unknown = doctor(*option, "--fix", "flux")
    assert unknown.exit_code == 2
    assert "cann_missing" in unknown.output


def test_breaks_alike_share_their_fix() -> None:
    report = examined("nvidia-no-driver")
    lines = list(fix_lines(report, "all"))
    assert lines.count("sudo reboot") == 1
    lost = [error("nvidia", "device_lost", f"Card {n} is lost.", "Reboot.", f"nvidia:{n}") for n in range(8)]
    many = replace(MACHINES["nvidia-well"].snapshot, findings=tuple(lost))
    text = "\n".join(report_lines(_diagnosed(many)))
    assert text.count("Fix: Reboot.") == 1
    assert "Card 2 is lost." in text
    assert "Card 3 is lost." not in text
    assert "and 5 more like this" in text


def _diagnosed(found: HardwareSnapshot, **options: Any) -> Any:
    from drivers.doctor import diagnose
    from drivers.doctor_types import EngineFacts
    from drivers.requirements import load_requirements

    return diagnose(
        found,
        (),
        EngineFacts("llama.cpp"),
        load_requirements(),
        labels={"nvidia": "NVIDIA", "ascend": "Ascend"},
        **options,
    )


def test_known_pairs_are_named_when_asked_for() -> None:
    few = "\n".join(report_lines(examined("ascend-well")))
    every = "\n".join(report_lines(examined("ascend-well"), everything=True))
    assert "Ascend firmware" not in few
    assert "1 more pair of versions is known to work: r1box doctor --all" in few
    assert "Ascend firmware 7.7.0.6.236 and Ascend driver 25.2.0 are a known pair. (inferred)" in every


def test_what_cards_computed() -> None:
    results = (
        ComputeResult("nvidia:0", "llama.cpp", ComputeState.PASSED, "computed rightly", name="CUDA0"),
        ComputeResult("nvidia:1", "llama.cpp", ComputeState.FAILED, "computed wrongly", hint="Replace the card."),
        ComputeResult(None, "torch-npu", ComputeState.UNAVAILABLE, "is not installed"),
    )
    lines = list(report_lines(_diagnosed(MACHINES["nvidia-well"].snapshot, compute=results), marks=WORDS))
    start = lines.index("Compute self-test")
    assert lines[start + 1 : start + 5] == [
        "ok llama.cpp, nvidia:0: computed rightly",
        "FAIL llama.cpp, nvidia:1: computed wrongly",
        "     Next: Replace the card.",
        "? torch-npu: is not installed",
    ]
    assert "Compute self-test: nothing to test here." in report_lines(_diagnosed(snapshot(), compute=()))


def test_what_a_tool_says_cannot_control_the_terminal() -> None:
    evil = Finding("odd", "red \x1b[31m\nand\x07 more", "look \x1b]0;here", Severity.ERROR, "nvidia")
    text = "\n".join(report_lines(_diagnosed(snapshot((h20(0),), (), (evil,)))))
    assert "\x1b" not in text
    assert "\x07" not in text


def test_a_card(machine: Any) -> None:
    option = machine("nvidia-one-lost")
    output = doctor("card", "nvidia:1", *option).output
    assert output.startswith("nvidia:1  H20\n")
    assert "  way to it     PCI ✓   node ✓   library ✗\n" in output
    assert "✗ Card 1 (H20, 0000:19:00.0) has fallen off the bus" in output
    assert "fallen off" not in doctor("card", "0", *option).output


def test_both_devices_of_a_card(machine: Any) -> None:
    output = doctor("card", "32768", *machine("ascend-well")).output
    assert [line.split()[0] for line in output.splitlines() if line.startswith("ascend:")] == [
        "ascend:32768.0",
        "ascend:32768.1",
    ]


def test_a_card_as_json(machine: Any) -> None:
    values = json.loads(doctor("card", "0000:19:00.0", "--json", *machine("nvidia-one-lost")).output)
    assert [one["index"] for one in values["devices"]] == [1]
    assert [one["code"] for one in values["findings"]] == ["device_lost"]


def test_a_card_that_is_not_there(machine: Any) -> None:
    result = doctor("card", "99", *machine("ascend-well"))
    assert isinstance(result.exception, DriverError)
    assert result.exception.code == "device_unknown"
    assert "ascend:32768.1" in str(result.exception.hint)


def test_everything_that_is_known_of_a_card() -> None:
    device = replace(
        FOUR_CHIPS[0],
        uuid="0A1B",
        node="/dev/davinci0",
        numa_node=1,
        memory_kind="DDR",
        memory_reserved_bytes=GIB,
        driver_version="25.2.0",
        utilization_percent=12.0,
        temperature_celsius=51.0,
        power_watts=70.0,
        power_limit_watts=150.0,
        clock_mhz=1080,
        memory_clock_mhz=1600,
        throttle_reasons=("hw_thermal",),
        recovery_action="reset",
        memory_errors=MemoryErrors(corrected=3, repair_pending=True, repair_failed=True),
        faults=(DeviceFault("80E01801", "A chip fault.", "Restart.", Severity.ERROR), DeviceFault("80E3A203")),
        processes=(DeviceProcess(4242, "python", 2 * GIB), DeviceProcess(7)),
        links=(DeviceLink("ascend:0.1", LinkKind.PIX), DeviceLink("ascend:32768.0", LinkKind.NVLINK, 4)),
        unsupported=("power_watts",),
    )
    text = "\n".join(card_lines(device, snapshot((device,)), marks=SIGNS))
    for line in (
        "  memory        43.0 GiB DDR, 42.0 GiB free, 1.0 GiB held by the driver",
        "  power         70 W of 150 W",
        "  clock         1080 MHz, memory 1600 MHz",
        "  slowed by     hw_thermal",
        "  memory errors 3 corrected, a repair waits for a reset, no spare memory left",
        "✗ fault 80E01801: A chip fault.",
        "! fault 80E3A203: no source explains it",
        "  process       4242 python, 2.0 GiB",
        "  link          ascend:0.1 by pix",
        "  link          ascend:32768.0 by nvlink x4",
        "  does not tell power_watts",
    ):
        assert line in text.splitlines()


def run(*arguments: str, encoding: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "TERM": "dumb"}
    command = [sys.executable, "-m", "appliance", "doctor", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120, check=False)


def test_a_stream_without_the_signs_gets_words(machine: Any) -> None:
    done = run(*machine("ascend-access"), encoding="ascii")
    assert done.returncode == EXIT_CANNOT_SERVE, done.stderr
    assert b"access FAIL" in done.stdout
    assert "access ✗" in run(*machine("ascend-access"), encoding="utf-8").stdout.decode()


def test_this_machine() -> None:
    done = run("--json", encoding="utf-8")
    values = json.loads(done.stdout)
    assert values["engine"]["version"]
    assert {"python", "llama-cpp-python"} <= {one["name"] for one in values["software"]}
    blocked = values["has_cards"] and not values["serves_from_cards"]
    assert done.returncode == (EXIT_CANNOT_SERVE if blocked else 0)


def test_another_environment(tmp_path: Path) -> None:
    info = tmp_path / "lib" / "python3.11" / "site-packages" / "torch-2.9.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.9.0\n", encoding="utf-8")
    software = json.loads(doctor("--json", "--venv", str(tmp_path)).output)["software"]
    assert ("torch", "2.9.0") in {(one["name"], one["version"]) for one in software}
    assert doctor("--venv", str(tmp_path / "lib")).exit_code == 2
