"""The checks, one file each. What is not in this tuple is not run."""

from __future__ import annotations

from appliance.health.checks.alerts import alerts_are_not_delivered
from appliance.health.checks.certificate import certificate_ends
from appliance.health.checks.clock import clock_is_wrong
from appliance.health.checks.cluster import cluster_is_not_whole
from appliance.health.checks.crash_loop import engine_crashes
from appliance.health.checks.devices import device_is_lost
from appliance.health.checks.disk import disk_is_full
from appliance.health.checks.hardware import hardware_findings
from appliance.health.checks.memory import memory_is_low
from appliance.health.checks.model_damaged import model_is_damaged
from appliance.health.checks.model_missing import no_model_answers
from appliance.health.checks.monitors import monitor_fails
from appliance.health.checks.offload import offload_is_degraded
from appliance.health.checks.thermal import device_throttles
from appliance.health.types import Check

CHECKS: tuple[Check, ...] = (
    no_model_answers,
    engine_crashes,
    offload_is_degraded,
    device_is_lost,
    device_throttles,
    hardware_findings,
    monitor_fails,
    model_is_damaged,
    disk_is_full,
    memory_is_low,
    clock_is_wrong,
    certificate_ends,
    cluster_is_not_whole,
    alerts_are_not_delivered,
)
