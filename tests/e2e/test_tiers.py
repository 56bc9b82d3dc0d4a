"""Chats that outlive the daemon: stopped and started, killed, told to forget."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.box import Answer, Box, Home, start_box, stream

QUESTIONS = ("What is the capital of France?", "What is the capital of Japan?", "What is the capital of France?")
OPTIONS = ("--seats", "2", "--context", "2048")


class Chat:
    """One conversation, turn by turn, on whatever box is there."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.messages: list[dict[str, Any]] = []

    def turn(self, box: Box, question: str) -> Answer:
        self.messages.append({"role": "user", "content": question})
        answer = asyncio.run(self._stream(box))
        self.messages.append({"role": "assistant", "content": answer.content})
        return answer

    async def _stream(self, box: Box) -> Answer:
        async with box.client() as client:
            return await stream(client, self.model, self.messages, max_tokens=200)


def cached(answer: Answer) -> int:
    return int(answer.usage.prompt_tokens_details.cached_tokens)


def metrics(box: Box) -> str:
    return httpx.get(f"{box.url}/metrics", headers={"Authorization": f"Bearer {box.key}"}).text


@pytest.fixture
def chat(home: Home) -> Chat:
    return Chat(home.import_model())


@pytest.fixture
def start(home: Home) -> Iterator[Callable[..., Box]]:
    """Starts boxes on a home of the test's own; none is left running after it."""
    key = home.create_key("tests")
    running: list[Box] = []

    def one(*arguments: str) -> Box:
        running.append(start_box(home, *OPTIONS, *arguments, key=key))
        return running[-1]

    yield one
    for box in running:
        box.stop()


def files(home: Home) -> list[Path]:
    return sorted(home.state_dir.glob("chats/*/*.block"))


def test_a_restarted_daemon_goes_on_with_a_chat_without_computing_it_again(
    home: Home, chat: Chat, start: Callable[..., Box]
) -> None:
    box = start()
    for question in QUESTIONS:
        last = chat.turn(box, question)
    assert box.stop() == 0
    assert {path.stat().st_mode & 0o777 for path in files(home)} == {0o600}
    box = start()
    again = chat.turn(box, QUESTIONS[0])
    # All of the turn before but its thought, which a new turn leaves away.
    assert cached(again) >= last.usage.prompt_tokens - 4
    assert (again.content, again.finish_reason) == ("The capital of France is Paris.", "stop")
    assert box.stop() == 0
    box = start("--chat-disk-bytes", "0")
    assert cached(chat.turn(box, QUESTIONS[1])) < 20
    assert box.stop() == 0


def test_a_killed_worker_loses_only_what_was_not_saved_and_a_half_file_is_cleaned(
    home: Home, chat: Chat, start: Callable[..., Box]
) -> None:
    box = start()
    for question in QUESTIONS:
        last = chat.turn(box, question)
    assert box.stop() == 0
    saved = files(home)
    half = saved[0].with_suffix(".part")
    half.write_bytes(saved[0].read_bytes()[:1000])
    box = start()
    fourth = chat.turn(box, QUESTIONS[1])
    assert cached(fourth) >= last.usage.prompt_tokens - 4
    assert not half.exists()
    box.worker().kill()
    box.wait_until(lambda: re.search(r"^r1box_engine_restarts\{.*\} 1\.0$", metrics(box), re.MULTILINE))
    box.wait_ready()
    fifth = chat.turn(box, QUESTIONS[0])
    # What was on disk before is there, what came after it may be lost; the answer is right either way.
    assert cached(fifth) >= last.usage.prompt_tokens - 4
    assert fifth.content == "The capital of France is Paris."
    assert box.stop() == 0


def test_the_operator_has_everything_forgotten(home: Home, chat: Chat, start: Callable[..., Box]) -> None:
    box = start()
    for question in QUESTIONS:
        chat.turn(box, question)
    assert box.stop() == 0
    count = len(files(home))
    assert count > 0
    assert home.run("cache", "clear").stdout.startswith(f"Forgot {count} files of chats, ")
    assert files(home) == []
    assert not (home.state_dir / "chats.key").exists()
    box = start()
    assert cached(chat.turn(box, QUESTIONS[2])) < 20
    assert box.stop() == 0
