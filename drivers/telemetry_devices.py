"""Follows the devices of one monitor from sample to sample: which are there, which went, what got worse."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.telemetry_events import EventLog, Settled
from drivers.telemetry_history import SAMPLE_FIELDS, THROTTLED, History
from drivers.telemetry_types import Clock, DeviceReading, DeviceState, EventKind
from drivers.types import DeviceSample, Health, Severity

MOST_DEVICES = 128
"""Bound for a monitor that tells ever new names; an A3 box has 16 devices, eight cards cut by MIG have 56."""

NOT_LISTED = "The driver no longer lists it."
_RANK = {Health.OK: 0, Health.WARNING: 1, Health.ALARM: 2, Health.CRITICAL: 3}
_SEVERITY = {Health.OK: Severity.INFO, Health.WARNING: Severity.WARNING}


class _Track:
    """One device: its last sample, and what of it was told."""

    def __init__(self, key: str) -> None:
        self.sample = DeviceSample(key)
        self.throttles = False
        self.up: Settled[bool] = Settled(True, lambda told, new: told and not new)
        self.health: Settled[Health] = Settled(Health.OK, lambda told, new: _RANK[new] > _RANK[told])
        self.throttle: Settled[frozenset[str]] = Settled(frozenset(), lambda told, new: not new <= told)


class DeviceBoard:
    """The devices of one monitor. One thread notes, any thread reads: what is read is replaced, never changed."""

    def __init__(self, monitor: str, events: EventLog, history: History) -> None:
        self._monitor = monitor
        self._events = events
        self._history = history
        self._tracks: dict[str, _Track] = {}
        self._has_noted = False
        self._published: tuple[tuple[DeviceSample, float], ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The devices ever seen."""
        return tuple(sample.key for sample, _ in self._published)

    def note(self, samples: Sequence[DeviceSample], now_s: float, interval_s: float) -> None:
        """Take one good answer of the monitor, asked for at ``now_s`` (monotonic), one of every ``interval_s``."""
        heard = {sample.key: sample for sample in samples}
        for key in heard.keys() - self._tracks.keys():
            if self._make_room():
                self._tracks[key] = _Track(key)
                if self._has_noted:
                    self._events.add(EventKind.DEVICE_FOUND, key, f"{key} was found.", Severity.INFO)
        self._has_noted = True
        for key, track in self._tracks.items():
            self._follow(track, heard.get(key) or DeviceSample(key, problem=NOT_LISTED), now_s, interval_s)
        order = [*(key for key in heard if key in self._tracks), *(key for key in self._tracks if key not in heard)]
        self._published = tuple((self._tracks[key].sample, now_s) for key in order)

    def read(self, now_s: float, stale_s: float, clock: Clock) -> tuple[DeviceReading, ...]:
        """The devices as they are known at ``now_s``; what was not told for ``stale_s`` is unknown."""
        readings = []
        for sample, told_s in self._published:
            age_s = now_s - told_s
            state = DeviceState.PRESENT if sample.problem is None else DeviceState.LOST
            if age_s > stale_s:
                state = DeviceState.UNKNOWN
                sample = DeviceSample(sample.key, problem=f"There is no sample since {age_s:.0f} s.")
            readings.append(DeviceReading(self._monitor, state, sample, clock.at_s(told_s)))
        return tuple(readings)

    def _make_room(self) -> bool:
        """Whether one more device may be followed: with too many the first lost one is forgotten."""
        if len(self._tracks) < MOST_DEVICES:
            return True
        lost = next((key for key, track in self._tracks.items() if track.sample.problem is not None), None)
        if lost is not None:
            del self._tracks[lost]
        return lost is not None

    def _follow(self, track: _Track, sample: DeviceSample, now_s: float, interval_s: float) -> None:
        key = sample.key
        if sample.problem is not None:
            sample = DeviceSample(key, problem=sample.problem)
        track.sample = sample
        if track.up.update(sample.problem is None, now_s):
            if track.up.told:
                self._events.add(EventKind.DEVICE_BACK, key, f"{key} answers again.", Severity.INFO)
            else:
                message = f"{key} gives no answer: {sample.problem}"
                self._events.add(EventKind.DEVICE_LOST, key, message, Severity.ERROR)
        if sample.problem is not None:
            return
        self._follow_health(track, sample, now_s)
        self._follow_throttle(track, sample, now_s)
        for field in SAMPLE_FIELDS:
            value = getattr(sample, field)
            self._history.note(key, field, value, at_s=now_s, interval_s=interval_s)
        # Not every driver tells reasons: that there is none means something once there was one.
        track.throttles = track.throttles or bool(sample.throttle_reasons)
        throttled = float(bool(sample.throttle_reasons)) if track.throttles else None
        self._history.note(key, THROTTLED, throttled, at_s=now_s, interval_s=interval_s)

    def _follow_health(self, track: _Track, sample: DeviceSample, now_s: float) -> None:
        if sample.health is Health.UNKNOWN or not track.health.update(sample.health, now_s):
            return  # a health that is not told is no news
        now = track.health.told
        message = f"The health of {sample.key} is now {now.value}."
        self._events.add(EventKind.HEALTH_CHANGED, sample.key, message, _SEVERITY.get(now, Severity.ERROR))

    def _follow_throttle(self, track: _Track, sample: DeviceSample, now_s: float) -> None:
        before = track.throttle.told
        if not track.throttle.update(frozenset(sample.throttle_reasons), now_s):
            return
        told = track.throttle.told
        if told - before:
            message = f"{sample.key} slows itself down: {', '.join(sorted(told))}."
            self._events.add(EventKind.THROTTLE_STARTED, sample.key, message, Severity.WARNING)
        elif not told:
            message = f"{sample.key} no longer slows itself down."
            self._events.add(EventKind.THROTTLE_ENDED, sample.key, message, Severity.INFO)
