"""Runs all probes side by side and joins what they find into one snapshot."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from drivers.host import read_host
from drivers.types import (
    Device,
    Finding,
    HardwareSnapshot,
    Host,
    LayerReport,
    Probe,
    ProbeResult,
    Severity,
    Software,
)
from drivers.vendors import VENDORS

DEFAULT_TIMEOUT_S = 30.0
"""Bound of a whole detection; each probe has its own, shorter one."""

_T = TypeVar("_T")
logger = logging.getLogger(__name__)


def default_probes(root: Path = Path("/")) -> tuple[Probe, ...]:
    """The probes of every vendor we know, in the order in which their devices are listed."""
    return tuple(vendor.probe(root) for vendor in VENDORS)


def detect(
    probes: Sequence[Probe],
    host_reader: Callable[[], Host] = read_host,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> HardwareSnapshot:
    """Ask everything at once and wait at most ``timeout_s``. Never raises for what a probe does.

    A probe that raises or does not come back is a finding (``probe_failed``, ``probe_timed_out``) with its name as
    ``source``. Devices are in the order of ``probes``, then by index and card; findings in the order of ``probes``.
    """
    deadline = time.monotonic() + timeout_s
    host_thread = _Asked("host", host_reader)
    asked = [_Asked(probe.name, probe.probe) for probe in probes]
    findings: list[Finding] = []
    devices: list[Device] = []
    layers: list[LayerReport] = []
    software: list[Software] = []
    host = host_thread.wait(deadline, timeout_s)
    if isinstance(host, Finding):
        findings.append(host)
        host = Host()
    for one in asked:
        result = one.wait(deadline, timeout_s)
        if isinstance(result, Finding):
            result = ProbeResult(one.name, (), (result,))
        devices += sorted(result.devices, key=_order)
        findings += result.findings
        layers += result.layers
        software += result.software
    return HardwareSnapshot(host, tuple(devices), tuple(findings), tuple(layers), tuple(software))


class _Asked(Generic[_T]):
    """A question running in its own thread. The thread is a daemon: one that never returns is left behind."""

    def __init__(self, name: str, question: Callable[[], _T]) -> None:
        self.name = name
        self._answers: queue.SimpleQueue[_T | Finding] = queue.SimpleQueue()
        threading.Thread(target=self._ask, args=(question,), name=f"probe-{name}", daemon=True).start()

    def _ask(self, question: Callable[[], _T]) -> None:
        try:
            self._answers.put(question())
        except Exception as error:  # the top of the thread
            logger.exception("the %s probe failed", self.name)
            message = f"The {self.name} probe failed: {type(error).__name__}: {error}"
            hint = "This is a fault of the program, not of the hardware: please report it with the log."
            self._answers.put(Finding("probe_failed", message, hint, Severity.ERROR, self.name))

    def wait(self, deadline: float, timeout_s: float) -> _T | Finding:
        """The answer, or a finding when the probe failed or the deadline passed."""
        try:
            return self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            message = f"The {self.name} probe gave no answer within {timeout_s:g} s."
            hint = "Run the vendor's tool by hand (nvidia-smi, npu-smi info) and read dmesg."
            return Finding("probe_timed_out", message, hint, Severity.ERROR, self.name)


def _order(device: Device) -> tuple[bool, int, int, int, str]:
    return (
        device.index is None,
        -1 if device.index is None else device.index,
        -1 if device.card_id is None else device.card_id,
        -1 if device.chip_id is None else device.chip_id,
        device.pci_address or "",
    )
