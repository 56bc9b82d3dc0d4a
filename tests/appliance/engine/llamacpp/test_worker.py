"""The worker's own logic with a scripted runner: messages in, messages out, every way in which a step can fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from appliance.engine.base import STEP_BOUNDS_S
from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.step import DecodeStatus, StepPlan, StepResult
from appliance.engine.llamacpp.worker import EXIT_FATAL_STEP, Worker

LETTERS = 97


class ScriptedRunner:
    """Says "abc..." to everybody; ``statuses`` are the results of the first steps, DONE after that."""

    shares = True
    slots = 4
    bytes_per_token = 0.0
    marks = b""
    breaks: frozenset[int] = frozenset()
    outputs = 4

    def __init__(self, statuses: Sequence[DecodeStatus] = (), pieces: dict[int, bytes] | None = None) -> None:
        self.plans: list[StepPlan] = []
        self.threads: list[int] = []
        self.blocks: dict[bytes, Any] = {}
        self._statuses = list(statuses)
        self._pieces = pieces or {}

    def identity(self) -> bytes | None:
        return None

    def use_threads(self, threads: int) -> None:
        self.threads.append(threads)

    def run(self, plan: StepPlan) -> StepResult:
        self.plans.append(plan)
        status = self._statuses.pop(0) if plan.work and self._statuses else DecodeStatus.DONE
        if status is not DecodeStatus.DONE:
            return StepResult(status, message="scripted")
        # The n-th token of an answer is the n-th letter; positions count from the prompt's two tokens.
        sampled = [[(LETTERS + e.position + len(e.tokens) - 2, False)] for e in plan.work if e.sample]
        return StepResult(status, sampled, decode_s=0.001)

    def piece(self, token: int) -> bytes:
        return self._pieces.get(token, bytes([token]))


class Collected:
    """Keeps what a worker sends."""

    def __init__(self) -> None:
        self.steps: list[wire.Step] = []

    def send(self, message: wire.FromWorker) -> None:
        assert isinstance(message, wire.Step)
        self.steps.append(message)

    def of(self, request_id: str) -> list[wire.Output]:
        return [output for step in self.steps for output in step.outputs if output.request_id == request_id]


def work(runner: ScriptedRunner, *messages: wire.ToWorker, seats: int = 2) -> tuple[int, Collected]:
    """Run a worker that finds these messages and then a shutdown once it is idle."""
    sent = Collected()
    worker = Worker(wire.WorkerConfig(model_path="", seats=seats, seat_context=64, threads=1), runner, sent)
    for message in messages:
        worker.inbox.put(message)

    class ThenShutdown:
        """An inbox that gives everything at once and a shutdown when the worker waits for more."""

        def empty(self) -> bool:
            return worker_inbox.empty()

        def get(self) -> wire.ToWorker | None:
            return wire.Shutdown() if worker_inbox.empty() else worker_inbox.get()

    worker_inbox = worker.inbox
    worker.inbox = ThenShutdown()  # type: ignore[assignment]
    return worker.run(), sent


def generate(name: str, max_tokens: int = 3, prompt: tuple[int, ...] = (1, 2)) -> wire.Generate:
    return wire.Generate(name, list(prompt), max_tokens, wire.Sampling(seed=1))


def test_an_answer_goes_out_token_by_token_and_ends_once() -> None:
    code, sent = work(ScriptedRunner(), generate("a"))
    assert code == 0
    assert [(o.text, o.count, o.finish) for o in sent.of("a")] == [
        ("a", 1, None),
        ("b", 1, None),
        ("c", 1, None),
        ("", 0, "length"),
    ]
    assert (sent.of("a")[-1].prompt_tokens, sent.of("a")[-1].completion_tokens) == (2, 3)


def test_a_character_cut_by_tokens_is_sent_when_it_is_whole() -> None:
    halves = {LETTERS: b"\xe6", LETTERS + 1: b"\x9d\x8e"}
    _, sent = work(ScriptedRunner(pieces=halves), generate("a"))
    assert [output.text for output in sent.of("a")] == ["", "李", "c", ""]


def test_a_step_without_room_is_tried_again_smaller_and_nothing_is_lost() -> None:
    runner = ScriptedRunner([DecodeStatus.NO_KV_SLOT])
    _, sent = work(runner, generate("a"), generate("b"))
    assert [plan.token_count for plan in runner.plans[:3]] == [4, 2, 3]
    for name in "ab":
        assert "".join(output.text for output in sent.of(name)) == "abc"


def test_an_invalid_batch_ends_its_requests_with_an_error_and_the_worker_goes_on() -> None:
    code, sent = work(
        ScriptedRunner([DecodeStatus.INVALID_BATCH]), generate("a"), generate("b", prompt=(3, 4)), seats=1
    )
    assert code == 0
    assert [(o.finish, o.message) for o in sent.of("a")] == [("error", "scripted")]
    assert sent.of("b")[-1].finish == "length"


def test_an_aborted_decode_ends_its_requests_with_an_error() -> None:
    _, sent = work(ScriptedRunner([DecodeStatus.ABORTED]), generate("a"))
    assert [output.finish for output in sent.of("a")] == ["error"]


def test_a_fatal_step_ends_the_worker_after_its_requests_were_told() -> None:
    code, sent = work(ScriptedRunner([DecodeStatus.FATAL]), generate("a"))
    assert code == EXIT_FATAL_STEP
    assert [output.finish for output in sent.of("a")] == ["error"]


def test_a_refused_request_is_told_why() -> None:
    _, sent = work(ScriptedRunner(), generate("a", max_tokens=0))
    assert [(o.finish, o.message) for o in sent.of("a")] == [("error", "max_tokens is less than 1")]


def test_aborts_for_running_waiting_and_unknown_requests() -> None:
    aborts = (wire.Abort("a"), wire.Abort("b"), wire.Abort("nobody"))
    _, sent = work(ScriptedRunner(), generate("a", 50), generate("b", 50), *aborts, seats=1)
    assert [output.finish for output in sent.of("a")] == ["aborted"]
    assert [output.finish for output in sent.of("b")] == ["aborted"]


def test_counters_add_up() -> None:
    _, sent = work(ScriptedRunner(), generate("a"), generate("b", 2))
    last = sent.steps[-1].counters
    assert (last.prompt_tokens, last.generated_tokens, last.steps) == (4, 5, 3)
    assert (last.active, last.waiting) == (0, 0)
    assert last.decode_s > 0


def test_counters_tell_what_is_in_the_cache_and_how_long_steps_took() -> None:
    shared = tuple(range(1, 11))
    _, sent = work(ScriptedRunner(), generate("a", 1, prompt=shared), generate("b", 1, prompt=(*shared, 12)), seats=1)
    last = sent.steps[-1].counters
    # 10 tokens of "a"; "b" takes its slot over and computes one more.
    assert (last.cached_tokens, last.cells_used, last.cells) == (10, 11, 64)
    assert (sum(last.step_counts), len(last.step_counts)) == (last.steps, len(STEP_BOUNDS_S) + 1)
    assert 0 < last.longest_step_s <= last.step_s
    assert (last.shared_tokens, last.prefix_waits, last.evictions) == (0, 0, 0)


def test_a_prefix_of_a_running_request_is_shared_and_counted() -> None:
    shared = tuple(range(1, 41))
    _, sent = work(ScriptedRunner(), generate("a", 9, prompt=shared), generate("b", 9, prompt=(*shared, 77)))
    last = sent.steps[-1].counters
    assert (last.shared_tokens, last.prefix_waits, last.cached_tokens) == (40, 1, 40)


def test_interactive_requests_get_seats_before_batch_ones_and_owners_take_turns() -> None:
    requests = [
        wire.Generate(name, [1] * 40, 1, wire.Sampling(seed=1), name[0], priority)
        for name, priority in (("batch", 1), ("many1", 0), ("many2", 0), ("few1", 0))
    ]
    _, sent = work(ScriptedRunner(), *requests, seats=1)
    order = [output.request_id for step in sent.steps for output in step.outputs if output.finish]
    assert sorted(order[:3]) == ["few1", "many1", "many2"]
    assert order[3:] == ["batch"]
