"""A small model of the same vocabulary that guesses what a large one says next.

It has a context of its own, in which every sequence that it guesses for has a place. That is kept in step with what the
sequences really said: what differs is dropped, what is missing computed, so much in a step and no more
(``CATCH_UP_TOKENS``), so that a long prompt does not hold up those who are being answered. Guesses are its likeliest
tokens; how the large model's own sampler judges them is not its business.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import llama_cpp
import numpy as np

from appliance.engine.llamacpp.messages import WorkerConfig
from appliance.engine.llamacpp.prefix_cache import common_prefix
from appliance.engine.llamacpp.runner.backends import quiet_log
from appliance.engine.llamacpp.runner.batch import Batch
from appliance.engine.llamacpp.runner.errors import LoadError
from appliance.engine.llamacpp.step import SlotTokens, StepPlan

CATCH_UP_TOKENS = 256
CATCH_UP_S = 0.05
"""Tokens of sequences that the draft model computes in a step beside its guesses, at most, and how long they may take:
the smaller of the two, but never less than ``LEAST_CATCH_UP_TOKENS``."""

LEAST_CATCH_UP_TOKENS = 16

LEAST_CHANCE = 0.4
"""A guess ends before a token that the draft model itself thinks less likely."""

MOST_VOCABULARY_DIFFERENCE = 128
"""By so many tokens two vocabularies may differ in size: unused ones at the end, as among the Qwen distills (151,936
and 152,064). The same bound as in llama.cpp's speculative decoding."""

_FIRST_COMPARED = 5
"""The first few tokens are not compared, as in llama.cpp: converters fill them differently."""


@dataclass(slots=True)
class Proposals:
    """Guesses by request, what they took, and in how many passes; ``caught_up`` tokens were computed besides."""

    drafts: dict[str, list[int]] = field(default_factory=dict)
    duration_s: float = 0.0
    passes: int = 0
    caught_up: int = 0

    def into(self, entry: SlotTokens) -> SlotTokens:
        """The entry with its guess in place of the wish for one."""
        if not entry.propose:
            return entry
        return replace(entry, draft=self.drafts.get(entry.request_id, []), propose=0, history=())


@dataclass(slots=True)
class _Place:
    """A sequence in the draft model's context: the tokens that it holds, and when it was last asked for."""

    index: int
    tokens: list[int] = field(default_factory=list)
    used: int = 0


