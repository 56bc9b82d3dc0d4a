"""The sampler of one request, on llama.cpp's logits."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp
import numpy as np

from appliance.engine.llamacpp.sampler import Draw, TokenSampler
from appliance.engine.llamacpp.step import TokenChance


class Sampler:
    """A ``TokenSampler`` that reads the logits of a context, without copying them: a row belongs to one position of one
    sequence and is read once."""

    def __init__(self, draw: Draw, vocabulary_size: int) -> None:
        self._size = vocabulary_size
        self._sampler = TokenSampler(draw, vocabulary_size)
        self.chances: list[TokenChance] = []

    def sample(self, context: Any, position: int) -> int:
        """Draw the next token from the logits of a batch position; it counts as accepted. Raises SamplingFailed."""
        address = ctypes.cast(llama_cpp.llama_get_logits_ith(context, position), ctypes.c_void_p).value
        assert address is not None
        memory: Any = (ctypes.c_float * self._size).from_address(address)
        token, chance = self._sampler.draw(np.frombuffer(memory, np.float32))
        if chance is not None:
            self.chances.append(chance)
        return token

    def catch_up(self, position: int, tokens: list[int]) -> None:
        """See ``TokenSampler.catch_up``."""
        self._sampler.catch_up(position, tokens)

    def take_chances(self) -> list[TokenChance]:
        """Log probabilities of what was drawn since the last call; none unless they were asked for."""
        chances, self.chances = self.chances, []
        return chances
