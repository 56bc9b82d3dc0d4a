"""The one door to subprocesses, tried on real processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from drivers.command import CommandFailed, CommandResult, FailureKind, command_line, minimal_environment, redact, run
from tests.drivers.conftest import HANG_LIMITS_S

ENVIRONMENT = minimal_environment()


def sh(script: str, timeout_s: float = 10.0) -> CommandResult:
    return run(["/bin/sh", "-c", script], timeout_s=timeout_s, environment=ENVIRONMENT)


def test_result_has_both_outputs_and_the_code() -> None:
    result = run(
        ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=10, environment=ENVIRONMENT, ok_codes=(0, 3)
    )
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    assert not result.truncated


def test_exit_code_is_a_failure_that_can_be_pasted() -> None:
    with pytest.raises(CommandFailed) as caught:
        sh("echo 'it broke' >&2; exit 7")
    assert caught.value.kind is FailureKind.EXIT_CODE
    assert caught.value.code == "command_exit_code"
    assert caught.value.message == "/bin/sh ended with exit code 7: it broke"
    assert caught.value.command_line == "/bin/sh -c 'echo '\"'\"'it broke'\"'\"' >&2; exit 7'"
    assert caught.value.hint is not None
    assert caught.value.command_line in caught.value.hint


def test_control_characters_of_a_tool_do_not_reach_the_terminal() -> None:
    with pytest.raises(CommandFailed) as caught:
        sh(r"printf '\033[31mred\033[0m' >&2; exit 1")
    assert caught.value.message == "/bin/sh ended with exit code 1: [31mred[0m"
    assert caught.value.details["exit_code"] == 1


def test_signal_is_named() -> None:
    with pytest.raises(CommandFailed) as caught:
        sh("kill -SEGV $$")
    assert caught.value.kind is FailureKind.SIGNALLED
    assert "SIGSEGV" in caught.value.message


def test_unknown_signal_number_is_given_as_number() -> None:
    with pytest.raises(CommandFailed, match="ended by signal 40"):
        sh("kill -40 $$")


def test_missing_program() -> None:
    with pytest.raises(CommandFailed, match="was not found") as caught:
        run(["/nonexistent/tool"], timeout_s=1, environment=ENVIRONMENT)
    assert caught.value.kind is FailureKind.NOT_FOUND


def test_file_that_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("text")
    with pytest.raises(CommandFailed, match="cannot be run") as caught:
        run([str(path)], timeout_s=1, environment=ENVIRONMENT)
    assert caught.value.kind is FailureKind.NOT_EXECUTABLE


def test_empty_argv_is_our_own_fault() -> None:
    with pytest.raises(ValueError, match="argv is empty"):
        run([], timeout_s=1, environment=ENVIRONMENT)


def test_timeout_kills_the_whole_group_and_keeps_what_was_printed(tmp_path: Path) -> None:
    for limit_s in HANG_LIMITS_S:
        with pytest.raises(CommandFailed) as caught:
            sh(f"sleep 300 & echo $! > {tmp_path}/pid; echo begun; wait", timeout_s=limit_s)
        if caught.value.result.stdout:
            break
    assert caught.value.kind is FailureKind.TIMED_OUT
    assert f"within {limit_s:g} s" in caught.value.message
    assert caught.value.result.stdout == "begun\n"
    assert caught.value.result.duration_s < limit_s + 10
    assert _gone(int((tmp_path / "pid").read_text()))


def test_child_that_closed_its_output_still_has_a_time_limit() -> None:
    with pytest.raises(CommandFailed) as caught:
        sh("exec >&- 2>&-; sleep 300", timeout_s=0.2)
    assert caught.value.kind is FailureKind.TIMED_OUT


def test_leftover_grandchild_with_our_pipe_does_not_hold_us(tmp_path: Path) -> None:
    result = sh(f"sleep 300 & echo $! > {tmp_path}/pid; echo done", timeout_s=60)
    assert result.stdout == "done\n"
    assert result.duration_s < 50
    assert _gone(int((tmp_path / "pid").read_text()))


def test_output_is_bounded_and_the_program_still_ends() -> None:
    result = run(
        ["/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo end >&2"],
        timeout_s=20,
        environment=ENVIRONMENT,
        output_limit_bytes=1000,
    )
    assert result.stdout == "x" * 1000
    assert result.stderr == "end\n"
    assert result.truncated


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert sh(r"printf 'a\377b'").stdout == "a\ufffdb"


def test_environment_is_only_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1BOX_PRIVATE", "1")
    monkeypatch.setenv("KEPT", "2")
    environment = minimal_environment(keep=("KEPT", "UNSET_NAME"), MORE="3")
    printed = run(["/usr/bin/env"], timeout_s=10, environment=environment).stdout
    names = {line.partition("=")[0] for line in printed.splitlines()}
    assert names == {"PATH", "LC_ALL", "KEPT", "MORE"}


def test_process_gets_no_standard_input() -> None:
    assert sh("cat").stdout == ""


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["tool", "--token", "abc", "x"], "tool --token '***' x"),
        (["tool", "--api-key=abc"], "tool '--api-key=***'"),
        (["tool", "HF_TOKEN=abc"], "tool 'HF_TOKEN=***'"),
        (["curl", "https://me:pw@host/x"], "curl 'https://me:***@host/x'"),
        (["curl", "-H", "Authorization: Bearer r1b_abc"], "curl -H 'Authorization: Bearer ***'"),
        (["tool", "plain", "a b"], "tool plain 'a b'"),
    ],
)
def test_command_line_hides_secrets(argv: list[str], shown: str) -> None:
    assert command_line(argv) == shown


def test_named_secrets_are_hidden_everywhere() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["/bin/sh", "-c", "echo hunter2; exit 1"], timeout_s=10, environment=ENVIRONMENT, secrets=["hunter2"])
    assert "hunter2" not in caught.value.message
    assert "hunter2" not in str(caught.value.hint)
    assert redact("a hunter2 b", ["hunter2"]) == "a *** b"


def _gone(pid: int) -> bool:
    """Whether the process is dead; waits for its end, which follows the kill at once."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
    os.kill(pid, signal.SIGKILL)
    return False
