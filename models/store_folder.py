"""What lies in the store's folder: models as their manifests describe them, the default, the store's lock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from models.errors import ModelDamaged, ModelNotFound
from models.store_files import FILE_MODE, fsync_path, is_held, not_writable, same_bytes, write_file
from models.store_manifest import ID, MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, ManifestUnreadable, decode, installed
from models.store_staging import STAGING
from models.types import DamagedModel, InstalledModel, StoreListing

_DEFAULT_FILE = "default"
_LOCK_FILE = ".lock"
_SUGGESTIONS = 3


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """The store's lock, waited for: it is never held for longer than a few renames. Raises ``OSError``."""
    lock = os.open(root / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def scan(root: Path) -> StoreListing:
    """All models by id, and folders that are damaged. Raises ``StoreNotWritable``."""
    models: list[InstalledModel] = []
    damaged: list[DamagedModel] = []
    try:
        names = sorted(e.name for e in os.scandir(root) if not e.name.startswith(".") and e.is_dir())
    except OSError as error:
        raise not_writable(root, error) from error
    for name in names:
        try:
            models.append(read_model(root, name))
        except ModelDamaged as error:
            damaged.append(DamagedModel(name, str(error.details.get("problem", error.message))))
        except ModelNotFound:
            continue  # removed between the listing and the look
    return StoreListing(tuple(models), tuple(damaged))


def read_model(root: Path, model_id: str) -> InstalledModel:
    """The model in the folder of exactly this name, every file there with its size. Raises ``ModelNotFound`` or
    ``ModelDamaged``."""
    folder = root / model_id
    try:
        with (folder / MANIFEST_FILE).open("rb") as file:
            manifest = decode(file.read(MAX_MANIFEST_BYTES + 1))
        sizes = [(entry, (folder / entry.name).lstat()) for entry in manifest.files]
    except FileNotFoundError as error:
        if not folder.exists():
            raise ModelNotFound(model_id, []) from error
        raise ModelDamaged(model_id, f"{Path(error.filename).name} is missing") from error
    except OSError as error:
        raise ModelDamaged(model_id, f"it cannot be read: {error.strerror or error}") from error
    except ManifestUnreadable as error:
        raise ModelDamaged(model_id, str(error)) from error
    if manifest.id != model_id:
        raise ModelDamaged(model_id, "its manifest belongs to another model or a newer version")
    for entry, info in sizes:
        if not stat.S_ISREG(info.st_mode):
            raise ModelDamaged(model_id, f"{entry.name} is not an ordinary file")
        if info.st_size != entry.size_bytes:
            raise ModelDamaged(model_id, f"{entry.name} has {info.st_size:,} bytes instead of {entry.size_bytes:,}")
    return installed(manifest, folder)


def is_readable(root: Path, model_id: str) -> bool:
    """Whether the model is there and not damaged at first sight."""
    try:
        read_model(root, model_id)
    except (ModelNotFound, ModelDamaged):
        return False
    return True


def read_default(root: Path) -> str | None:
    """Id of the default model, ``None`` when none was chosen or the chosen one is gone."""
    try:
        text = (root / _DEFAULT_FILE).read_bytes()[:256].decode("ascii", errors="replace").strip()
    except OSError:
        return None
    return text if ID.fullmatch(text) and (root / text).is_dir() else None


def write_default(root: Path, model_id: str) -> None:
    """Makes a model the default; under the store's lock. Raises ``OSError``."""
    temporary = root / STAGING / f"{secrets.token_hex(8)}-default"
    write_file(temporary, f"{model_id}\n".encode("ascii"))
    temporary.replace(root / _DEFAULT_FILE)
    fsync_path(root)


def clear_default(root: Path) -> None:
    """There is no default any more; under the store's lock. Raises ``OSError``."""
    (root / _DEFAULT_FILE).unlink(missing_ok=True)


def free_id(root: Path, manifest: Manifest) -> str:
    """The manifest's id, or that with digits of its sha256 where another model has it. Raises ``FileExistsError``."""
    for candidate in (manifest.id, f"{manifest.id}-{manifest.sha256[:8]}", f"{manifest.id}-{manifest.sha256[:24]}"):
        if ID.fullmatch(candidate) and not (root / candidate).exists():
            return candidate
    raise FileExistsError(errno.EEXIST, f"no free id for {manifest.id}")


def check_staged(path: Path, size_bytes: int) -> None:
    """Raises ``ValueError`` when a staged file is not there as the manifest says; else fsyncs it."""
    info = path.lstat()
    if not stat.S_ISREG(info.st_mode) or info.st_size != size_bytes:
        raise ValueError(f"{path.name} in the staging folder is not the file of the manifest")
    fsync_path(path)


def same_content(model: InstalledModel, folder: Path) -> bool:
    """Whether the files of a stored model are, byte for byte, those staged in ``folder``."""
    for file in model.files:
        try:
            with file.path.open("rb") as stored, (folder / file.name).open("rb") as new:
                if os.path.sameopenfile(stored.fileno(), new.fileno()):
                    continue
                if not same_bytes(stored.fileno(), new.fileno(), file.size_bytes, lambda _: None, lambda _: None):
                    return False
        except OSError:
            return False
    return True


def removable(root: Path, needed_bytes: int) -> tuple[str, ...]:
    """Ids of models that could go, the largest first, until they give ``needed_bytes``. The default, what is being
    served and what only shares its files with others are left out. Raises ``OSError``."""
    default = read_default(root)
    found: tuple[str, ...] = ()
    gains = [(sum(f.size_bytes for f in m.files if f.path.stat().st_nlink == 1), m.id) for m in scan(root).models]
    for gain, model_id in sorted(gains, reverse=True):
        if needed_bytes <= 0 or len(found) == _SUGGESTIONS:
            break
        if model_id != default and gain and not is_held(root / model_id / MANIFEST_FILE):
            found = (*found, model_id)
            needed_bytes -= gain
    return found
