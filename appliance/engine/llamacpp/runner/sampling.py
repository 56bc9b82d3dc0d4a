"""The sampler of one request: llama.cpp's chain over the tokens that can be drawn at all."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp
import numpy as np

from appliance.engine.llamacpp.messages import Sampling
from appliance.engine.llamacpp.sampler import candidate_window, chain_for


class Sampler:
    """One request's sampler chain.

    llama.cpp's own ``llama_sampler_sample`` hands every sampler an array of the whole vocabulary: 12 bytes a token,
    written and read for each token that is drawn. Where no penalty changes the logits first, only the tokens near the
    best one go into the chain (see ``candidate_window``), which costs a third of that; greedy needs no chain at all.
    """

    _CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    """llama_token_data (llama.h)."""

    def __init__(self, sampling: Sampling, vocabulary_size: int, context_tokens: int) -> None:
        self._size = vocabulary_size
        self._window = candidate_window(sampling)
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        biases = [(token, bias) for token, bias in sampling.logit_bias if 0 <= token < vocabulary_size]
        self._biased = np.array([token for token, _ in biases], np.intp)
        self._biases = np.array([bias for _, bias in biases], np.float32)
        for step in chain_for(sampling, vocabulary_size=vocabulary_size, context_tokens=context_tokens):
            create = getattr(llama_cpp, f"llama_sampler_init_{step.name}")
            llama_cpp.llama_sampler_chain_add(self._chain, create(*step.arguments))

    def sample(self, context: Any, position: int) -> int:
        """Draw the next token from the logits of a batch position."""
        address = ctypes.cast(llama_cpp.llama_get_logits_ith(context, position), ctypes.c_void_p).value
        assert address is not None
        memory: Any = (ctypes.c_float * self._size).from_address(address)
        logits = np.frombuffer(memory, np.float32)
        # In place: the row is this sequence's own and is not read again.
        logits[self._biased] += self._biases
        if self._window is None:
            return int(llama_cpp.llama_sampler_sample(self._chain, context, position))
        if self._window == 0.0:
            return int(logits.argmax())
        near = np.flatnonzero(logits >= logits.max() - self._window)
        candidates = np.zeros(len(near), self._CANDIDATE)
        candidates["id"] = near
        candidates["logit"] = logits[near]
        array = llama_cpp.llama_token_data_array(
            data=candidates.ctypes.data_as(llama_cpp.llama_token_data_p), size=len(near), selected=-1, sorted=False
        )
        llama_cpp.llama_sampler_apply(self._chain, ctypes.byref(array))
        token = int(array.data[array.selected].id)
        llama_cpp.llama_sampler_accept(self._chain, token)
        return token

    def close(self) -> None:
        """Free the chain."""
        llama_cpp.llama_sampler_free(self._chain)
