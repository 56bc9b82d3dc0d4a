"""What the client scripts have in common: where the box is, what to ask, how to tell what came."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

URL, KEY, MODEL = (os.environ[f"BOX_{name}"] for name in ("URL", "KEY", "MODEL"))
LIMITED_KEY = os.environ.get("BOX_LIMITED_KEY", "")
CASES: dict[str, Any] = json.loads(os.environ["BOX_CASES"])
QUESTION: str = CASES["question"]
WEATHER: str = CASES["weather"]
TOOLS: list[dict[str, Any]] = CASES["tools"]
RESULT: str = CASES["result"]
TOO_LONG = "word " * 3_000


def caught(call: Callable[[], Any]) -> dict[str, Any]:
    """How a call fails."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - every client has errors of its own
        return {"type": type(error).__name__, "status": getattr(error, "status_code", None), "text": str(error)}
    return {"type": None, "status": 200, "text": ""}


def tell(cases: dict[str, Callable[[], Any]]) -> None:
    """Run the cases that the command line names, or all, and print what they give."""
    wanted = sys.argv[1:] or list(cases)
    print(json.dumps({name: cases[name]() for name in wanted}))
