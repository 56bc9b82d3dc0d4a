"""Tells webhooks what opens and closes: a short queue for each, worked off in order, never in anybody's way.

``note`` only puts something into queues. A receiver that is down gets tries with growing pauses, for two hours in all;
then the event is given up, with a line in the log. A queue that is full loses its oldest event. What waits is lost with
the daemon; whatever is still wrong after a restart is told anew.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import structlog

from appliance.alerts.delivery import Resolve, deliver, resolve, shown, trust
from appliance.alerts.types import AlertConfig, AlertEvent, Delivered, EventName, NotDelivered
from appliance.schemas.alerts import AlertResult, AlertState, AlertTarget
from appliance.schemas.issues import Issue

_log = structlog.get_logger(__name__)

MOST_WAITING = 100
PAUSES_S = (5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0)


@dataclass(eq=False)
class _Target:
    url: str
    name: str
    waiting: deque[AlertEvent] = field(default_factory=deque)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    delivered: int = 0
    given_up: int = 0
    dropped: int = 0
    failures: int = 0
    last_delivered_at: datetime | None = None
    last_error: str | None = None


class AlertService:
    """``start`` before, ``aclose`` after the checks run. For one event loop; ``find`` looks names up."""

    def __init__(
        self,
        config: AlertConfig,
        *,
        find: Resolve = resolve,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._find = find
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter
        self._box = socket.gethostname()
        self._targets: dict[str, _Target] = {}
        self._client: httpx.AsyncClient | None = None
        self._started = False

    def note(self, name: EventName, issue: Issue) -> None:
        """An issue has opened, changed its severity, or closed. Returns at once."""
        if self._config.wants(issue.severity):
            event = self._event(name, issue)
            for target in self._targets.values():
                self._put(target, event)

    def state(self) -> AlertState:
        """How each receiver does; addresses without their secret parts."""
        return AlertState(
            targets=tuple(
                AlertTarget(
                    target=one.name,
                    waiting=len(one.waiting),
                    delivered=one.delivered,
                    given_up=one.given_up,
                    dropped=one.dropped,
                    failures=one.failures,
                    last_delivered_at=one.last_delivered_at,
                    last_error=one.last_error,
                )
                for one in self._targets.values()
            ),
            severity=self._config.severity,
            signed=self._config.secret is not None,
        )

    async def test(self) -> tuple[AlertResult, ...]:
        """Post a test to every receiver now, past the queues, and say how each answered."""
        event = self._event("test", None)
        client = await self._ready()
        results = await asyncio.gather(*(self._try(client, one, event) for one in self._targets.values()))
        return tuple(
            AlertResult(
                target=one.name,
                delivered=isinstance(result, Delivered),
                status=result.status if isinstance(result, Delivered) else None,
                problem=result.reason if isinstance(result, NotDelivered) else None,
            )
            for one, result in zip(self._targets.values(), results, strict=True)
        )

    async def start(self) -> None:
        """Begin to deliver."""
        self._started = True
        self.use(self._config)

    def use(self, config: AlertConfig) -> None:
        """Other receivers or rules from now on; what waits for a receiver that stays goes on waiting."""
        if config.ca_bundle != self._config.ca_bundle:
            self._client = None
        self._config = config
        for url in set(self._targets) - set(config.urls):
            gone = self._targets.pop(url)
            if gone.task is not None:
                gone.task.cancel()
        for url in config.urls:
            if url not in self._targets:
                self._targets[url] = _Target(url, shown(url))
        if self._started:
            for target in self._targets.values():
                if target.task is None:
                    target.task = asyncio.create_task(self._work(target), name=f"alerts to {target.name}")

    async def aclose(self) -> None:
        """End; what waits is not told."""
        self._started = False
        tasks = [target.task for target in self._targets.values() if target.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._client is not None:
            await self._client.aclose()

    def _event(self, name: EventName, issue: Issue | None) -> AlertEvent:
        at = datetime.fromtimestamp(self._clock(), UTC)
        return AlertEvent(id=f"evt_{secrets.token_hex(8)}", name=name, at=at, box=self._box, issue=issue)

    def _put(self, target: _Target, event: AlertEvent) -> None:
        if len(target.waiting) >= MOST_WAITING:
            lost = target.waiting.popleft()
            target.dropped += 1
            _log.warning("alert_dropped", target=target.name, dropped=lost.name, waiting=MOST_WAITING)
        target.waiting.append(event)
        target.woken.set()

    async def _work(self, target: _Target) -> None:
        while True:
            while not target.waiting:
                target.woken.clear()
                await target.woken.wait()
            event = target.waiting[0]
            try:
                await self._deliver(target, event)
            except Exception:  # noqa: BLE001 - the loop top: one event that cannot be sent ends none of the others
                _log.exception("alert_crashed", target=target.name)
                target.given_up += 1
            # Meanwhile it may have been dropped for a newer one.
            if target.waiting and target.waiting[0] is event:
                target.waiting.popleft()

    async def _deliver(self, target: _Target, event: AlertEvent) -> None:
        for pause_s in (*PAUSES_S, None):
            result = await self._try(await self._ready(), target, event)
            if isinstance(result, Delivered):
                return
            if not result.again or pause_s is None:
                target.given_up += 1
                _log.error("alert_given_up", target=target.name, event_name=event.name, reason=result.reason)
                return
            _log.warning("alert_not_delivered", target=target.name, event_name=event.name, reason=result.reason)
            # Many boxes that see the same outage must not all come back at the same moment.
            await self._sleep(result.wait_s or pause_s * (1 + 0.2 * self._jitter()))

    async def _try(self, client: httpx.AsyncClient, target: _Target, event: AlertEvent) -> Delivered | NotDelivered:
        result = await deliver(client, target.url, event, self._config, int(self._clock()), self._find)
        if isinstance(result, Delivered):
            target.delivered += 1
            target.failures, target.last_error = 0, None
            target.last_delivered_at = datetime.fromtimestamp(self._clock(), UTC)
        else:
            target.failures += 1
            target.last_error = result.reason
        return result

    async def _ready(self) -> httpx.AsyncClient:
        if self._client is None:
            try:
                context = await asyncio.to_thread(trust, self._config.ca_bundle)
            except OSError as error:
                _log.error("alert_ca_unusable", path=str(self._config.ca_bundle), reason=str(error))
                context = await asyncio.to_thread(trust, None)
            self._client = httpx.AsyncClient(verify=context, trust_env=False, follow_redirects=False)
        return self._client
