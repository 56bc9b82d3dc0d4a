"""Runs a compute child and judges what it printed: hang, crash, exit code, wrong result, passed.

The children (``drivers.compute_torch_npu``, ``drivers.compute_ggml``) announce each step before they begin it, so of
one that never comes back the step is known. What a child could not do it says as a problem's code; the words for those
are the backend's (``drivers.compute_torch``, ``drivers.compute_llama``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from drivers.command import CommandFailed, FailureKind, run, signal_name
from drivers.compute_types import ComputeResult, ComputeState, ComputeStep, StepName
from drivers.errors import printable

RELATIVE_TOLERANCE = 0.02
"""Largest norm of the difference by the norm of the reference. Q8_0 with inputs rounded to Q8_0 has 0.004, F16 sums
over 1024 values stay below 0.01; a wrong result has 1 and more."""
ELEMENT_TOLERANCE = 0.1
"""Largest difference of a single value by the reference's root mean square: one wrong tile hides in the norm. Rounding
to Q8_0 gives up to 0.03 among a quarter of a million values."""

_COMPLAINT = re.compile(r"error|assert|abort|fail", re.IGNORECASE)


class PathFact(msgspec.Struct, frozen=True):
    """What an environment variable names (``None``: it is not set) and whether that is there."""

    value: str | None = None
    exists: bool = False


class Facts(msgspec.Struct, tag="facts", tag_field="kind", frozen=True):
    """Versions in the child's Python and CANN's ASCEND_HOME_PATH and ASCEND_OPP_PATH."""

    python: str
    torch: str | None = None
    torch_npu: str | None = None
    home: PathFact = PathFact()
    opp: PathFact = PathFact()


class Begin(msgspec.Struct, tag="begin", tag_field="kind", frozen=True):
    """A step begins."""

    name: StepName
    format: str | None = None


class Step(msgspec.Struct, tag="step", tag_field="kind", frozen=True):
    """A step has ended. ``left_out`` are formats that the device does not multiply; errors are ``None`` where the
    result is not a number."""

    name: StepName
    seconds: float
    format: str | None = None
    detail: str | None = None
    bytes_allocated: int | None = None
    gflops: float | None = None
    max_abs_error: float | None = None
    relative_error: float | None = None
    reference_rms: float | None = None
    left_out: tuple[str, ...] = ()


class Problem(msgspec.Struct, tag="problem", tag_field="kind", frozen=True):
    """Why the child could not go on. A line without a code says nothing and is none."""

    code: Annotated[str, msgspec.Meta(min_length=1)]
    text: str = ""


class Unloaded(msgspec.Struct, frozen=True):
    """A backend's file that could not be loaded, with the loader's words."""

    file: str
    reason: str


class Build(msgspec.Struct, tag="build", tag_field="kind", frozen=True):
    """The llama.cpp that was loaded."""

    version: str
    backends: tuple[str, ...] = ()
    unloaded: tuple[Unloaded, ...] = ()


class ListedDevice(msgspec.Struct, tag="device", tag_field="kind", frozen=True):
    """A device of llama.cpp. ``type`` is enum ggml_backend_dev_type, ``address`` its PCI address when told."""

    name: str
    type: int
    backend: str
    description: str | None = None
    address: str | None = None


class End(msgspec.Struct, tag="end", tag_field="kind", frozen=True):
    """The child has said everything."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All lines of one child. ``open_step`` began and did not end; ``complete`` is false when the child broke off."""

    facts: Facts | None = None
    steps: tuple[Step, ...] = ()
    open_step: Begin | None = None
    problem: Problem | None = None
    build: Build | None = None
    devices: tuple[ListedDevice, ...] = ()
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a child said and how it ended (``failure`` is ``None``: well). ``timeout_s`` is the limit it had."""

    reading: Reading
    failure: CommandFailed | None
    seconds: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Words:
    """A problem in words."""

    state: ComputeState
    code: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked. ``label`` is its name in sentences (``CUDA0 (NVIDIA L20)``), ``crash_hint`` where to look when
    the child hangs or crashes."""

    backend: str
    label: str
    crash_hint: str
    device: str | None = None
    name: str | None = None


