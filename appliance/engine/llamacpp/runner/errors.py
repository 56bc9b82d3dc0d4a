"""Why a model could not be loaded."""

from __future__ import annotations


class LoadError(Exception):
    """The model cannot be loaded: ``code`` for programs, one plain line for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
