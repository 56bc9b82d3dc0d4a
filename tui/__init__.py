"""The operator's console: an HTTP client of the daemon."""

from __future__ import annotations

import sys

# httpx does without its own command line where click is missing. Here it is made to: click, pygments and progress bars
# cost as much to load as all the rest of it.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
