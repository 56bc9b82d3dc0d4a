"""The console in a browser: run by the daemon for one person, with a browser's window for a terminal."""

from __future__ import annotations

import json
import os

from textual.drivers.web_driver import WebDriver
from textual.messages import ExitApp

_MOST_BYTES = 65_536


class ServedDriver(WebDriver):
    """Textual's driver for browsers, which ends the console when nobody is at the other end any more: a daemon that was
    killed must leave none behind."""

    def run_input_thread(self) -> None:
        """Take what is typed until there is no more."""
        super().run_input_thread()
        if not self.exit_event.is_set():
            self.send_message(ExitApp())


def session_headers(descriptor: int) -> dict[str, str]:
    """The headers that make requests a person's, out of the pipe that the daemon gave. Raises OSError, ValueError."""
    with os.fdopen(descriptor, "rb") as pipe:
        told = json.loads(pipe.read(_MOST_BYTES))
    return {str(name): str(value) for name, value in dict(told).items()}
