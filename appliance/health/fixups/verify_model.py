"""Read a model's files again and compare them with their hashes."""

from __future__ import annotations

from typing import Protocol


class ModelVerifier(Protocol):
    """Remembers what it found, for the check."""

    async def verify(self, model_id: str) -> str | None:
        """The problem, or ``None`` for a model that is whole. Takes minutes for a large one."""
        ...


class VerifyModel:
    """The subject is a model."""

    name = "verify_model"
    label = "Check the model's files"

    def __init__(self, verifier: ModelVerifier) -> None:
        self._verifier = verifier

    async def apply(self, subject: str | None) -> str:
        """Raises ModelNotFound."""
        if subject is None:
            return "There is no model to check."
        problem = await self._verifier.verify(subject)
        return f"{subject} is whole." if problem is None else f"{subject} is damaged: {problem}"
