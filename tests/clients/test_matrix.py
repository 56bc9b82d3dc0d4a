"""Every client sees the same box: the same answer, thought, tokens, calls and errors, each in its own form."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.clients.programs import OWN_PYTHON, TIMEOUT_S, VENV, Place, environment, run_node, run_python
from tests.e2e.box import FIXTURES, Home, goldens

PROMPTS: dict[str, dict[str, Any]] = {
    entry["id"]: entry for entry in json.loads((FIXTURES / "prompts.json").read_text())["prompts"]
}
CALL, RESULT = PROMPTS["tool-weather"], PROMPTS["tool-weather-result"]
GOLDEN = next(golden for golden in goldens("fact") if len(golden.messages) == 1)
CASES = {
    "question": GOLDEN.messages[0]["content"],
    "weather": CALL["messages"][0]["content"],
    "tools": CALL["tools"],
    "result": RESULT["messages"][2]["content"],
}
Run = Callable[..., Any]
CLIENTS: dict[str, Run] = {
    "openai": partial(run_python, "openai_python", python=OWN_PYTHON),
    "openai-before": partial(run_python, "openai_python"),
    "openai-node": partial(run_node, "openai"),
    "anthropic": partial(run_python, "anthropic_python"),
    "ollama": partial(run_python, "ollama_python"),
    "langchain": partial(run_python, "langchain_python"),
    "litellm-openai": partial(run_python, "litellm_python", PROTOCOL="openai"),
    "litellm-anthropic": partial(run_python, "litellm_python", PROTOCOL="anthropic"),
    "litellm-ollama": partial(run_python, "litellm_python", PROTOCOL="ollama_chat"),
}
ERRORS = {
    "401": "The API key is not valid",
    "404": "The model 'gone' is not served here.",
    "400": "a seat of this model holds 2,048",
    "429": "tokens per day",
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client(name: str, place: Place, home: Home, tmp_path: Path) -> None:
    limited = home.create_key(f"limited-{name}", "--tokens-per-day", "1")
    told = CLIENTS[name](place, tmp_path, BOX_CASES=json.dumps(CASES), BOX_LIMITED_KEY=limited)
    for way in ("whole", "stream"):
        seen = told[way]
        assert (seen["reasoning"].strip(), seen["content"].strip()) == (GOLDEN.reasoning, GOLDEN.content), way
        assert seen["prompt"] > 0
        assert seen["completion"] in (GOLDEN.completion_tokens, GOLDEN.completion_tokens - 1)
        assert 0 < seen.get("thinking", 1) < seen["completion"]
    assert told["whole"]["prompt"] == told["stream"]["prompt"]
    assert told["tools"] == {"calls": CALL["tool_calls"], "answer": RESULT["content"]}
    for status, words in ERRORS.items():
        error = told["errors"][status]
        assert words in error["text"], error
        assert str(error["status"]) == status, error


@pytest.mark.parametrize("name", ["openai", "openai-node", "anthropic", "ollama", "litellm-openai"])
def test_a_client_trusts_the_boxs_own_authority(name: str, secure_place: Place, tmp_path: Path) -> None:
    told = CLIENTS[name](secure_place, tmp_path, "whole", BOX_CASES=json.dumps(CASES))
    assert told["whole"]["content"].strip() == GOLDEN.content


def llm(place: Place, folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command line, told of the box by its file of further models."""
    models = (
        f"- model_id: box\n  model_name: {place.model}\n  api_base: {place.url}/v1\n  api_key_name: box\n"
        f"  supports_tools: true\n  supports_schema: true\n"
        f"- model_id: gone\n  model_name: gone\n  api_base: {place.url}/v1\n  api_key_name: box\n"
    )
    (folder / "extra-openai-models.yaml").write_text(models, encoding="utf-8")
    (folder / "keys.json").write_text(json.dumps({"box": place.key}), encoding="utf-8")
    done = subprocess.run(
        [str(VENV / "bin" / "llm"), *arguments],
        env={**environment(place, folder), "LLM_USER_PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0 or not check, done.stderr
    return done


def test_the_llm_command(place: Place, home: Home, tmp_path: Path) -> None:
    question = CASES["question"]
    for way in ((), ("--no-stream",)):
        done = llm(place, tmp_path, "prompt", "-m", "box", "-o", "temperature", "0", "-u", *way, question)
        assert done.stdout.strip() == GOLDEN.content
        assert "input" in done.stderr
    functions = 'def get_weather(city: str) -> str:\n    "Weather of a city"\n    return ' + repr(CASES["result"])
    chained = llm(
        place, tmp_path, "prompt", "-m", "box", "-o", "temperature", "0", "--functions", functions, CASES["weather"]
    )
    assert chained.stdout.strip() == RESULT["content"]
    limited = Place(place.url, home.create_key("limited-llm", "--tokens-per-day", "1"), place.model)
    for who, model, asked, status in (
        (Place(place.url, "r1b_wrong", place.model), "box", question, "401"),
        (place, "gone", question, "404"),
        (place, "box", "word " * 3_000, "400"),
        (limited, "box", question, "429"),
    ):
        failed = llm(who, tmp_path, "prompt", "-m", model, asked, check=False)
        assert failed.returncode != 0
        assert ERRORS[status] in failed.stderr


def test_the_llm_command_with_the_boxs_own_authority(secure_place: Place, tmp_path: Path) -> None:
    done = llm(secure_place, tmp_path, "prompt", "-m", "box", "-o", "temperature", "0", CASES["question"])
    assert done.stdout.strip() == GOLDEN.content
