"""One model's server over several boxes, as an engine sees it on the leading box and on another.

Both are ``engine.external.server.Server``: what starts, watches and restarts an engine need not know that more than one
box is behind it. On the leader the server is rank 0's; elsewhere the box's own rank is started and watched, and asked
is the leader.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from appliance.engine.external.launch import Endpoint
from appliance.engine.external.server import LaunchedServer
from appliance.engine.external.server_factory import ServerSpec, launch_of
from appliance.errors import EngineStartFailed


class Forming(Protocol):
    """What ``appliance.cluster.leadership.Leadership`` gives."""

    async def form(self, run: str, master_port: int) -> None:
        """Begin a run when all its boxes are there. Raises EngineStartFailed."""
        ...

    def rank_zero_runs(self, run: str) -> None: ...

    async def run_over(self, run: str) -> str:
        """Return when the run has ended, with the cause."""
        ...

    def over(self, run: str) -> str | None:
        """Why the run has ended; ``None`` while it has not."""
        ...

    def end(self, run: str, cause: str) -> None: ...


class Following(Protocol):
    """What ``appliance.cluster.membership.Membership`` gives."""

    async def next_run(self) -> tuple[str, int]:
        """Name and port of the run that the leader wants this box in. Raises EngineStartFailed."""
        ...

    def began(self, run: str) -> None: ...

    def failed(self, run: str, cause: str) -> None: ...

    def ceased(self, run: str) -> None: ...

    async def run_over(self, run: str) -> str:
        """Return when this box is to end its rank, with the cause."""
        ...


class LeaderServer:
    """Rank 0 here, the others where the leader's plan has them. For one start."""

    def __init__(self, spec: ServerSpec, forming: Forming) -> None:
        self._spec = spec
        self._forming = forming
        self._run = secrets.token_hex(8)
        self._local: LaunchedServer | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Rank 0's; there is none before the start."""
        assert self._local is not None
        return self._local.endpoint

    @property
    def is_started(self) -> bool:
        return self._local is not None

    @property
    def pid(self) -> int | None:
        return None if self._local is None else self._local.pid

    async def start(self, on_progress: Callable[[float], None]) -> None:
        """Gather the boxes, begin the run, start rank 0. Raises EngineStartFailed."""
        node = self._spec.order.node
        assert node is not None
        try:
            port = free_port(node.master_address)
        except OSError as error:
            reason = f"its address {node.master_address} cannot be used ({error.strerror or error})"
            raise EngineStartFailed(cause=reason, cause_code="cluster_address_lost") from error
        local = LaunchedServer(launch_of(_at_port(self._spec, port)))
        await self._forming.form(self._run, port)
        self._local = local
        await local.start(on_progress)
        self._forming.rank_zero_runs(self._run)

    async def wait_ended(self) -> str:
        """Its own process has ended, or another box is lost."""
        assert self._local is not None
        return await _first(self._local.wait_ended(), self._forming.run_over(self._run))

    def has_ended(self) -> bool:
        return self._local is None or self._local.has_ended() or self._forming.over(self._run) is not None

    def failure(self, cause: str) -> EngineStartFailed:
        elsewhere = self._forming.over(self._run)
        if elsewhere is None and self._local is not None:
            return self._local.failure(cause)
        return EngineStartFailed(cause=elsewhere or cause, log_tail=self.log_tail(), cause_code="cluster_box_lost")

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        return () if self._local is None else self._local.log_tail(lines)

    async def stop(self, timeout_s: float) -> None:
        self._forming.end(self._run, "the model's server on the leading box has ended")
        if self._local is not None:
            await self._local.stop(timeout_s)


class MemberServer:
    """This box's rank, and the leader's port for questions. For one start."""

    def __init__(self, spec: ServerSpec, endpoint: Endpoint, following: Following) -> None:
        self._spec = spec
        self._endpoint = endpoint
        self._following = following
        self._local: LaunchedServer | None = None
        self._run: str | None = None

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    @property
    def pid(self) -> int | None:
        return None if self._local is None else self._local.pid

    async def start(self, on_progress: Callable[[float], None]) -> None:
        """Wait for the leader's word, start this box's rank. Raises EngineStartFailed."""
        run, port = await self._following.next_run()
        local = LaunchedServer(launch_of(_at_port(self._spec, port)))
        try:
            await local.start(on_progress)
        except EngineStartFailed as error:
            self._following.failed(run, error.message)
            raise
        self._local, self._run = local, run
        self._following.began(run)

    async def wait_ended(self) -> str:
        """Its own process has ended, or the leader says so, or says nothing any more."""
        assert self._local is not None
        assert self._run is not None
        return await _first(self._own_end(self._local, self._run), self._following.run_over(self._run))

    def has_ended(self) -> bool:
        return self._local is None or self._local.has_ended()

    def failure(self, cause: str) -> EngineStartFailed:
        if self._local is None:
            return EngineStartFailed(cause=cause, cause_code="cluster_box_lost")
        return self._local.failure(cause)

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        return () if self._local is None else self._local.log_tail(lines)

    async def stop(self, timeout_s: float) -> None:
        if self._local is None or self._run is None:
            return
        await self._local.stop(timeout_s)
        self._following.ceased(self._run)

    async def _own_end(self, local: LaunchedServer, run: str) -> str:
        cause = await local.wait_ended()
        failure = local.failure(f"it has ended, {cause}")
        self._following.failed(run, failure.details["cause"])
        return cause


def free_port(address: str) -> int:
    """A port of an address that is free now."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _at_port(spec: ServerSpec, port: int) -> ServerSpec:
    node = spec.order.node
    assert node is not None
    return replace(spec, order=replace(spec.order, node=replace(node, master_port=port)))


async def _first(*waits: object) -> str:
    """The first result; the others are given up."""
    tasks: list[asyncio.Task[str]] = [asyncio.ensure_future(wait) for wait in waits]  # type: ignore[call-overload]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
