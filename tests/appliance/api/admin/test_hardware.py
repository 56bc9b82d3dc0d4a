"""``/api/admin/hardware``: the last snapshot is kept, and detection runs once however many ask."""

from __future__ import annotations

import asyncio
import threading

import httpx

from drivers.snapshot_json import from_json
from drivers.types import Device, HardwareSnapshot, Host
from tests.appliance.api.box import H20, Box

LAST = "/api/admin/hardware"
REFRESH = "/api/admin/hardware/refresh"


async def test_the_first_question_waits_for_a_detection_and_the_next_has_it(
    client: httpx.AsyncClient, box: Box
) -> None:
    first, second = await client.get(LAST), await client.get(LAST)
    assert first.status_code == 200
    assert first.content == second.content
    assert box.machine.asked == 1
    told = first.json()
    assert from_json(told["snapshot"]).devices == (H20,)
    assert told["detected_at"].endswith("Z")
    assert told["duration_s"] >= 0


async def test_a_refresh_takes_the_place_of_the_last(client: httpx.AsyncClient, box: Box) -> None:
    before = (await client.get(LAST)).json()
    box.machine.snapshot = HardwareSnapshot(Host(), (H20, Device("nvidia", 1, "NVIDIA L20")))
    refreshed = await client.post(REFRESH)
    assert refreshed.status_code == 200
    assert len(refreshed.json()["snapshot"]["devices"]) == 2
    assert (await client.get(LAST)).json() == refreshed.json() != before
    assert (await client.get(REFRESH)).status_code == 405


async def test_one_detection_at_a_time(client: httpx.AsyncClient, box: Box) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        assert go.wait(60)

    box.machine.before = slow
    asking = [asyncio.create_task(client.post(REFRESH)) for _ in range(5)]
    assert await asyncio.to_thread(begun.wait, 60)
    leaving = asyncio.create_task(client.get(LAST))
    while len(asyncio.all_tasks()) < 7:  # until all of them have come to wait
        await asyncio.sleep(0)
    leaving.cancel()
    go.set()
    replies = await asyncio.gather(*asking)
    assert {reply.status_code for reply in replies} == {200}
    assert box.machine.asked == len({reply.content for reply in replies})


async def test_a_detection_that_breaks_is_an_error_and_the_next_is_tried(client: httpx.AsyncClient, box: Box) -> None:
    def broken() -> None:
        raise OSError("no such thing")

    box.machine.before = broken
    response = await client.post(REFRESH)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    box.machine.before = lambda: None
    assert (await client.post(REFRESH)).status_code == 200
