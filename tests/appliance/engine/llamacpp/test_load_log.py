"""Where a load went, from published logs of CUDA and CANN and from this build's own words."""

from __future__ import annotations

from pathlib import Path

from appliance.engine.base import BufferBytes
from appliance.engine.llamacpp.load_log import read_placement

LOGS = Path(__file__).parents[3] / "fixtures" / "load_logs"
MIB = 1024**2


def lines(name: str) -> list[str]:
    return (LOGS / name).read_text(encoding="utf-8").splitlines()


def test_a_model_on_one_card() -> None:
    found = read_placement(lines("cuda-32b-q4_k_m.txt"))
    assert found is not None
    assert (found.layers_on_cards, found.layers, found.graph_splits) == (65, 65, None)
    assert {name: round(b.weights_bytes / MIB, 2) for name, b in found.buffers.items()} == {
        "CUDA0": 18508.35,
        "host": 417.66,
    }


def test_layers_that_are_counted_as_offloaded_and_are_not() -> None:
    found = read_placement(lines("cann-8b-q4_k_m-on-processor.txt"))
    assert found is not None
    assert (found.layers_on_cards, found.layers) == (33, 33)
    assert sum(b.weights_bytes for name, b in found.buffers.items() if name != "host") < MIB
    assert len(found.buffers) == 9


def test_cache_compute_buffers_and_splits() -> None:
    """As llama.cpp 0c1e57098 prints them (llama-kv-cache.cpp, llama-context.cpp)."""
    found = read_placement(
        [
            "load_tensors: offloaded 5/5 layers to GPU",
            "load_tensors:        CUDA0 model buffer size =     2.00 MiB",
            "load_tensors:    CUDA_Host model buffer size =     0.50 MiB",
            "llama_context:  CUDA_Host  output buffer size =     0.06 MiB",
            "llama_kv_cache:      CUDA0 KV buffer size =     1.50 MiB",
            "llama_kv_cache: size =    1.50 MiB (  1024 cells,   4 layers, 10/1 seqs)",
            "sched_reserve:      CUDA0 compute buffer size =     5.00 MiB",
            "sched_reserve:  CUDA_Host compute buffer size =     2.00 MiB",
            "sched_reserve: graph: nodes = 142, splits = 2, input objects = 4, input tensors = 6",
        ]
    )
    assert found is not None
    assert found.buffers["CUDA0"] == BufferBytes(2 * MIB, MIB * 3 // 2, 5 * MIB)
    assert found.buffers["host"].compute_bytes == 2 * MIB
    assert found.graph_splits == 2


def test_a_log_that_says_nothing() -> None:
    assert read_placement(["llama_context: n_ctx = 1024"]) is None
