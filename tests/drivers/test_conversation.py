"""Conversations with real child processes: questions and answers, and every way in which a child can fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from drivers.command import CommandFailed, FailureKind, minimal_environment
from drivers.conversation import MAX_LINE_BYTES, Conversation

PATIENT_S = 60.0

ECHO = """
import sys
for line in sys.stdin:
    print("you said", line.strip(), flush=True)
"""


def talk(program: str) -> Conversation:
    """A Python program as the other side."""
    return Conversation([sys.executable, "-I", "-c", program], environment=minimal_environment())


def is_gone(pid: int) -> bool:
    """Whether a process that is not our child ended; one that nobody has collected counts."""
    try:
        process = psutil.Process(pid)
        psutil.wait_procs([process], timeout=PATIENT_S / 4)
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def failure(program: str, *, timeout_s: float = PATIENT_S, question: str = "well?") -> CommandFailed:
    """How a conversation with this program fails; the child is gone afterwards."""
    conversation = talk(program)
    with pytest.raises(CommandFailed) as caught:
        conversation.ask(question, timeout_s=timeout_s)
    assert not psutil.pid_exists(conversation.pid)
    with pytest.raises(ValueError, match="closed"):
        conversation.ask("again?", timeout_s=PATIENT_S)
    return caught.value


@pytest.fixture
def echo() -> Iterator[Conversation]:
    with closing(talk(ECHO)) as conversation:
        yield conversation


def test_one_child_answers_many_questions(echo: Conversation) -> None:
    pid = echo.pid
    answers = [echo.ask(f"number {n}", timeout_s=PATIENT_S) for n in range(50)]
    assert answers == [f"you said number {n}" for n in range(50)]
    assert echo.pid == pid


def test_a_greeting_is_read_before_the_first_question() -> None:
    with closing(talk("print('ready', flush=True)" + ECHO)) as conversation:
        assert conversation.read_line(timeout_s=PATIENT_S) == "ready"
        assert conversation.ask("so", timeout_s=PATIENT_S) == "you said so"


def test_a_long_answer_in_pieces_comes_whole() -> None:
    program = "import sys\nfor line in sys.stdin: print('x' * int(line), flush=True)"
    with closing(talk(program)) as conversation:
        assert conversation.ask("900000", timeout_s=PATIENT_S) == "x" * 900_000
        assert conversation.ask("3", timeout_s=PATIENT_S) == "xxx"


def test_bytes_that_are_no_text_are_replaced() -> None:
    program = "import sys\nsys.stdin.readline(); sys.stdout.buffer.write(b'\\xff ok\\n'); sys.stdout.flush()"
    with closing(talk(program)) as conversation:
        assert conversation.ask("", timeout_s=PATIENT_S) == "\ufffd ok"


def test_a_talkative_standard_error_does_not_block_the_child() -> None:
    program = "import sys\nfor line in sys.stdin: sys.stderr.write('warning ' * 40000); print('done', flush=True)"
    with closing(talk(program)) as conversation:
        assert [conversation.ask("go", timeout_s=PATIENT_S) for _ in range(3)] == ["done"] * 3


def test_closing_ends_the_child_and_can_be_repeated(echo: Conversation) -> None:
    child = psutil.Process(echo.pid)
    echo.close()
    echo.close()
    assert not child.is_running()
    with pytest.raises(ValueError, match="closed"):
        echo.read_line(timeout_s=PATIENT_S)


def test_a_child_ends_by_itself_when_its_parent_is_gone() -> None:
    # The parent of the talking child is killed without a chance to clean up.
    parent = f"""
import os, sys
from drivers.command import minimal_environment
from drivers.conversation import Conversation
child = Conversation([sys.executable, "-I", "-c", {ECHO!r}], environment=minimal_environment())
print(child.ask("hello", timeout_s={PATIENT_S}), child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    here = str(Path(__file__).resolve().parents[2])
    environment = minimal_environment(PYTHONPATH=here)
    conversation = Conversation([sys.executable, "-c", parent], environment=environment)
    *answer, number = conversation.read_line(timeout_s=PATIENT_S).split()
    assert answer == ["you", "said", "hello"]
    assert is_gone(int(number))
    conversation.close()


def test_no_answer_in_time_ends_the_child() -> None:
    error = failure("import time\ntime.sleep(600)", timeout_s=0.2)
    assert error.kind is FailureKind.TIMED_OUT
    assert "gave no answer within 0.2 s and was stopped" in error.message
    assert error.hint is not None
    assert error.command_line in error.hint


def test_a_crash_names_the_signal() -> None:
    error = failure("import os, sys\nsys.stdin.readline(); os.kill(os.getpid(), 11)")
    assert error.kind is FailureKind.SIGNALLED
    assert "11 (SIGSEGV)" in error.message


def test_an_exit_names_the_code_and_the_last_words() -> None:
    error = failure("import sys\nsys.stdin.readline(); print('first\\nno\\x1b[31m card', file=sys.stderr); sys.exit(3)")
    assert (error.kind, error.result.exit_code) == (FailureKind.EXIT_CODE, 3)
    assert error.message.endswith("ended with exit code 3: no[31m card")
    assert "first" in error.result.stderr


def test_a_child_that_is_gone_before_the_question_tells_its_last_words() -> None:
    conversation = talk("import sys; print('broken library', file=sys.stderr); sys.exit(4)")
    os.waitid(os.P_PID, conversation.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(CommandFailed, match="ended with exit code 4: broken library"):
        conversation.ask("well?", timeout_s=PATIENT_S)


def test_closing_the_output_without_ending_is_told_as_such() -> None:
    error = failure("import os, sys, time\nsys.stdin.readline(); os.close(1); time.sleep(600)")
    assert error.kind is FailureKind.EXIT_CODE
    assert error.message.endswith("closed its output and was stopped.")
    assert error.result.exit_code is None


def test_a_line_without_end_is_stopped() -> None:
    error = failure("import sys\nsys.stdin.readline()\nwhile True: sys.stdout.write('x' * 65536)")
    assert error.kind is FailureKind.EXIT_CODE
    assert f"printed {MAX_LINE_BYTES} bytes without the end of a line" in error.message


def test_a_program_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(CommandFailed) as caught:
        Conversation(["/nowhere/tool"], environment=minimal_environment())
    assert caught.value.kind is FailureKind.NOT_FOUND


def test_a_question_is_one_line(echo: Conversation) -> None:
    with pytest.raises(ValueError, match="one line"):
        echo.ask("one\ntwo", timeout_s=PATIENT_S)
