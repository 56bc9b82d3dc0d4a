"""llama.cpp's log as it is written with cards, by a dry run and by a real load."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.dry_run_log import ContextLog, LogNotUnderstood, ModelLog, buffers, place_of, read_load_log
from models.gguf import GgufHeader, read_header
from models.types import HOST
from tests.fakes.gguf_writer import small_metadata, small_tensors, write_gguf

MIB = 1024**2
TOKEN_EMBD = 64 * 32 // 32 * 34
LAYER = 64 * 4 + 64 * 64 // 32 * 34 + 64 * 128 // 32 * 34

DRY_MODEL = """\
load_tensors: layer   0 assigned to device CUDA0, is_swa = 0
load_tensors: layer   1 assigned to device CUDA1, is_swa = 0
load_tensors: layer   2 assigned to device CUDA1, is_swa = 0
load_tensors:        CUDA0 model buffer size =     0.00 MiB
load_tensors:        CUDA1 model buffer size =     0.00 MiB
load_tensors:    CUDA_Host model buffer size =     0.00 MiB"""
DRY_CONTEXT = """\
llama_context:  CUDA_Host  output buffer size =     2.32 MiB
llama_kv_cache: layer   0: dev = CUDA0
llama_kv_cache: layer   1: dev = CUDA1
llama_kv_cache:      CUDA0 KV buffer size =     0.00 MiB
llama_kv_cache:      CUDA1 KV buffer size =     0.00 MiB
llama_kv_cache: size =    8.00 MiB (  8192 cells,   2 layers,  4/1 seqs), K (f16):    4.00 MiB, V (f16):    4.00 MiB
sched_reserve:      CUDA0 compute buffer size =   140.01 MiB
sched_reserve:      CUDA1 compute buffer size =   133.01 MiB
sched_reserve:  CUDA_Host compute buffer size =    22.01 MiB"""
REAL = """\
load_tensors: offloaded 3/3 layers to GPU
load_tensors:   CPU_Mapped model buffer size =   417.66 MiB
load_tensors:        CUDA0 model buffer size = 18508.35 MiB
llama_context:  CUDA_Host  output buffer size =     0.58 MiB
llama_kv_cache:      CUDA0 KV buffer size =   512.00 MiB
llama_kv_cache: size =  512.00 MiB (  2048 cells,  64 layers,  1/1 seqs), K (f16):  256.00 MiB, V (f16):  256.00 MiB
sched_reserve:      CUDA0 compute buffer size =   307.00 MiB
sched_reserve:  CUDA_Host compute buffer size =    14.01 MiB"""
SLIDING = """\
llama_kv_cache: layer   0: dev = CUDA0
llama_kv_cache: size =    6.00 MiB (  8192 cells,   1 layers,  4/1 seqs), K (f16):    3.00 MiB, V (f16):    3.00 MiB
llama_kv_cache: layer   1: dev = CUDA1
llama_kv_cache: size =    2.00 MiB (  1024 cells,   1 layers,  4/1 seqs), K (f16):    1.00 MiB, V (f16):    1.00 MiB
sched_reserve:      CUDA0 compute buffer size =   140.01 MiB"""


@pytest.fixture
def header(tmp_path: Path) -> GgufHeader:
    return read_header(write_gguf(tmp_path / "m.gguf", small_metadata(), small_tensors()))


@pytest.fixture
def tied(tmp_path: Path) -> GgufHeader:
    return read_header(write_gguf(tmp_path / "t.gguf", small_metadata(), small_tensors(output=False)))


def model_log(text: str) -> ModelLog:
    log = ModelLog()
    for line in text.splitlines():
        log.take(line)
    return log


def context_log(text: str) -> ContextLog:
    log = ContextLog()
    for line in text.splitlines():
        log.take(line)
    return log


def test_a_dry_run_is_counted_from_the_layers_devices(header: GgufHeader) -> None:
    found = buffers(header, model_log(DRY_MODEL), context_log(DRY_CONTEXT))
    assert list(found) == ["CUDA0", "CUDA1", HOST]
    assert found["CUDA0"]["model_bytes"] == LAYER
    assert found["CUDA1"]["model_bytes"] == LAYER + TOKEN_EMBD
    assert found[HOST]["model_bytes"] == TOKEN_EMBD
    assert sum(v["model_bytes"] for v in found.values()) == header.tensor_bytes
    assert found["CUDA0"]["kv_bytes"] == found["CUDA1"]["kv_bytes"] == 4 * MIB
    assert found[HOST]["compute_bytes"] == round(22.01 * MIB)
    assert found[HOST]["output_bytes"] == round(2.32 * MIB)
    assert "kv_bytes" not in found[HOST]


def test_a_tied_embedding_is_copied_to_the_card_of_the_output(tied: GgufHeader) -> None:
    found = buffers(tied, model_log(DRY_MODEL), context_log(DRY_CONTEXT))
    assert found["CUDA1"]["model_bytes"] == LAYER + TOKEN_EMBD
    assert found[HOST]["model_bytes"] == TOKEN_EMBD


def test_a_real_load_is_read_as_printed(header: GgufHeader) -> None:
    found = read_load_log(header, REAL.splitlines())
    assert found["CUDA0"] == {
        "model_bytes": round(18_508.35 * MIB),
        "kv_bytes": 512 * MIB,
        "compute_bytes": 307 * MIB,
    }
    # More than the tensors once is never needed in the host's memory.
    assert found[HOST]["model_bytes"] == header.tensor_bytes


def test_two_caches_are_added(header: GgufHeader) -> None:
    found = buffers(header, model_log(DRY_MODEL), context_log(SLIDING))
    assert (found["CUDA0"]["kv_bytes"], found["CUDA1"]["kv_bytes"]) == (6 * MIB, 2 * MIB)


def test_backends_that_share_a_buffer_are_counted_once(header: GgufHeader) -> None:
    twice = DRY_CONTEXT + "\nsched_reserve:      CUDA0 compute buffer size =   140.01 MiB"
    assert buffers(header, model_log(DRY_MODEL), context_log(twice))["CUDA0"]["compute_bytes"] == round(140.01 * MIB)


@pytest.mark.parametrize("missing", ["compute buffer", "kv_cache: size"])
def test_a_log_without_its_lines_is_not_understood(header: GgufHeader, missing: str) -> None:
    text = "\n".join(line for line in DRY_CONTEXT.splitlines() if missing not in line)
    with pytest.raises(LogNotUnderstood):
        buffers(header, model_log(DRY_MODEL), context_log(text))


def test_a_log_without_layers_is_not_understood(header: GgufHeader) -> None:
    with pytest.raises(LogNotUnderstood, match="device"):
        buffers(header, model_log(""), context_log(DRY_CONTEXT))


def test_tensors_that_a_card_does_not_take_are_counted() -> None:
    line = "load: tensor '{}' (q4_K) (and {} others) cannot be used with preferred buffer type CANN0, using CPU instead"
    assert model_log(DRY_MODEL).stray_tensors == 0
    assert model_log(DRY_MODEL + "\n" + line.format("token_embd.weight", 0)).stray_tensors == 0
    assert model_log(DRY_MODEL + "\n" + line.format("token_embd.weight", 12)).stray_tensors == 12
    assert model_log(DRY_MODEL + "\n" + line.format("blk.0.attn_q.weight", 12)).stray_tensors == 13
    # With layers on the processor the log counts those together.
    partly = DRY_MODEL.replace("assigned to device CUDA0", "assigned to device CPU")
    assert model_log(partly + "\n" + line.format("token_embd.weight", 12)).stray_tensors == 0


@pytest.mark.parametrize("name", ["CPU", "CPU_Mapped", "CPU_REPACK", "AMX", "CUDA_Host", "CANN_Host"])
def test_the_hosts_buffers(name: str) -> None:
    assert place_of(name) == HOST
    assert place_of("CANN0") == "CANN0"
