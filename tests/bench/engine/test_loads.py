"""R1 Box and its peers under one load after the other, on SmolLM2-135M. Prints figures and decides nothing.

Figures in brackets are R1 Box divided by that peer: above 1 is better for rates, below 1 for waits and gaps. Run it
alone on the machine: ``make bench ARGS="tests/bench/engine"``.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.bench.engine import loads
from tests.bench.engine.report import measure, show
from tests.bench.engine.servers import Server, llama_cpp_server, llama_server, ours, xllamacpp_server
from tests.e2e.box import Home

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("bench"))


def peers(*best: str) -> list[Server | None]:
    """llama-server with its defaults, and with the flags that suit it best in this load; xllamacpp."""
    return [
        llama_server(name="llama-server"),
        llama_server(best, name=f"llama-server {' '.join(best)}") if best else None,
        xllamacpp_server(),
    ]


@pytest.mark.parametrize("streams", [1, 4, 8, 16])
def test_uniform(home: Home, streams: int) -> None:
    servers = [ours(home), *peers("--kv-unified"), llama_cpp_server() if streams == 8 else None]
    show(f"{streams} streams", measure(partial(loads.uniform, streams=streams), servers))


@pytest.mark.parametrize("requests", [16, 64])
def test_shared_prefix(home: Home, requests: int) -> None:
    servers = [ours(home), *peers("--kv-unified")]
    show(
        f"{requests} requests with one long beginning",
        measure(partial(loads.shared_prefix, requests=requests), servers),
    )


def test_long_prompts_arrive(home: Home) -> None:
    servers = [ours(home), *peers("-b", "128", "-ub", "128")]
    show("4 streams while long prompts come in", measure(loads.long_prompts_arrive, servers))


def test_chats_of_turns(home: Home) -> None:
    without = ours(home, "--chat-memory-bytes", "0", name="R1 Box without tiers")
    servers = [ours(home), without, *peers("--kv-unified", "--cache-reuse", "64")]
    show("24 chats of 3 turns on 8 seats", measure(loads.chats_of_turns, servers))


def test_chats_come_back(home: Home) -> None:
    without = ours(home, "--chat-memory-bytes", "0", name="R1 Box without tiers")
    servers = [ours(home), without, *peers("--kv-unified")]
    show("44 chats that come back, one at a time", measure(loads.chats_come_back, servers))


def test_repetitive(home: Home) -> None:
    servers = [ours(home), *peers("--spec-type", "ngram-simple")]
    show("one stream that repeats its prompt", measure(loads.repetitive, servers))
