"""Token masks for structured answers: llguidance on llama.cpp's vocabulary.

Why llguidance and not llama.cpp's own grammar sampler: it works on the vocabulary's bytes, so a token that holds half a
character or the end of one value and the beginning of the next is judged like any other; it knows JSON schemas itself
(formats, number ranges, string lengths, patterns), where the converter to GBNF leaves keywords out in silence; what it
computes is bounded per grammar and per step; and a mask takes about 0.1 ms for 49,000 tokens, where GBNF tries each
token against the grammar (docs/engine.md has the figures).
"""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from typing import Any

import llama_cpp
import llguidance
import numpy as np

from appliance.engine.llamacpp.sampler import Flags, SamplingFailed
from appliance.engine.request import Structure
from appliance.engine.structure import grammar_of, limits

_CONTROL = 1 << 3
_USER_DEFINED = 1 << 4
"""LLAMA_TOKEN_ATTR_CONTROL and _USER_DEFINED (llama.h)."""

KEPT_GRAMMARS = 32
"""Compiled structures that are kept for the next request with the same one."""


class TokenMask:
    """The structure of one answer. Implements ``sampler.Constraint``."""

    def __init__(self, matcher: llguidance.LLMatcher, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._mask = np.zeros((vocabulary_size + 31) // 32, np.uint32)

    def forbidden(self) -> Flags:
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()
        return np.unpackbits((~self._mask).view(np.uint8), bitorder="little").view(np.bool_)

    def accept(self, token: int) -> bool:
        return bool(self._matcher.validate_tokens([token])) and bool(self._matcher.consume_token(token))

    def reset(self) -> None:
        self._matcher.reset()

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().splitlines()[0].strip() or "its grammar is too complex"
            raise SamplingFailed(f"the answer's structure cannot be followed any further: {reason}")


class StructureCompiler:
    """Compiles structures for one vocabulary. May be called from any thread, while other threads compute steps: the
    vocabulary is read-only, and llguidance lets go of Python's lock while it works.

    ``pieces`` are the bytes of all tokens; control tokens and tags are never part of an answer's structure.
    """

    def __init__(self, vocab: Any, pieces: list[bytes]) -> None:
        tokens = [_marked(vocab, token, piece) for token, piece in enumerate(pieces)]
        ends = [token for token in range(len(pieces)) if llama_cpp.llama_vocab_is_eog(vocab, token)]
        self._size = len(pieces)
        self._lock = threading.Lock()
        self._compiled: OrderedDict[Structure, llguidance.LLMatcher] = OrderedDict()
        # llama.cpp's own tokenizer, through C: text that the structure forces is then cut as the model would cut it.
        tokenize = llama_cpp.llama_cpp._lib.llama_tokenize  # noqa: SLF001 - the function's address has no public name
        self._tokenizer = llguidance.LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
            tokens=tokens,
            vocab_ptr=ctypes.cast(vocab, ctypes.c_void_p).value,
            tokenize_fptr=ctypes.cast(tokenize, ctypes.c_void_p).value,
            eos_token=ends,
        )

    def compile(self, structure: Structure) -> TokenMask:
        """A mask at its beginning. Raises SamplingFailed for a structure that cannot be compiled."""
        with self._lock:
            matcher = self._compiled.get(structure)
            if matcher is None:
                try:
                    grammar = grammar_of(structure)
                except ValueError as error:
                    raise SamplingFailed(str(error)) from error
                matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits())
                if matcher.is_error():
                    raise SamplingFailed(matcher.get_error().splitlines()[0])
            self._compiled[structure] = matcher
            self._compiled.move_to_end(structure)
            if len(self._compiled) > KEPT_GRAMMARS:
                self._compiled.popitem(last=False)
            return TokenMask(matcher.deep_copy(), self._size)


def _marked(vocab: Any, token: int, piece: bytes) -> bytes:
    """The token's bytes; after 0xFF, which is in no text, llguidance takes them for a special token's name."""
    kind = llama_cpp.llama_vocab_get_attr(vocab, token)
    is_tag = kind & _USER_DEFINED and piece.startswith(b"<") and piece.endswith(b">")
    return b"\xff" + piece if kind & _CONTROL or is_tag else piece
