"""Consoles' child processes that misbehave, and boxes that cannot start one. What goes well: tests/e2e."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from appliance.errors import AppError
from appliance.terminals import ConsoleOff, ConsoleUnavailable, Holder, NoSuchConsole, Terminal, Terminals, Window

OTTO = Holder(session_id=7, name="otto", headers={})
PACKETS = """
import json, signal, sys, time
def packet(kind, payload):
    sys.stdout.buffer.write(kind + len(payload).to_bytes(4, "big") + payload)
    sys.stdout.buffer.flush()
"""


async def lasts() -> bool:
    return True


async def child(source: str) -> Terminal:
    """A console whose program is ``source``."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PACKETS + source,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    return Terminal(process, OTTO)


async def shown(terminal: Terminal) -> str:
    async with asyncio.timeout(30):
        return "".join([text async for text in terminal.output()])


async def test_what_it_shows_and_how_it_leaves() -> None:
    terminal = await child('packet(b"D", "总览".encode()); packet(b"P", b"?"); packet(b"M", b\'{"type": "exit"}\')')
    assert await shown(terminal) == "总览"
    assert terminal.reason == "left"
    with pytest.raises(NoSuchConsole):
        await terminal.type("q")
    await terminal.aclose()


async def test_what_is_typed_comes_as_packets() -> None:
    terminal = await child(
        "for _ in range(3):\n"
        "    head = sys.stdin.buffer.read(5)\n"
        "    packet(b'D', head[:1] + sys.stdin.buffer.read(int.from_bytes(head[1:], 'big')) + b'\\n')\n"
    )
    await terminal.type("2")
    await terminal.resize(90, 30)
    await terminal.focus(True)
    keys, size, focus = (await shown(terminal)).splitlines()
    assert keys == "D2"
    assert json.loads(size[1:]) == {"type": "resize", "width": 90, "height": 30}
    assert json.loads(focus[1:]) == {"type": "focus"}
    await terminal.aclose()


@pytest.mark.parametrize(
    "source",
    ['sys.stdout.write("Traceback (most recent call last):")', 'packet(b"D", b"x" * 9); sys.exit(3)'],
    ids=["no packets", "its end"],
)
async def test_one_that_breaks_has_failed(source: str) -> None:
    terminal = await child(source)
    await shown(terminal)
    assert terminal.reason == "failed"
    await terminal.aclose()


async def test_one_that_does_not_listen_is_ended_by_force() -> None:
    terminal = await child('signal.signal(signal.SIGTERM, signal.SIG_IGN); packet(b"D", b"here"); time.sleep(600)')
    async for text in terminal.output():
        assert text == "here"
        break
    async with asyncio.timeout(30):
        await terminal.aclose()
        await terminal.aclose()
    assert terminal.reason == "left"


async def test_one_that_nobody_reads_waits(tmp_path: Path) -> None:
    terminal = await child(f'[packet(b"D", b"x" * 60000) for _ in range(9999)]; open({str(tmp_path / "all")!r}, "w")')
    async with asyncio.timeout(30):
        while not terminal._packets.full():
            await asyncio.sleep(0.01)
    assert not (tmp_path / "all").exists()
    await terminal.aclose()


async def test_none_without_the_setting_and_without_the_socket(tmp_path: Path) -> None:
    terminals = Terminals(tmp_path / "admin.sock", enabled=False)
    window = Window(columns=80, rows=24)
    refused: list[type[AppError]] = []
    for enabled in (False, True):
        terminals.retune(enabled=enabled)
        try:
            await terminals.open(OTTO, window, lasts)
        except AppError as error:
            refused.append(type(error))
    assert refused == [ConsoleOff, ConsoleUnavailable]
    assert len(terminals) == 0
