"""The host, read from trees of files and from the real machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil
import pytest

from drivers.cgroup import CgroupLimits, read_limits
from drivers.cpu import cpu_model, physical_cores
from drivers.host import read_disks, read_host, read_memory
from drivers.mounts import read_mounts

GIB = 1 << 30
V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_no_files_means_no_limits(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == CgroupLimits()
    assert read_mounts(tmp_path) == ()


def test_v2_takes_the_smallest_limit_on_the_way_up(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/box.slice"
    write(
        tmp_path,
        {
            "proc/self/mountinfo": V2_MOUNT,
            "proc/self/cgroup": "0::/box.slice/r1box.service\n",
            f"{group}/r1box.service/memory.max": "max\n",
            f"{group}/r1box.service/cpu.max": "350000 100000\n",
            f"{group}/memory.max": f"{8 * GIB}\n",
            f"{group}/memory.high": "max\n",
            f"{group}/memory.current": f"{6 * GIB}\n",
            f"{group}/memory.stat": f"anon 1\ninactive_file {GIB}\nactive_file 5\n",
            f"{group}/cpu.max": "max 100000\n",
        },
    )
    assert read_limits(tmp_path) == CgroupLimits(8 * GIB, 3 * GIB, 3.5)


def test_v2_soft_limit_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/mountinfo": V2_MOUNT,
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": f"{8 * GIB}",
            "sys/fs/cgroup/memory.high": f"{4 * GIB}",
            "sys/fs/cgroup/memory.current": f"{5 * GIB}",
        },
    )
    assert read_limits(tmp_path) == CgroupLimits(4 * GIB, 0, None)


def test_v1_in_a_container_without_its_own_namespace(tmp_path: Path) -> None:
    """The process sees the host's path; only its own part is mounted."""
    write(
        tmp_path,
        {
            "proc/self/mountinfo": (
                "34 31 0:31 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
                "35 31 0:32 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
            ),
            "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
            "sys/fs/cgroup/memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB // 2}\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert read_limits(tmp_path) == CgroupLimits(2 * GIB, 3 * GIB // 2, 1.5)


def test_v1_without_limits(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/mountinfo": "34 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            "proc/self/cgroup": "4:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert read_limits(tmp_path) == CgroupLimits()


def test_a_path_outside_the_mount_reads_its_top(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/mountinfo": V2_MOUNT,
            "proc/self/cgroup": "0::/../../other\n",
            "sys/fs/cgroup/memory.max": f"{GIB}",
        },
    )
    assert read_limits(tmp_path).memory_limit_bytes == GIB


def test_garbage_is_no_limit(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/mountinfo": f"x\n{V2_MOUNT}\nbroken - \n",
            "proc/self/cgroup": "\n0::/\nnonsense\n",
            "sys/fs/cgroup/memory.max": "²\n",
            "sys/fs/cgroup/cpu.max": "1 0\n",
        },
    )
    assert read_limits(tmp_path) == CgroupLimits()


def test_memory_is_the_smaller_of_machine_and_limit(tmp_path: Path) -> None:
    machine = psutil.virtual_memory()
    unlimited = read_memory(tmp_path, limits=CgroupLimits())
    assert unlimited.total_bytes == machine.total
    limited = read_memory(tmp_path, limits=CgroupLimits(64 << 20, 1 << 20))
    assert (limited.total_bytes, limited.available_bytes) == (64 << 20, 1 << 20)
    larger = read_memory(tmp_path, limits=CgroupLimits(machine.total * 2, machine.total * 2))
    assert larger.total_bytes == machine.total


ARM = """processor : 0
BogoMIPS : 200.00
CPU implementer : {0}
CPU architecture: 8
CPU part : {1}
"""


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("model name : Intel(R) Xeon(R)  Gold 6330 CPU @ 2.00GHz\n", "Intel(R) Xeon(R) Gold 6330 CPU @ 2.00GHz"),
        ("Model Name : Loongson-3C5000L\n", "Loongson-3C5000L"),
        (ARM.format("0x48", "0xd01") * 4, "HiSilicon Kunpeng 920 (TaiShan v110)"),
        (ARM.format("0x41", "0xd85") + ARM.format("0x41", "0xd87"), "Arm Cortex-X925 + Arm Cortex-A725"),
        (ARM.format("0x48", "0xd99"), "HiSilicon part 0xd99"),
        (ARM.format("0x99", "0x001"), "ARM implementer 0x99 part 0x001"),
        ("model name : ARMv8 Processor rev 0 (v8l)\n" + ARM.format("0x70", "0x663"), "Phytium FTC663"),
        ("CPU implementer : what\nCPU part : ever\n", None),
        ("", None),
    ],
)
def test_cpu_model(tmp_path: Path, text: str, model: str | None) -> None:
    assert cpu_model(write(tmp_path, {"proc/cpuinfo": text})) == model


def test_cpu_model_without_the_file(tmp_path: Path) -> None:
    assert cpu_model(tmp_path) is None


