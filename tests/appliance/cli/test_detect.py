"""``r1box detect``: the table as people see it, JSON and schema as programs do."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from appliance.cli.app import app
from appliance.cli.detect import print_snapshot
from appliance.cli.detect_rows import ASCII, UNICODE
from appliance.cli.detect_view import snapshot_lines
from appliance.cli.output import can_show, waiting_note
from appliance.errors import UnreadableFile
from drivers.nvidia_health import RECOVERY, THROTTLE
from drivers.snapshot_json import SnapshotError, from_json, to_json
from drivers.snapshot_schema import schema_json
from drivers.types import (
    Device,
    DeviceFault,
    DeviceLayers,
    Finding,
    HardwareSnapshot,
    Host,
    LayerState,
    Severity,
    Vendor,
)
from tests.appliance.cli.boxes import A3, BOXES, EIGHT_H20, FORMS, GIB, GOLDEN, MIG, TWO_DUOS, rendered
from tests.drivers.snapshots import FULL, SNAPSHOTS


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("box", BOXES)
def test_golden_texts(box: str, form: str) -> None:
    assert rendered(box, form) == (GOLDEN / f"{box}-{form}.txt").read_text("utf-8")


def test_there_is_no_other_golden_text() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {f"{box}-{form}.txt" for box in BOXES for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("box", BOXES)
def test_no_line_is_longer_than_the_terminal(box: str, form: str) -> None:
    width, _ = FORMS[form]
    assert [line for line in rendered(box, form).splitlines() if cell_len(line) > width] == []


@pytest.mark.parametrize("box", BOXES)
def test_the_ascii_form_is_ascii(box: str) -> None:
    assert rendered(box, "80-ascii").isascii()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no error
@given(SNAPSHOTS)
def test_any_snapshot_can_be_shown(snapshot: HardwareSnapshot) -> None:
    for width in (None, 40, 80, 200):
        for glyphs in (UNICODE, ASCII):
            text = "".join(line.plain for line in snapshot_lines(snapshot, width=width, glyphs=glyphs))
            assert text.isprintable()


def show(snapshot: HardwareSnapshot, width: int | None = 80) -> list[str]:
    return [line.plain.rstrip() for line in snapshot_lines(snapshot, width=width)]


def card(**values: object) -> Device:
    return replace(Device(Vendor.NVIDIA, 0, "NVIDIA L20", chip="L20"), **values)  # type: ignore[arg-type]


def row(device: Device, width: int | None = 200) -> str:
    return next(line for line in show(HardwareSnapshot(Host(), (device,)), width) if "L20" in line)


def test_what_is_unknown_is_a_dash() -> None:
    assert row(card()).split() == ["0", "0", "L20", "-", "-", "-", "-", "unknown"]
    assert row(card(index=None)).split()[:2] == ["-", "-"]


def test_memory_in_use_shows_and_none_does_not() -> None:
    def bar(used: int) -> int:
        return row(card(memory_total_bytes=1000 * GIB, memory_free_bytes=(1000 - used) * GIB), None).count("█")

    assert [bar(used) for used in (0, 1, 20, 500, 949, 1000)] == [0, 0, 1, 5, 9, 10]
    assert "█" not in row(card(memory_total_bytes=48 * GIB))
    assert "48.0 GiB" in row(card(memory_total_bytes=48 * GIB))


def test_power_of_a_card_is_shown_once() -> None:
    lines = [line for line in show(A3) if "Ascend910" in line]
    assert len(lines) == 16
    assert [" W " in line for line in lines] == [True, False] * 8


def test_power_that_only_the_second_chip_tells_is_the_cards() -> None:
    first, second = A3.devices[:2]
    swapped = (replace(first, power_watts=None), replace(second, power_watts=150.0))
    lines = [line for line in show(HardwareSnapshot(Host(), swapped)) if "Ascend910" in line]
    assert ["150 W" in line for line in lines] == [True, False]


def test_parts_stand_below_their_device_wherever_the_snapshot_has_them() -> None:
    backwards = replace(MIG, devices=tuple(reversed(MIG.devices)))
    order = [line[6:12].strip() for line in show(backwards) if "A100" in line or "MIG" in line]
    assert order == ["1", "0", "0.5", "0.1"]
    orphan = replace(MIG, devices=MIG.devices[2:])
    assert sum("MIG" in line for line in show(orphan)) == 2


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (LayerState.BROKEN, "not answering"),
        (LayerState.NOT_REACHED, "not answering"),
        (LayerState.WAITING, "starting"),
        (LayerState.OK, "unknown"),
    ],
)
def test_a_device_without_an_answer_says_so_in_a_dim_row(state: LayerState, words: str) -> None:
    silent = card(layers=DeviceLayers(library=state), pci_address="0000:01:00.0")
    assert row(silent).endswith(words)
    lines = snapshot_lines(HardwareSnapshot(Host(), (silent,)), width=80)
    line = next(line for line in lines if "L20" in line.plain)
    assert (line.style == "dim") == (words != "unknown")
    assert ("PCI 0000:01:00.0" in line.plain) == (words != "unknown")


def test_many_faults_are_counted() -> None:
    faults = tuple(DeviceFault(f"{number:08X}", "Broken.") for number in range(5))
    assert row(card(faults=faults), None).endswith(
        "unknown · " + " · ".join([*(f"Broken ({number:08X})" for number in range(3)), "2 more faults"])
    )
    assert row(card(faults=(DeviceFault("80E01801"),))).endswith("fault (80E01801)")


def test_reasons_nobody_knows_are_shown_as_they_are() -> None:
    assert row(card(throttle_reasons=("solar_wind",))).endswith("slowed down: solar wind")
    assert row(card(recovery_action="action_9")).endswith("unknown · needs: action 9")


def test_what_a_card_needs_is_said_in_words() -> None:
    assert row(card(recovery_action="node_reboot")).endswith("unknown · needs a reboot")
    assert row(card(recovery_action="none")).endswith("  unknown")


def test_every_word_of_nvidia_has_plain_ones() -> None:
    for word, _ in THROTTLE.values():
        assert "_" not in row(card(throttle_reasons=(word,)))
        assert row(card(throttle_reasons=(word,))).endswith(("too hot", "power"))
    for word, _ in RECOVERY.values():
        assert "needs: " not in row(card(recovery_action=word)) or word == "recover_imex_domain"


def test_findings_come_errors_first() -> None:
    marks = [line[0] for line in show(TWO_DUOS) if line[:2] in ("✗ ", "! ", "i ")]
    assert marks == ["✗", "!", "i"]
    nexts = [line for line in show(TWO_DUOS) if line.startswith("  Next: ")]
    assert len(nexts) == 2


def test_the_doctor_is_named_when_something_is_broken_and_only_then() -> None:
    broken = {box for box in BOXES if any(line.startswith("r1box doctor") for line in show(BOXES[box]))}
    assert broken == {"2xDuo-one-silent", "8xH20", "no-driver"}


def test_what_others_wrote_reaches_no_terminal_as_control() -> None:
    evil = "L20\x1b[2J\x07\u202e\n[bold]x"
    device = card(chip=evil, pci_address=None, faults=(DeviceFault(evil, evil),), throttle_reasons=(evil,))
    finding = Finding("x", evil, evil, Severity.ERROR)
    snapshot = HardwareSnapshot(Host(cpu_model=evil), (device,), (finding,))
    output = io.StringIO()
    print_snapshot(snapshot, Console(file=output, width=120, soft_wrap=True))
    assert "[bold]x" in output.getvalue()
    assert all(character == "\n" or character.isprintable() for character in output.getvalue())


def printed(snapshot: HardwareSnapshot, encoding: str = "utf-8", *, terminal: bool = False, width: int = 80) -> str:
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    colours = "standard" if terminal else "auto"
    console = Console(file=output, soft_wrap=True, force_terminal=terminal, width=width, color_system=colours)
    print_snapshot(snapshot, console)
    output.flush()
    buffer = output.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(encoding)


def test_piped_output_is_plain_and_keeps_its_lines_whole() -> None:
    text = printed(EIGHT_H20)
    assert "\x1b" not in text
    assert EIGHT_H20.findings[0].message in text.splitlines()[-4]


def test_a_terminal_gets_colours_and_its_width() -> None:
    text = printed(EIGHT_H20, terminal=True)
    assert "\x1b[1;31m✗" in text
    assert EIGHT_H20.findings[0].message not in text


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m" not in printed(EIGHT_H20, terminal=True)


def test_without_block_characters_there_are_plain_ones() -> None:
    text = printed(EIGHT_H20, "ascii", terminal=True)
    assert "########" in text
    chinese = replace(EIGHT_H20, host=replace(EIGHT_H20.host, cpu_model="鲲鹏 920"))
    assert "?? 920" in printed(chinese, "ascii")


def test_encodings() -> None:
    assert can_show(Console(file=io.TextIOWrapper(io.BytesIO(), "utf-8")), "█✓")
    assert not can_show(Console(file=io.TextIOWrapper(io.BytesIO(), "latin-1")), "█")


class Watched(io.StringIO):
    """Says when a text was written."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.seen = threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.text in self.getvalue():
            self.seen.set()
        return written


