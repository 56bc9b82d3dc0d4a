"""Alerts on a real HTTP server: signatures, retries, order, bounds; where nothing is ever posted."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.alerts.delivery import refusal, shown
from appliance.alerts.service import MOST_WAITING, PAUSES_S, AlertService
from appliance.alerts.types import AlertConfig
from appliance.health.board import IssueBoard
from appliance.health.checks.alerts import alerts_are_not_delivered
from appliance.health.fixups.post_test import PostTest
from appliance.health.types import BoxFacts
from appliance.metrics.alerts import AlertCollector
from appliance.schemas.issues import Issue, SeverityWord
from appliance.schemas.telemetry import Telemetry
from tests.appliance.alerts.receiver import Receiver, receiver

SECRET = "a secret of some length"
AT = datetime(2026, 11, 22, tzinfo=UTC)


def issue(code: str = "disk_full", severity: SeverityWord = "error") -> Issue:
    return Issue(id=f"{code}@state", code=code, severity=severity, message="It is full.", since=AT, hint="Empty it.")


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@dataclass
class Pauses:
    """Sleeps that last until they are let go."""

    asked: list[float] = field(default_factory=list)
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.gate.acquire()


@asynccontextmanager
async def alerts(*urls: str, pauses: Pauses | None = None, **more: Any) -> AsyncIterator[AlertService]:
    service = AlertService(
        AlertConfig(**{"urls": urls, "loopback": True, **more}),
        sleep=(pauses or Pauses()).sleep,
        clock=lambda: 1_795_305_600.0,
        jitter=lambda: 0.0,
    )
    await service.start()
    yield service
    await service.aclose()


async def test_what_is_posted_can_be_verified(hook: Receiver) -> None:
    async with alerts(hook.url, secret=SECRET) as service:
        service.note("issue.opened", issue())
        service.note("issue.closed", issue())
        await asyncio.to_thread(hook.wait, 2)
    opened, closed = hook.came
    assert opened.path == "/hooks/s3cret"
    assert opened.headers["host"] == f"127.0.0.1:{hook.port}"
    stamp = opened.headers["x-r1box-timestamp"]
    expected = hmac.new(SECRET.encode(), f"{stamp}.".encode() + opened.body, hashlib.sha256).hexdigest()
    assert opened.headers["x-r1box-signature"] == f"v1={expected}"
    body = json.loads(opened.body)
    assert (body["event"], body["id"]) == ("issue.opened", opened.headers["x-r1box-delivery"])
    assert body["issue"]["code"] == "disk_full"
    assert body["text"].endswith("error: It is full. Next: Empty it.")
    assert json.loads(closed.body)["event"] == closed.headers["x-r1box-event"] == "issue.closed"
    assert opened.headers["x-r1box-delivery"] != closed.headers["x-r1box-delivery"]


async def test_without_a_secret_nothing_is_signed_and_little_things_are_not_told(hook: Receiver) -> None:
    async with alerts(hook.url, severity="warning") as service:
        service.note("issue.opened", issue("small", "info"))
        service.note("issue.opened", issue("middle", "warning"))
        await asyncio.to_thread(hook.wait)
    [came] = hook.came
    assert json.loads(came.body)["issue"]["code"] == "middle"
    assert "x-r1box-signature" not in came.headers


async def test_a_receiver_that_is_down_gets_it_later_and_everything_in_order(hook: Receiver) -> None:
    hook.answers = [(503, {}), (429, {"Retry-After": "42"}), (500, {})]
    pauses = Pauses()
    async with alerts(hook.url, pauses=pauses) as service:
        service.note("issue.opened", issue("first"))
        service.note("issue.opened", issue("second"))
        for _ in range(3):
            await asyncio.to_thread(hook.wait)
            pauses.gate.release()
        await asyncio.to_thread(hook.wait, 2)
        told = [json.loads(came.body) for came in hook.came]
        assert [one["issue"]["code"] for one in told] == ["first"] * 4 + ["second"]
        assert len({one["id"] for one in told}) == 2
        assert pauses.asked == [PAUSES_S[0], 42.0, PAUSES_S[2]]


@pytest.mark.parametrize("answer", [(404, {}), (307, {"Location": "http://127.0.0.1:1/"})])
async def test_what_no_try_helps_is_given_up_and_the_next_goes_out(
    hook: Receiver, answer: tuple[int, dict[str, str]]
) -> None:
    hook.answers = [answer]
    async with alerts(hook.url) as service:
        service.note("issue.opened", issue("first"))
        service.note("issue.opened", issue("second"))
        await asyncio.to_thread(hook.wait, 2)
        [target] = service.state().targets
        while target.delivered == 0:  # its answer is on its way
            await asyncio.sleep(0)
            [target] = service.state().targets
        assert (target.given_up, target.delivered, target.last_error) == (1, 1, None)
    assert [json.loads(came.body)["issue"]["code"] for came in hook.came] == ["first", "second"]


async def test_tries_end(hook: Receiver) -> None:
    hook.answers = [(503, {})] * (len(PAUSES_S) + 1)
    pauses = Pauses(gate=asyncio.Semaphore(1_000))
    async with alerts(hook.url, pauses=pauses) as service:
        service.note("issue.opened", issue("first"))
        service.note("issue.opened", issue("second"))
        await asyncio.to_thread(hook.wait, len(PAUSES_S) + 2)
        assert service.state().targets[0].given_up == 1
    assert tuple(pauses.asked) == PAUSES_S
    assert json.loads(hook.came[-1].body)["issue"]["code"] == "second"


async def test_a_full_queue_loses_the_oldest_and_nobody_waits() -> None:
    pauses = Pauses()
    # Nobody listens there: a port that was free a moment ago.
    with receiver() as gone:
        url = gone.url
    async with alerts(url, pauses=pauses) as service:
        for number in range(MOST_WAITING + 7):
            service.note("issue.opened", issue(f"c{number}"))
        [target] = service.state().targets
        assert (target.waiting, target.dropped) == (MOST_WAITING, 7)
        assert target.target == f"http://127.0.0.1:{gone.port}"
        while not pauses.asked:
            await asyncio.sleep(0.001)
        [target] = service.state().targets
        assert target.failures == 1
        assert target.last_error


async def test_who_is_not_reached_is_an_issue_until_a_test_is_taken(hook: Receiver) -> None:
    """Service, facts, check, board, fix-up and metrics together; another receiver is told of the one that is deaf."""
    with receiver() as other:
        hook.answers = [(503, {}), (503, {}), (503, {})]
        pauses = Pauses()
        async with alerts(hook.url, other.url, pauses=pauses) as service:

            async def facts() -> BoxFacts:
                told = Telemetry(enabled=False, time=AT, started_at=AT)
                return BoxFacts(now=AT, telemetry=told, alerts=service.state().targets)

            board = IssueBoard(facts, [alerts_are_not_delivered], [PostTest(service)], on_change=service.note)
            service.note("issue.opened", issue())
            for number in range(3):
                await asyncio.to_thread(hook.wait)
                while len(pauses.asked) <= number:
                    await asyncio.sleep(0)
                assert ((await board.look()).issues == ()) == (number < 2)
                if number < 2:
                    pauses.gate.release()
            [open_issue] = board.issues().issues
            assert (open_issue.code, open_issue.subject) == ("alerts_not_delivered", f"http://127.0.0.1:{hook.port}")
            assert "status 503" in open_issue.message
            await asyncio.to_thread(other.wait, 2)
            assert [json.loads(came.body)["issue"]["code"] for came in other.came] == [
                "disk_full",
                "alerts_not_delivered",
            ]
            shown = {
                (sample.name, sample.labels["target"]): sample.value
                for family in AlertCollector(service.state).collect()
                for sample in family.samples
                if sample.labels.get("reason") != "dropped"
            }
            target = f"http://127.0.0.1:{hook.port}"
            assert shown["r1box_alert_failures", target] == 3
            assert shown["r1box_alerts_waiting", target] == 2
            assert shown["r1box_alerts_lost_total", target] == 0
            done = await board.fix(open_issue.id, "test_alerts")
            assert (done.message, done.issues) == (f"{target} took it.", ())


async def test_a_test_says_how_each_receiver_took_it(hook: Receiver) -> None:
    with receiver() as other:
        other.answers = [(401, {})]
        async with alerts(hook.url, other.url, secret=SECRET) as service:
            results = await service.test()
    assert [(one.delivered, one.status, one.problem) for one in results] == [
        (True, 200, None),
        (False, None, "it answers with status 401"),
    ]
    assert json.loads(hook.came[0].body)["event"] == "test"
    assert "s3cret" not in str(results)


async def test_other_receivers_from_now_on(hook: Receiver) -> None:
    with receiver() as other:
        async with alerts(hook.url) as service:
            service.use(AlertConfig(urls=(other.url,), loopback=True, severity="info"))
            service.note("issue.opened", issue("small", "info"))
            await asyncio.to_thread(other.wait)
            service.use(AlertConfig())
            service.note("issue.opened", issue())
            assert service.state().targets == ()
    assert hook.came == []
    assert len(other.came) == 1


@pytest.mark.parametrize(
    ("addresses", "url"),
    [
        (["127.0.0.1"], "http://metadata.example/"),
        (["::1"], "http://metadata.example/"),
        (["::ffff:127.0.0.1"], "http://metadata.example/"),
        (["169.254.169.254"], "http://metadata.example/latest"),
        (["fe80::1%eth0"], "http://metadata.example/"),
        (["0.0.0.0"], "http://metadata.example/"),
        (["224.0.0.1"], "http://metadata.example/"),
        (["192.0.2.1", "127.0.0.1"], "http://metadata.example/"),
        ([], "http://nobody.example/"),
    ],
)
async def test_nothing_is_posted_to_the_box_or_its_link(addresses: list[str], url: str) -> None:
    async def find(host: str, port: int) -> Sequence[str]:
        return addresses

    service = AlertService(AlertConfig(urls=(url,)), find=find)
    service.use(AlertConfig(urls=(url,)))
    [result] = await service.test()
    assert not result.delivered
    assert result.status is None
    await service.aclose()


async def test_the_connection_goes_to_the_address_that_was_judged(hook: Receiver) -> None:
    """A name that nobody else could look up: its answer came from here, and nothing asks a second time."""
    asked: list[str] = []

    async def find(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"]

    url = f"http://alerts.invalid:{hook.port}/x"
    service = AlertService(AlertConfig(urls=(url,), loopback=True), find=find)
    service.use(AlertConfig(urls=(url,), loopback=True))
    [result] = await service.test()
    await service.aclose()
    assert result.delivered, result
    assert asked == ["alerts.invalid"]
    assert hook.came[0].headers["host"] == f"alerts.invalid:{hook.port}"


def test_which_addresses_are_fine() -> None:
    for address in ("10.1.2.3", "192.168.0.7", "172.16.9.9", "fd00::7", "93.184.215.14", "2606:2800::1"):
        assert refusal(address, loopback=False) is None
    assert refusal("127.0.0.1", loopback=True) is None
    assert refusal("169.254.169.254", loopback=True) is not None


def test_addresses_are_shown_without_their_secrets() -> None:
    assert shown("https://chat.example.org/hooks/s3cret?key=s3cret") == "https://chat.example.org"
    assert shown("http://[fd00::7]:8080/s3cret") == "http://[fd00::7]:8080"
