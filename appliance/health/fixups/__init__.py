"""The fix-ups, one file each. ``all_fixups`` is the explicit list; a check names them by their names."""

from __future__ import annotations

from appliance.health.fixups.check_offload import CheckOffload, OffloadChecker
from appliance.health.fixups.detect_hardware import DetectHardware, Detector
from appliance.health.fixups.post_test import AlertTester, PostTest
from appliance.health.fixups.reload_model import ModelLoader, ReloadModel
from appliance.health.fixups.verify_model import ModelVerifier, VerifyModel
from appliance.health.types import Fixup


def all_fixups(
    *,
    models: ModelLoader,
    verifier: ModelVerifier,
    hardware: Detector,
    offload: OffloadChecker,
    alerts: AlertTester,
) -> tuple[Fixup, ...]:
    """Every fix-up over what it acts on."""
    return (
        ReloadModel(models),
        VerifyModel(verifier),
        DetectHardware(hardware),
        CheckOffload(offload),
        PostTest(alerts),
    )
