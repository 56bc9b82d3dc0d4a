"""Aborts at every moment: each request ends once, and nothing is left of any. ``tests/bench`` has the long storm."""

from __future__ import annotations

from pathlib import Path

from tests.appliance.engine.llamacpp.storm import storm


def test_random_aborts_leave_nothing_behind(tmp_path: Path) -> None:
    after = storm(400, tmp_path)
    assert (after.twice, after.after_the_end, sum(after.endings.values())) == (0, 0, 400)
    assert after.endings["aborted"] > 80
    assert after.endings["length"] + after.endings["stop"] > 80
    assert after.endings["error"] == 0
    assert (after.cells, after.positions, after.remembered) == (0, 0, 0)
    assert (after.counters.active, after.counters.waiting, after.counters.tier_failures) == (0, 0, 0)
    # The storm went through the tiers too.
    assert after.counters.tier_hits > 0
    assert after.counters.tier_disk_bytes > 0
