"""What the waiting person sees, with a clock of the test's own."""

from __future__ import annotations

import io

import pytest

from installer.bootstrap.progress import Progress, duration


class Screen:
    """A progress display on a string, 70 columns wide, whose time stands still until told."""

    def __init__(self, interactive: bool) -> None:
        self.now_s = 100.0
        self.stream = io.StringIO()
        self.progress = Progress(self.stream, interactive, 3, clock=lambda: self.now_s, columns=lambda: 70)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def drawn(self) -> str:
        """What stands in the terminal's current line."""
        return self.stream.getvalue().rpartition("\x1b[K")[2]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (6.6, "7 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (252, "4 min 12 s")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_plain_lines_for_a_quiet_step() -> None:
    screen = Screen(interactive=False)
    screen.progress.begin("packages")
    screen.now_s += 8
    screen.progress.note("resolved 67 packages")
    screen.progress.tick()
    screen.now_s += 8
    screen.progress.tick()
    screen.progress.tick()
    screen.now_s += 4
    screen.progress.end()
    assert screen.lines == [
        "[1/3] packages ...",
        "[1/3] packages: resolved 67 packages, 16 s",
        "[1/3] packages: done, 20 s",
    ]


def test_plain_lines_at_every_tenth_of_a_build_with_the_time_left() -> None:
    screen = Screen(interactive=False)
    screen.progress.begin("packages")
    screen.now_s += 10
    for done in range(1, 101):
        screen.progress.bar(done, 100, "files")
        screen.now_s += 0.1
    assert screen.lines[1] == "[1/3] packages: 10 of 100, files, 11 s, about 8 s left"
    assert screen.lines[-1] == "[1/3] packages: 100 of 100, files, 20 s"
    assert len(screen.lines) == 11


def test_a_terminal_gets_one_line_that_is_redrawn_and_never_wraps() -> None:
    screen = Screen(interactive=True)
    screen.progress.begin("packages")
    screen.now_s += 1
    screen.progress.bar(1, 4, "files of a library with a very long name indeed")
    assert screen.drawn == "[1/3] packages  [####............] 1/4  1 s, about 0 s left  files of"
    assert len(screen.drawn) <= 69
    screen.progress.end()
    assert screen.stream.getvalue().count("\n") == 1
    assert screen.drawn == "[1/3] packages: done, 1 s\n"


def test_a_terminal_is_not_redrawn_for_every_line_of_output() -> None:
    screen = Screen(interactive=True)
    screen.progress.begin("packages")
    for _ in range(1000):
        screen.progress.tick()
    assert screen.stream.getvalue().count("\x1b[K") == 1


def test_a_said_line_stays() -> None:
    screen = Screen(interactive=True)
    screen.progress.begin("packages")
    screen.progress.say("now it is compiled")
    assert "now it is compiled\n" in screen.stream.getvalue()
    assert screen.drawn == "[1/3] packages  0 s"


def test_steps_are_numbered() -> None:
    screen = Screen(interactive=False)
    for title in ("one", "two"):
        screen.progress.begin(title)
        screen.progress.end("failed")
    assert screen.lines[-1] == "[2/3] two: failed, 0 s"
