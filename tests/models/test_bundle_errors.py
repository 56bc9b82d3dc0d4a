"""Every error of bundles speaks plainly, says what next and can be written as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.bundle import errors

STICK = Path("usb")
SAMPLES: list[errors.BundleError] = [
    errors.BundleUnreadable(STICK, "it has no manifest.json"),
    errors.BundleManifestInvalid("it lists a file twice"),
    errors.BundleEntryRefused("model.gguf", "a link"),
    errors.BundleUnsigned("r1"),
    errors.BundleKeyUnknown("r1", "0123456789ABCDEF"),
    errors.BundleSignatureInvalid("its trusted comment was changed"),
    errors.BundleDamaged("r1", [f"model.gguf bytes {n}" for n in range(9)], 9, kept=True),
    errors.BundleDamaged("r1", ["model.gguf bytes 0 to 9"], 9, kept=False),
    errors.BundleStickMissing("r1", ["stick 2 of 3 (r1-2)"], [f"part-{n}" for n in range(9)], 9),
    errors.BundleMismatch(STICK, "r1", "r1"),
    errors.BundleMismatch(STICK, "r1", "r2"),
    errors.BundleContradiction("r1", "its manifest gives parameters 7, the files have 8"),
    errors.BundleDoesNotFit("r1", "it needs 9 GiB", 9, 3),
    errors.BundleTargetUnusable(STICK, "something else is there already", "Give another folder."),
    errors.BundleTargetTooSmall(9, 3, 1),
    errors.BundleTargetTooSmall(9, 3, 2),
    errors.BundleSourceChanged(Path("a.gguf")),
    errors.KeyFileInvalid("lab.pub", "it is far too long"),
    errors.KeyPasswordWrong("lab.key"),
    errors.KeyNotTrusted("0123456789ABCDEF"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_error_is_plain_actionable_and_json(error: errors.BundleError) -> None:
    assert error.message.endswith(".")
    assert error.message.isprintable()
    assert error.hint
    assert error.hint.endswith((".", "KEY.pub"))
    assert 400 <= error.http_status < 600
    assert json.loads(json.dumps(error.details)) == error.details


def test_every_error_class_is_sampled_and_has_its_own_code() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.BundleError)]
    leaves = [c for c in classes if c is not errors.BundleError]
    assert {type(e) for e in SAMPLES} == set(leaves)
    assert len({c.code for c in leaves}) == len(leaves)
