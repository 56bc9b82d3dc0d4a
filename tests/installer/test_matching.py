"""Which disk is meant, on a recorded inventory and one of a server."""

from __future__ import annotations

import pytest

from installer.answers import DiskMatch
from installer.errors import InstallRefused
from installer.inventory import contents, is_virtual, parse_inventory
from installer.matching import check_consent, chosen_disk, judge
from installer.partitions import GIB
from installer.target import target_of
from tests.installer.boxes import answers, facts, inventory


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ({"serial": "S64FNE0R100002"}, "/dev/nvme1n1"),
        ({"serial": "*100001"}, "/dev/nvme0n1"),
        ({"wwn": "0x55cd2e415*"}, "/dev/sda"),
        ({"model": "HUS*", "transport": "sas"}, "/dev/sdf"),
        ({"min_gib": 2000}, "/dev/sdf"),
        ({"max_gib": 20, "transport": "sata"}, "/dev/sde"),
        ({"path": "/dev/sda"}, "/dev/sda"),
    ],
)
def test_one_disk_fits(wanted: dict[str, object], path: str) -> None:
    assert chosen_disk(inventory(), DiskMatch.model_validate(wanted)).path == path


@pytest.mark.parametrize(
    ("wanted", "code", "words"),
    [
        ({"serial": "NONE"}, "no_disk_matches", "serial does not fit"),
        ({"transport": "nvme"}, "two_disks_match", "2 disks fit"),
        ({"serial": "s64fne0r100001"}, "no_disk_matches", "serial does not fit"),
        ({"serial": "PHYF0009480BGN"}, "disk_unusable", "/dev/sdi1 is mounted on /mnt/backup"),
        ({"serial": "PHYF0002480BGN"}, "disk_unusable", "/dev/sdb1 is member of a Linux RAID"),
        ({"serial": "PHYF0003480BGN"}, "disk_unusable", "/dev/sdc is member of a Linux RAID"),
        ({"serial": "PHYF0004480BGN"}, "disk_unusable", "/dev/sdd1 is member of an LVM volume group"),
        ({"serial": "LIVE0001"}, "no_disk_matches", "the medium this installer runs from"),
        ({"serial": "SEED0001"}, "no_disk_matches", "the stick with the answer file"),
        ({"transport": "usb"}, "no_disk_matches", "the stick with the answer file"),
    ],
)
def test_refused(wanted: dict[str, object], code: str, words: str) -> None:
    with pytest.raises(InstallRefused) as caught:
        chosen_disk(inventory(), DiskMatch.model_validate(wanted))
    assert caught.value.code == code
    assert words in caught.value.message


def test_a_seed_stick_does_not_make_a_filter_ambiguous() -> None:
    assert chosen_disk(inventory(), DiskMatch(max_gib=20)).path == "/dev/sde"


def test_too_small() -> None:
    with pytest.raises(InstallRefused, match=r"16\.0 GiB.*need 37\.0 GiB") as caught:
        target_of(facts(), answers(S64FNE0R100001="DOM0001"))
    assert caught.value.code == "disk_too_small"


def test_the_recorded_machine_has_one_disk_and_it_is_in_use() -> None:
    judged = judge(inventory("virtual-machine"), DiskMatch(path="*"))
    assert [(item.disk.name, item.disk.transport, item.disk.serial) for item in judged] == [("vda", "virtio", None)]
    assert judged[0].held == "/dev/vda is mounted on /"
    assert [device.name for device in inventory("virtual-machine") if is_virtual(device)] == ["zram0"]


def test_consent_is_the_serial_to_the_letter() -> None:
    disk = chosen_disk(inventory(), DiskMatch(path="/dev/sda"))
    check_consent(disk, [None, " PHYF0001480BGN "])
    for typed in ([], [None], ["yes"], ["phyf0001480bgn"], ["PHYF0001480BG"], ["S64FNE0R100001"], ["*"], [""]):
        with pytest.raises(InstallRefused) as caught:
            check_consent(disk, typed)
        assert caught.value.code == "wipe_not_confirmed"
        assert 'Windows file system (ntfs) named "Daten"' in caught.value.message
        assert "r1box.wipe=PHYF0001480BGN" in (caught.value.hint or "")


def test_nobody_can_agree_to_a_disk_without_a_name() -> None:
    (disk,) = [device for device in inventory("virtual-machine") if device.name == "vda"]
    with pytest.raises(InstallRefused, match="neither serial nor wwn"):
        check_consent(disk, ["", "None"])


def test_contents_in_words() -> None:
    found = {device.name: contents(device) for device in inventory()}
    assert found["nvme0n1"] == ("nothing recognised",)
    recorded = {device.name: contents(device) for device in inventory("virtual-machine")}
    assert recorded["vda"] == ("a file system on the whole disk, mounted on /",)
    assert found["sdb"][0].endswith("(carries raid1 md0)")
    assert found["sda"][0] == 'sda1, 100.0 MiB, vfat named "SYSTEM", partition "EFI system partition"'


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"blockdevices": [{"name": "sda"}]}', '{"blockdevices": [1]}'])
def test_an_unreadable_inventory(text: str) -> None:
    with pytest.raises(InstallRefused) as caught:
        parse_inventory(text)
    assert caught.value.code == "inventory_unreadable"


def test_sectors_of_4_kib_are_read_and_starts_counted_in_512() -> None:
    found = {device.name: device for device in inventory()}
    assert found["sdf"].sector_bytes == 4096
    assert found["sda"].children[1].start_bytes == 206848 * 512
    assert found["sda"].children[1].size_bytes == 200 * GIB
