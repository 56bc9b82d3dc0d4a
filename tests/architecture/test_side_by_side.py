"""``make test`` fails when a part of the tests does, and leaves no part out."""

from __future__ import annotations

import sys

import pytest

from tests.side_by_side import PARTS, run

SAY_AND_END = [sys.executable, "-c", "import sys; print('ended', sys.argv[1], '100%]'); sys.exit(int(sys.argv[1]))"]


@pytest.mark.parametrize(("codes", "result"), [((0, 0), 0), ((0, 1), 1), ((2, 0), 2), ((5, 1), 5)])
def test_a_part_that_fails_fails_all(capfd: pytest.CaptureFixture[str], codes: tuple[int, int], result: int) -> None:
    parts = {f"part {place}": [str(code)] for place, code in enumerate(codes)}
    assert run(parts, SAY_AND_END) == result
    said = capfd.readouterr().out
    assert [line for line in said.splitlines() if line.startswith(("==", "ended"))] == [
        "== part 0",
        f"ended {codes[0]} 100%]",
        "== part 1",
        f"ended {codes[1]} 100%]",
    ]


def test_progress_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    slow = (
        "import time\nprint('.. [ 12%]', flush=True)\nend = time.monotonic() + 0.5\nwhile time.monotonic() < end: pass"
    )
    assert run({"one": [slow]}, [sys.executable, "-c"], tell_every_s=0.05) == 0
    assert "one " in capfd.readouterr().out


def test_what_the_last_part_leaves_out_the_others_have() -> None:
    *others, rest = PARTS.values()
    assert rest == ["tests", *(word for (folder,) in others for word in ("--ignore", folder))]
