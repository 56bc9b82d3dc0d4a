"""Who works with the state folder: many may at once, but nothing in it is swapped while anybody does.

A lock file in the folder (flock(2), gone with the process that holds it): the daemon and the command line hold it
together, whoever swaps files holds it alone.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.backup.disk import own_like
from appliance.backup.errors import StateInUse

LOCK_FILE = ".in-use"
_WAIT_S = 30.0
_POLL_S = 0.05


@contextmanager
def in_use(state_dir: Path) -> Iterator[None]:
    """Hold the folder together with others. Waits for a swap that is under way; raises StateInUse after half a
    minute."""
    descriptor = _open(state_dir)
    try:
        _lock(descriptor, fcntl.LOCK_SH, state_dir, wait_s=_WAIT_S)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(state_dir: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the folder alone. Raises StateInUse when somebody else holds it still after ``wait_s``."""
    descriptor = _open(state_dir)
    try:
        _lock(descriptor, fcntl.LOCK_EX, state_dir, wait_s=wait_s)
        yield
    finally:
        os.close(descriptor)


def _open(state_dir: Path) -> int:
    path = state_dir / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    own_like(path, state_dir)
    return descriptor


def _lock(descriptor: int, how: int, state_dir: Path, *, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise StateInUse(path=state_dir) from None
            time.sleep(_POLL_S)
        else:
            return
