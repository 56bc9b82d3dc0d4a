"""Which updates would break the cards of a box. Requirements are the shipped ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drivers.requirements import load_requirements
from drivers.types import Device, HardwareSnapshot, Host, Software
from installer.media.bundle import HOOK, manifest_text
from installer.update.errors import UpdateRefused
from installer.update.facts import FACTS, RULES, BundleFacts, facts_text
from installer.update.judge import judge
from installer.update.work import judge_bundle, read_facts
from tests.architecture.tree import ROOT

RULES_TEXT = (ROOT / "drivers/requirements.toml").read_text("utf-8")
KERNEL, NEXT = "6.1.0-37-amd64", "6.1.0-56-amd64"
OLD_DRIVER = (Software("nvidia-driver", "470.57.02"), Software("cuda-driver", "11.4"))
NEW_DRIVER = (Software("nvidia-driver", "580.65.06"), Software("cuda-driver", "13.0"))
CUDA_11, CUDA_12 = Software("llama-cpp-cuda", "11"), Software("llama-cpp-cuda", "12")


def box(*software: Software, kernel: str = KERNEL, vendor: str = "nvidia") -> HardwareSnapshot:
    return HardwareSnapshot(Host(hostname="box", kernel=kernel), (Device(vendor, 0, "card"),), software=software)


def judged(snapshot: HardwareSnapshot, facts: BundleFacts, *running: Software, modules: str = "") -> tuple[str, ...]:
    rules = load_requirements()
    return judge(facts, rules, snapshot, running, rules, lambda vendor, kernel: kernel in modules)


def test_engines_that_the_driver_is_too_old_for() -> None:
    facts = BundleFacts("0.2.0", KERNEL, (CUDA_12,))
    problems = judged(box(*OLD_DRIVER), facts, CUDA_11)
    assert len(problems) == 1
    assert "too old" in problems[0]
    assert judged(box(*NEW_DRIVER), facts, CUDA_11) == ()


def test_what_is_broken_already_keeps_nobody_from_an_update() -> None:
    facts = BundleFacts("0.2.0", KERNEL, (CUDA_12,))
    assert judged(box(*OLD_DRIVER), facts, CUDA_12) == ()


def test_a_box_without_cards_takes_everything() -> None:
    snapshot = HardwareSnapshot(Host(hostname="box", kernel=KERNEL), (), software=OLD_DRIVER)
    assert judged(snapshot, BundleFacts("0.2.0", NEXT, (CUDA_12,)), modules=KERNEL) == ()


def test_a_driver_that_was_built_for_the_old_kernel() -> None:
    facts = BundleFacts("0.2.0", NEXT)
    assert judged(box(), facts, modules=KERNEL) == (
        f"The NVIDIA driver here was built for the kernel {KERNEL}; the update brings the kernel {NEXT}.",
    )
    assert judged(box(), facts, modules=f"{KERNEL} {NEXT}") == ()
    assert judged(box(), BundleFacts("0.2.0", NEXT, drivers=("nvidia",)), modules=KERNEL) == ()
    # No modules of the running kernel's: built in, or the cards do not work anyway.
    assert judged(box(), facts) == ()


def test_the_files_of_a_bundle(tmp_path: Path) -> None:
    facts = BundleFacts("0.2.0", NEXT, (CUDA_12,), ("ascend",))
    (tmp_path / FACTS).write_text(facts_text(facts))
    (tmp_path / RULES).write_text(RULES_TEXT)
    assert read_facts(tmp_path)[0] == facts
    root = tmp_path / "root"
    (root / "usr/lib/modules" / KERNEL / "updates").mkdir(parents=True)
    (root / "usr/lib/modules" / KERNEL / "updates/nvidia.ko.xz").write_bytes(b"")
    problems = judge_bundle(tmp_path, root, lambda: box(*OLD_DRIVER))
    assert len(problems) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (FACTS, "{"),
        (FACTS, '{"schema": 2}'),
        (FACTS, "[]"),
        (FACTS, json.dumps({"schema": 1, "version": "../x", "kernel": "6", "software": {}, "drivers": []})),
        (RULES, "schema = 99"),
        (RULES, None),
    ],
)
def test_bundles_that_do_not_say_what_they_need(tmp_path: Path, name: str, text: str | None) -> None:
    (tmp_path / FACTS).write_text(facts_text(BundleFacts("0.2.0", NEXT)))
    (tmp_path / RULES).write_text(RULES_TEXT)
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(UpdateRefused) as told:
        read_facts(tmp_path)
    assert told.value.code == "update_unreadable"


def test_the_manifest_and_the_hook() -> None:
    manifest = manifest_text("x86_64", "0.2.0")
    assert "compatible=r1box-x86_64\n" in manifest
    assert "format=verity\n" in manifest
    assert "hooks=install-check\n" in manifest
    # The name of RAUC's argument, and the running system's own word for it.
    assert "install-check)" in HOOK
    assert "r1box-install update judge" in HOOK
