"""Pieces of stored models that a bundle carries too: they need not be read from a slow stick again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from models.bundle.lanes import read_fully
from models.bundle.manifest import BundleFile
from models.bundle.parts import span
from models.model_store import ModelStore


class StoredChunks:
    """Pieces of stored models by their sha256; they are hashed again when they are written, so damage does not
    spread."""

    def __init__(self, store: ModelStore) -> None:
        self._where: dict[str, tuple[Path, int]] = {}
        for model in store.list().models:
            for file in model.files:
                for number, sha256 in enumerate(file.chunks):
                    self._where.setdefault(sha256, (file.path, number * (file.chunk_bytes or 0)))
        self._wrong: set[str] = set()

    def has(self, file: BundleFile, number: int) -> bool:
        """Whether a stored model may have the chunk."""
        return file.chunks[number] in self._where and file.chunks[number] not in self._wrong

    def read(self, file: BundleFile, number: int, buffer: memoryview) -> memoryview | None:
        """The chunk from the store, found right; ``None`` when the store has not got it."""
        if not self.has(file, number):
            return None
        sha256 = file.chunks[number]
        path, offset = self._where[sha256]
        view = buffer[: span(file, number)[1]]
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                read = read_fully(descriptor, view, offset)
            finally:
                os.close(descriptor)
            if read == len(view) and hashlib.sha256(view).hexdigest() == sha256:
                return view
        self._wrong.add(sha256)
        return None
