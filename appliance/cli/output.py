"""What commands print: results to stdout, progress and errors to stderr, colours only where a terminal has them."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from appliance.errors import ErrorDescription

GIB = 1024**3
_MIB = 1024**2


def stdout() -> Console:
    """Where results go. Wraps nothing that may be copied or piped."""
    return Console(highlight=False, soft_wrap=True)


def stderr() -> Console:
    """Where progress and errors go."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


LOG_LINES = 8


def print_error(description: ErrorDescription, *, log_tail: Sequence[str] = ()) -> None:
    """One plain line, and the next step under it. ``log_tail``: what an engine wrote last goes before them."""
    console = stderr()
    for line in log_tail[-LOG_LINES:]:
        console.print(f"[dim]  | {escape(line)}[/]")
    console.print(f"[bold red]Error:[/] {escape(description.message)}")
    if description.hint:
        console.print(f"  {escape(description.hint)}")


def size(size_bytes: int | None) -> str:
    """Bytes for people: ``43.2 GiB``, ``93.8 MiB``, ``-`` when unknown."""
    if size_bytes is None:
        return "-"
    for unit_bytes, unit in ((GIB, "GiB"), (_MIB, "MiB")):
        if size_bytes >= unit_bytes:
            return f"{size_bytes / unit_bytes:,.1f} {unit}"
    return f"{size_bytes / 1024:,.1f} KiB"


def context(tokens: int) -> str:
    """Context lengths as people say them: ``16k``, ``1,000``."""
    return f"{tokens // 1024}k" if tokens % 1024 == 0 else f"{tokens:,}"


@contextmanager
def copy_progress(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left for something measured in bytes; the callback takes (done, total)."""
    console = stderr()
    if quiet or not console.is_terminal:
        yield lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield update


def can_show(console: Console, signs: str) -> bool:
    """Whether the console's encoding has all of ``signs``."""
    try:
        signs.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


@contextmanager
def waiting_note(text: str, *, console: Console | None = None, after_s: float = 2.0) -> Iterator[None]:
    """A spinner with ``text`` on a terminal's stderr while the block runs, from ``after_s`` on: what is quick shows
    nothing."""
    console = stderr() if console is None else console
    if not console.is_terminal:
        yield
        return
    status = console.status(escape(text))
    lock, over = threading.Lock(), threading.Event()

    def show() -> None:
        with lock:
            if not over.is_set():
                status.start()

    timer = threading.Timer(after_s, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            over.set()
        timer.cancel()
        timer.join()
        status.stop()