def parse(text: str) -> Reading:
    """Read the child's lines; stops at the first one that is not whole. Never raises."""
    facts: Facts | None = None
    build: Build | None = None
    problem: Problem | None = None
    open_step: Begin | None = None
    complete = False
    steps: list[Step] = []
    devices: list[ListedDevice] = []
    for line in text.splitlines():
        try:
            record = msgspec.json.decode(
                line.encode(), type=Facts | Begin | Step | Problem | Build | ListedDevice | End
            )
        except (msgspec.DecodeError, RecursionError):
            break
        match record:
            case Facts():
                facts = record
            case Begin():
                open_step = record
            case Step():
                steps.append(record)
                open_step = None
            case Problem():
                problem = record
            case Build():
                build = record
            case ListedDevice():
                devices.append(record)
            case End():
                complete = True
    return Reading(facts, tuple(steps), open_step, problem, build, tuple(devices), complete)


def run_child(argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str]) -> Outcome:
    """Run a child to its end or its limit. Never raises for what it does."""
    try:
        result = run(argv, timeout_s=timeout_s, environment=environment)
    except CommandFailed as failure:
        return Outcome(parse(failure.result.stdout), failure, failure.result.duration_s, timeout_s)
    return Outcome(parse(result.stdout), None, result.duration_s, timeout_s)


def judge(outcome: Outcome, subject: Subject, words: Callable[[Problem], Words]) -> ComputeResult:
    """The result of a check. ``words`` explains the problems that a child of this backend reports."""
    reading = outcome.reading
    said = _said(outcome, subject, words)
    steps = [shown_step(step) for step in reading.steps]
    if reading.open_step is not None:
        state = ComputeState.FAILED if said is None else said.state
        steps.append(ComputeStep(reading.open_step.name, state, None, reading.open_step.format))
    compared = [step for step in reading.steps if step.name is StepName.COMPARE]
    speeds = {step.format: step.gflops for step in reading.steps if step.name is StepName.MATMUL}
    allocated = [step.bytes_allocated for step in reading.steps if step.bytes_allocated is not None]
    return ComputeResult(
        device=subject.device,
        backend=subject.backend,
        state=ComputeState.PASSED if said is None else said.state,
        message=_passed(subject, compared, reading) if said is None else said.message,
        name=subject.name,
        code=None if said is None else said.code,
        hint=_left_out_hint(reading) if said is None else said.hint,
        steps=tuple(steps),
        bytes_allocated=sum(allocated) if allocated else None,
        max_abs_error=_largest([step.max_abs_error for step in compared]),
        relative_error=_largest([step.relative_error for step in compared]),
        gflops=speeds.get("F16"),
        seconds=outcome.seconds,
    )


def broken_off(outcome: Outcome, subject: Subject) -> Words | None:
    """Why the child did not come to its end; ``None`` when it did."""
    if outcome.reading.complete:
        return None
    failure = outcome.failure
    where = f"at the step {_step_words(outcome.reading.open_step)}"
    if failure is None:
        message = f"The check of {subject.label} was cut off {where}."
        return Words(ComputeState.FAILED, "compute_cut_off", message, subject.crash_hint)
    if failure.kind in (FailureKind.NOT_FOUND, FailureKind.NOT_EXECUTABLE):
        hint = "Name a Python that is there."
        return Words(ComputeState.UNAVAILABLE, "python_not_found", failure.message, hint)
    if failure.kind is FailureKind.TIMED_OUT:
        message = f"{subject.label} gave no answer within {outcome.timeout_s:g} s {where}; the check was stopped."
        if failure.result.exit_code is None:
            message = f"{subject.label} hangs in the kernel {where}; the check cannot even be stopped."
        return Words(ComputeState.FAILED, "compute_timed_out", message, subject.crash_hint)
    last = _last_words(failure.result.stderr)
    code = failure.result.exit_code
    if failure.kind is FailureKind.SIGNALLED and code is not None:
        message = f"The check of {subject.label} crashed {where} with signal {signal_name(-code)}{last}."
        return Words(ComputeState.FAILED, "compute_crashed", message, subject.crash_hint)
    message = f"The check of {subject.label} ended with exit code {code} {where}{last}."
    return Words(ComputeState.FAILED, "compute_exited", message, subject.crash_hint)


