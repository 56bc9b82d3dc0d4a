"""Child process that lets llama.cpp quantize a file, or load one and write a few tokens with it.

The request comes as JSON on standard input with the ``action``: ``quantize`` (with ``dry_run``: only say what every
tensor would become) or ``generate``. The records that go out are described in ``models.requantize``.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

import llama_cpp
import numpy as np

from models.dry_run_child import Emit, Log, bound_memory, load_backends, open_records

TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 8}
"""enum ggml_type (ggml.h)."""
FILE_TYPES = {
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q2_K": 10,
    "Q3_K_S": 11,
    "Q3_K_M": 12,
    "Q3_K_L": 13,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q5_K_S": 16,
    "Q5_K_M": 17,
    "Q6_K": 18,
    "IQ2_XXS": 19,
    "IQ2_XS": 20,
    "Q2_K_S": 21,
    "IQ3_XS": 22,
    "IQ3_XXS": 23,
    "IQ1_S": 24,
    "IQ4_NL": 25,
    "IQ3_S": 26,
    "IQ3_M": 27,
    "IQ2_S": 28,
    "IQ2_M": 29,
    "IQ4_XS": 30,
    "IQ1_M": 31,
}
"""enum llama_ftype (llama.h)."""
BUFFER_BYTES = 256 * 1024 * 1024
"""Rows in memory at once; llama.cpp's own default is 8 GiB."""

_WARNING = 3
_PROMPT = b"The capital of France is"


def quantize(request: dict[str, Any], emit: Emit) -> None:
    """Run the quantizer; its log tells each tensor as it is done."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread = request["threads"]
    parameters.ftype = FILE_TYPES[request["type"]]
    parameters.dry_run = request["dry_run"]
    parameters.allow_requantize = request["allow_requantize"]
    parameters.max_buf_size = BUFFER_BYTES
    if request["pure"]:
        parameters.pure = True
        parameters.output_tensor_type = parameters.token_embedding_type = TYPES["Q8_0"]
    source, target = (os.fsencode(request[name]) for name in ("source", "target"))
    code = llama_cpp.llama_model_quantize(source, target, ctypes.byref(parameters))
    emit({"kind": "quantized", "code": int(code)})


def generate(request: dict[str, Any], emit: Emit) -> None:
    """Load the file for real, on the processor, and write the likeliest tokens; every row of logits is looked at."""
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = 0
    parameters.check_tensors = True
    # As it lies in the file: no repacking, and no AMX kernels, which crash on some processors (llama.cpp #20824).
    parameters.use_extra_bufts = False
    model = llama_cpp.llama_model_load_from_file(os.fsencode(request["path"]), parameters)
    if not model:
        emit({"kind": "generated", "loaded": False})
        return
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = 256
    options.n_threads = options.n_threads_batch = request["threads"]
    context = llama_cpp.llama_init_from_model(model, options)
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    size = llama_cpp.llama_vocab_n_tokens(vocabulary)
    ids = (llama_cpp.llama_token * 64)()
    count = llama_cpp.llama_tokenize(vocabulary, _PROMPT, len(_PROMPT), ids, len(ids), True, False)
    given = list(ids[: max(count, 0)]) or [0]
    tokens: list[int] = []
    finite = True
    while context and finite and len(tokens) < request["tokens"]:
        array = (llama_cpp.llama_token * len(given))(*given)  # the batch holds no more than its address
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(given))) != 0:
            break
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), shape=(size,))
        finite = bool(np.isfinite(logits).all())
        given = [int(logits.argmax())]
        tokens += given
    emit({"kind": "generated", "loaded": bool(context), "finite": finite, "tokens": tokens})
    if context:
        llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)


def main() -> None:
    """Read the request, work, say how it ended."""
    request = json.loads(sys.stdin.buffer.read())
    emit = open_records()
    log = Log(emit, lambda level, line: level >= _WARNING or line.startswith(b"["))
    devices = load_backends(())
    emit({"kind": "start", "build": f"llama-cpp-python {llama_cpp.__version__}"})
    if request["memory_bytes"]:
        bound_memory(request["memory_bytes"], devices)
    llama_cpp.llama_backend_init()
    {"quantize": quantize, "generate": generate}[request["action"]](request, emit)
    del log


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # what a card's library registered to run at exit may hang or crash
