"""The boot loader: GRUB for old firmware, the signed shim and GRUB for UEFI, one configuration for both.

The disk starts in either firmware whichever it was installed from. The signed GRUB looks for its configuration in
/EFI/debian, which leads on to the common one. Slots follow RAUC's rule: the first of ORDER whose NAME_OK is 1 and whose
NAME_TRY is 0; the try is noted before it starts, and only a healthy system takes the note away.
"""

from __future__ import annotations

from installer.actions import Action, CopyFile, MakeFolder, PutFile, Run
from installer.answers import Answers
from installer.facts import Facts, SystemImage
from installer.stages.base import Stage
from installer.stages.disk import image_of
from installer.target import ESP, STATE

_SHIMS = {"x86_64": ("x64", "BOOTX64.EFI", "x86_64"), "aarch64": ("aa64", "BOOTAA64.EFI", "arm64")}

EFI_CONFIGURATION = """\
search --no-floppy --file --set=root /slot-a/vmlinuz --hint $root
set prefix=($root)/grub
configfile ($root)/grub/grub.cfg
"""

SLOT_CONFIGURATION = """\
# R1 Box: chooses the slot to start. Written by the installer; updates leave it alone.
if [ "$grub_platform" = "pc" ]; then
  serial --unit=0 --speed=115200
  terminal_input serial console
  terminal_output serial console
fi
load_env
set chosen=""
set more=""
for name in $ORDER; do
  if [ -z "$chosen" -a "$name" = "A" -a "$A_OK" = "1" -a "$A_TRY" = "0" ]; then
    set chosen=A
    set folder=a
    set A_TRY=1
  fi
  if [ -z "$chosen" -a "$name" = "B" -a "$B_OK" = "1" -a "$B_TRY" = "0" ]; then
    set chosen=B
    set folder=b
    set B_TRY=1
  fi
done
if [ -z "$chosen" ]; then
  # Every slot was tried: begin anew with one that once was good, without the health check's restart.
  set A_TRY=0
  set B_TRY=0
  set chosen=A
  set folder=a
  if [ "$A_OK" != "1" -a "$B_OK" = "1" ]; then
    set chosen=B
    set folder=b
  fi
  set more="r1box.rescue"
fi
save_env A_TRY B_TRY
set timeout=0
linux /slot-$folder/vmlinuz root=PARTLABEL=root-$folder rootfstype=squashfs ro rauc.slot=$chosen panic=10 console=tty0 console=ttyS0,115200 $more
initrd /slot-$folder/initrd.img
boot
"""  # noqa: E501


def _boot_loader(facts: Facts, answers: Answers) -> list[Action]:
    image = image_of(facts)
    short, fallback, package = _SHIMS.get(facts.architecture, _SHIMS["x86_64"])
    actions: list[Action] = [
        MakeFolder(str(ESP / folder)) for folder in ("slot-a", "slot-b", "EFI/BOOT", "EFI/debian", "grub")
    ]
    actions += [
        CopyFile(str(image.file(image.kernel)), str(ESP / "slot-a/vmlinuz")),
        CopyFile(str(image.file(image.initrd)), str(ESP / "slot-a/initrd.img")),
        CopyFile(f"/usr/lib/shim/shim{short}.efi.signed", str(ESP / "EFI/BOOT" / fallback)),
        CopyFile(f"/usr/lib/shim/mm{short}.efi.signed", str(ESP / f"EFI/BOOT/mm{short}.efi")),
        CopyFile(
            f"/usr/lib/grub/{package if package == 'arm64' else 'x86_64'}-efi-signed/grub{short}.efi.signed",
            str(ESP / f"EFI/BOOT/grub{short}.efi"),
        ),
        PutFile(str(ESP / "EFI/debian/grub.cfg"), EFI_CONFIGURATION),
        PutFile(str(ESP / "grub/grub.cfg"), SLOT_CONFIGURATION),
    ]
    if facts.architecture == "x86_64":
        install = ("grub-install", "--target=i386-pc", f"--boot-directory={ESP}", "--no-floppy", "@disk")
        actions.append(Run("make the disk start on old firmware too", install, timeout_s=300))
    environment = str(ESP / "grub/grubenv")
    slots = ("ORDER=A B", "A_OK=1", "A_TRY=0", "B_OK=0", "B_TRY=0")
    return [
        *actions,
        Run("make the note of the slots", ("grub-editenv", environment, "create")),
        Run("take slot A as the good one", ("grub-editenv", environment, "set", *slots)),
        MakeFolder(str(STATE / "rauc")),
        PutFile(str(STATE / "rauc/central.raucs"), rauc_note(image, facts.architecture)),
    ]


def rauc_note(image: SystemImage, architecture: str) -> str:
    """RAUC's note of what is in slot A (its ``data-directory``), as if it had installed it: after the first update it
    can then say which version one may go back to."""
    return (
        f"[slot.rootfs.0]\nbundle.compatible=r1box-{architecture}\nbundle.version={image.version}\n"
        f"status=ok\nsha256={image.sha256}\nsize={image.size_bytes}\n"
    )


BOOT_LOADER = Stage("boot-loader", "Boot loader", _boot_loader)
