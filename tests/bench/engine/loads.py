"""The loads of a shared box, each as a function of a server and a round: what it measured, by name.

Every round has texts of its own, so that no server finds an earlier round's in its cache.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from tests.bench.load import Result, Stream, Target, chat, converse, median, percentile, run

MAX_TOKENS = 64
TOPICS = ("dragons", "bread", "the sea", "clocks", "rain", "tea", "mountains", "trains")
SENTENCE = "The keeper of the lighthouse wrote down the weather, the ships and the names of the gulls. "
SENTENCES = 45
"""Together about 900 tokens."""

Figures = dict[str, float]


async def uniform(target: Target, round_number: int, streams: int) -> Figures:
    """``streams`` short questions at a time, twice as many in all, answers of 64 tokens."""
    prompts = [
        f"Tell me a long story about {TOPICS[n % len(TOPICS)]}, part {n} of {round_number}." for n in range(streams * 2)
    ]
    result = await run(target, prompts, together=streams, max_tokens=MAX_TOKENS)
    return _of_result(result) | {"gap p99 ms": 1000 * (percentile(result.gaps_s, 99) or 0.0)}


async def shared_prefix(target: Target, round_number: int, requests: int) -> Figures:
    """Requests with one long beginning of about 900 tokens, eight at a time, cold."""
    text = f"Logbook {round_number}. " + SENTENCE * SENTENCES
    prompts = [f"{text} Question {n}: what did the keeper see on day {n}?" for n in range(requests)]
    return _of_result(await run(target, prompts, together=8, max_tokens=MAX_TOKENS))


async def long_prompts_arrive(target: Target, round_number: int, streams: int = 4) -> Figures:
    """Four streams run; two long prompts come in one after the other: largest gap that a stream saw from then on."""
    running = [
        asyncio.create_task(chat(target, f"Tell me a long story about the number {n}.{round_number}.", 256))
        for n in range(streams)
    ]
    await asyncio.sleep(2)
    first = await chat(target, f"Almanac {round_number}. " + SENTENCE * SENTENCES, 8)
    second = await chat(target, f"Chronicle {round_number}. " + SENTENCE * SENTENCES, 8)
    answers = list(await asyncio.gather(*running))
    return {
        "largest gap ms": 1000 * _largest_gap_s(answers, first.started_s),
        "long prompt first token s": median([first.first_token_s or 0.0, second.first_token_s or 0.0]),
        "tokens/s": sum(a.tokens for a in answers) / _span_s(answers),
        "cut": float(sum(a.cut for a in [*answers, first, second])),
    }


async def chats_of_turns(target: Target, round_number: int, chats: int = 24, turns: int = 3) -> Figures:
    """More chats than slots, each of three turns of about 250 tokens; chats take turns, four at a time: what a later
    turn waits for its first token."""
    histories: list[list[dict[str, str]]] = [[] for _ in range(chats)]
    limit = asyncio.Semaphore(4)
    waits: list[list[float]] = [[] for _ in range(turns)]
    cut = 0

    async def one(number: int, turn: int) -> None:
        nonlocal cut
        question = f"Chat {number} of {round_number}, turn {turn}. " + SENTENCE * 12 + "What happened then?"
        histories[number].append({"role": "user", "content": question})
        async with limit:
            stream, text = await converse(target, histories[number], 32)
        histories[number].append({"role": "assistant", "content": text})
        waits[turn].append(stream.first_token_s or 0.0)
        cut += stream.cut

    started = time.perf_counter()
    for turn in range(turns):
        await asyncio.gather(*(one(number, turn) for number in range(chats)))
    later = [wait for turn in waits[1:] for wait in turn]
    return {
        "later turns first token p50 s": percentile(later, 50) or 0.0,
        "later turns first token p99 s": percentile(later, 99) or 0.0,
        "first turns first token p50 s": percentile(waits[0], 50) or 0.0,
        "seconds in all": time.perf_counter() - started,
        "cut": float(cut),
    }


async def chats_come_back(target: Target, round_number: int, chats: int = 44) -> Figures:
    """More chats of about 420 tokens than the cache holds, one request at a time: what the second turn of each, a short
    question, waits for its first token. Nothing waits for a seat here: it is the cost of a chat that left the cache."""
    waits: tuple[list[float], list[float]] = ([], [])
    histories: list[list[dict[str, str]]] = [[] for _ in range(chats)]
    cut = 0
    for turn in range(2):
        for number, history in enumerate(histories):
            told = SENTENCE * 20 if turn == 0 else ""
            question = f"Chat {number} of {round_number}. {told}What happened on day {turn}?"
            history.append({"role": "user", "content": question})
            stream, text = await converse(target, history, 8)
            history.append({"role": "assistant", "content": text})
            waits[turn].append(stream.first_token_s or 0.0)
            cut += stream.cut
    return {
        "later turns first token p50 s": percentile(waits[1], 50) or 0.0,
        "later turns first token p99 s": percentile(waits[1], 99) or 0.0,
        "first turns first token p50 s": percentile(waits[0], 50) or 0.0,
        "cut": float(cut),
    }


_CODE = "\n".join(
    f"    if record.kind == '{name}':\n        total_{name} += record.amount\n        count_{name} += 1"
    for name in ("invoice", "refund", "transfer", "deposit", "fee", "interest")
)


async def repetitive(target: Target, round_number: int) -> Figures:
    """One stream that writes out again what stands in its prompt, as code edits and JSON do. Greedy."""
    prompt = f"# file {round_number}\nRepeat this code exactly:\n\ndef totals(records):\n{_CODE}\n"
    greedy = Target(
        target.name, target.host, target.port, target.model, target.key, {**target.extra, "temperature": 0.0}
    )
    stream, _ = await converse(greedy, [{"role": "user", "content": prompt}], 256)
    seconds = stream.token_times_s[-1] - stream.token_times_s[0] if stream.token_times_s else 1.0
    return {"tokens/s": stream.tokens / seconds, "cut": float(stream.cut)}


def _of_result(result: Result) -> Figures:
    return {
        "tokens/s": result.tokens_per_s,
        "first token p50 s": percentile(result.first_token_s, 50) or 0.0,
        "first token p99 s": percentile(result.first_token_s, 99) or 0.0,
        "cut": float(result.cut),
    }


def _largest_gap_s(streams: Sequence[Stream], after_s: float) -> float:
    return max(
        b - a
        for stream in streams
        for a, b in zip(stream.token_times_s, stream.token_times_s[1:], strict=False)
        if b >= after_s
    )


def _span_s(streams: Sequence[Stream]) -> float:
    return max(s.token_times_s[-1] for s in streams) - min(s.started_s for s in streams)