class DraftModel:
    """One draft model beside a model. Close it before the interpreter ends."""

    def __init__(self, config: WorkerConfig, vocab: Any) -> None:
        """Load it. Raises LoadError when it cannot be loaded, has another vocabulary or cannot drop a tail."""
        self._model: Any = None
        self._context: Any = None
        self._places: dict[str, _Place] = {}
        self._free = list(range(config.seats))
        self._uses = 0
        self._broken = False
        self._catch_up = LEAST_CATCH_UP_TOKENS
        try:
            with quiet_log():
                self._load(config)
            own = llama_cpp.llama_model_get_vocab(self._model)
            if difference := vocabulary_difference(vocab, own):
                raise LoadError("draft_vocabulary", f"the draft model has another vocabulary: {difference}")
        except BaseException:
            self.close()
            raise
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._size = min(llama_cpp.llama_vocab_n_tokens(vocab), llama_cpp.llama_vocab_n_tokens(own))
        self._stride = int(llama_cpp.llama_vocab_n_tokens(own))
        self._batch = Batch(CATCH_UP_TOKENS + config.seats)

    def _load(self, config: WorkerConfig) -> None:
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = -1 if config.gpu_layers else 0
        parameters.use_extra_bufts = config.extra_buffers
        # All of it on one device: split over several, each of its few layers would wait for another card.
        parameters.split_mode = 0
        parameters.main_gpu = config.draft_device
        self._model = llama_cpp.llama_model_load_from_file(config.draft_model_path.encode(), parameters)
        if not self._model:
            raise LoadError("draft_load_failed", "llama.cpp cannot load the draft model")
        if llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model):
            raise LoadError("draft_unfit", "the draft model cannot take back what it computed")
        context = llama_cpp.llama_context_default_params()
        context.n_ctx = config.seats * config.seat_context
        context.n_batch = context.n_ubatch = CATCH_UP_TOKENS + config.seats
        context.n_seq_max = context.n_outputs_max = config.seats
        context.n_threads = context.n_threads_batch = config.threads
        if config.flash_attention is not None:
            context.flash_attn_type = int(config.flash_attention)
        context.kv_unified = True
        context.no_perf = True
        self._context = llama_cpp.llama_init_from_model(self._model, context)
        if not self._context:
            raise LoadError("draft_load_failed", "no memory for the draft model's context")

    def warm_up(self) -> float:
        """What a pass for one sequence takes, in seconds. Raises LoadError."""
        tokens = [token % self._size for token in range(1, 17)]
        for length in (len(tokens) - 2, len(tokens) - 1, len(tokens)):
            self._propose([("warm-up", tokens[:length], 1)])
            measured = self._propose([("warm-up", tokens[:length], 2)])
        if self._broken:
            raise LoadError("draft_load_failed", "the draft model loads but does not compute")
        self.forget("warm-up")
        return measured.duration_s / max(1, measured.passes)

    def propose(self, work: Sequence[SlotTokens]) -> Proposals:
        """Guess for the entries that ask for it."""
        wanted = [(entry.request_id, entry.history, entry.propose) for entry in work if entry.propose]
        return self._propose(wanted) if wanted and not self._broken else Proposals()

    def forget(self, request_id: str) -> None:
        """The request has ended."""
        if (place := self._places.pop(request_id, None)) is not None:
            llama_cpp.llama_memory_seq_rm(self._memory, place.index, -1, -1)
            self._free.append(place.index)

    def _propose(self, wanted: Sequence[tuple[str, Sequence[int], int]]) -> Proposals:
        started = time.perf_counter()
        made = Proposals()
        left = {name: count for name, _, count in wanted}
        work: list[SlotTokens] = []
        budget = self._catch_up
        for name, history, _ in wanted:
            place = self._place(name)
            tokens = list(history)
            # The last token is computed in any case: only that gives logits.
            keep = min(common_prefix(place.tokens, tokens), len(tokens) - 1)
            if keep < len(place.tokens):
                llama_cpp.llama_memory_seq_rm(self._memory, place.index, keep, -1)
                del place.tokens[keep:]
            missing = tokens[keep:][: max(1, budget)]
            budget -= len(missing) - 1
            made.caught_up += len(missing) - 1
            work.append(SlotTokens(name, place.index, keep, missing, keep + len(missing) == len(tokens), None))
        while work:
            began = time.perf_counter()
            drawn = self._decode(work)
            if not made.passes and made.caught_up >= LEAST_CATCH_UP_TOKENS:
                fitting = int(made.caught_up * CATCH_UP_S / max(time.perf_counter() - began, 1e-6))
                self._catch_up = min(max(fitting, LEAST_CATCH_UP_TOKENS, self._catch_up // 2), CATCH_UP_TOKENS)
            made.passes += 1
            following: list[SlotTokens] = []
            for entry in work:
                if (found := drawn.get(entry.request_id)) is None or found[1] < LEAST_CHANCE:
                    continue
                guess = made.drafts.setdefault(entry.request_id, [])
                guess.append(found[0])
                if len(guess) < left[entry.request_id]:
                    position = entry.position + len(entry.tokens)
                    following.append(SlotTokens(entry.request_id, entry.slot, position, [found[0]], True, None))
            work = following
        made.duration_s = time.perf_counter() - started
        return made

    def _place(self, request_id: str) -> _Place:
        """The sequence's place; the one unused for longest gives way when there is none."""
        if request_id not in self._places:
            if not self._free:
                self.forget(min(self._places, key=lambda name: self._places[name].used))
            self._places[request_id] = _Place(self._free.pop())
        place = self._places[request_id]
        self._uses += 1
        place.used = self._uses
        return place

    def _decode(self, work: list[SlotTokens]) -> dict[str, tuple[int, float]]:
        """Compute; the likeliest token of each entry that wants one, and how likely it is."""
        outputs = self._batch.fill(StepPlan(work=work))
        code = llama_cpp.llama_decode(self._context, self._batch.value)
        if code != 0:
            sys.stderr.write(f"the draft model failed (llama_decode returned {code}); it is not used any more\n")
            self._broken = True
            return {}
        for entry in work:
            self._places[entry.request_id].tokens += entry.tokens
        sampling = (entry for entry in work if entry.sample)
        return {entry.request_id: self._likeliest(row) for row, entry in zip(outputs, sampling, strict=True)}

    def _likeliest(self, position: int) -> tuple[int, float]:
        address = ctypes.cast(llama_cpp.llama_get_logits_ith(self._context, position), ctypes.c_void_p).value
        assert address is not None
        memory: Any = (ctypes.c_float * self._stride).from_address(address)
        logits = np.frombuffer(memory, np.float32)
        token = int(logits[: self._size].argmax())
        return token, float(1.0 / np.exp(logits - logits[token]).sum())

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from the next pass on."""
        llama_cpp.llama_set_n_threads(self._context, threads, threads)

    def close(self) -> None:
        """Free everything. Idempotent."""
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None


def vocabulary_difference(vocab: Any, other: Any) -> str:
    """Why a model of vocabulary ``other`` cannot guess for one of ``vocab``; empty when it can. As llama.cpp's own
    speculative decoding decides (``common_speculative_are_compatible``)."""
    if llama_cpp.llama_vocab_type(vocab) != llama_cpp.llama_vocab_type(other):
        return "it is of another kind"
    specials = {
        "beginning": (llama_cpp.llama_vocab_get_add_bos, llama_cpp.llama_vocab_bos),
        "end": (llama_cpp.llama_vocab_get_add_eos, llama_cpp.llama_vocab_eos),
    }
    for name, (adds, token) in specials.items():
        if adds(vocab) != adds(other) or (adds(vocab) and token(vocab) != token(other)):
            return f"the token of the {name} differs"
    sizes = [int(llama_cpp.llama_vocab_n_tokens(one)) for one in (vocab, other)]
    if abs(sizes[0] - sizes[1]) > MOST_VOCABULARY_DIFFERENCE:
        return f"it has {sizes[1]:,} tokens and the model {sizes[0]:,}"
    for token_id in range(_FIRST_COMPARED, min(sizes)):
        if llama_cpp.llama_vocab_get_text(vocab, token_id) != llama_cpp.llama_vocab_get_text(other, token_id):
            return f"token {token_id} differs"
    return ""
