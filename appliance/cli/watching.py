"""Pages that are shown once, or again and again until Ctrl-C."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from appliance.cli.output import print_json, stdout

if TYPE_CHECKING:
    from rich.console import RenderableType

WATCH_EVERY_S = 2.0


def show_page(
    read: Callable[[], dict[str, Any]],
    draw: Callable[[dict[str, Any]], RenderableType],
    *,
    as_json: bool,
    watch: bool,
    every_s: float = WATCH_EVERY_S,
) -> dict[str, Any]:
    """What was read last. With ``watch`` and ``as_json`` a line of JSON for each look; where nothing is a terminal, a
    page after the other."""
    told = read()
    if not watch:
        if as_json:
            print_json({"schema": 1, **told})
        else:
            stdout().print(draw(told))
        return told
    try:
        if as_json or not sys.stdout.isatty():
            while True:
                if as_json:
                    sys.stdout.write(json.dumps({"schema": 1, **told}, ensure_ascii=False) + "\n")
                else:
                    stdout().print(draw(told))
                sys.stdout.flush()
                time.sleep(every_s)
                told = read()
        from rich.live import Live

        with Live(draw(told), console=stdout(), auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(every_s)
                told = read()
                live.update(draw(told), refresh=True)
    except KeyboardInterrupt:
        return told
