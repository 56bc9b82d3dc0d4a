"""Word to systemd over a real datagram socket, as systemd's own end sees it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from structlog.testing import capture_logs

from appliance.system.notify import STARTING_BEAT_S, ServiceNotifier


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(10)
        yield end


def address(end: socket.socket) -> str:
    name: str = end.getsockname()
    return name


def heard(end: socket.socket) -> list[str]:
    """The next message's lines; fails after ten seconds of silence."""
    return end.recv(4096).decode().split("\n")


def nothing_more(end: socket.socket) -> bool:
    end.setblocking(False)
    try:
        end.recv(4096)
    except BlockingIOError:
        return True
    return False


def test_a_whole_life(systemd: socket.socket) -> None:
    notifier = ServiceNotifier(address(systemd), watchdog_s=60)
    notifier.beat()
    notifier.status("starting  r1,\n40 % loaded")
    notifier.status("starting r1, 40 % loaded")
    notifier.ready()
    notifier.beat()
    notifier.stopping()
    assert heard(systemd) == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=90000000"]
    assert heard(systemd) == ["STATUS=starting r1, 40 % loaded"]
    assert heard(systemd) == ["READY=1"]
    assert heard(systemd) == ["WATCHDOG=1"]
    assert heard(systemd) == ["STOPPING=1"]
    assert nothing_more(systemd)


def test_an_abstract_address() -> None:
    name = f"r1box-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(f"\0{name}")
        end.settimeout(10)
        ServiceNotifier(f"@{name}").ready()
        assert heard(end) == ["READY=1"]


def test_without_a_watchdog_a_ready_service_is_silent(systemd: socket.socket) -> None:
    notifier = ServiceNotifier(address(systemd))
    notifier.beat()
    notifier.ready()
    notifier.beat()
    assert heard(systemd) == ["EXTEND_TIMEOUT_USEC=90000000"]
    assert heard(systemd) == ["READY=1"]
    assert nothing_more(systemd)


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, None),
        ({"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "10000000"}, None),
        ({"NOTIFY_SOCKET": "/run/x"}, STARTING_BEAT_S),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "10000000"}, 5.0),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 5.0),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, STARTING_BEAT_S),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3600000000"}, STARTING_BEAT_S),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "soon"}, STARTING_BEAT_S),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "0"}, STARTING_BEAT_S),
    ],
)
def test_half_the_watchdogs_time_passes_between_signs_of_life(
    environ: dict[str, str], interval_s: float | None
) -> None:
    assert ServiceNotifier.from_environment(environ).interval_s == interval_s


async def test_signs_of_life_go_on_until_the_end_and_never_block(systemd: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": address(systemd), "WATCHDOG_USEC": "2000"}
    systemd.setblocking(False)
    loop = asyncio.get_running_loop()
    with blockbuster_ctx("appliance"):
        beating = asyncio.create_task(ServiceNotifier.from_environment(environ).keep_beating())
        for _ in range(5):
            message = await asyncio.wait_for(loop.sock_recv(systemd, 4096), 10)
            assert message.startswith(b"WATCHDOG=1\n")
        beating.cancel()
        await asyncio.wait({beating})
    assert beating.cancelled()


async def test_nobody_listens() -> None:
    notifier = ServiceNotifier.from_environment({})
    await notifier.keep_beating()
    notifier.ready()
    notifier.status("x")
    notifier.stopping()


@pytest.mark.parametrize("name", ["/nonexistent/notify", "/" + "x" * 200, "@" + "x" * 200])
def test_a_deaf_socket_is_told_of_once_and_disturbs_nothing(name: str) -> None:
    notifier = ServiceNotifier(name, watchdog_s=60)
    with capture_logs() as logs:
        notifier.ready()
        notifier.beat()
    assert [entry["event"] for entry in logs] == ["systemd_not_told"]


def test_a_full_queue_makes_nobody_wait(systemd: socket.socket) -> None:
    notifier = ServiceNotifier(address(systemd), watchdog_s=60)
    with capture_logs() as logs:
        for _ in range(100_000):
            notifier.beat()
            if logs:
                break
    assert logs[0]["event"] == "systemd_not_told"
