"""A ``rauc`` that speaks as RAUC 1.8 does (tests/fixtures/rauc), over two slots that are files in a folder.

It finds that folder where the real one finds its service: in ``DBUS_SYSTEM_BUS_ADDRESS``. There are ``grubenv``,
``slots`` (JSON: booted slot, compatible, versions) and the slots' files. A bundle is JSON: who signed it,
``compatible``, ``version``, the folder with its hook, ``damage``. The hook is run as the real one runs it; root is
not needed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TRUSTED = "the maker"
STATE = Path(os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "/nonexistent"))
INDEX = {"A": 0, "B": 1}


def environment() -> dict[str, str]:
    lines = (STATE / "grubenv").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def write_environment(values: dict[str, str]) -> None:
    text = "# GRUB Environment Block\n" + "".join(f"{name}={value}\n" for name, value in values.items())
    (STATE / "grubenv").write_text(text.ljust(1024, "#"))


def status() -> None:
    told, notes = json.loads((STATE / "slots").read_text()), environment()
    slots = []
    for name in ("B", "A"):
        version = told["versions"].get(name)
        bundle = {"compatible": told["compatible"], "version": version} if version else {"compatible": None}
        one = {
            "class": "rootfs",
            "device": f"/dev/disk/by-partlabel/root-{name.lower()}",
            "type": "raw",
            "bootname": name,
            "state": "booted" if name == told["booted"] else "inactive",
            "parent": None,
            "mountpoint": None,
            "boot_status": "good" if (notes[f"{name}_OK"], notes[f"{name}_TRY"]) == ("1", "0") else "bad",
            "slot_status": {"bundle": bundle},
        }
        slots.append({f"rootfs.{INDEX[name]}": one})
    primary = f"rootfs.{INDEX[notes['ORDER'].split()[0]]}"
    head = {"compatible": told["compatible"], "variant": "", "booted": told["booted"], "boot_primary": primary}
    print(json.dumps({**head, "slots": slots}))


def mark(what: str, which: str) -> None:
    told, notes = json.loads((STATE / "slots").read_text()), environment()
    name = told["booted"] if which == "booted" else ("B" if told["booted"] == "A" else "A")
    if what == "good":
        notes |= {f"{name}_OK": "1", f"{name}_TRY": "0"}
    elif what == "bad":
        notes |= {f"{name}_OK": "0", f"{name}_TRY": "0"}
    else:
        rest = [one for one in notes["ORDER"].split() if one != name]
        notes |= {f"{name}_OK": "1", f"{name}_TRY": "0", "ORDER": " ".join([name, *rest])}
    write_environment(notes)
    print(f"rauc status: marked slot rootfs.{INDEX[name]} as {what}")


def opened(file: str) -> tuple[dict[str, str] | None, str]:
    """The bundle, or what is wrong with it."""
    if not Path(file).is_file():
        return None, f"No such file: {file}"
    try:
        bundle = json.loads(Path(file).read_text())
    except ValueError:
        return None, "Invalid bundle format: Signature size (17738433204505205156) exceeds bundle size"
    if bundle["signed_by"] != TRUSTED:
        return None, "signature verification failed: Verify error: self-signed certificate"
    return bundle, ""


def info(file: str) -> int:
    print("rauc-Message: 12:41:54.535: Using central status file", file=sys.stderr)
    bundle, problem = opened(file)
    if bundle is None:
        print(problem, file=sys.stderr)
        return 1
    print(json.dumps({"compatible": bundle["compatible"], "version": bundle["version"], "images": []}))
    return 0


def failed(problem: str, file: str) -> int:
    print(f"100% Installing failed.\nLastError: {problem}\nidle", flush=True)
    print(f"Installing `{file}` failed", file=sys.stderr)
    return 1


def install(file: str) -> int:
    print("installing\n  0% Installing\n  0% Determining slot states\n 20% Determining slot states done.", flush=True)
    print(" 20% Checking bundle\n 20% Verifying signature", flush=True)
    bundle, problem = opened(file)
    if bundle is None:
        print(" 40% Verifying signature failed.\n 40% Checking bundle failed.", flush=True)
        return failed(problem, file)
    print(" 40% Verifying signature done.\n 40% Checking bundle done.\n 40% Checking manifest contents", flush=True)
    told = json.loads((STATE / "slots").read_text())
    if folder := bundle.get("folder"):
        names = {"RAUC_MF_COMPATIBLE": bundle["compatible"], "RAUC_SYSTEM_COMPATIBLE": told["compatible"]}
        argv = [str(Path(folder) / "hook"), "install-check"]
        done = subprocess.run(argv, env={**os.environ, **names}, capture_output=True, text=True, check=False)
        if done.returncode >= 10:
            print(" 40% Checking manifest contents failed.", flush=True)
            said = (done.stderr.strip().splitlines() or [""])[-1]
            return failed(f"Bundle rejected: Hook returned: {said}", file)
    name = "B" if told["booted"] == "A" else "A"
    print(" 60% Checking manifest contents done.\n 60% Determining target install group", flush=True)
    print(" 80% Determining target install group done.\n 80% Updating slots", flush=True)
    write_environment({**environment(), f"{name}_OK": "0", f"{name}_TRY": "0"})
    slot = f"rootfs.{INDEX[name]}"
    print(f" 80% Checking slot {slot}\n 90% Checking slot {slot} done.\n 90% Copying image to {slot}", flush=True)
    if damage := bundle.get("damage"):
        (STATE / f"slot-{name}").write_text("half")
        print(f" 99% Copying image to {slot} failed.", flush=True)
        return failed(damage, file)
    (STATE / f"slot-{name}").write_text(bundle["version"])
    told["versions"][name] = bundle["version"]
    (STATE / "slots").write_text(json.dumps(told))
    mark("active", "other")
    print(f" 99% Copying image to {slot} done.\n 99% Updating slots done.\n100% Installing done.\nidle", flush=True)
    print(f"Installing `{file}` succeeded", flush=True)
    return 0


def main() -> int:
    match sys.argv[1:]:
        case ["status", "--detailed", "--output-format=json"]:
            status()
        case ["status", "mark-good"]:
            mark("good", "booted")
        case ["status", "mark-bad", "other"]:
            mark("bad", "other")
        case ["status", "mark-active", "other"]:
            mark("active", "other")
        case ["info", "--output-format=json", file]:
            return info(file)
        case ["install", file]:
            return install(file)
        case _:
            print(f"unknown: {sys.argv}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
