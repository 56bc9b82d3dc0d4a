"""The proof that an installed system serves, after which the boot loader's note of a try is taken away.

The boot loader notes a try before it starts a slot; only this takes the note away. Until then a restart, by a failure
or by the watchdog, leads into the other slot. Served is what a person would call so: the daemon says it is ready and
answers a question. A box without a model cannot; it is good when the daemon says just that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import httpx

from drivers.command import CommandFailed, minimal_environment, run
from drivers.slots import RESCUE, booted_slot, given_up
from installer.errors import InstallFailed
from installer.executor import Runner

SOCKET = Path("/run/r1box/admin.sock")
MOST_FAILURES = 5
"""So often the daemon may say that its engine failed: it starts it again by itself."""
PROBE_POLL_S = 3.0
_ANSWER_S = 600.0


@dataclass(frozen=True, slots=True)
class State:
    """What ``/readyz`` says; ``model`` None: there is none to serve."""

    ready: bool
    state: str
    model: str | None
    error: str | None = None


class Probe(Protocol):
    """Asks the daemon of this machine."""

    def state(self) -> State | None:
        """None while nobody answers."""
        ...

    def answers(self, model: str) -> bool:
        """Whether a question is answered."""
        ...

    def restarts(self) -> int:
        """How often systemd has started the service again; 0 when that is not known."""
        ...


class BoxProbe:
    """Asks by the admin socket, which root may use without a key."""

    def __init__(self, socket: Path = SOCKET) -> None:
        self._socket = socket
        self._client = httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://r1box")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def state(self) -> State | None:
        if not self._socket.is_socket():
            return None
        try:
            told = self._client.get("/readyz", timeout=10.0).json()
            return State(bool(told["ready"]), str(told["state"]), told["model"], told.get("error"))
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None

    def restarts(self) -> int:
        argv = ("systemctl", "show", "--property=NRestarts", "--value", "r1box.service")
        try:
            told = run(argv, timeout_s=30.0, environment=minimal_environment()).stdout.strip()
        except CommandFailed:
            return 0
        return int(told) if told.isdecimal() else 0

    def answers(self, model: str) -> bool:
        if not self._socket.is_socket():
            return False
        body = {"model": model, "messages": [{"role": "user", "content": "Are you there?"}], "max_tokens": 8}
        try:
            answer = self._client.post("/v1/chat/completions", json=body, timeout=_ANSWER_S)
            return answer.status_code == 200 and bool(answer.json()["choices"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return False


def prove_slot(
    kernel_arguments: Sequence[str],
    probe: Probe,
    runner: Runner,
    say: Callable[[str], None],
    pause: Callable[[], None],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Return when the slot is marked good. Raises InstallFailed (``action_failed``) when it does not serve; how long to
    wait is the caller's affair (the unit's time limit).

    ``environment``: the boot loader's notes. A slot that it tried before this one and went on from is marked bad, so
    that the notes say it and nobody goes back to it."""
    if RESCUE in kernel_arguments:
        say("Started for rescue: neither system was good. Not proved.")
        return
    slot = booted_slot(kernel_arguments)
    if slot is None:
        say("This system has no slots.")
        return
    found = _served(probe, pause)
    if found.model is not None and not probe.answers(found.model):
        raise InstallFailed("action_failed", f"{found.model} is ready and does not answer.", "journalctl -u r1box")
    runner(("rauc", "status", "mark-good"), 60.0, (0,))
    what = f"{found.model} answers" if found.model is not None else "it has no model yet"
    lost = given_up(environment or {}, slot)
    if lost is not None:
        runner(("rauc", "status", "mark-bad", "other"), 60.0, (0,))
        say(f"Slot {lost} was started before and did not serve; the system of slot {slot} is back.")
    say(f"Slot {slot} is good: {what}.")


def _served(probe: Probe, pause: Callable[[], None]) -> State:
    failures = 0
    while True:
        state = probe.state()
        if state is not None:
            if state.ready or state.model is None:
                return state
            failures = failures + 1 if state.state == "failed" else 0
            if failures >= MOST_FAILURES:
                raise InstallFailed(
                    "action_failed", f"{state.model} cannot be served: {state.error or 'no reason given'}",
                    "journalctl -u r1box",
                )  # fmt: skip
        elif (deaths := probe.restarts()) >= MOST_FAILURES:
            raise InstallFailed(
                "action_failed", f"The service does not come up: it was started again {deaths} times.",
                "journalctl -u r1box",
            )  # fmt: skip
        pause()
