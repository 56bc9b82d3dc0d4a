"""Streams of events, start-up logs, metrics, vocabularies: the parts that only read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine import mindie, vllm
from appliance.engine.external.completions import VllmCompletions
from appliance.engine.external.dialect import NotUnderstood
from appliance.engine.external.infer_token import MindieTokens
from appliance.engine.external.metrics import read_metrics
from appliance.engine.external.sse import Event, SseError, SseReader
from appliance.engine.external.startlog import StartLog, without_secrets
from appliance.engine.external.vocabulary import Vocabulary
from appliance.engine.request import FinishReason
from appliance.errors import EngineStartFailed

TINY_R1 = Path(__file__).parents[3] / "fixtures" / "tiny_r1" / "hf"


@given(st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b and b"\r" not in b), max_size=6), st.data())
def test_events_come_whole_however_they_are_cut(datas: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(b"data: " + one + b"\r\n\r\n: keep alive\n\n" for one in datas)
    reader, found, place = SseReader(), [], 0
    while place < len(stream):
        size = data.draw(st.integers(1, 9))
        found += reader.feed(stream[place : place + size])
        place += size
    assert [event.data for event in found] == datas
    assert reader.finish() is None


def test_a_last_event_without_its_empty_line_counts() -> None:
    reader = SseReader()
    assert reader.feed(b"event: error\ndata: a\ndata: b") == []
    assert reader.finish() == Event(b"a\nb", "error")


def test_what_is_no_field_is_no_stream() -> None:
    with pytest.raises(SseError, match="502 Bad Gateway"):
        SseReader().feed(b"<h1>502 Bad Gateway</h1>\n")


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b'"x"',
        b"{",
        b'{"choices":[{"text":1}]}',
        b'{"choices":[{"token_ids":["a"]}]}',
        b'{"choices":[{"token_ids":[1],"logprobs":{"tokens":["a"],"token_logprobs":[-1.0]}}]}',
        b"\xff\xfe",
    ],
)
def test_json_of_another_form_is_not_understood(data: bytes) -> None:
    with pytest.raises(NotUnderstood):
        VllmCompletions().read(Event(data))


def test_mindies_last_event_says_why_it_ended() -> None:
    said = {"token": {"id": [7], "text": "."}, "details": {"finish_reason": "eos_token", "generated_tokens": 5}}
    piece = MindieTokens().read(Event(json.dumps(said).encode()))
    assert piece is not None
    assert (piece.tokens, piece.ending, piece.completion_tokens) == ((7,), FinishReason.STOP, 5)
    failed = MindieTokens().read(Event(b'{"error":"Engine callback timeout.","error_type":"Incomplete Generation"}'))
    assert failed is not None
    assert (failed.ending, failed.error) == (FinishReason.ERROR, "Engine callback timeout.")
    with pytest.raises(NotUnderstood):
        MindieTokens().read(Event(b'{"detail":"x"}'))


# Lines as vLLM 0.32 writes them (a CPU build and what its source prints elsewhere).
FAILURES = {
    "api_server.py: error: unrecognized arguments: --foo 1": "unrecognized arguments: --foo 1",
    "api_server.py: error: argument --dtype: invalid choice: 'x'": "argument --dtype: invalid choice: 'x'",
    "(EngineCore pid=1) ERROR 11-22 [core.py:1] ValueError: To serve at least one request with the models's max seq "
    "len (131072), 16.00 GiB KV cache is needed.": "To serve at least one request with the models's max seq len "
    "(131072), 16.00 GiB KV cache is needed.",
    "/opt/vllm/bin/python: No module named vllm": "/opt/vllm/bin/python: No module named vllm",
    "(APIServer pid=9) OSError: /models/x does not appear to have a file named config.json.": "OSError: /models/x does "
    "not appear to have a file named config.json.",
    "  Value error, Model architectures ['Foo'] are not supported for now. [type=value_error]": "Value error, Model "
    "architectures ['Foo'] are not supported for now. [type=value_error]",
}


@pytest.mark.parametrize(("line", "cause"), FAILURES.items())
def test_causes_in_vllms_words(line: str, cause: str) -> None:
    log = StartLog(vllm.WORDS)
    after = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
    assert log.cause(["INFO x", line, after]) == cause
    assert log.cause(["INFO fine", after]) is None


def test_causes_in_mindies_words() -> None:
    log = StartLog(mindie.WORDS)
    lines = ["[2026-11-22 09:00:00] [ERROR] [config.cpp:12] : Failed to parse worldSize", "Daemon is killed..."]
    assert log.cause(lines) == "Failed to parse worldSize"
    log.take("Daemon start success!")
    assert log.fraction == 0.99


def test_a_fraction_never_falls() -> None:
    log = StartLog(vllm.WORDS)
    log.take("Loading safetensors checkpoint shards:  75% Completed | 3/4 [00:00<00:00]")
    before = log.fraction
    log.take("Initializing a V1 LLM engine (v0.11.0)")
    assert log.fraction == before == pytest.approx(0.5125)


def test_secrets_are_blacked_out_and_an_empty_one_is_none() -> None:
    assert without_secrets(["key=abc", "nothing"], ("", "abc")) == ("key=[redacted]", "nothing")


def test_metrics_of_two_engines_add_up_and_unknown_is_unknown() -> None:
    lines = [
        'vllm:num_requests_waiting{engine="0",model_name="a,b=\\"c\\""} 2.0',
        'vllm:num_requests_waiting{engine="1",model_name="x"} 3.0',
        'vllm:kv_cache_usage_perc{engine="0"} 0.5',
        'vllm:kv_cache_usage_perc{engine="1"} 0.25',
        'vllm:num_preemptions_total{engine="0"} NaN',
        "# TYPE x counter",
        "garbage without a value",
    ]
    found = read_metrics("\n".join(lines))
    assert (found.waiting, found.cache_share, found.preemptions, found.steps) == (5, 0.375, None, None)


@given(st.text(max_size=300))
def test_any_text_is_no_crash(text: str) -> None:
    read_metrics(text)
    StartLog(vllm.WORDS).cause(text.splitlines())


def test_the_vocabulary_of_tiny_r1() -> None:
    vocabulary = Vocabulary.open(TINY_R1)
    assert vocabulary.size == 1536
    assert vocabulary.bos == vocabulary.id_of("<｜begin▁of▁sentence｜>")
    end = vocabulary.id_of("<｜end▁of▁sentence｜>")
    assert end is not None
    assert vocabulary.ends(end)
    assert vocabulary.piece(end) == b""
    assert vocabulary.piece(vocabulary.id_of("</think>") or 0) == b"</think>"
    assert vocabulary.piece(10**6) == vocabulary.name(-1) == b""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("{", "damaged"),
        ('{"model":{"type":"Unigram","vocab":[]}}', "is not"),
        ('{"model":{"type":"BPE","vocab":{},"merges":[]},"decoder":{"type":"Metaspace"}}', "is not"),
    ],
)
def test_a_tokenizer_that_cannot_be_used_is_said(tmp_path: Path, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(EngineStartFailed, match=reason):
        Vocabulary.open(tmp_path)
