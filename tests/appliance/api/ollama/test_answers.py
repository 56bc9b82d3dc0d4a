"""Chat and generate through the official client, against the real API and serving layer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx
import pytest
from ollama import AsyncClient, ResponseError

from appliance.api.sse import EventStreamResponse
from tests.appliance.api.box import ANSWER, MODEL, Box
from tests.fakes.engine import FAKE_INFO, FakeEngine, text_of

NAME = f"{MODEL}:latest"
QUESTION: Any = [{"role": "user", "content": "What is 2+2?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = (
    "I look. ",
    "</think>",
    '<tool_call>\n{"name": "get_weather", ',
    '"arguments": {"city": ',
    '"Bern"}}\n</tool_call>',
)


def body(**fields: Any) -> dict[str, Any]:
    return {"model": NAME, "messages": QUESTION, **fields}


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_a_whole_answer(ollama: AsyncClient, box: Box) -> None:
    answer = await ollama.chat(model=NAME, messages=QUESTION)
    assert (answer.message.role, answer.message.thinking, answer.message.content) == (
        "assistant",
        "two and two",
        "It is 4.",
    )
    assert (answer.model, answer.done, answer.done_reason) == (NAME, True, "stop")
    assert datetime.fromisoformat(answer.created_at or "").tzinfo is not None
    assert (answer.prompt_eval_count, answer.eval_count) == (len(box.engine.requests[0].prompt_tokens), len(ANSWER))
    durations = (answer.total_duration, answer.load_duration, answer.prompt_eval_duration, answer.eval_duration)
    assert all(duration is not None and duration >= 0 for duration in durations)
    assert answer.eval_duration
    assert sum(durations[1:]) <= durations[0]  # type: ignore[arg-type, operator]


async def test_a_streamed_answer_is_the_whole_one(ollama: AsyncClient) -> None:
    thought, content, endings = "", "", []
    async for part in await ollama.chat(model=MODEL, messages=QUESTION, stream=True):
        thought += part.message.thinking or ""
        content += part.message.content or ""
        endings.append(part.done)
    assert (thought, content) == ("two and two", "It is 4.")
    assert endings == [False] * (len(endings) - 1) + [True]
    assert (part.done_reason, part.eval_count) == ("stop", len(ANSWER))


async def test_the_lines_of_a_stream(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/chat", json=body())
    assert response.headers["content-type"] == "application/x-ndjson"
    told = lines(response.text)
    assert {frozenset(line) for line in told[:-1]} == {frozenset(("model", "created_at", "message", "done"))}
    assert told[0]["message"] == {"role": "assistant", "content": "", "thinking": "two "}
    assert told[-2]["message"] == {"role": "assistant", "content": "4."}
    last = told[-1]
    assert last["message"] == {"role": "assistant", "content": ""}
    assert last["r1box"] == {"thinking_tokens": 3, "cached_tokens": 1, "thinking_end": "natural"}


async def test_text_is_generated(ollama: AsyncClient, box: Box) -> None:
    answer = await ollama.generate(model=NAME, prompt="What is 2+2?", system="Be brief.")
    assert (answer.thinking, answer.response, answer.done_reason) == ("two and two", "It is 4.", "stop")
    assert "Be brief." in box.engine.prompts[-1]
    parts = [part async for part in await ollama.generate(model=NAME, prompt="2+2?", stream=True)]
    assert "".join(part.response or "" for part in parts) == "It is 4."
    assert "".join(part.thinking or "" for part in parts) == "two and two"
    assert [part.done for part in parts[-2:]] == [False, True]


async def test_a_raw_prompt_is_all_that_the_model_sees(ollama: AsyncClient, box: Box) -> None:
    prompt = "<user>2+2?<assistant><think>\n"
    for streamed in (False, True):
        told: Any = await ollama.generate(model=NAME, prompt=prompt, raw=True, stream=streamed)
        text = "".join([part.response async for part in told]) if streamed else told.response
        assert text == "".join(ANSWER)
        assert text_of(box.engine.requests[-1].prompt_tokens).endswith(prompt)
    with pytest.raises(ResponseError) as caught:
        await ollama.generate(model=NAME, prompt=prompt, raw=True, system="x")
    assert caught.value.status_code == 400


async def test_without_a_question_the_model_is_loaded(client: httpx.AsyncClient, box: Box) -> None:
    for path, fields in (("/api/chat", {"messages": []}), ("/api/chat", {}), ("/api/generate", {"prompt": ""})):
        answer = (await client.post(path, json={"model": NAME, **fields, "keep_alive": "5m"})).json()
        assert (answer["done"], answer["done_reason"]) == (True, "load")
    assert not box.engine.requests
    missing = await client.post("/api/generate", json={"model": "other"})
    assert (missing.status_code, missing.json()["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("nothing", [0, 0.0, "0", "0s", "0m", "-0"])
async def test_clients_do_not_unload(client: httpx.AsyncClient, box: Box, nothing: Any) -> None:
    refused = await client.post("/api/generate", json={"model": NAME, "keep_alive": nothing})
    assert (refused.status_code, refused.json()["param"]) == (400, "keep_alive")
    # With a question it is asked for after the answer: that is a wish, and the answer comes.
    answered = await client.post("/api/chat", json=body(keep_alive=nothing, stream=False))
    assert answered.json()["message"]["content"] == "It is 4."
    assert answered.headers["x-r1box-ignored"] == "keep_alive"
    assert box.manager.asked == []


@pytest.mark.parametrize("think", [True, "low", "medium", "high", "max"])
async def test_how_long_to_think(client: httpx.AsyncClient, box: Box, think: Any) -> None:
    info = replace(FAKE_INFO, context_tokens=100_000)
    engine = box.use(FakeEngine(ANSWER, info=info))
    answer = (await client.post("/api/chat", json=body(think=think, stream=False))).json()
    assert answer["message"]["thinking"] == "two and two"
    control = engine.requests[-1].thinking
    assert control is not None
    budgets = {"low": 2_048, "medium": 8_192}
    if think in budgets:
        assert control.budget_tokens == budgets[think]
        assert answer["r1box"]["changed"] == f"effort={think}:{budgets[think]}"
    else:
        assert control.budget_tokens > 8_192


async def test_thinking_switched_off_or_hidden(client: httpx.AsyncClient, box: Box) -> None:
    await client.post("/api/chat", json=body(think=False))
    assert box.engine.prompts[-1].endswith("<think>\n\n</think>\n\n")
    hidden = await client.post("/api/chat", json=body(stream=False), headers={"X-R1Box-Reasoning": "hidden"})
    assert hidden.json()["message"] == {"role": "assistant", "content": "It is 4."}
    inline = await client.post("/api/chat", json=body(stream=False), headers={"X-R1Box-Reasoning": "inline"})
    assert inline.json()["message"]["content"] == "<think>\ntwo and two\n</think>\n\nIt is 4."
    wrong = await client.post("/api/chat", json=body(think="lots"))
    assert (wrong.status_code, wrong.json()["param"]) == (400, "think")


async def test_tools_in_two_rounds(ollama: AsyncClient, box: Box) -> None:
    box.use(FakeEngine((*CALL, *CALL[2:])))
    whole = await ollama.chat(model=NAME, messages=QUESTION, tools=[WEATHER])
    calls = whole.message.tool_calls or []
    assert [(call.function.name, call.function.arguments) for call in calls] == [("get_weather", {"city": "Bern"})] * 2
    assert (whole.message.content, whole.done_reason) == ("", "stop")
    streamed = [
        call.function.arguments
        async for part in await ollama.chat(model=NAME, messages=QUESTION, tools=[WEATHER], stream=True)
        for call in part.message.tool_calls or ()
    ]
    assert streamed == [{"city": "Bern"}] * 2
    engine = box.use(FakeEngine(ANSWER))
    # As the client's own examples do it: the results say only which tool they are of.
    results = [{"role": "tool", "tool_name": "get_weather", "content": f"{degrees} degrees"} for degrees in (9, 11)]
    await ollama.chat(model=NAME, tools=[WEATHER], messages=[*QUESTION, whole.message, *results])
    prompt = engine.prompts[-1]
    assert prompt.index("Bern") < prompt.index("9 degrees") < prompt.index("11 degrees")


async def test_calls_have_ids_and_numbers(client: httpx.AsyncClient, box: Box) -> None:
    box.use(FakeEngine((*CALL, *CALL[2:])))
    whole = (await client.post("/api/chat", json=body(tools=[WEATHER], stream=False))).json()
    streamed = lines((await client.post("/api/chat", json=body(tools=[WEATHER]))).text)
    of_stream = [call for line in streamed for call in line["message"].get("tool_calls", ())]
    for calls in (whole["message"]["tool_calls"], of_stream):
        assert [call["function"]["index"] for call in calls] == [0, 1]
        assert len({call["id"] for call in calls}) == 2


async def test_what_looks_like_a_call_and_is_none_is_text(client: httpx.AsyncClient, box: Box) -> None:
    text = '<tool_call>\n{"name": "get_weather", "arguments": {"city": '
    box.use(FakeEngine(("hm", "</think>", text)))
    whole = (await client.post("/api/chat", json=body(tools=[WEATHER], stream=False))).json()
    streamed = lines((await client.post("/api/chat", json=body(tools=[WEATHER]))).text)
    assert "tool_calls" not in whole["message"]
    assert whole["message"]["content"] == text
    assert "".join(line["message"]["content"] for line in streamed) == text


async def test_a_result_with_the_id_of_no_call(client: httpx.AsyncClient, box: Box) -> None:
    """LiteLLM leaves the ids of calls out and sends those of results."""
    calls = [{"function": {"name": "get_weather", "arguments": {"city": city}}} for city in ("Bern", "Oslo")]
    messages = [
        *QUESTION,
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_x", "content": "9 degrees"},
        {"role": "tool", "tool_call_id": "call_y", "content": "11 degrees"},
    ]
    assert (await client.post("/api/chat", json=body(messages=messages))).status_code == 200
    prompt = box.engine.prompts[-1]
    assert prompt.index("Bern") < prompt.index("Oslo") < prompt.index("9 degrees") < prompt.index("11 degrees")


async def test_a_result_nobody_asked_for(client: httpx.AsyncClient) -> None:
    messages = [*QUESTION, {"role": "tool", "content": "9 degrees"}]
    response = await client.post("/api/chat", json=body(messages=messages))
    assert (response.status_code, response.json()["param"]) == (400, "messages[1]")


async def test_earlier_thoughts_and_an_answer_that_was_begun(client: httpx.AsyncClient, box: Box) -> None:
    messages = [
        {"role": "USER", "content": "Hello"},
        {"role": "assistant", "content": "Hi", "thinking": "a greeting"},
        *QUESTION,
        {"role": "assistant", "content": "It is"},
    ]
    response = await client.post("/api/chat", json=body(messages=messages))
    assert "history-reasoning=stripped:1" in response.headers["x-r1box-changed"]
    prompt = box.engine.prompts[-1]
    assert "a greeting" not in prompt
    assert prompt.endswith("It is")


async def test_options_reach_the_engine(client: httpx.AsyncClient, box: Box) -> None:
    options = {
        "temperature": 0.5,
        "top_p": 0.8,
        "top_k": 40.0,
        "min_p": 0.1,
        "seed": 7,
        "num_predict": 20,
        "stop": [" is"],
        "repeat_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
    }
    answer = (await client.post("/api/chat", json=body(options=options, stream=False))).json()
    assert (answer["message"]["content"], answer["done_reason"]) == ("It", "stop")
    request = box.engine.requests[-1]
    sampling = request.sampling
    assert request.max_tokens == 20
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p, sampling.seed) == (
        0.5,
        0.8,
        40,
        0.1,
        7,
    )
    assert (sampling.repeat_penalty, sampling.presence_penalty, sampling.frequency_penalty) == (1.1, 0.5, -0.5)
    await client.post("/api/chat", json=body(options={"seed": -1, "num_predict": -1}))
    assert box.engine.requests[-1].sampling.seed is None
    assert box.engine.requests[-1].max_tokens > 20
    for wrong in ({"temperature": 3}, {"top_k": 1.5}, {"temperature": "warm"}):
        refused = await client.post("/api/chat", json=body(options=wrong))
        assert (refused.status_code, refused.json()["param"]) == (400, f"options.{next(iter(wrong))}")


async def test_what_changes_nothing_is_named(client: httpx.AsyncClient) -> None:
    strange = {"num_ctx": 8192, "mirostat": 1, "future": 1, "bad name\r\n": 1, "unset": None}
    message = {**QUESTION[0], "weight": 1}
    response = await client.post(
        "/api/chat", json=body(options=strange, metadata={}, messages=[message], keep_alive="5m", shift=False)
    )
    ignored = "keep_alive, metadata, options.num_ctx, options.mirostat, options.future, options.?, messages.weight"
    assert response.headers["x-r1box-ignored"] == ignored
    assert lines(response.text)[-1]["r1box"]["ignored"] == ignored
    many = await client.post("/api/chat", json=body(**{f"field{number}": 1 for number in range(5_000)}))
    assert many.headers["x-r1box-ignored"].endswith(", field31, ...")


async def test_a_form_of_the_answer(client: httpx.AsyncClient, box: Box) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}}
    for form, text in (("json", ""), (schema, json.dumps(schema))):
        assert (await client.post("/api/chat", json=body(format=form))).status_code == 200
        structure = box.engine.requests[-1].structure
        assert structure is not None
        assert structure.text == text
    await client.post("/api/chat", json=body(format=""))
    assert box.engine.requests[-1].structure is None


async def test_log_probabilities(client: httpx.AsyncClient, ollama: AsyncClient, box: Box) -> None:
    answer = await ollama.chat(model=NAME, messages=QUESTION, logprobs=True, top_logprobs=2)
    assert box.engine.requests[-1].logprobs == 2
    assert answer.logprobs
    assert "".join(one.token for one in answer.logprobs) == "It is 4."
    streamed = [part async for part in await ollama.chat(model=NAME, messages=QUESTION, logprobs=True, stream=True)]
    assert "".join(one.token for part in streamed for one in part.logprobs or ()) == "It is 4."
    refused = await client.post("/api/chat", json=body(top_logprobs=2))
    assert refused.json()["param"] == "top_logprobs"


async def test_what_does_not_fit(client: httpx.AsyncClient, box: Box) -> None:
    messages = [
        {"role": "user", "content": "long " * FAKE_INFO.context_tokens},
        {"role": "assistant", "content": "yes"},
        *QUESTION,
    ]
    refused = await client.post("/api/chat", json=body(messages=messages))
    other = await client.post("/v1/chat/completions", json={"model": MODEL, "messages": messages})
    assert refused.status_code == other.status_code == 400
    assert (refused.json()["error"], refused.json()["code"]) == (
        other.json()["error"]["message"],
        "context_length_exceeded",
    )
    trimmed = await client.post("/api/chat", json=body(messages=messages, truncate=True))
    assert trimmed.headers["x-r1box-trimmed"].startswith("turns=1 tokens")
    assert lines(trimmed.text)[-1]["r1box"]["trimmed"]["turns"] == 1


async def test_errors_are_texts(ollama: AsyncClient, box: Box, stranger: httpx.AsyncClient) -> None:
    with pytest.raises(ResponseError) as caught:
        await ollama.chat(model="other", messages=QUESTION)
    assert caught.value.status_code == 404
    assert caught.value.error.startswith("The model 'other' is not served here.")
    with pytest.raises(ResponseError) as caught:
        async for _ in await ollama.chat(model="other", messages=QUESTION, stream=True):
            pass
    assert caught.value.status_code == 404
    unknown = await stranger.post("/api/chat", json=body())
    assert unknown.status_code == 401
    assert unknown.json()["error"] == "The request has no API key."
    wrong = await stranger.get("/api/chat", headers=box.authorization)
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    broken = await stranger.post("/api/chat", content=b"{", headers=box.authorization)
    assert (broken.status_code, broken.json()["code"]) == (400, "invalid_json")
    image = body(messages=[{**QUESTION[0], "images": ["aGk="]}])
    refused = await stranger.post("/api/chat", json=image, headers=box.authorization)
    assert (refused.status_code, refused.json()["param"]) == (400, "messages[0].images")


async def test_a_full_box(client: httpx.AsyncClient, box: Box, ollama: AsyncClient) -> None:
    engine = box.use(FakeEngine(ANSWER, hold_after=1))
    running = [asyncio.create_task(client.post("/api/chat", json=body())) for _ in range(3)]
    while box.admission.stats().waiting < 1:
        await asyncio.sleep(0)
    with pytest.raises(ResponseError) as caught:
        await ollama.chat(model=NAME, messages=QUESTION)
    assert caught.value.status_code == 429
    await engine.resume()
    answers = [lines(response.text) for response in await asyncio.gather(*running)]
    assert [answer[-1]["done"] for answer in answers] == [True] * 3


async def test_an_error_in_a_stream_is_its_last_line(ollama: AsyncClient, client: httpx.AsyncClient, box: Box) -> None:
    engine = box.use(FakeEngine(ANSWER, hold_after=1))

    async def read() -> None:
        async for _ in await ollama.chat(model=NAME, messages=QUESTION, stream=True):
            await engine.die("it fell over")

    with pytest.raises(ResponseError) as caught:
        await read()
    assert caught.value.error.startswith("The model's process ended")


async def test_a_silence_is_filled_with_what_every_reader_of_json_skips(
    box: Box, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = EventStreamResponse.__init__

    def quick(self: EventStreamResponse, *args: Any, **options: Any) -> None:
        original(self, *args, **{**options, "keep_alive_s": 0.01})

    monkeypatch.setattr(EventStreamResponse, "__init__", quick)
    engine = box.use(FakeEngine(ANSWER, hold_after=1))
    received = b""
    client = await asyncio.to_thread(httpx.AsyncClient, base_url=address, headers=box.authorization)
    async with client, client.stream("POST", "/api/chat", json=body()) as response:
        async for chunk in response.aiter_raw():
            received += chunk
            if received.endswith(b"   "):
                await engine.resume()
    told = lines(received.decode())
    assert b"\n   " in received
    assert "".join(line["message"]["content"] for line in told) == "It is 4."
