"""The service's settings and units, and the proof that what was written is there."""

from __future__ import annotations

import json

from installer.actions import Action, CheckImage, MakeFolder, PutFile, Run, Unmount
from installer.answers import Answers
from installer.facts import NOTE_NAME, Facts
from installer.installation import installation_id
from installer.stages.base import Stage
from installer.stages.disk import image_of
from installer.target import ROOT, target_of

_ETC = ROOT / "etc"
_FSTAB = """\
# Root, /etc, /var and the EFI partition are mounted before this file is read.
PARTLABEL=models /var/lib/r1box/models ext4 noatime,nofail,x-systemd.device-timeout=60 0 2
"""


def _services(facts: Facts, answers: Answers) -> list[Action]:
    return [
        PutFile(str(_ETC / "fstab"), _FSTAB),
        MakeFolder(str(_ETC / "r1box")),
        PutFile(str(_ETC / "r1box/config.toml"), settings_file(answers)),
        PutFile(str(ROOT / "var/lib/r1box/first-run.json"), first_run_file(answers)),
        Run("give the state to the service", ("chroot", str(ROOT), "chown", "-R", "r1box:r1box", "/var/lib/r1box")),
        Run("switch R1 Box on", ("systemctl", f"--root={ROOT}", "enable", "r1box.target", "r1box.service")),
    ]


def settings_file(answers: Answers) -> str:
    """The box's settings, docs/settings.md."""
    values: dict[str, object] = {
        "host": answers.service.host,
        "port": answers.service.port,
        "tls": answers.service.tls,
        "state_dir": "/var/lib/r1box",
        "models_dir": "/var/lib/r1box/models",
    }
    if answers.models.default is not None:
        values["model"] = answers.models.default
    # Strings and whole numbers are written alike in JSON and TOML.
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "# R1 Box's settings, from the installation. Every key: docs/settings.md.\n" + "\n".join(lines) + "\n"


def first_run_file(answers: Answers) -> str:
    """The list of a new box's steps, docs/console.md: what the answers settled nobody is asked again."""
    settled = ["language", "time", *(["network"] if answers.network.mode != "none" else [])]
    told = {"language": answers.system.language, "time": answers.system.timezone}
    marks = {name: {"state": "done", "by": "installation", "told": told.get(name)} for name in settled}
    return json.dumps({"language": answers.system.language, "marks": marks}, indent=1) + "\n"


def _verify(facts: Facts, answers: Answers) -> list[Action]:
    image = image_of(facts)
    actions: list[Action] = [
        Unmount(str(ROOT)),
        CheckImage("@3", image.size_bytes, image.sha256),
        Run("check the EFI partition", ("fsck.vfat", "-n", "@2")),
        Run("check the partition of state", ("e2fsck", "-f", "-n", "@5"), timeout_s=600),
        Run("check the partition table", ("sgdisk", "--verify", "@disk")),
    ]
    if facts.stick is not None:
        note = {
            "installation": installation_id(facts, answers),
            "disk": target_of(facts, answers).identity,
            "version": image.version,
        }
        actions.append(PutFile(str(facts.stick / NOTE_NAME), json.dumps(note, indent=2, sort_keys=True) + "\n"))
    return actions


SERVICES = Stage("services", "Services", _services)
VERIFY = Stage("verify", "Proof", _verify)
