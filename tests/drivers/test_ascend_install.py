"""What is installed for Ascend cards, in fake trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.ascend_install import Install, library_path, loaded_modules, read_install
from drivers.types import Software


def write(root: Path, name: str, text: str = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def versions(install: Install, name: str) -> list[str]:
    return [part.version for part in install.software if part.name == name]


def test_nothing_installed(tmp_path: Path) -> None:
    install = read_install(tmp_path)
    assert install.software == ()
    assert (install.modules, install.complete, install.library, install.kernel) == (None, None, None, None)
    assert install.group == "HwHiAiUser"


def test_versions_and_where_they_were_read(tmp_path: Path) -> None:
    write(tmp_path, "usr/local/Ascend/driver/version.info", "Version=23.0.7\nascendhal_version=7.35.19\n")
    write(tmp_path, "usr/local/Ascend/firmware/version.info", "Version=7.1.0.11.220\nfirmware_version=1.0\n")
    note = "package_name=Ascend-cann-toolkit\nversion=8.0.RC3\npath=/usr/local/Ascend/ascend-toolkit/8.0.RC3\n"
    write(tmp_path, "usr/local/Ascend/ascend-toolkit/8.0.RC3/aarch64-linux/ascend_toolkit_install.info", note)
    assert read_install(tmp_path).software == (
        Software("ascend-driver", "23.0.7", "/usr/local/Ascend/driver/version.info"),
        Software("ascend-firmware", "7.1.0.11.220", "/usr/local/Ascend/firmware/version.info"),
        Software(
            "cann",
            "8.0.RC3",
            "/usr/local/Ascend/ascend-toolkit/8.0.RC3/aarch64-linux/ascend_toolkit_install.info",
        ),
    )


def test_every_cann_once_and_the_one_in_use_first(tmp_path: Path) -> None:
    base = "usr/local/Ascend"
    for version in ("8.2.RC1", "8.3.RC1"):
        write(
            tmp_path, f"{base}/ascend-toolkit/{version}/x86_64-linux/ascend_toolkit_install.info", f"version={version}"
        )
    (tmp_path / base / "ascend-toolkit/latest").symlink_to("8.3.RC1")
    write(tmp_path, f"{base}/nnae/8.1.RC1/ascend_nnae_install.info", "version=8.1.RC1")
    assert versions(read_install(tmp_path), "cann") == ["8.3.RC1", "8.2.RC1", "8.1.RC1"]
    for version in ("8.5.0", "9.1.0"):
        write(tmp_path, f"{base}/cann-{version}/x86_64-linux/ascend_toolkit_install.info", f"version={version}")
    (tmp_path / base / "cann").symlink_to("cann-9.1.0")
    assert versions(read_install(tmp_path), "cann")[0] == "9.1.0"
    assert sorted(versions(read_install(tmp_path), "cann")) == ["8.1.RC1", "8.2.RC1", "8.3.RC1", "8.5.0", "9.1.0"]


def test_cann_in_a_place_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "data/cann-8.1/aarch64-linux/ascend_toolkit_install.info", "version=8.1.RC1.alpha001\n")
    assert versions(read_install(tmp_path), "cann") == []
    assert versions(read_install(tmp_path, cann_home="/data/cann-8.1"), "cann") == ["8.1.RC1.alpha001"]
    assert versions(read_install(tmp_path, cann_home="data/cann-8.1"), "cann") == []


def test_moved_installation(tmp_path: Path) -> None:
    write(
        tmp_path,
        "etc/ascend_install.info",
        "UserName=HwHiAiUser\nUserGroup=npu\nDriver_Install_Path_Param=/opt/Ascend\nDriver_Install_Status=complete\n",
    )
    write(tmp_path, "opt/Ascend/driver/version.info", "Version=25.2.0\n")
    library = write(tmp_path, "opt/Ascend/driver/lib64/driver/libdcmi.so")
    secure = write(tmp_path, "opt/Ascend/driver/lib64/common/libc_sec.so")
    install = read_install(tmp_path)
    assert (install.group, install.complete, install.version("ascend-driver")) == ("npu", True, "25.2.0")
    assert (install.library, install.preload) == (library, (secure,))
    assert str(secure.parent) in library_path(install).split(":")


def test_library_beside_the_driver_is_found_too(tmp_path: Path) -> None:
    library = write(tmp_path, "usr/local/dcmi/libdcmi.so")
    assert read_install(tmp_path).library == library


@pytest.mark.parametrize("text", ["Version=\n", "Version=a b\n", "Version=\x1b[31m1\n", "nothing", "\0\xff", "Version"])
def test_what_is_no_version_is_none(tmp_path: Path, text: str) -> None:
    write(tmp_path, "usr/local/Ascend/driver/version.info", text)
    assert read_install(tmp_path).version("ascend-driver") is None


def test_a_folder_in_the_place_of_a_note_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "etc/ascend_install.info").mkdir(parents=True)
    (tmp_path / "usr/local/Ascend/driver/version.info").mkdir(parents=True)
    assert read_install(tmp_path).software == ()


def test_modules_and_kernel(tmp_path: Path) -> None:
    write(tmp_path, "proc/modules", "drv_pcie_host 1 0 - Live 0x0\nnvme 1 0\nascend_xsmem 1 1 x, Live\nasdrv_svm 1 0\n")
    write(tmp_path, "proc/sys/kernel/osrelease", "6.6.0-test\n")
    assert loaded_modules(tmp_path) == ("drv_pcie_host", "ascend_xsmem", "asdrv_svm")
    install = read_install(tmp_path)
    assert (install.kernel, install.kernel_headers) == ("6.6.0-test", False)
    (tmp_path / "lib/modules/6.6.0-test/build").mkdir(parents=True)
    assert read_install(tmp_path).kernel_headers is True


def test_library_path_keeps_ours_in_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/ours")
    assert library_path(read_install(tmp_path)).split(":")[0] == "/ours"
    monkeypatch.delenv("LD_LIBRARY_PATH")
    assert "/ours" not in library_path(read_install(tmp_path))


@pytest.mark.parametrize("place", ["/" + "a" * 5000, "/opt\0x", "relative", "/", ""])
def test_a_place_that_cannot_be_is_no_error(tmp_path: Path, place: str) -> None:
    write(tmp_path, "etc/ascend_install.info", f"Driver_Install_Path_Param={place}\n")
    write(tmp_path, "usr/local/Ascend/firmware/version.info", "Version=7.1\n")
    assert read_install(tmp_path, cann_home=place).version("ascend-firmware") == "7.1"
