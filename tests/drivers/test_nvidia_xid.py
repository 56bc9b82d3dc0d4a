"""Xid lines of the kernel log: recorded forms, where they are read, and what they mean for a card."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.command import minimal_environment
from drivers.nvidia import NvidiaProbe
from drivers.nvidia_xid import XidEvent, XidLog, faults, latest_by_card, parse_log, read_log, read_table
from drivers.types import Health, ProbeResult, Severity
from tests.drivers.conftest import HOST_MEMORY
from tests.drivers.nvidia_box import codes, finding, write
from tests.fakes.nvml import scenarios
from tests.fakes.nvml.build import write_scenario

CARD = "0000:01:00.0"

# Forms that users and NVIDIA's documents show: docs.nvidia.com/deploy/xid-errors, NVIDIA/open-gpu-kernel-modules #1151,
# leptonai/gpud (components/accelerator/nvidia/xid).
LINES = {
    "2026-05-18T19:02:39+0200 k: NVRM: Xid (PCI:0000:2b:00): 79, pid=1, name=vllm, GPU has fallen off the bus.": (
        XidEvent(
            "0000:2b:00.0",
            79,
            "pid=1, name=vllm, GPU has fallen off the bus.",
            "2026-05-18T19:02:39+0200",
        )
    ),
    "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.": XidEvent(
        "0000:05:00.0", 79, "pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
    ),
    "[...] NVRM: Xid (0000:03:00): 14, Channel 00000001": XidEvent("0000:03:00.0", 14, "Channel 00000001"),
    "[Sun Feb 23 16:24:18 2025] NVRM: Xid (PCI:0000:9b:00): 119, pid=20, name=nvidia-smi, Timeout after 6s": XidEvent(
        "0000:9b:00.0", 119, "pid=20, name=nvidia-smi, Timeout after 6s"
    ),
    "3,1021,171167620236,-;NVRM: Xid (PCI:0009:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 01": XidEvent(
        "0009:01:00.0", 149, "NETIR_LINK_EVT  Fatal   XC0 i0 Link 01"
    ),
    "kernel: NVRM: Xid (PCI:0000:83:00): 48": XidEvent("0000:83:00.0", 48),
    "Sep 09 15:53:19 saturn kernel: NVRM: GPU 0000:10:00.0: GPU has fallen off the bus.": XidEvent(
        "0000:10:00.0", 79, "GPU has fallen off the bus."
    ),
}


@pytest.mark.parametrize("line", LINES)
def test_every_form_of_the_line(line: str) -> None:
    assert parse_log(f"{line}\n") == (LINES[line],)


@pytest.mark.parametrize(
    "line",
    [
        "NVRM: Xid (invalid): some error",
        "NVRM: Xid error: xyz, invalid data",
        "NVRM: Xid (PCI:0000:05:00): ",
        "NVRM: Xid (PCI:0000:05): 79, x",
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.54.15",
        "NVRM: GPU at PCI:0000:2b:00: GPU-0b11d014-1685-04bd-26ed-5fc0bc1c44ae",
        "Xid (PCI:0000:05:00): 79, somebody else's line",
        "",
    ],
)
def test_other_lines_are_none(line: str) -> None:
    assert parse_log(line) == ()


@given(st.text(), st.integers(0, 10**6), st.text(alphabet="0123456789abcdef:.", max_size=14))
def test_no_text_makes_the_parser_fail(text: str, code: int, place: str) -> None:
    events = parse_log(
        f"{text}\nNVRM: Xid (PCI:{place}): {code}, {text}\nNVRM: GPU {place}: GPU has fallen off the bus\n"
    )
    table = read_table()
    for card in latest_by_card(events).values():
        assert len(faults(card, table)) == len(card)
    assert all(event.text.isprintable() for event in events)


def log(*codes: int | str, address: str = CARD) -> tuple[XidEvent, ...]:
    """Events of one card; a text is a change of the recovery action."""
    return tuple(
        XidEvent(address, 154, code) if isinstance(code, str) else XidEvent(address, code, f"number {code}")
        for code in codes
    )


def test_the_latest_of_each_number_counts() -> None:
    events = (XidEvent(CARD, 31, "first"), *log(79), *log(13, address="0000:02:00.0"), XidEvent(CARD, 31, "second"))
    assert latest_by_card(events) == {
        CARD: (*log(79), XidEvent(CARD, 31, "second")),
        "0000:02:00.0": log(13, address="0000:02:00.0"),
    }


def test_a_reset_ends_what_came_before() -> None:
    done = "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"
    raised = "GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)"
    assert latest_by_card(log(79, raised, done)) == {}
    assert latest_by_card(log(79, done, 48, raised)) == {CARD: log(48, raised)}


def test_a_module_loaded_anew_ends_what_came_before() -> None:
    loading = "kernel: NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024"
    lines = ["NVRM: Xid (PCI:0000:01:00): 79, old", loading, "NVRM: Xid (PCI:0000:01:00): 13, new"]
    assert parse_log("\n".join(lines)) == (XidEvent(CARD, 13, "new"),)


def test_faults_say_what_to_do_the_gravest_first() -> None:
    found = faults(log(13, 63, 79, 999, 31), read_table())
    assert [(fault.code, fault.severity) for fault in found] == [
        ("xid:79", Severity.ERROR),
        ("xid:999", Severity.WARNING),
        ("xid:63", Severity.WARNING),
        ("xid:31", Severity.INFO),
        ("xid:13", Severity.INFO),
    ]
    assert "bus" in (found[0].meaning or "")
    assert "power" in (found[0].action or "")
    assert (found[1].meaning, found[1].action) == (None, None)


def test_the_recovery_actions_words_are_kept() -> None:
    (fault,) = faults(log("GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)."), read_table())
    assert "to 0x4 (Drain and Reset))" in (fault.meaning or "")


def test_the_table_is_whole() -> None:
    table = read_table()
    assert {8, 13, 31, 43, 45, 48, 63, 64, 74, 79, 92, 94, 95, 119, 120, 154} <= {int(code) for code in table.xid}
    assert {known.action for known in table.xid.values()} == set(table.actions)
    assert all(known.meaning.endswith(".") for known in table.xid.values())
    application = [table.get(code) for code in (13, 31, 43, 45)]
    assert [known.severity if known else None for known in application] == ["info"] * 4


NOTHING_SEEN = "Hint: You are currently not seeing messages from other users and the system."


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("echo 'NVRM: Xid (PCI:0000:01:00): 79, x'", XidLog((XidEvent(CARD, 79, "x"),), "journal")),
        ("echo '-- No entries --'; exit 1", XidLog((), "journal")),
        ("echo 'No journal files were found.' >&2; echo '-- No entries --'", XidLog()),
        (f"echo '{NOTHING_SEEN}' >&2; exit 1", "journal"),
        ("echo 'Compiled without pattern matching support' >&2; exit 1", XidLog()),
        ("exit 3", XidLog()),
        ("kill -SEGV $$", XidLog()),
    ],
)
def test_the_journal(tmp_path: Path, body: str, expected: XidLog | str) -> None:
    write(tmp_path, "usr/bin/journalctl", f"#!/bin/sh\n{body}\n", mode=0o755)
    found = read_log(tmp_path, timeout_s=60.0)
    if isinstance(expected, str):
        assert (found.source, found.events) == (None, ())
        assert expected in (found.refused or "")
    else:
        assert found == expected


def test_the_journal_is_asked_for_this_boot_alone(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    write(tmp_path, "usr/bin/journalctl", f'#!/bin/sh\necho "$@" > {asked}\necho "-- No entries --"\n', mode=0o755)
    assert read_log(tmp_path, timeout_s=60.0).source == "journal"
    assert asked.read_text().split()[:2] == ["-k", "-b"]


def test_the_kernels_own_messages_stand_in(tmp_path: Path) -> None:
    write(
        tmp_path, "dev/kmsg", "6,1,5,-;usb 1-1: new device\n3,2,9,-;NVRM: Xid (PCI:0000:01:00): 31, pid=5\n DEVICE=x\n"
    )
    assert read_log(tmp_path) == XidLog((XidEvent(CARD, 31, "pid=5"),), "kmsg")


def test_a_pipe_without_lines_does_not_block(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    os.mkfifo(tmp_path / "dev/kmsg")
    keep_open = os.open(tmp_path / "dev/kmsg", os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(keep_open, b"3,2,9,-;NVRM: Xid (PCI:0000:01:00): 79, x\n")
        assert read_log(tmp_path) == XidLog((XidEvent(CARD, 79, "x"),), "kmsg")
    finally:
        os.close(keep_open)


def test_a_closed_kernel_log_says_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr("drivers.nvidia_xid.os.open", refuse)
    found = read_log(tmp_path)
    assert (found.source, found.events) == (None, ())
    assert "root" in (found.refused or "")


def test_lines_overwritten_while_they_are_read_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "dev/kmsg", "3,2,9,-;NVRM: Xid (PCI:0000:01:00): 79, x\n")
    real_read, failures = os.read, [BrokenPipeError()]

    def read(number: int, size: int) -> bytes:
        if failures:
            raise failures.pop()
        return real_read(number, size)

    monkeypatch.setattr("drivers.nvidia_xid.os.read", read)
    assert read_log(tmp_path).events == (XidEvent(CARD, 79, "x"),)


def test_no_log_at_all_is_unknown(tmp_path: Path) -> None:
    assert read_log(tmp_path) == XidLog()
    (tmp_path / "dev/kmsg").mkdir(parents=True)
    assert read_log(tmp_path) == XidLog()


Ask = Callable[..., ProbeResult]


@pytest.fixture
def probe_with_log(tmp_path: Path, fake_nvml: Path, add_pci: Callable[..., Path]) -> Ask:
    """Probes two L20 with the given kernel log."""
    for number in (1, 2):
        add_pci(f"0000:0{number}:00.0", "0x10de", "0x26ba", "0x030200", driver="nvidia")

    def probe(log: XidLog, scenario: dict[str, object] | None = None) -> ProbeResult:
        path = write_scenario(tmp_path / "scenario", scenario or scenarios.l20_pair())
        environment = minimal_environment(LD_LIBRARY_PATH=str(fake_nvml), FAKE_NVML_SCENARIO=str(path))
        return NvidiaProbe(
            tmp_path,
            timeout_s=20.0,
            environment=environment,
            host_memory=lambda: HOST_MEMORY,
            kernel_log=lambda: log,
        ).probe()

    return probe


def test_a_programs_fault_stays_with_the_card(probe_with_log: Ask) -> None:
    result = probe_with_log(XidLog(log(13, 45), "journal"))
    assert result.findings == ()
    first, second = result.devices
    assert [fault.code for fault in first.faults] == ["xid:45", "xid:13"]
    assert (first.health, second.faults) == (Health.OK, ())


@pytest.mark.parametrize(
    ("number", "code", "severity", "health"),
    [
        (119, "gsp_failed", Severity.ERROR, Health.ALARM),
        (79, "xid_reported", Severity.ERROR, Health.ALARM),
        (63, "xid_reported", Severity.WARNING, Health.WARNING),
        (999, "xid_reported", Severity.WARNING, Health.WARNING),
    ],
)
def test_a_cards_fault_is_a_finding(
    probe_with_log: Ask, number: int, code: str, severity: Severity, health: Health
) -> None:
    event = XidEvent("0000:02:00.0", number, "what it said", "2026-05-18T19:02:39+0200")
    result = probe_with_log(XidLog((event,), "journal"))
    assert codes(result) == [code]
    found = finding(result, code)
    assert (found.severity, found.device) == (severity, "nvidia:1")
    assert f"Xid {number} at 2026-05-18T19:02:39+0200" in found.message
    assert found.hint
    assert result.devices[1].health is health
    assert result.devices[1].faults[0].code == f"xid:{number}"


def test_a_lost_card_is_told_once(probe_with_log: Ask) -> None:
    result = probe_with_log(XidLog(log(79), "journal"), scenarios.lost_card())
    assert codes(result) == ["device_lost"]
    assert [fault.code for fault in result.devices[0].faults] == ["xid:79"]


def test_a_refused_log_is_a_remark(probe_with_log: Ask) -> None:
    result = probe_with_log(XidLog(refused="the journal is for root"))
    assert [(one.code, one.severity) for one in result.findings] == [("kernel_log_unreadable", Severity.INFO)]


def test_a_log_of_other_cards_is_nothing(probe_with_log: Ask) -> None:
    assert probe_with_log(XidLog(log(79, address="0000:77:00.0"), "journal")).findings == ()
