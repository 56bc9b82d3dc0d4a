"""Ollama's official client and what Open WebUI asks, the real daemon, the tiny R1."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import ollama
import pytest

from tests.e2e.box import FIXTURES, Box, goldens

PROMPTS: list[dict[str, Any]] = json.loads((FIXTURES / "prompts.json").read_text())["prompts"]
CALL = next(entry for entry in PROMPTS if entry["id"] == "tool-weather")
RESULT = next(entry for entry in PROMPTS if entry["id"] == "tool-weather-result")
GOLDEN = next(golden for golden in goldens("fact") if len(golden.messages) == 1)
GREEDY = {"temperature": 0}


def client(box: Box) -> ollama.AsyncClient:
    return ollama.AsyncClient(host=box.url, headers={"Authorization": f"Bearer {box.key}"}, timeout=60)


async def test_chat_and_generate(box: Box, model: str) -> None:
    async with client(box) as asking:
        [tag] = [one.model for one in (await asking.list()).models]
        assert tag == f"{model}:latest"
        whole = await asking.chat(model=tag, messages=GOLDEN.messages, options=GREEDY)
        text = await asking.generate(model=tag, prompt=GOLDEN.messages[0]["content"], options=GREEDY)
        thought, content = "", ""
        async for part in await asking.chat(model=tag, messages=GOLDEN.messages, options=GREEDY, stream=True):
            thought += part.message.thinking or ""
            content += part.message.content or ""
    assert (whole.message.thinking, whole.message.content) == (GOLDEN.reasoning, GOLDEN.content)
    assert (text.thinking, text.response) == (GOLDEN.reasoning, GOLDEN.content)
    assert (thought, content) == (GOLDEN.reasoning, GOLDEN.content)
    assert (part.done_reason, part.eval_count) == ("stop", GOLDEN.completion_tokens - 1)
    assert part.prompt_eval_count == whole.prompt_eval_count
    assert part.total_duration is not None
    assert part.eval_duration is not None
    assert 0 < part.eval_duration <= part.total_duration


@pytest.mark.parametrize("streamed", [False, True])
async def test_tools_in_two_rounds(box: Box, model: str, streamed: bool) -> None:
    messages: list[Any] = list(CALL["messages"])
    async with client(box) as asking:
        if streamed:
            calls: list[Any] = []
            async for part in await asking.chat(
                model=model, messages=messages, tools=CALL["tools"], options=GREEDY, stream=True
            ):
                calls += part.message.tool_calls or ()
            said = ollama.Message(role="assistant", content="", tool_calls=calls)
        else:
            said = (await asking.chat(model=model, messages=messages, tools=CALL["tools"], options=GREEDY)).message
        made = [{"name": call.function.name, "arguments": call.function.arguments} for call in said.tool_calls or ()]
        assert made == CALL["tool_calls"]
        result = {"role": "tool", "tool_name": made[0]["name"], "content": RESULT["messages"][2]["content"]}
        answer = await asking.chat(
            model=model, messages=[*messages, said, result], tools=RESULT["tools"], options=GREEDY
        )
    assert answer.message.content == RESULT["content"]


async def test_a_form_of_the_answer(box: Box, model: str) -> None:
    schema = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Paris"]}}, "required": ["city"]}
    async with client(box) as asking:
        answer = await asking.chat(model=model, messages=GOLDEN.messages, options=GREEDY, format=schema)
    assert json.loads(answer.message.content or "")["city"] in ("Oslo", "Paris")
    assert answer.message.thinking


async def test_errors(box: Box, model: str) -> None:
    async def refusal(asking: ollama.AsyncClient, **fields: Any) -> ollama.ResponseError:
        with pytest.raises(ollama.ResponseError) as caught:
            await asking.chat(**{"model": model, "messages": GOLDEN.messages, **fields})
        return caught.value

    async with client(box) as asking:
        assert (await refusal(asking, model="llama3.2")).status_code == 404
        long = await refusal(asking, messages=[{"role": "user", "content": "word " * 3_000}])
        with pytest.raises(ollama.ResponseError, match="makes no embeddings"):
            await asking.embed(model=model, input="x")
        with pytest.raises(ollama.ResponseError, match="not installed, changed or removed"):
            await asking.pull("llama3.2")
    assert long.status_code == 400
    assert "a seat of this model holds 2,048" in long.error
    stranger = ollama.AsyncClient(host=box.url, headers={"Authorization": "Bearer r1b_wrong"})
    async with stranger:
        assert (await refusal(stranger)).status_code == 401


async def test_open_webui_connects_to_ollama(box: Box, model: str) -> None:
    """Its requests in their order: the check of the connection, the list with what is loaded, a chat whose lines it
    reads one by one, the title it asks for beside it, and the details of the model."""
    headers = {"Authorization": f"Bearer {box.key}", "Content-Type": "application/json", "Accept": "*/*"}
    async with httpx.AsyncClient(base_url=box.url, headers=headers, timeout=60) as webui:
        version = (await webui.get("/api/version")).json()["version"]
        assert len([int(part) for part in version.split(".")]) == 3
        models = (await webui.get("/api/tags")).json()["models"]
        expiries = {one["name"]: one["expires_at"] for one in (await webui.get("/api/ps")).json()["models"]}
        [found] = models
        assert datetime.fromisoformat(expiries[found["name"]]) > datetime.now(UTC)
        payload = {
            "model": found["model"],
            "messages": [{**GOLDEN.messages[0], "images": []}],
            "options": {"temperature": 0, "num_ctx": 2048, "mirostat": 0},
            "stream": True,
            "keep_alive": "30m",
            "chat_id": "0b6c",
        }
        thought, content = "", ""
        async with webui.stream("POST", "/api/chat", json=payload) as response:
            assert response.headers["x-r1box-ignored"] == ("keep_alive, chat_id, options.num_ctx, options.mirostat")
            async for line in response.aiter_lines():
                data = json.loads(line)
                thought += data["message"].get("thinking", "")
                content += data["message"].get("content", "")
        assert (thought, content) == (GOLDEN.reasoning, GOLDEN.content)
        assert data["done"]
        assert data["eval_count"] / data["eval_duration"] > 0
        title = await webui.post("/api/chat", json={**payload, "stream": False, "think": False})
        assert title.json()["message"]["content"]
        shown = (await webui.post("/api/show", json={"name": found["model"], "model": found["model"]})).json()
        assert "completion" in shown["capabilities"]
        wrong = await webui.post("/api/chat", json={**payload, "model": "gone:latest"})
        assert isinstance(wrong.json()["error"], str)


async def test_open_webui_connects_to_openai(box: Box, model: str) -> None:
    """The other kind of connection: models, then a chat with what it sends beside the question."""
    headers = {"Authorization": f"Bearer {box.key}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=f"{box.url}/v1", headers=headers, timeout=60) as webui:
        [found] = (await webui.get("/models")).json()["data"]
        payload = {
            "model": found["id"],
            "messages": [
                {"role": "user", "content": "Hello"},
                # As it sends an earlier thought back.
                {
                    "role": "assistant",
                    "content": '<details type="reasoning" done="true" duration="1">\n<summary>Thought</summary>\n> hm\n'
                    "</details>\nHi",
                },
                *GOLDEN.messages,
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0,
            "max_tokens": 500,
        }
        async with webui.stream("POST", "/chat/completions", json=payload) as response:
            assert "history-reasoning=stripped:1" in response.headers["x-r1box-changed"]
            events = [line.removeprefix("data: ") async for line in response.aiter_lines() if line.startswith("data: ")]
        assert events[-1] == "[DONE]"
        chunks = [json.loads(event) for event in events[:-1]]
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
        assert "".join(delta.get("reasoning_content") or "" for delta in deltas)
        assert "".join(delta.get("content") or "" for delta in deltas)
        assert chunks[-1]["usage"]["completion_tokens"] > 0
        wrong = await webui.post("/chat/completions", json={**payload, "model": "gone"})
        assert wrong.json()["error"]["message"].startswith("The model 'gone' is not served here.")
