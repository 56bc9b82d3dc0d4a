"""Plots, resources, the QR code and where the daemon is looked for."""

from __future__ import annotations

import socket
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.tui.boxes import StillClock
from tui.__main__ import LOCAL_URL, target_of
from tui.client import Problem
from tui.plots import plot_rows
from tui.qr import qr_rows
from tui.resource import Failed, Loading, Ready, Resource, Stale


@given(
    st.lists(st.none() | st.floats(0, 1e6), min_size=1, max_size=40), st.integers(1, 8), st.sampled_from([".:#", "#"])
)
def test_plots_grow_from_their_floor(values: list[float | None], height: int, marks: str) -> None:
    top = max((value for value in values if value is not None), default=0.0)
    rows = plot_rows(values, height, top, marks)
    assert {len(row) for row in rows} == {len(values)}
    for place, value in enumerate(values):
        column = "".join(row[place] for row in reversed(rows))
        assert (column.strip() != "") == bool(value)
        assert column.rstrip() == column[: len(column.rstrip())].replace(" ", "?")
        if value and value == top:
            assert column == marks[-1] * height


async def test_a_resource_knows_how_well_it_knows() -> None:
    clock, told = StillClock(), list[int | Problem]()

    async def fetch() -> int | Problem:
        return told.pop()

    resource = Resource(fetch, clock, every_s=2)
    clock.at_s += 3
    assert resource.state() == Loading(3)
    problem = Problem("unreachable")
    told += [8, problem, 7, problem]
    await resource.ask()
    assert resource.state() == Failed(problem, 0)
    await resource.ask()
    assert resource.state() == Ready(7, 0)
    clock.at_s += 6
    assert resource.state() == Stale(7, 6, None)
    await resource.ask()
    assert resource.state() == Stale(7, 6, problem)
    await resource.ask()
    assert resource.state() == Ready(8, 0)


def test_codes_fit_beside_a_screen_of_80x24() -> None:
    rows = qr_rows("http://192.168.100.200:8080/")
    assert len(rows) <= 17
    assert {len(row) for row in rows} == {29}


def test_where_the_daemon_is_looked_for(tmp_path: Path) -> None:
    own = {"R1BOX_STATE_DIR": str(tmp_path), "R1BOX_ADMIN_SOCKET": str(tmp_path / "named.sock")}
    assert target_of("https://box:8080/", None, None, own).page_url == "https://box:8080/"
    assert target_of(None, None, None, own).url == LOCAL_URL
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "named.sock"))
        found = target_of(None, None, None, own)
    assert (found.socket, found.page_url) == (tmp_path / "named.sock", None)
