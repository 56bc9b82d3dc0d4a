"""Watches NVIDIA cards through an NVML child that stays and is asked again and again (``drivers.nvml --watch``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drivers.command import CommandFailed, FailureKind, minimal_environment
from drivers.conversation import Conversation
from drivers.errors import MonitorFailed
from drivers.host import Memory, read_memory
from drivers.nvidia_device import is_unified
from drivers.nvidia_errors import GPU_IS_LOST, LIBRARY_NOT_FOUND, RESET_REQUIRED, error_name
from drivers.nvidia_health import sample_health, throttle_words
from drivers.nvidia_reading import (
    NvmlCardSample,
    NvmlInstanceSample,
    NvmlSample,
    NvmlStart,
    child_argv,
    parse_watch_line,
)
from drivers.types import DeviceSample, Health

SOURCE = "nvidia"
START_TIMEOUT_S = 10.0
"""Without the persistence daemon the library's start wakes every card, which takes seconds."""
SAMPLE_TIMEOUT_S = 3.0
TROUBLED_SAMPLES = 60
"""After so many samples with a silent card the library is started anew: a card that was reset stays lost to a program
that knew it before."""


@dataclass
class NvidiaMonitor:
    """Samples NVIDIA cards and MIG instances; a sample's key is ``Device.key``. ``root``, ``environment`` and
    ``host_memory`` as in ``drivers.nvidia.NvidiaProbe``. Used memory is what is not free, so it includes what driver
    and firmware hold."""

    root: Path = Path("/")
    environment: Mapping[str, str] | None = None
    host_memory: Callable[[], Memory] | None = None
    start_timeout_s: float = START_TIMEOUT_S
    sample_timeout_s: float = SAMPLE_TIMEOUT_S
    troubled_samples: int = TROUBLED_SAMPLES
    name: str = field(default=SOURCE, init=False)
    interval_s: float = field(default=1.0, init=False)
    _child: Conversation | None = field(default=None, init=False, repr=False)
    _troubled: int = field(default=0, init=False, repr=False)

    def sample(self) -> tuple[DeviceSample, ...]:
        """One sample of each card that the library counts. Raises ``MonitorFailed``."""
        try:
            child = self._child or self._start()
            line = child.ask("sample", timeout_s=self.sample_timeout_s)
        except CommandFailed as error:
            self.close()
            raise _failed(error) from error
        record = parse_watch_line(line)
        if not isinstance(record, NvmlSample):
            self.close()
            raise MonitorFailed(
                "monitor_crashed", "NVIDIA's library child answered something that is no sample.", _HINT
            )
        found = samples(record, self.host_memory or (lambda: read_memory(self.root)))
        self._troubled = self._troubled + 1 if any(sample.problem is not None for sample in found) else 0
        if self._troubled >= self.troubled_samples:
            self.close()
        return found

    def close(self) -> None:
        """End the child. Idempotent."""
        if self._child is not None:
            self._child.close()
            self._child = None
        self._troubled = 0

    def _start(self) -> Conversation:
        environment = self.environment
        if environment is None:
            environment = minimal_environment(keep=("LD_LIBRARY_PATH",))
        self._child = child = Conversation(child_argv(watch=True), environment=environment)
        record = parse_watch_line(child.read_line(timeout_s=self.start_timeout_s))
        if isinstance(record, NvmlStart) and record.error is None:
            return child
        self.close()
        if not isinstance(record, NvmlStart):
            raise MonitorFailed("monitor_crashed", "NVIDIA's library child began with something unknown.", _HINT)
        if record.error == LIBRARY_NOT_FOUND:
            message = "NVIDIA's library libnvidia-ml.so.1 was not found."
            raise MonitorFailed("monitor_unavailable", message, "Install NVIDIA's driver.")
        message = f"NVIDIA's library could not be started: error {error_name(record.error or 0)}."
        raise MonitorFailed("monitor_refused", message, "r1box doctor says what is missing.")


_HINT = "Run nvidia-smi by hand and read the kernel log (journalctl -k -g NVRM)."


def _failed(error: CommandFailed) -> MonitorFailed:
    if error.kind in (FailureKind.NOT_FOUND, FailureKind.NOT_EXECUTABLE):
        return MonitorFailed("monitor_unavailable", error.message, error.hint)
    if error.kind is FailureKind.TIMED_OUT:
        return MonitorFailed("monitor_timed_out", f"NVIDIA's library hangs: {error.message}", _HINT)
    return MonitorFailed("monitor_crashed", f"NVIDIA's library crashed: {error.message}", _HINT)


def samples(record: NvmlSample, host_memory: Callable[[], Memory]) -> tuple[DeviceSample, ...]:
    """The child's figures as samples, a card's MIG instances after it. Pure but for ``host_memory``."""
    found: list[DeviceSample] = []
    for card in record.cards:
        key = f"{SOURCE}:{card.index}"
        code = card.error or next((one for one in card.errors.values() if one in (GPU_IS_LOST, RESET_REQUIRED)), None)
        if code is not None:
            health = Health.CRITICAL if code in (GPU_IS_LOST, RESET_REQUIRED) else Health.UNKNOWN
            found.append(DeviceSample(key, problem=f"It gives no answer: error {error_name(code)}.", health=health))
            continue
        sample = _card(key, card, host_memory)
        found.append(sample)
        found += [_instance(f"{key}.{one.instance}", one, sample.health) for one in card.instances]
    return tuple(found)


def _card(key: str, card: NvmlCardSample, host_memory: Callable[[], Memory]) -> DeviceSample:
    total, free = card.memory_total_bytes or None, card.memory_free_bytes
    if is_unified(card.name, card.pci_device_id):
        memory = host_memory()
        total, free = memory.total_bytes, memory.available_bytes
    return DeviceSample(
        key=key,
        health=sample_health(card.throttle_mask, card.recovery_action),
        utilization_percent=card.utilization_percent,
        memory_used_bytes=_used(total, free),
        memory_total_bytes=total,
        temperature_celsius=card.temperature_celsius,
        power_watts=card.power_milliwatts / 1000 if card.power_milliwatts is not None else None,
        clock_mhz=card.clock_mhz,
        throttle_reasons=throttle_words(card.throttle_mask),
    )


def _instance(key: str, instance: NvmlInstanceSample, health: Health) -> DeviceSample:
    if instance.error is not None:
        return DeviceSample(key, problem=f"It gives no answer: error {error_name(instance.error)}.")
    total = instance.memory_total_bytes or None
    return DeviceSample(
        key,
        health=health,
        memory_used_bytes=_used(total, instance.memory_free_bytes),
        memory_total_bytes=total,
    )


def _used(total: int | None, free: int | None) -> int | None:
    return None if total is None or free is None else max(0, total - free)
