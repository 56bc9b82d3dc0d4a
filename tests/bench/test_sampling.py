"""What a token costs beside llama_decode: draws, penalties, log probabilities, masks; llama.cpp's samplers beside.

On SmolLM2's vocabulary (49,152 tokens) with real logits; on as many as R1 has tokens (151,936), of the same shape and,
for the worst case, flat ones. Prints figures and decides nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import llama_cpp
import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from appliance.engine.llamacpp.messages import Sampling, WorkerConfig
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.sampler import Draw, TokenSampler
from appliance.engine.llamacpp.step import DecodeStatus, SlotTokens, SlotTrim, StepPlan
from appliance.engine.request import Structure, StructureKind
from tests.models.smollm2 import SMOLLM2

pytestmark = pytest.mark.bench

ROUNDS = 200
R1_TOKENS = 151_936
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["new", "vip", "blocked"]}},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
ANSWER = '{"name": "Ada Lovelace of Ockham Park", "age": 36, "tags": ["new", "vip"]}'
PENALTIES = {"frequency_penalty": 0.3, "presence_penalty": 0.2, "repeat_penalty": 1.1}
CASES: dict[str, tuple[dict[str, Any], int | None]] = {
    "greedy": ({"temperature": 0.0}, None),
    "temperature 0.6, top_p 0.95": ({}, None),
    "the same with all penalties": (PENALTIES, None),
    "the same with logprobs": ({}, 0),
    "the same with top_logprobs 20": ({}, 20),
    "temperature 1, no filters": ({"temperature": 1.0, "top_p": 1.0}, None),
}


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    made = Runner(WorkerConfig(model_path=str(SMOLLM2), seats=1, seat_context=256, threads=1), lambda _fraction: None)
    made.warm_up()
    yield made
    made.close()


def real_logits(runner: Runner) -> np.ndarray[Any, Any]:
    prompt = runner.tokenize([("The keeper of the lighthouse", True)], add_bos=False)
    runner.run(StepPlan(memory=[SlotTrim(0, 0)], ended=["bench"]))
    entry = SlotTokens("bench", 0, 0, prompt, sample=True, sampling=Sampling(seed=1))
    assert runner.run(StepPlan(work=[entry])).status is DecodeStatus.DONE
    row = llama_cpp.llama_get_logits_ith(runner._context, len(prompt) - 1)
    address = ctypes.cast(row, ctypes.c_void_p).value
    assert address is not None
    return np.frombuffer((ctypes.c_float * runner.vocabulary_size).from_address(address), np.float32).copy()


def median_us(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e6


def ours_us(logits: np.ndarray[Any, Any], values: dict[str, Any], logprobs: int | None) -> float:
    """A draw with 500 tokens written; the copy that the benchmark needs is taken off."""
    sampler = TokenSampler(Draw(sampling=Sampling(seed=1, **values), logprobs=logprobs), len(logits))
    for token in range(500):
        sampler.accept(token * 7 % len(logits))
    return median_us(lambda: sampler.draw(logits.copy())) - median_us(logits.copy)


def chain_us(logits: np.ndarray[Any, Any], *samplers: Any) -> float:
    """llama.cpp's samplers on the array of the whole vocabulary, which ``llama_sampler_sample`` fills each time."""
    data = np.zeros(len(logits), np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
    numbers = np.arange(len(logits))

    def draw() -> None:
        data["id"], data["logit"], data["p"] = numbers, logits, 0
        array = llama_cpp.llama_token_data_array(
            data=data.ctypes.data_as(llama_cpp.llama_token_data_p), size=len(logits), selected=-1, sorted=False
        )
        for sampler in samplers:
            llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))

    return median_us(draw, 50)


def penalties_of_llama_cpp(size: int) -> Any:
    sampler = llama_cpp.llama_sampler_init_penalties(size, 512, 1.1, 0.3, 0.2)
    for token in range(500):
        llama_cpp.llama_sampler_accept(sampler, token * 7 % size)
    return sampler


def test_draws(runner: Runner) -> None:
    real = real_logits(runner)
    flat = np.random.default_rng(1).normal(0, 2.5, R1_TOKENS).astype(np.float32)
    rows = {"49,152": real, "151,936": np.resize(real, R1_TOKENS), "151,936 flat": flat}
    table = Table(title=f"Microseconds a draw (load {os.getloadavg()[0]:.1f})", box=None, title_justify="left")
    table.add_column("")
    for name in rows:
        table.add_column(name, justify="right")
    for name, (values, logprobs) in CASES.items():
        table.add_row(name, *(f"{ours_us(row, values, logprobs):.0f}" for row in rows.values()))
    plain = [llama_cpp.llama_sampler_init_temp(0.6), llama_cpp.llama_sampler_init_top_p(0.95, 1)]
    plain.append(llama_cpp.llama_sampler_init_dist(1))
    table.add_row("llama.cpp: temp, top_p, dist", *(f"{chain_us(row, *plain):.0f}" for row in rows.values()))
    table.add_row(
        "llama.cpp: penalties before",
        *(f"{chain_us(row, penalties_of_llama_cpp(len(row)), *plain):.0f}" for row in rows.values()),
    )
    Console(width=120).print(table)


def test_masks(runner: Runner) -> None:
    """Each token of one answer: llguidance's mask over the logits against llama.cpp's grammar sampler."""
    logits = real_logits(runner)
    tokens = runner.tokenize([(ANSWER, True)], add_bos=False)
    structure = Structure(kind=StructureKind.JSON_SCHEMA, text=json.dumps(PERSON))
    started = time.perf_counter()
    runner.structures.compile(structure)
    first_ms = (time.perf_counter() - started) * 1000
    compiled_us = median_us(lambda: runner.structures.compile(structure))
    masks, grammar = [], []
    mask = runner.structures.compile(structure)
    gbnf = llama_cpp.llama_grammar.json_schema_to_gbnf(json.dumps(PERSON)).encode()
    sampler = llama_cpp.llama_sampler_init_grammar(runner._vocab, gbnf, b"root")
    data = np.zeros(len(logits), np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
    data["id"] = np.arange(len(logits))
    for token in tokens:
        row = logits.copy()
        started = time.perf_counter()
        np.copyto(row, -np.inf, where=mask.forbidden()[: len(row)])
        masks.append(time.perf_counter() - started)
        assert mask.accept(token)
        data["logit"] = logits
        array = llama_cpp.llama_token_data_array(
            data=data.ctypes.data_as(llama_cpp.llama_token_data_p), size=len(logits), selected=-1, sorted=False
        )
        started = time.perf_counter()
        llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
        grammar.append(time.perf_counter() - started)
        llama_cpp.llama_sampler_accept(sampler, token)
    print(
        f"{len(tokens)} tokens of a JSON answer, median / longest: llguidance {np.median(masks) * 1e6:.0f} / "
        f"{max(masks) * 1e6:.0f} us, llama.cpp's grammar sampler {np.median(grammar) * 1e6:.0f} / "
        f"{max(grammar) * 1e6:.0f} us; vocabulary and schema {first_ms:.0f} ms once, a known schema "
        f"{compiled_us:.0f} us (load {os.getloadavg()[0]:.1f})"
    )
