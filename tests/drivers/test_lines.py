"""Programs that say how far they are."""

from __future__ import annotations

import os

import pytest

from drivers.command import CommandFailed, minimal_environment
from drivers.lines import KEPT_LINES, run_lines


def lines_of(script: str, timeout_s: float = 60.0) -> tuple[list[str], int | None]:
    seen: list[str] = []
    done = run_lines(("sh", "-c", script), timeout_s=timeout_s, environment=minimal_environment(), on_line=seen.append)
    return seen, done.exit_code


def test_lines_of_both_outputs_come_in_their_order() -> None:
    assert lines_of("echo one; echo two >&2; printf three; exit 3") == (["one", "two", "three"], 3)


def test_a_line_comes_before_the_program_has_ended(tmp_path: object) -> None:
    read, write = os.pipe()
    os.set_inheritable(read, True)
    seen: list[str] = []

    def line(text: str) -> None:
        seen.append(text)
        if text == "waiting":
            os.write(write, b"go\n")

    argv = ("sh", "-c", f"echo waiting; read x < /proc/{os.getpid()}/fd/{read}; echo $x")
    done = run_lines(argv, timeout_s=60.0, environment=minimal_environment(), on_line=line)
    assert (seen, done.exit_code) == (["waiting", "go"], 0)
    for handle in (read, write):
        os.close(handle)


def test_what_does_not_end_is_ended() -> None:
    with pytest.raises(CommandFailed, match="did not end within"):
        lines_of("echo begun; exec sleep 600", timeout_s=0.5)


def test_what_is_not_there() -> None:
    with pytest.raises(CommandFailed, match="was not found"):
        run_lines(("no-such-program",), timeout_s=5, environment=minimal_environment(), on_line=lambda text: None)


def test_much_output_is_bounded() -> None:
    seen: list[str] = []
    argv = ("sh", "-c", "seq 1 5000; head -c 200000 /dev/zero | tr '\\0' x")
    done = run_lines(argv, timeout_s=60.0, environment=minimal_environment(), on_line=seen.append)
    assert seen[:2] == ["1", "2"]
    assert len(done.stdout.splitlines()) == KEPT_LINES
    assert max(len(line) for line in seen) < 100_000
