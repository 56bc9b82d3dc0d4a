"""What guessing ahead gives on SmolLM2-135M: streams that repeat their prompt, and others, with and without.

In this process, on the engine's own scheduler and runner, in turn with and without. Prints medians of wall time and of
processor time (a busy machine disturbs that less), and how many guesses were right. Decides nothing.
``R1BOX_BENCH_MODEL`` is another model of the same chat format, ``R1BOX_BENCH_DRAFT`` a draft model for it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from appliance.demo import demo_file
from appliance.engine.llamacpp.messages import Sampling, WorkerConfig
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.scheduler import Scheduler, SchedulerLimits
from appliance.engine.llamacpp.sequence import Sequence
from appliance.engine.llamacpp.step import Measured, StepPlan

pytestmark = pytest.mark.bench

ROUNDS = int(os.environ.get("R1BOX_BENCH_ROUNDS", "3"))
MAX_TOKENS = 160
SEATS, CONTEXT = 8, 2048
NO_END = ((0, -100.0), (2, -100.0))
"""Without SmolLM2's end tokens every answer has all its tokens."""

CODE = """def load_users(path):
    users = []
    with open(path) as file:
        for line in file:
            name, email, age = line.strip().split(",")
            users.append({"name": name, "email": email, "age": int(age)})
    return users


def oldest_user(users):
    oldest = users[0]
    for user in users:
        if user["age"] > oldest["age"]:
            oldest = user
    return oldest


def print_users(users):
    for user in users:
        print(user["name"], user["email"], user["age"])
"""
PEOPLE = (("Ada", "London"), ("Li", "Beijing"), ("Noor", "Cairo"), ("Iris", "Oslo"), ("Tom", "Dublin"), ("Mia", "Rome"))
LIST = json.dumps([{"id": n, "name": a, "city": b, "active": n % 2 == 0} for n, (a, b) in enumerate(PEOPLE)], indent=1)
PROMPTS = {
    "code": f"Here is a Python file:\n```python\n{CODE}```\n"
    "Write the whole file again and rename the function print_users to show_users.",
    "json": f"Here is a list:\n```json\n{LIST}\n```\n"
    'Write the whole list again as JSON and set every "active" to true.',
    "story": "Tell me a long story about dragons.",
    "rain": "Why does it rain? Explain in detail.",
}
LOADS = {
    "1 stream, code edit": ["code"],
    "1 stream, JSON": ["json"],
    "1 stream, a story": ["story"],
    "4 streams, mixed": ["code", "json", "story", "rain"],
    "8 streams, mixed": ["code", "json", "story", "rain"] * 2,
}


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens per second of wall time and of processor time, and what was guessed."""

    per_s: float
    per_cpu_s: float
    drafted: int
    accepted: int
    model_drafted: int
    model_accepted: int


class Engine:
    """A runner, and what its warm-up measured."""

    def __init__(self) -> None:
        threads = os.cpu_count() or 1
        config = WorkerConfig(
            model_path=os.environ.get("R1BOX_BENCH_MODEL") or str(demo_file()),
            draft_model_path=os.environ.get("R1BOX_BENCH_DRAFT", ""),
            seats=SEATS,
            seat_context=CONTEXT,
            threads=threads,
        )
        self.runner = Runner(config, lambda _fraction: None)
        self.measured: list[Measured] = self.runner.warm_up()

    def serve(self, names: list[str], *, draft: int, temperature: float) -> Run:
        """All prompts at once, on an empty cache; counted from the first step in which all of them decode."""
        runner = self.runner
        scheduler = Scheduler(
            SchedulerLimits(SEATS, runner.slots, CONTEXT, 512, 128, outputs=runner.outputs, draft=draft)
        )
        scheduler.begin_with(self.measured)
        for number, name in enumerate(names):
            sampling = Sampling(seed=number, temperature=temperature, logit_bias=NO_END)
            text = f"<|im_start|>user\n{PROMPTS[name]}<|im_end|>\n<|im_start|>assistant\n"
            prompt = runner.tokenize([(text, True)], add_bos=False)
            scheduler.add(Sequence(f"{name}{number}", prompt, MAX_TOKENS, sampling=sampling))
        tokens, began, began_cpu = 0, 0.0, 0.0
        while scheduler.has_work:
            plan = scheduler.schedule()
            if not began and plan.decode_rows == len(names):
                tokens, began, began_cpu = 0, time.perf_counter(), time.process_time()
            started = time.perf_counter()
            result = runner.run(plan)
            timed = dataclasses.replace(result, duration_s=time.perf_counter() - started)
            tokens += sum(event.token is not None for event in scheduler.update(timed))
        wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
        runner.run(scheduler.schedule())
        for slot in scheduler.slots.slots:
            scheduler.slots.clear(slot)
        runner.run(StepPlan(memory=scheduler.slots.take_memory()))
        guessed = scheduler.speculation
        counts = (guessed.drafted, guessed.accepted, guessed.model_drafted, guessed.model_accepted)
        return Run(tokens / wall, tokens / cpu, *counts)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.runner.close()


@pytest.mark.parametrize("temperature", [0.0, 0.6])
@pytest.mark.parametrize("load", LOADS)
def test_with_and_without(engine: Engine, load: str, temperature: float) -> None:
    runs: dict[int, list[Run]] = {0: [], 24: []}
    for _ in range(ROUNDS):
        for draft, results in runs.items():
            results.append(engine.serve(LOADS[load], draft=draft, temperature=temperature))
    (plain, plain_cpu), (guessed, guessed_cpu) = (
        (statistics.median(run.per_s for run in results), statistics.median(run.per_cpu_s for run in results))
        for results in runs.values()
    )
    last = runs[24][-1]
    print(
        f"{load}, temperature {temperature}: {plain:.1f} tokens/s without, {guessed:.1f} with "
        f"({guessed / plain:.2f}x; per processor second {guessed_cpu / plain_cpu:.2f}x), "
        f"{last.accepted} of {last.drafted} guesses right ({last.model_accepted} of {last.model_drafted} by the draft "
        f"model), load average {os.getloadavg()[0]:.1f}"
    )
