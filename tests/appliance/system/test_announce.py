"""The announcement on a network of its own: multicast over the loopback interface, asked by zeroconf's own browser."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from zeroconf import IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from appliance.system.announce import SECURE_SERVICE, SERVICE, Announcement, announce_until_cancelled

LOOPBACK = ["127.0.0.1"]


def box(address: str, *, secure: bool = False) -> Announcement:
    return Announcement(
        "r1box-test", port=8080, secure=secure, version="1.2.3", addresses=[address, "fd00::1"], interfaces=LOOPBACK
    )


async def asked(kind: str, label: str) -> AsyncServiceInfo | None:
    zeroconf = AsyncZeroconf(interfaces=LOOPBACK, ip_version=IPVersion.V4Only)
    try:
        return await zeroconf.async_get_service_info(kind, f"{label}.{kind}", timeout=5000)
    finally:
        await zeroconf.async_close()


@pytest.mark.parametrize(("secure", "kind"), [(False, SERVICE), (True, SECURE_SERVICE)])
async def test_others_find_the_box(secure: bool, kind: str) -> None:
    announced = box("192.168.7.20", secure=secure)
    await announced.start()
    try:
        assert announced.host == "r1box-test.local"
        found = await asked(kind, "R1 Box r1box-test")
        assert found is not None
        assert found.server == "r1box-test.local."
        assert found.parsed_addresses() == ["192.168.7.20"]
        assert found.port == 8080
        assert found.decoded_properties["version"] == "1.2.3"
    finally:
        await announced.stop()
    assert announced.host is None


async def test_a_second_box_takes_another_name() -> None:
    first, second = box("192.168.7.20"), box("192.168.7.21")
    await first.start()
    try:
        await second.start()
        assert second.host == "r1box-test-2.local"
    finally:
        await second.stop()
        await first.stop()


async def test_without_an_address_nothing_is_announced() -> None:
    announced = Announcement("r1box-test", port=1, secure=False, version="1", addresses=["fd00::1"])
    await announced.start()
    assert announced.host is None
    await announced.stop()


# zeroconf 0.154 leaves a socket to the garbage collector when another cannot be opened.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_where_it_cannot_be_done_the_box_serves_on() -> None:
    announced = Announcement(
        "r1box-test", port=1, secure=False, version="1", addresses=["10.0.0.1"], interfaces=["203.0.113.77"]
    )
    task = asyncio.create_task(announce_until_cancelled(announced))
    while not announced.tried:
        await asyncio.sleep(0)
    assert announced.host is None
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
