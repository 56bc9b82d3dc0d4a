"""A drivers bundle on the stick: ``drivers.toml`` with its signature beside it, in minisign's format.

    schema = 1
    name = "Ascend 25.3 with CANN 8.5"
    vendor = "ascend"
    [[files]]
    path = "ascend.raw"
    size_bytes = 123
    sha256 = "..."

Only the small file is signed; it carries the hashes of the rest, which are checked while they are copied.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path, PurePosixPath

from installer.errors import InstallRefused
from installer.facts import CarriedFile, DriversBundle
from models.bundle.errors import BundleError
from models.bundle.trust import read_trusted_keys

MANIFEST = "drivers.toml"
SIGNATURE = "drivers.toml.minisig"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.raw")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_drivers_bundle(folder: Path, keys_folder: Path) -> DriversBundle:
    """The bundle, once a trusted key has signed it and its files have the sizes told. Raises InstallRefused
    (``payload_missing``)."""
    try:
        content, signature = (folder / MANIFEST).read_bytes(), (folder / SIGNATURE).read_bytes()
    except OSError as error:
        raise InstallRefused(
            "payload_missing", f"{error.filename} cannot be read: {error.strerror}.", "Copy the whole bundle."
        ) from error
    try:
        keys = read_trusted_keys(keys_folder)
        keys.demand(folder.name, keys.identify(content, signature))
    except BundleError as error:
        raise InstallRefused("payload_missing", str(error), error.hint) from error
    try:
        told = tomllib.loads(content.decode("utf-8"))
        files = tuple(CarriedFile(str(f["path"]), int(f["size_bytes"]), str(f["sha256"])) for f in told["files"])
        bundle = DriversBundle(folder, str(told["name"]), str(told["vendor"]), files)
        known = told["schema"] == 1 and bundle.vendor in {"nvidia", "ascend"} and files
    except (ValueError, KeyError, TypeError):
        known = False
    if not known or not all(_NAME.fullmatch(f.path) and _SHA256.fullmatch(f.sha256) for f in bundle.files):
        raise InstallRefused("payload_missing", f"{folder / MANIFEST} is no list of drivers.", "Ask its maker.")
    for file in bundle.files:
        path = folder / PurePosixPath(file.path)
        if not path.is_file() or path.stat().st_size != file.size_bytes:
            raise InstallRefused(
                "payload_missing", f"{path} is missing or has another size than the bundle says.", "Copy it anew."
            )
    return bundle
