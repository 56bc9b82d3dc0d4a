"""Asks ``npu-smi``: the whole table, and single questions for what is still unknown, within one time budget.

Each start of the tool takes a good part of a second, so only what matters is asked for; a tool that hung once is not
asked again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from drivers.command import CommandFailed, FailureKind, run
from drivers.nodes import is_there
from drivers.npu_smi import MappedChip, NpuInfo, parse_chips, parse_info, parse_list

TOOL_FOLDERS = ("usr/local/bin", "usr/local/sbin")


@dataclass(frozen=True, slots=True)
class ToolReading:
    """What the tool told. ``chips`` are those of ``info -m`` and ``cards`` of ``info -l`` where they were asked for;
    ``failure`` is how ``info`` failed."""

    info: NpuInfo
    failure: CommandFailed | None = None
    chips: tuple[MappedChip, ...] = ()
    cards: tuple[tuple[int, int | None], ...] = ()


class NpuSmi:
    """The tool at one path. ``left`` tells how many seconds the budget still has."""

    def __init__(self, tool: Path, environment: Mapping[str, str], left: Callable[[], float]) -> None:
        self._tool = tool
        self._environment = environment
        self._left = left
        self._hung = False
        self._cut: list[tuple[str, ...]] = []

    @property
    def cut(self) -> tuple[tuple[str, ...], ...]:
        """The questions whose answers did not end with the end of a line."""
        return tuple(self._cut)

    def info(self) -> tuple[NpuInfo, CommandFailed | None]:
        """``npu-smi info`` read as far as it goes; a failing tool may still have printed its table."""
        failure: CommandFailed | None = None
        try:
            result = run([str(self._tool), "info"], timeout_s=self._timeout_s(), environment=self._environment)
        except CommandFailed as error:
            failure, result = error, error.result
            self._hung = error.kind is FailureKind.TIMED_OUT
        text = f"{result.stdout}\n{result.stderr}"
        if failure is not None and not text.strip():
            return NpuInfo(), failure
        info = parse_info(text)
        if failure is not None:
            # The failure says it better than "no table".
            info = replace(info, findings=tuple(f for f in info.findings if f.code != "output_not_understood"))
        return info, failure

    def ask(self, *arguments: str) -> str | None:
        """What it prints for one question; ``None`` when it fails, hung before or has no time left."""
        if self._hung or self._left() <= 0:
            return None
        argv = [str(self._tool), "info", *arguments]
        try:
            result = run(argv, timeout_s=self._timeout_s(), environment=self._environment)
        except CommandFailed as error:
            self._hung = error.kind is FailureKind.TIMED_OUT
            return None
        # Output beyond the limit is lost: without its end the last line counts as cut.
        text = result.stdout.rstrip("\n") if result.truncated else result.stdout
        if text and not text.endswith("\n"):
            self._cut.append(arguments)
        return text

    def chips(self) -> tuple[MappedChip, ...]:
        """``info -m``; nothing when it fails."""
        return parse_chips(self.ask("-m") or "")

    def cards(self) -> tuple[tuple[int, int | None], ...]:
        """``info -l``; nothing when it fails."""
        return tuple(parse_list(self.ask("-l") or "").items())

    def _timeout_s(self) -> float:
        return max(0.05, round(self._left(), 1))


def read_tool(tool: NpuSmi) -> ToolReading:
    """``info``, and the numbers of the chips where the table does not tell them or tells of no chip."""
    info, failure = tool.info()
    if info.error_code is not None or failure is not None:
        return ToolReading(info, failure)
    if info.devices and all(device.index is not None and device.node is None for device in info.devices):
        return ToolReading(info)
    # 910A, 910B and 950 print no number for programs, A3 prints the node's, which in a container is another one.
    chips = tool.chips()
    cards = () if chips else tool.cards()
    return ToolReading(info, failure, chips, cards)


def budget(seconds: float, clock: Callable[[], float] = time.monotonic) -> Callable[[], float]:
    """A function that tells how much is left of that many seconds from now."""
    end = clock() + seconds
    return lambda: end - clock()


def find_tool(root: Path = Path("/"), search_path: str | None = None) -> Path | None:
    """Path of an executable ``npu-smi``: where the driver installs it, then PATH; ``None`` when there is none.

    Relative entries of PATH are skipped: a tool is not taken from the current folder.
    """
    path = os.environ.get("PATH", "") if search_path is None else search_path
    folders = [root / folder for folder in TOOL_FOLDERS]
    folders += [Path(entry) for entry in path.split(":") if entry.startswith("/")]
    for folder in folders:
        tool = folder / "npu-smi"
        if is_there(tool) and not tool.is_dir() and os.access(tool, os.X_OK):
            return tool
    return None