def shown_step(step: Step) -> ComputeStep:
    """A step that has ended, with its figures in words and, for a comparison, the verdict."""
    words = [step.format] if step.format else []
    state = ComputeState.PASSED
    if step.detail:
        words.append(printable(step.detail))
    if step.bytes_allocated is not None:
        words.append(f"{step.bytes_allocated / (1 << 20):.1f} MiB")
    if step.left_out:
        words.append(f"without {', '.join(step.left_out)}")
    if step.gflops is not None:
        words.append(f"{step.gflops:.0f} GFLOP/s")
    if step.name is StepName.COMPARE:
        state = ComputeState.PASSED if within_tolerance(step) else ComputeState.FAILED
        words.append(_error_words(step))
    return ComputeStep(step.name, state, step.seconds, ", ".join(words) or None)


def within_tolerance(step: Step) -> bool:
    """Whether the device computed what the reference computed."""
    if step.max_abs_error is None or step.relative_error is None or not step.reference_rms:
        return False
    return step.relative_error <= RELATIVE_TOLERANCE and step.max_abs_error <= ELEMENT_TOLERANCE * step.reference_rms


def first_line(text: str, limit: int = 300) -> str:
    """The first line of an error that says anything, fit for a terminal."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return printable(line)[:limit]


def _said(outcome: Outcome, subject: Subject, words: Callable[[Problem], Words]) -> Words | None:
    """What is wrong; ``None`` when nothing is."""
    reading = outcome.reading
    if (broken := broken_off(outcome, subject)) is not None:
        return broken
    if reading.problem is not None:
        return words(reading.problem)
    compared = [step for step in reading.steps if step.name is StepName.COMPARE]
    wrong = [step for step in compared if not within_tolerance(step)]
    if wrong:
        message = f"{subject.label} computes wrong results: {wrong[0].format}, {_error_words(wrong[0])}."
        hint = (
            "Serve nothing from this device. Reset it or restart the machine and check again; if it stays, the card or "
            "its memory is damaged, or driver and libraries do not fit: r1box doctor."
        )
        return Words(ComputeState.FAILED, "compute_wrong_result", message, hint)
    if not any(step.format == "F16" for step in compared):
        message = f"{subject.label} does not multiply F16: llama.cpp would compute every model on the processor."
        hint = "This backend cannot serve models: use another one for this device."
        return Words(ComputeState.FAILED, "matmul_unsupported", message, hint)
    return None


def _passed(subject: Subject, compared: list[Step], reading: Reading) -> str:
    formats = ", ".join(step.format or "?" for step in compared)
    relative = _largest([step.relative_error for step in compared]) or 0.0
    message = f"{subject.label} computes correctly: {formats}, relative error {relative:.1e} at most."
    if left_out := _left_out(reading):
        message += f" It does not multiply {', '.join(left_out)}: such weights would be computed on the processor."
    return message


def _left_out(reading: Reading) -> tuple[str, ...]:
    return tuple(name for step in reading.steps for name in step.left_out)


def _left_out_hint(reading: Reading) -> str | None:
    return "r1box plan names the formats that this device computes." if _left_out(reading) else None


def _error_words(step: Step) -> str:
    if step.max_abs_error is None or step.relative_error is None or step.reference_rms is None:
        return "the result is not a number"
    most = ELEMENT_TOLERANCE * step.reference_rms
    return (
        f"relative error {step.relative_error:.1e} of {RELATIVE_TOLERANCE:g} allowed, "
        f"largest difference {step.max_abs_error:.2g} of {most:.2g} allowed"
    )


def _step_words(step: Begin | None) -> str:
    if step is None:
        return "before the first"
    return step.name.value + (f" ({step.format})" if step.format else "")


def _last_words(stderr: str) -> str:
    """What the child said on its way out: the first line that complains, else the last."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    if not lines:
        return ""
    line = next((line for line in lines if _COMPLAINT.search(line)), lines[-1])
    return f": {first_line(line).rstrip('.')}"


def _largest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None
