"""What comes from the stick: the cards' software and the models.

A drivers bundle holds system extension images (systemd-sysext(8)): driver, firmware, CANN or CUDA lie over /usr of
either slot, which stays read-only and signed. Nothing of it is run while installing.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from installer.actions import Action, CopyFile, MakeFolder, Run
from installer.answers import Answers
from installer.errors import InstallRefused
from installer.facts import Facts
from installer.stages.base import Stage
from installer.target import KEYS, MODELS, ROOT

_EXTENSIONS = ROOT / "var/lib/extensions"
_SETTINGS = ("HOME=/root", f"R1BOX_TRUSTED_KEYS_DIR={KEYS}")
_IMPORT_S = 24 * 3600.0
"""The full R1 from a slow stick, with hashing: hours. Starting again goes on where it stopped."""


def _stick(facts: Facts, wanted: str) -> Path:
    if facts.stick is None or wanted not in facts.carried:
        where = f"on {facts.stick}" if facts.stick else "because no stick is mounted"
        raise InstallRefused(
            "payload_missing", f"{wanted} was not found {where}.", "Plug the stick in that holds it and start again."
        )
    return facts.stick / wanted


def _vendor_stack(facts: Facts, answers: Answers) -> list[Action]:
    wanted = answers.accelerator
    if wanted.vendor == "none" or wanted.bundle is None:
        return []
    _stick(facts, wanted.bundle)
    bundle = facts.drivers
    if bundle is None:
        raise InstallRefused("payload_missing", f"{wanted.bundle} is no drivers bundle.", "Check it with its maker.")
    if wanted.vendor not in {"auto", bundle.vendor}:
        raise InstallRefused(
            "machine_unfit",
            f"{wanted.bundle} is for {bundle.vendor} cards, and the answers ask for {wanted.vendor}.",
            "Name the bundle for these cards.",
        )
    actions: list[Action] = [MakeFolder(str(_EXTENSIONS))]
    for carried in bundle.files:
        name = PurePosixPath(carried.path).name
        actions.append(CopyFile(str(bundle.folder / carried.path), str(_EXTENSIONS / name), carried.sha256))
    enable = ("systemctl", f"--root={ROOT}", "enable", "systemd-sysext.service")
    return [*actions, Run("switch the cards' software on", enable)]


def _models(facts: Facts, answers: Answers) -> list[Action]:
    actions: list[Action] = []
    for name in answers.models.bundles:
        folder = _stick(facts, name)
        # Whether it fits the box's cards is asked when it is served: their driver need not run on the medium.
        command = ("bundle", "import", "--even-if-it-does-not-fit", str(folder))
        argv = ("env", *_SETTINGS, "r1box", "--state-dir", "/run/r1box/import", "--models-dir", str(MODELS), *command)
        actions.append(Run(f"import the model in {name}", argv, timeout_s=_IMPORT_S))
    return actions


VENDOR_STACK = Stage("vendor-stack", "Driver, firmware and CANN or CUDA", _vendor_stack)
MODELS_STAGE = Stage("models", "Models", _models)
