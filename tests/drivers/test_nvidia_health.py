"""What is wrong with a card by its own figures: pure judging, and the words that an operator reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drivers.nvidia_health import RECOVERY, THROTTLE, recovery_word, sample_health, throttle_words
from drivers.types import Health, MemoryErrors, ProbeResult, Severity
from tests.drivers.nvidia_box import codes, finding
from tests.fakes.nvml import scenarios

Probe = Callable[..., ProbeResult]


def test_throttle_bits_that_are_everyday_are_no_reason() -> None:
    assert throttle_words(None) == ()
    assert throttle_words(0x1 | 0x2 | 0x4 | 0x10 | 0x100 | 0x200) == ()
    assert throttle_words(0xFFFF) == ("hw_slowdown", "sw_thermal", "hw_thermal", "hw_power_brake")
    assert set(THROTTLE) == {0x8, 0x20, 0x40, 0x80}


def test_recovery_words() -> None:
    assert [recovery_word(number) for number in (None, 0, 1, 4, 42)] == [
        None,
        "none",
        "gpu_reset",
        "drain_and_reset",
        "action_42",
    ]
    assert all(hint for number, (_, hint) in RECOVERY.items() if number)


@pytest.mark.parametrize(
    ("mask", "action", "health"),
    [
        (None, None, Health.OK),
        (0x5, 0, Health.OK),
        (0x20, 0, Health.WARNING),
        (0, 3, Health.WARNING),
        (0x20, 1, Health.ALARM),
        (0, 99, Health.ALARM),
    ],
)
def test_health_of_a_sample(mask: int | None, action: int | None, health: Health) -> None:
    assert sample_health(mask, action) is health


@pytest.mark.parametrize(
    ("settings", "code", "severity", "health", "words"),
    [
        ({"throttle": 0x41, "temperature": 88}, "throttled", Severity.WARNING, Health.WARNING, "at 88 °C (hw_thermal:"),
        ({"recovery": 1}, "recovery_needed", Severity.ERROR, Health.ALARM, "gpu_reset"),
        ({"recovery": 3}, "recovery_needed", Severity.WARNING, Health.WARNING, "drain_p2p"),
        ({"recovery": 42}, "recovery_needed", Severity.ERROR, Health.ALARM, "action_42"),
        ({"remapped": "0,1,1,0"}, "memory_repair_pending", Severity.WARNING, Health.WARNING, "next reset"),
        ({"remapped": "4,4,0,1"}, "memory_repair_failed", Severity.ERROR, Health.ALARM, "no spare rows"),
        ({"ecc.uncorrected": 1}, "ecc_uncorrected", Severity.ERROR, Health.ALARM, "1 time since"),
        ({"ecc.uncorrected": 7}, "ecc_uncorrected", Severity.ERROR, Health.ALARM, "7 times since"),
        ({"persistence": 0}, "persistence_off", Severity.INFO, Health.OK, "persistence mode is off"),
    ],
)
def test_a_cards_own_word_is_a_finding(
    probe_nvidia: Probe, settings: dict[str, object], code: str, severity: Severity, health: Health, words: str
) -> None:
    result = probe_nvidia(scenarios.box(scenarios.l20(0), scenarios.l20(1, **settings)))
    assert codes(result) == [code]
    found = finding(result, code)
    assert (found.severity, found.device, found.source) == (severity, "nvidia:1", "nvidia")
    assert words in found.message
    assert found.hint
    assert [device.health for device in result.devices] == [Health.OK, health]


def test_repairs_are_counted(probe_nvidia: Probe) -> None:
    result = probe_nvidia(scenarios.box(scenarios.l20(remapped="3,2,0,0", **{"ecc.corrected": 40})))
    assert result.findings == ()
    assert result.devices[0].memory_errors == MemoryErrors(40, 0, 2, 0, None, 5, False, False)


def test_an_old_card_waits_for_the_retirement_of_a_page(probe_nvidia: Probe) -> None:
    result = probe_nvidia(scenarios.t4(**{"retired.dbe": 1, "retired.pending": 1}))
    assert codes(result) == ["memory_repair_pending"]
    assert result.devices[0].memory_errors == MemoryErrors(0, 0, 2, 0, 1, None, True, None)


def test_a_card_lost_while_it_is_asked_is_told_as_lost_alone(probe_nvidia: Probe) -> None:
    settings: dict[str, object] = {"temperature": "!15", "throttle": "!15", "persistence": 0}
    result = probe_nvidia(scenarios.box(scenarios.l20(**settings)))
    assert codes(result) == ["device_lost"]
    assert result.devices[0].health is Health.CRITICAL


def test_what_is_set_alike_on_all_cards_is_told_once(probe_nvidia: Probe) -> None:
    cards = [scenarios.l20(number, persistence=0, throttle=0x40) for number in range(3)]
    result = probe_nvidia(scenarios.box(*cards))
    assert codes(result) == ["throttled", "persistence_off", "throttled", "throttled"]
    found = finding(result, "persistence_off")
    assert (found.device, found.message.split()[:2]) == (None, ["3", "cards"])
