"""The table of fault codes, and what is said of a code."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ascend_faults import FaultClass, code_text, fault, fault_table, faults, parse_code
from drivers.types import DeviceFault, Severity


def test_the_whole_table_is_there() -> None:
    """The counts are those of the source (802 entries) without its five of nine digits."""
    table = fault_table()
    counts = {word: sum(one is word for one in table.classes.values()) for word in FaultClass}
    assert counts == {
        FaultClass.SEPARATE: 214,
        FaultClass.PRE_SEPARATE: 199,
        FaultClass.RESET: 162,
        FaultClass.RESET_WHEN_IDLE: 23,
        FaultClass.RESTART_SERVICE: 24,
        FaultClass.REPEAT_REQUEST: 33,
        FaultClass.WATCH: 11,
        FaultClass.NONE: 131,
    }
    assert all(re.fullmatch(r"[0-9A-F]{8}", code) for code in table.classes)
    assert table.meanings.keys() <= table.classes.keys()
    assert all(text.endswith(".") and len(text) < 120 for text in table.meanings.values())


@pytest.mark.parametrize(
    ("code", "severity", "word"),
    [
        ("80E3A203", Severity.ERROR, "reset"),
        ("80E01801", Severity.WARNING, "Restart the program"),
        ("80E18402", Severity.ERROR, "replaced"),
        ("8C1F8609", Severity.INFO, "Nothing"),
        ("8C0E4E00", Severity.WARNING, "as soon as nothing runs"),
        ("80C98002", Severity.WARNING, "again"),
        ("80E20207", Severity.WARNING, "cooling"),
        ("8F180220", Severity.WARNING, "replacement"),
        ("A2301001", Severity.ERROR, "replaced"),
    ],
)
def test_known_codes(code: str, severity: Severity, word: str) -> None:
    one = fault(code)
    assert (one.code, one.severity) == (code, severity)
    assert word in (one.action or "")


def test_an_unknown_code_has_the_drivers_words_and_no_action() -> None:
    assert fault("12345678") == DeviceFault("12345678")
    assert fault("12345678", "  node type=X,\x1b[2J\n state=Y ") == DeviceFault("12345678", "node type=X,[2J state=Y")
    assert len(fault("12345678", "x" * 1000).meaning or "") < 300


def test_our_words_come_before_the_drivers() -> None:
    assert fault("80E18402", "event state=2").meaning == fault("80E18402").meaning
    assert fault("80E38003", "what the driver says").meaning == "what the driver says"


def test_the_gravest_comes_first_and_each_once() -> None:
    found = faults(["8C1F8609", "80E20207", "80E18402", "80E20207"], {})
    assert [one.code for one in found] == ["80E18402", "80E20207", "8C1F8609"]


@pytest.mark.parametrize(
    ("text", "code"),
    [("4E00", "00004E00"), ("0x80e18402", "80E18402"), ("NA", None), ("", None), ("1" * 9, None), ("٤", None)],
)
def test_printed_codes(text: str, code: str | None) -> None:
    assert parse_code(text) == code


@given(st.integers(0, (1 << 32) - 1))
def test_numbers_and_printed_codes_agree(number: int) -> None:
    assert parse_code(f"{number:04X}") == code_text(number)


def test_negative_numbers_are_unsigned_codes() -> None:
    assert code_text(-2131385854) == f"{(1 << 32) - 2131385854:08X}"