def test_a_long_wait_is_explained_on_a_terminal() -> None:
    output = Watched("asking [them]")
    with waiting_note("asking [them]", console=Console(file=output, force_terminal=True), after_s=0):
        assert output.seen.wait(60)
    assert output.getvalue().endswith("\x1b[2K")  # the line is gone


def test_a_short_wait_and_a_pipe_show_nothing() -> None:
    output = io.StringIO()
    with waiting_note("asking", console=Console(file=output, force_terminal=True), after_s=3600):
        pass
    with waiting_note("asking", console=Console(file=output, force_terminal=False), after_s=0):
        pass
    assert output.getvalue() == ""
    assert not [one for one in threading.enumerate() if isinstance(one, threading.Timer) and one.interval == 3600]


def test_schema_is_the_shipped_one() -> None:
    result = CliRunner().invoke(app, ["detect", "--schema"])
    assert (result.exit_code, result.stdout) == (0, schema_json())


def test_a_described_machine_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "machine.json"
    file.write_text(to_json(TWO_DUOS), "utf-8")
    shown = CliRunner().invoke(app, ["detect", "--machine", str(file)])
    assert shown.exit_code == 0
    assert "not answering" in shown.stdout
    again = CliRunner().invoke(app, ["detect", "--machine", str(file), "--json"])
    assert from_json(again.stdout) == TWO_DUOS


def test_this_machine_is_shown() -> None:
    result = CliRunner().invoke(app, ["detect"])
    assert (result.exit_code, result.stdout[:5]) == (0, "Host ")


def test_json_without_letters_beyond_ascii_is_escaped(tmp_path: Path) -> None:
    named = replace(FULL, host=Host(cpu_model="鲲鹏 920"))
    file = tmp_path / "machine.json"
    file.write_text(to_json(named), "utf-8")
    result = CliRunner(charset="ascii").invoke(app, ["detect", "--machine", str(file), "--json"])
    assert result.exit_code == 0
    assert result.stdout.isascii()
    assert json.loads(result.stdout)["host"]["cpu_model"] == "鲲鹏 920"


def test_files_that_are_no_machine_are_typed_errors(tmp_path: Path) -> None:
    missing = CliRunner().invoke(app, ["detect", "--machine", str(tmp_path / "none.json")])
    assert isinstance(missing.exception, UnreadableFile)
    file = tmp_path / "x.json"
    file.write_text("{}")
    empty = CliRunner().invoke(app, ["detect", "--machine", str(file)])
    assert isinstance(empty.exception, SnapshotError)
