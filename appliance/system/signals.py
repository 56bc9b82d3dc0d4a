"""Being told to stop."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable


def on_stop_signal(stop: Callable[[], None]) -> None:
    """Call ``stop`` in the running event loop at SIGINT and SIGTERM.

    uvicorn takes these over while it serves and raises them again when it has ended; without handlers of our own that
    would kill the process before the engine is stopped, and so would a signal that comes before uvicorn listens to it.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)
