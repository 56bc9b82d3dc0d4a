"""What all compute checks share: the environment, the order, and a child's lines, whatever is in them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.command import CommandFailed, CommandResult, FailureKind
from drivers.compute import ComputeState, StepName, child_environment, run_compute_checks
from drivers.compute_reading import (
    Outcome,
    Problem,
    Step,
    Subject,
    Words,
    judge,
    parse,
    within_tolerance,
)
from drivers.types import Device, HardwareSnapshot, Host, Vendor

SUBJECT = Subject("llama.cpp", "CUDA0", "Look into the log.", "nvidia:0", "CUDA0")


def lines(*records: dict[str, object]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def begin(name: str) -> dict[str, object]:
    return {"kind": "begin", "name": name, "format": None}


def compared(**fields: object) -> dict[str, object]:
    whole = {"max_abs_error": 0.001, "relative_error": 0.001, "reference_rms": 1.0}
    return {"kind": "step", "name": "compare", "format": "F16", "seconds": 0.1} | whole | fields


END: dict[str, object] = {"kind": "end"}


def words(problem: Problem) -> Words:
    return Words(ComputeState.FAILED, problem.code, problem.text or problem.code)


def test_environment_of_the_children(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {"PATH": "/cann/bin", "PYTHONPATH": "/cann/python", "LD_LIBRARY_PATH": "/cann", "ASCEND_OPP_PATH": "/opp"}
    hidden = {"ASCEND_RT_VISIBLE_DEVICES": "3", "CUDA_VISIBLE_DEVICES": "1", "R1BOX_SECRET": "x"}
    for name, value in (shown | hidden).items():
        monkeypatch.setenv(name, value)
    environment = child_environment()
    assert {name: environment.get(name) for name in shown} == shown
    assert not hidden.keys() & environment.keys()


def test_ascend_is_checked_by_both() -> None:
    card = Device(Vendor.ASCEND, 0, "Ascend 910B3", card_id=0, chip_id=0)
    torch, llama = run_compute_checks(HardwareSnapshot(Host(), (card,)))
    assert (torch.backend, torch.code) == ("torch-npu", "torch_npu_not_installed")
    assert (llama.backend, llama.code) == ("llama.cpp", "no_gpu_backend")


def test_a_line_that_is_cut_ends_the_reading() -> None:
    text = lines(begin("import")) + '{"kind": "step", "name": "imp'
    reading = parse(text)
    assert reading.open_step is not None
    assert reading.open_step.name is StepName.IMPORT
    assert not reading.complete


def test_cut_off_without_a_reason_is_a_failure() -> None:
    result = judge(Outcome(parse(lines(begin("devices"))), None, 1.0, 5.0), SUBJECT, words)
    assert (result.state, result.code) == (ComputeState.FAILED, "compute_cut_off")
    assert "at the step devices" in result.message


def test_an_end_counts_whatever_comes_after_it() -> None:
    # A driver that crashes while the child is going down has computed all the same.
    crashed = CommandFailed(
        FailureKind.SIGNALLED, "crashed", None, "child", CommandResult(("child",), -11, "", "", 1.0)
    )
    result = judge(Outcome(parse(lines(compared(), END)), crashed, 1.0, 5.0), SUBJECT, words)
    assert result.state is ComputeState.PASSED


def test_a_child_that_cannot_be_killed() -> None:
    stuck = CommandFailed(FailureKind.TIMED_OUT, "stuck", None, "child", CommandResult(("child",), None, "", "", 6.0))
    result = judge(Outcome(parse(lines(begin("allocate"))), stuck, 6.0, 5.0), SUBJECT, words)
    assert result.code == "compute_timed_out"
    assert "hangs in the kernel at the step allocate" in result.message


def test_nothing_compared_is_no_pass() -> None:
    result = judge(Outcome(parse(lines(END)), None, 1.0, 5.0), SUBJECT, words)
    assert result.state is ComputeState.FAILED


@pytest.mark.parametrize(
    ("relative", "largest", "passes"),
    [
        # Q8_0 with rounded inputs, and F16 summed in F16.
        (0.004, 0.03, True),
        (0.01, 0.04, True),
        # Every value a little off; one value far off; all of it wrong.
        (0.05, 0.05, False),
        (0.001, 0.5, False),
        (1.4, 4.0, False),
    ],
)
def test_what_is_tolerated(relative: float, largest: float, passes: bool) -> None:
    step = Step(StepName.COMPARE, 0.1, "F16", max_abs_error=largest * 5, relative_error=relative, reference_rms=5.0)
    assert within_tolerance(step) is passes


_VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_NAMES = st.sampled_from(["name", "format", "seconds", "detail", "code", "text", "type", "backend", "left_out"])
_RECORDS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["facts", "begin", "step", "problem", "build", "device", "end", "other"])}
).flatmap(lambda kind: st.dictionaries(_NAMES, _VALUES | st.lists(_VALUES)).map(lambda rest: kind | rest))


@given(st.lists(_RECORDS | st.just(compared()) | st.just(begin("matmul")) | st.just(END)))
def test_no_lines_break_the_judgement(records: list[dict[str, object]]) -> None:
    result = judge(Outcome(parse(lines(*records)), None, 1.0, 5.0), SUBJECT, words)
    assert result.message
    assert (result.code is None) == (result.state is ComputeState.PASSED)
    if result.state is ComputeState.PASSED:
        assert compared() in records


@given(st.text())
def test_no_text_breaks_the_reading(text: str) -> None:
    parse(text)
