"""Reads stored models again and says which files, and which parts of them, are no longer what was imported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from models.hashing import Progress, damaged_ranges, ignore_progress, sha256_of
from models.store_types import ModelFile, VerifyResult
from models.types import InstalledModel

_SHOWN_RANGES = 3


def damage_of(what: InstalledModel | ModelFile, progress: Progress = ignore_progress) -> list[str]:
    """What is wrong with a model or one file of it, one line per file beginning with its name; empty when all is
    well."""
    files = (what,) if isinstance(what, ModelFile) else what.files
    total = sum(f.size_bytes for f in files)
    problems = []
    done = 0
    for file in files:
        problem = _problem(file, done, total, progress)
        if problem:
            problems.append(problem)
        done += file.size_bytes
    return problems


def verify_models(models: Sequence[InstalledModel], progress: Progress = ignore_progress) -> list[VerifyResult]:
    """Verifies all ``models``; a file with several names on the disk is read once, and counted once by ``progress``."""
    total = sum(f.size_bytes for f in _unique(models))
    problems: dict[tuple[int, int], str | None] = {}
    results = []
    done = 0
    for model in models:
        found = []
        for file in model.files:
            identity = _identity(file)
            if identity is None or identity not in problems:
                problem = _problem(file, done, total, progress)
                done += file.size_bytes
                if identity is not None:
                    problems[identity] = problem.partition(": ")[2] if problem else None
            else:
                known = problems[identity]
                problem = f"{file.name}: {known}" if known else None
            if problem:
                found.append(problem)
        results.append(VerifyResult(model.id, model.size_bytes, tuple(found)))
    return results


def _unique(models: Iterable[InstalledModel]) -> list[ModelFile]:
    seen: set[tuple[int, int]] = set()
    files = []
    for file in (f for m in models for f in m.files):
        identity = _identity(file)
        if identity is None or identity not in seen:
            files.append(file)
        if identity is not None:
            seen.add(identity)
    return files


def _identity(file: ModelFile) -> tuple[int, int] | None:
    try:
        info = os.lstat(file.path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _problem(file: ModelFile, before: int, total: int, progress: Progress) -> str | None:
    try:
        actual = sha256_of(file.path, lambda done, _size: progress(before + done, total))
        if actual == file.sha256:
            return None
        where = ""
        if file.chunks and file.chunk_bytes:
            ranges = damaged_ranges(file.path, file.chunk_bytes, file.chunks)
            shown = ", ".join(f"{start:,} to {min(end, file.size_bytes):,}" for start, end in ranges[:_SHOWN_RANGES])
            more = f" and {len(ranges) - _SHOWN_RANGES} more" if len(ranges) > _SHOWN_RANGES else ""
            where = f" (bytes {shown}{more})" if ranges else ""
    except OSError as error:
        return f"{file.name}: cannot be read: {error.strerror or error}"
    return f"{file.name}: its bytes have changed{where}"
