"""Watches Ascend cards: through a DCMI child that is asked again and again, or where that cannot be, ``npu-smi``.

The child costs a few calls a sample; a start of npu-smi takes a good part of a second and is therefore done every
five seconds at most: in between its last answer is given again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from drivers.ascend_dcmi import power_once, samples_of
from drivers.ascend_errors import code_name
from drivers.ascend_install import library_path, read_install
from drivers.ascend_tool import NpuSmi, budget, find_tool
from drivers.command import CommandFailed, FailureKind, minimal_environment
from drivers.conversation import Conversation
from drivers.dcmi_reading import DcmiSample, DcmiStart, child_argv
from drivers.errors import MonitorFailed
from drivers.types import Device, DeviceSample

LIBRARY_INTERVAL_S = 1.0
TOOL_INTERVAL_S = 5.0
START_TIMEOUT_S = 10.0
"""An interpreter and the library's init; a 950 takes longest."""
ANSWER_TIMEOUT_S = 5.0
TOOL_TIMEOUT_S = 10.0

_CODES = {FailureKind.TIMED_OUT: "monitor_timed_out", FailureKind.SIGNALLED: "monitor_crashed"}


class AscendMonitor:
    """Samples all Ascend chips (``drivers.types.Monitor``). ``root`` and ``environment`` are those of the probe.

    Not safe for several threads at once.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        tool: Path | None = None,
        search_path: str | None = None,
        environment: Mapping[str, str] | None = None,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Asks nothing yet. ``clock`` counts seconds and decides when npu-smi is asked anew."""
        self._root = root
        self._named_tool = tool
        self._search_path = search_path
        self._named_environment = environment
        self._answer_timeout_s = answer_timeout_s
        self._clock = clock
        self._child: Conversation | None = None
        self._last: tuple[DeviceSample, ...] = ()
        self._next_s: float | None = None
        self._look()

    @property
    def name(self) -> str:
        """The probe's name."""
        return "ascend"

    @property
    def interval_s(self) -> float:
        """1 s with the library, 5 s with the tool alone."""
        return LIBRARY_INTERVAL_S if self._loadable else TOOL_INTERVAL_S

    def sample(self) -> tuple[DeviceSample, ...]:
        """One sample of each chip; a chip that gives no answer has a ``problem``. Raises ``MonitorFailed``."""
        if not self._loadable and self._tool is None:
            self._look()
        if self._loadable:
            samples = self._ask_library()
            if samples is not None:
                return samples
        return self._ask_tool()

    def close(self) -> None:
        """End the child. Idempotent."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _look(self) -> None:
        """What there is to ask; again when there was nothing: a driver may be installed meanwhile."""
        self._install = read_install(self._root)
        self._tool = self._named_tool or find_tool(self._root, self._search_path)
        self._loadable = self._install.library is not None
        own = self._named_environment
        path = library_path(self._install)
        self._environment = own if own is not None else minimal_environment(LD_LIBRARY_PATH=path)

    def _ask_library(self) -> tuple[DeviceSample, ...] | None:
        """A sample through the child; ``None`` when the library cannot be loaded, which is remembered."""
        try:
            if self._child is None and not self._start():
                return None
            line = self._conversation().ask("", timeout_s=self._answer_timeout_s)
        except CommandFailed as failure:
            self.close()
            code = _CODES.get(failure.kind, "monitor_crashed")
            raise MonitorFailed(code, f"DCMI was lost: {failure.message}", failure.hint) from failure
        try:
            return samples_of(msgspec.json.decode(line.encode(), type=DcmiSample).chips)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            self.close()
            raise MonitorFailed("monitor_crashed", "The DCMI child printed something else than a sample.") from error

    def _start(self) -> bool:
        """Start the child and read how the library began; ``False`` when it cannot be loaded."""
        install = self._install
        libraries = [str(install.library)] if install.library is not None else []
        argv = child_argv(watch=True, libraries=libraries, preload=[str(path) for path in install.preload])
        self._child = Conversation(argv, environment=self._environment)
        line = self._child.read_line(timeout_s=START_TIMEOUT_S)
        try:
            start = msgspec.json.decode(line.encode(), type=DcmiStart)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            self.close()
            raise MonitorFailed("monitor_crashed", "The DCMI child printed something else than its start.") from error
        if start.missing is not None:
            self.close()
            self._loadable = False
            if self._tool is None:
                message = f"DCMI cannot be loaded ({start.missing}) and npu-smi was not found."
                raise MonitorFailed("monitor_unavailable", message, "Run r1box doctor: it names what is missing.")
            return False
        if start.error is not None:
            self.close()
            message = f"The driver's library does not start (DCMI {code_name(start.error)})."
            raise MonitorFailed("monitor_refused", message, "Run r1box doctor: it tells why.")
        return True

    def _conversation(self) -> Conversation:
        if self._child is None:
            raise MonitorFailed("monitor_crashed", "The DCMI child is gone.")
        return self._child

    def _ask_tool(self) -> tuple[DeviceSample, ...]:
        """A sample from ``npu-smi info``, at most every five seconds, and less often where it takes long itself."""
        if self._tool is None:
            message = "There is neither libdcmi.so nor npu-smi to watch Ascend cards with."
            raise MonitorFailed("monitor_unavailable", message, "Install the driver, or run r1box doctor.")
        started_s = self._clock()
        if self._next_s is not None and started_s < self._next_s:
            return self._last
        self._next_s = None
        info, failure = NpuSmi(self._tool, self._environment, budget(TOOL_TIMEOUT_S)).info()
        if info.error_code is not None:
            message = f"npu-smi could not start the driver's library (DCMI {code_name(info.error_code)})."
            raise MonitorFailed("monitor_refused", message, "Run r1box doctor: it tells why.")
        if failure is not None:
            code = "monitor_unavailable" if failure.kind is FailureKind.NOT_FOUND else _CODES.get(failure.kind)
            raise MonitorFailed(code or "monitor_crashed", failure.message, failure.hint) from failure
        self._last = tuple(_sample(device) for device in power_once(info.devices))
        took_s = self._clock() - started_s
        self._next_s = started_s + max(TOOL_INTERVAL_S, 2 * took_s)
        return self._last


def _sample(device: Device) -> DeviceSample:
    total, free = device.memory_total_bytes, device.memory_free_bytes
    return DeviceSample(
        device.key,
        health=device.health,
        utilization_percent=device.utilization_percent,
        memory_used_bytes=None if total is None or free is None else total - free,
        memory_total_bytes=total,
        temperature_celsius=device.temperature_celsius,
        power_watts=device.power_watts,
    )
