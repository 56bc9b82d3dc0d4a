"""The plan is pure, ordered, repeatable, and nothing when all is in place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from installer.actions import CopyFile, PutFile, Run, digest, from_json, to_json
from installer.cli import app, plan_text
from installer.errors import InstallRefused
from installer.facts import CarriedFile, DriversBundle, Facts
from installer.inventory import BlockDevice
from installer.partitions import GIB, layout
from installer.plan import Plan, make_plan
from installer.stages import STAGES
from installer.stages.system import network_file
from tests.installer.boxes import FIXTURES, answers, facts, image, inventory

WHOLE = (FIXTURES / "accept/whole.toml").read_text("utf-8").replace('model = "SAMSUNG*"', 'serial = "*100001"')
STICK = Path("/media/seed")
DRIVERS = DriversBundle(STICK / "drivers/ascend", "A", "ascend", (CarriedFile("ascend.raw", 5, "cd" * 32),))


def whole_facts() -> Facts:
    carried = frozenset({"drivers/ascend", "models/r1-distill-14b"})
    return facts(stick=STICK, carried=carried, drivers=DRIVERS)


def stages_of(plan: Plan) -> list[str]:
    return list(dict.fromkeys(step.stage for step in plan.steps))


def test_the_stages_in_their_order() -> None:
    assert [stage.name for stage in STAGES] == [
        "preflight", "disk", "root-file-system", "boot-loader", "users", "network", "vendor-stack", "models",
        "services", "verify",
    ]  # fmt: skip
    assert stages_of(make_plan(whole_facts(), answers(WHOLE))) == [stage.name for stage in STAGES]
    # Nothing on the stick is asked for: two stages have nothing to do.
    least = stages_of(make_plan(facts(), answers()))
    assert [stage.name for stage in STAGES if stage.name not in least] == ["vendor-stack", "models"]


def test_nothing_destroys_before_the_disk_was_looked_at_again() -> None:
    steps = make_plan(facts(), answers()).steps
    first = next(index for index, step in enumerate(steps) if step.action.destroys)
    assert [step.action.kind for step in steps[:first]] == ["confirm-disk"]


def test_the_same_from_the_same_and_another_from_another() -> None:
    plan = make_plan(facts(), answers())
    assert plan == make_plan(facts(), answers())
    others = [
        make_plan(facts(), answers(S64FNE0R100001="S64FNE0R100002")),
        make_plan(facts(image=image(sha256="ef" * 32)), answers()),
        make_plan(facts(), answers(j9T="j8T")),
        make_plan(whole_facts(), answers(WHOLE)),
    ]
    assert len({plan.hash, *(other.hash for other in others)}) == 5


def test_device_names_are_not_part_of_the_plan() -> None:
    moved = tuple(
        replace(device, name="nvme7n1", path="/dev/nvme7n1") if device.name == "nvme0n1" else device
        for device in inventory()
    )
    assert make_plan(facts(devices=moved), answers()).hash == make_plan(facts(), answers()).hash


def test_nothing_to_do_when_the_stick_says_so() -> None:
    plan = make_plan(facts(), answers())
    assert make_plan(facts(installed=plan.installation), answers()).steps == ()
    assert make_plan(facts(installed=plan.installation), answers(j9T="j8T")).steps
    forced = facts(installed=plan.installation, kernel_arguments=("quiet", "r1box.force"))
    assert make_plan(forced, answers()).steps == plan.steps


def installed_disk(disk: BlockDevice, slot_gib: int = 10, state_gib: int = 32) -> BlockDevice:
    parts = layout(disk.size_bytes, slot_gib * GIB, state_gib * GIB)
    children = tuple(
        BlockDevice(
            f"{disk.name}p{part.number}", f"{disk.path}p{part.number}", "part", part.size_bytes,
            start_bytes=part.start_bytes, part_label=part.label, file_system="ext4",
        )
        for part in parts
    )  # fmt: skip
    return replace(disk, table="gpt", children=children)


def test_models_are_kept_where_the_table_is_in_place() -> None:
    disks = inventory()
    kept = replace(whole_facts(), devices=(installed_disk(disks[0]), *disks[1:]))
    plan = make_plan(kept, answers(WHOLE))
    programs = [step.action.argv for step in plan.steps if isinstance(step.action, Run) and step.action.destroys]
    assert [(argv[0], argv[-1]) for argv in programs] == [("mkfs.vfat", "@2"), ("mkfs.ext4", "@5")]
    assert 'except the partition "models"' in plan_text(plan)
    other = replace(whole_facts(), devices=(installed_disk(disks[0], slot_gib=8), *disks[1:]))
    with pytest.raises(InstallRefused, match="cannot be kept"):
        make_plan(other, answers(WHOLE))


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"image": None}, "payload_missing"),
        ({"architecture": "riscv64"}, "machine_unfit"),
        ({"architecture": "aarch64", "uefi": False}, "machine_unfit"),
        ({"memory_bytes": 1 << 30}, "machine_unfit"),
        ({"image": image(size_bytes=9 << 30)}, "disk_too_small"),
    ],
)
def test_machines_that_do_not_do(given: dict[str, object], code: str) -> None:
    with pytest.raises(InstallRefused) as caught:
        make_plan(facts(**given), answers())
    assert caught.value.code == code


def test_a_stick_without_what_was_asked_for() -> None:
    for there in (
        facts(),
        facts(stick=STICK),
        replace(whole_facts(), carried=frozenset({"drivers/ascend"})),
        replace(whole_facts(), drivers=None),
    ):
        with pytest.raises(InstallRefused) as caught:
            make_plan(there, answers(WHOLE))
        assert caught.value.code == "payload_missing"
    with pytest.raises(InstallRefused, match="for ascend cards, and the answers ask for nvidia"):
        make_plan(whole_facts(), answers(WHOLE.replace('vendor = "ascend"', 'vendor = "nvidia"')))


def test_every_action_through_json_and_its_digest() -> None:
    for step in make_plan(whole_facts(), answers(WHOLE)).steps:
        again = from_json(json.loads(json.dumps(to_json(step.action))))
        assert again == step.action
        assert digest(again) == digest(step.action)
        assert step.action.describe()
    with pytest.raises(InstallRefused):
        from_json({"kind": "format-everything"})
    with pytest.raises(InstallRefused):
        from_json({"kind": "unmount"})


def test_no_secret_is_shown() -> None:
    plan = make_plan(facts(), answers())
    assert "$y$" in json.dumps([to_json(step.action) for step in plan.steps])
    assert "$y$" not in plan_text(plan)


def test_files_that_the_new_system_reads() -> None:
    files = {
        s.action.path: s.action.content
        for s in make_plan(whole_facts(), answers(WHOLE)).steps
        if isinstance(s.action, PutFile)
    }
    etc = "/run/r1box/target/etc"
    assert files[f"{etc}/systemd/network/20-r1box.network"] == (
        "[Match]\nMACAddress=02:00:00:00:00:01\n\n[Network]\nAddress=192.0.2.10/24\nGateway=192.0.2.1\n"
        "DNS=192.0.2.53\nDNS=2001:db8::53\n"
    )
    assert 'model = "r1-distill-qwen-14b-q4_k_m"' in files[f"{etc}/r1box/config.toml"]
    assert json.loads(files["/media/seed/r1box-installed.json"])["disk"] == "S64FNE0R100001"
    assert "DHCP=yes" in network_file(answers().network)


def test_arm64_has_no_loader_for_old_firmware() -> None:
    steps = make_plan(facts(architecture="aarch64"), answers()).steps
    assert not [s for s in steps if isinstance(s.action, Run) and s.action.argv[0] == "grub-install"]
    targets = {s.action.target for s in steps if isinstance(s.action, CopyFile)}
    assert "/run/r1box/target/efi/EFI/BOOT/BOOTAA64.EFI" in targets


def test_from_the_command_line(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    note = {"version": "0.1", "squashfs": "filesystem.squashfs", "size_bytes": 1000, "sha256": "ab" * 32}
    (live / "r1box.json").write_text(json.dumps(note))
    where = ["--inventory", str(FIXTURES / "lsblk/server.json")]
    least = str(FIXTURES / "accept/least.toml")
    shown = CliRunner().invoke(app, ["plan", least, *where, "--medium", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "Install on /dev/nvme0n1, 894.3 GiB, SAMSUNG" in shown.output
    assert "wipefs --all --force @disk" in shown.output
    matched = CliRunner().invoke(app, ["match-disks", least, *where, "--json"])
    assert [row["path"] for row in json.loads(matched.output) if row["matches"]] == ["/dev/nvme0n1"]
    both = tmp_path / "both.toml"
    both.write_text((FIXTURES / "accept/least.toml").read_text().replace('serial = "S64FNE0R100001"', 'path = "*"'))
    assert CliRunner().invoke(app, ["match-disks", str(both), *where]).exception.code == "two_disks_match"  # type: ignore[union-attr]
    assert CliRunner().invoke(app, ["validate", least]).exit_code == 0
