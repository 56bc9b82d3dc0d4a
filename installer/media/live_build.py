"""live-build's options (lb_config(1), version 20230502), and the image's names. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from installer.media.mirrors import SUITE, Mirrors

VOLUME = "R1BOX"
PUBLIC_SECURITY = "http://security.debian.org/debian-security"
"""Debian's own, asked once at the end. live-build's default lacks the folder, and not every mirror mends that."""
CONSOLES = "console=tty0 console=ttyS0,115200"


@dataclass(frozen=True, slots=True)
class Flavour:
    """One architecture's choices. arm64 (Kunpeng servers) is written down and was never built or started."""

    architecture: str
    kernel: str
    boot_loaders: str
    machine: str


AMD64 = Flavour("amd64", "amd64", "grub-pc grub-efi", "x86_64")
ARM64 = Flavour("arm64", "arm64", "grub-efi", "aarch64")
FLAVOURS = {flavour.architecture: flavour for flavour in (AMD64, ARM64)}


def config_argv(mirrors: Mirrors, flavour: Flavour) -> list[str]:
    """``lb config`` for this build. The mirrors go into a folder that is thrown away; what the finished image names is
    live-build's public default, and the hook takes it out again: a box has no network to fetch from."""
    return [
        "lb", "config",
        "--distribution", SUITE, "--architectures", flavour.architecture, "--mode", "debian", "--archive-areas", "main",
        "--linux-packages", "linux-image", "--linux-flavours", flavour.kernel,
        "--mirror-bootstrap", mirrors.main, "--mirror-chroot", mirrors.main,
        "--mirror-chroot-security", mirrors.security, "--mirror-binary-security", PUBLIC_SECURITY,
        "--apt-indices", "false", "--apt-recommends", "false", "--apt-source-archives", "false",
        "--updates", "false", "--security", "true",
        "--debian-installer", "none", "--binary-images", "iso-hybrid",
        "--bootloaders", flavour.boot_loaders, "--uefi-secure-boot", "enable", "--memtest", "none",
        "--firmware-chroot", "false", "--firmware-binary", "false", "--win32-loader", "false", "--zsync", "false",
        "--chroot-squashfs-compression-type", "zstd", "--chroot-squashfs-compression-level", "12",
        "--debootstrap-options", "--variant=minbase", "--checksums", "none",
        "--bootappend-live", f"boot=live nopersistence noeject nonetworking {CONSOLES}",
        "--iso-volume", VOLUME, "--iso-application", "R1 Box", "--iso-publisher", "R1 Box", "--cache", "false",
    ]  # fmt: skip


def hybrid_argv(binary: str, iso: str, flavour: Flavour) -> list[str]:
    """xorriso over live-build's ``binary`` folder: a disc and a stick, old firmware and UEFI. live-build's own image
    with GRUB for old firmware has no partition table and starts as a disc alone."""
    common = ["xorriso", "-as", "mkisofs", "-R", "-r", "-J", "-joliet-long", "-l", "-iso-level", "3", "-V", VOLUME]
    old_firmware = [
        "-b", "boot/grub/grub_eltorito", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
        "--grub2-boot-info", "--grub2-mbr", "/usr/lib/grub/i386-pc/boot_hybrid.img", "-eltorito-alt-boot",
    ]  # fmt: skip
    uefi = [
        "-append_partition", "2", "0xef", f"{binary}/boot/grub/efi.img", "-appended_part_as_gpt",
        "-e", "--interval:appended_partition_2:all::", "-no-emul-boot",
    ]  # fmt: skip
    return [*common, *(old_firmware if flavour is AMD64 else []), *uefi, "-o", iso, binary]