def test_hardware_threads_share_a_core(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpu{}/topology/{}"
    siblings = {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}
    write(tmp_path, {folder.format(cpu, "core_cpus_list"): text for cpu, text in siblings.items()})
    assert physical_cores(frozenset({0, 1, 4, 5}), tmp_path) == 2
    assert physical_cores(frozenset({0, 4}), tmp_path) == 1
    assert physical_cores(frozenset({0, 1, 2}), tmp_path) is None
    write(tmp_path, {folder.format(2, "thread_siblings_list"): "2"})  # kernels before 5.8
    assert physical_cores(frozenset({0, 1, 2}), tmp_path) == 3


def test_quota_bounds_the_cores(tmp_path: Path) -> None:
    topology = {f"sys/devices/system/cpu/cpu{n}/topology/core_cpus_list": f"{n}\n" for n in range(8)}
    write(tmp_path, topology | {"proc/self/mountinfo": V2_MOUNT, "proc/self/cgroup": "0::/\n"})
    cpus = frozenset(range(8))
    assert read_host(tmp_path, cpus=cpus).cpu_cores == 8
    for quota, cores in (("250000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8)):
        write(tmp_path, {"sys/fs/cgroup/cpu.max": quota})
        host = read_host(tmp_path, cpus=cpus)
        assert (host.cpu_cores, host.cpu_threads) == (cores, cores)


MOUNTS = """22 27 0:21 / /proc rw - proc proc rw
27 1 254:0 / / rw - ext4 /dev/vda rw
40 27 254:0 /srv/data /mnt/bind rw - ext4 /dev/vda rw
41 27 254:16 / /var/lib/my\\040models rw - xfs /dev/vdb rw
42 27 254:16 / /srv/again/and/again rw - xfs /dev/vdb rw
43 27 0:50 /@home /home rw - btrfs /dev/vdc rw
44 27 0:50 /@ /btrfs rw - btrfs /dev/vdc rw
45 27 0:60 / /run rw - tmpfs tmpfs rw
46 27 7:1 / /snap/core ro - squashfs /dev/loop1 ro
47 27 0:61 / /nfs rw - nfs4 server:/x rw
48 27 254:32 / /dead rw - ext4 /dev/vdd rw
"""


def test_disks_are_local_and_counted_once(tmp_path: Path) -> None:
    write(tmp_path, {"proc/self/mountinfo": MOUNTS})
    for name in (
        "mnt/bind",
        "var/lib/my models",
        "srv/again/and/again",
        "home",
        "btrfs",
        "run",
        "snap/core",
        "nfs",
        "dead",
    ):
        (tmp_path / name).mkdir(parents=True)

    def size_of(mount_point: str) -> tuple[int, int]:
        if mount_point == "/dead":
            raise OSError(5, "Input/output error")
        return 100, len(mount_point)

    disks = read_disks(tmp_path, size_of)
    assert [(disk.mount_point, disk.filesystem) for disk in disks] == [
        ("/", "ext4"),
        ("/home", "btrfs"),
        ("/var/lib/my models", "xfs"),
    ]
    assert disks[0].total_bytes == 100
    assert disks[0].free_bytes == 1


def test_disks_of_a_container(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/mountinfo": (
                "1 0 0:70 / / rw - overlay overlay rw\n"
                "2 1 254:0 /docker/hosts /etc/hosts rw - ext4 /dev/vda rw\n"
                "3 1 254:0 /volumes/models /models rw - ext4 /dev/vda rw\n"
                "4 1 0:71 / /opt/layer rw - overlay overlay rw\n"
            ),
            "etc/hosts": "",
        },
    )
    for name in ("models", "opt/layer"):
        (tmp_path / name).mkdir(parents=True)
    assert [disk.mount_point for disk in read_disks(tmp_path, lambda _: (1, 1))] == ["/", "/models"]


def test_a_later_mount_hides_the_earlier_one(tmp_path: Path) -> None:
    write(tmp_path, {"proc/self/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 0 0:1 / / rw - tmpfs tmpfs rw\n"})
    assert [mount.filesystem for mount in read_mounts(tmp_path)] == ["tmpfs"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('NAME="openEuler"\nPRETTY_NAME="openEuler 22.03 (LTS-SP4)"\n', "openEuler 22.03 (LTS-SP4)"),
        ("# comment\nNAME=Kylin\nVERSION='V10 (Lance)'\n", "Kylin V10 (Lance)"),
        ('PRETTY_NAME="broken\n', "broken"),
        ("", None),
    ],
)
def test_os_name(tmp_path: Path, text: str, name: str | None) -> None:
    assert read_host(write(tmp_path, {"etc/os-release": text})).os_name == name


def test_os_name_from_the_vendors_place(tmp_path: Path) -> None:
    assert read_host(write(tmp_path, {"usr/lib/os-release": "NAME=Box\n"})).os_name == "Box"


def test_this_machine() -> None:
    host = read_host()
    assert host.kernel == platform.release()
    assert host.architecture == platform.machine()
    assert host.cpu_threads is not None
    assert 1 <= host.cpu_threads <= len(os.sched_getaffinity(0))
    assert host.cpu_cores is not None
    assert 1 <= host.cpu_cores <= host.cpu_threads
    assert host.memory_total_bytes is not None
    assert host.memory_available_bytes is not None
    assert 0 < host.memory_available_bytes <= host.memory_total_bytes <= psutil.virtual_memory().total
    for disk in host.disks:
        assert 0 <= disk.free_bytes <= disk.total_bytes
