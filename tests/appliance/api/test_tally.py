"""An attack is in the log, and does not fill it."""

from __future__ import annotations

import io
import json
from typing import Any

from appliance.api.tally import TOLD_EVERY_S, Tally


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_the_first_at_once_then_their_number_once_a_minute(log: io.StringIO) -> None:
    clock = Clock()
    tally = Tally("refused", clock)
    for _ in range(500):
        tally.note("invalid_api_key", "192.0.2.7")
    tally.note("invalid_api_key", "192.0.2.8")
    tally.note("not_logged_in", "192.0.2.7")
    clock.now_s = TOLD_EVERY_S
    tally.note("invalid_api_key", "192.0.2.7")
    told = [(line["code"], line["address"], line["times"]) for line in lines(log)]
    assert told == [
        ("invalid_api_key", "192.0.2.7", 1),
        ("invalid_api_key", "192.0.2.8", 1),
        ("not_logged_in", "192.0.2.7", 1),
        ("invalid_api_key", "192.0.2.7", 500),
    ]


def test_a_thousand_addresses_are_told_apart_and_no_more_are_kept(log: io.StringIO) -> None:
    tally = Tally("refused", Clock())
    for number in range(5_000):
        tally.note("invalid_api_key", f"192.0.{number // 250}.{number % 250}")
    assert len(tally._counts) == 1_000
