"""The ``r1box`` command whose engine is ``tests.fakes.paced_worker``: everything else is as an operator runs it.

R1BOX_BENCH_TOKENS_PER_S is the engine's pace. R1BOX_BENCH_HOLD names a file: while it is there, answers stand still.
"""

from __future__ import annotations

import os
import sys

from appliance.__main__ import main
from appliance.engine.llamacpp import engine

PACE = os.environ.pop("R1BOX_BENCH_TOKENS_PER_S", "2000")
HOLD = tuple(filter(None, (os.environ.pop("R1BOX_BENCH_HOLD", None),)))


def paced_command(socket_number: int) -> list[str]:
    """How the fake worker is started."""
    return [sys.executable, "-m", "tests.fakes.paced_worker", str(socket_number), PACE, *HOLD]


if __name__ == "__main__":
    engine.worker_command = paced_command
    main()
