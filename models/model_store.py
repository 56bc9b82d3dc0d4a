"""The folder of installed models.

    ROOT/<id>/manifest.json, model.gguf     one model, never changed after it appeared
    ROOT/default                            id of the model that is served when none is named
    ROOT/.staging/<random>/                 an import (or removal) under way; ``lock`` in it is held by its process
    ROOT/.lock                              held for moments: making and publishing a staging folder, default, removal

A model appears by one rename of its finished and fsynced folder, so a reader never sees half of one. A staging folder
whose lock nobody holds belongs to a dead process; opening the store removes it. Locks are ``flock``: they end with
their process.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from models.errors import (
    ModelDamaged,
    ModelIdAmbiguous,
    ModelNotFound,
    NoSpace,
    StoreNotWritable,
)
from models.hashing import Progress, ignore_progress, sha256_of
from models.types import DamagedModel, InstalledModel, StoreListing

MANIFEST_SCHEMA = 1
MODEL_FILE = "model.gguf"
_MANIFEST_FILE = "manifest.json"
_DEFAULT_FILE = "default"
_STAGING = ".staging"
_LOCK_FILE = ".lock"
_STAGING_LOCK = "lock"
_DIR_MODE = 0o750
_FILE_MODE = 0o640
_MAX_MANIFEST_BYTES = 64 * 1024
_MAX_ID_LENGTH = 96
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,126}")
_NOT_IN_ID = re.compile(r"[^a-z0-9._]+")


class Manifest(msgspec.Struct, frozen=True):
    """What ``manifest.json`` says of a model. Unknown fields are left alone: a later version may add some."""

    schema: int
    id: str
    name: str
    architecture: str
    quantization: str
    size_bytes: int
    sha256: str
    parameters: int
    context_length_trained: int
    has_chat_template: bool
    imported_at: str
    source: str


def make_id(name: str, quantization: str) -> str:
    """``("DeepSeek R1 Distill Qwen 7B", "Q4_K_M")`` -> ``deepseek-r1-distill-qwen-7b-q4_k_m``.

    Only ``a-z 0-9 . _ -``, beginning with a letter or digit, at most 96 characters; ``model`` when nothing is left.
    """
    quant = _NOT_IN_ID.sub("-", quantization.lower()).strip("-._")[:32]
    slug = _NOT_IN_ID.sub("-", name.lower()).strip("-._")[: _MAX_ID_LENGTH - len(quant) - 1].strip("-._") or "model"
    return f"{slug}-{quant}" if quant else slug


class Staging:
    """A folder of an import under way. Made by ``ModelStore.staging``; ``folder`` is where to write."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    @property
    def model_path(self) -> Path:
        return self.folder / MODEL_FILE

    def close(self) -> None:
        """Removes what is left of the folder and lets the lock go. Never raises for what is not there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class ModelStore:
    """The models under ``root``. Several processes may use the same folder."""

    def __init__(self, root: Path) -> None:
        """Makes the folders if need be and removes what dead imports left. Raises ``StoreNotWritable``."""
        self.root = root
        try:
            for folder in (root, root / _STAGING):
                folder.mkdir(mode=_DIR_MODE, parents=True, exist_ok=True)
            with self._locked():
                self._remove_leftovers()
        except OSError as error:
            raise _not_writable(root, error) from error

    # --- reading -----------------------------------------------------------------------------------------------------

    def list(self) -> StoreListing:
        """All models by id, and folders that are damaged (named, never silently skipped). Raises
        ``StoreNotWritable``."""
        models: list[InstalledModel] = []
        damaged: list[DamagedModel] = []
        try:
            names = sorted(e.name for e in os.scandir(self.root) if not e.name.startswith(".") and e.is_dir())
        except OSError as error:
            raise _not_writable(self.root, error) from error
        for name in names:
            try:
                models.append(self._read(name))
            except ModelDamaged as error:
                damaged.append(DamagedModel(name, str(error.details.get("problem", error.message))))
            except ModelNotFound:
                continue  # removed between the listing and the look
        return StoreListing(tuple(models), tuple(damaged))

    def get(self, model_id: str) -> InstalledModel:
        """The model of this id, or the only one whose id begins with it.

        Raises ``ModelNotFound``, ``ModelIdAmbiguous`` or ``ModelDamaged``.
        """
        if _ID.fullmatch(model_id) and (self.root / model_id).is_dir():
            return self._read(model_id)
        listing = self.list()
        ids = [m.id for m in listing.models] + [d.id for d in listing.damaged]
        wanted = model_id.strip().lower()
        candidates = [i for i in ids if wanted and i.startswith(wanted)]
        if len(candidates) > 1:
            raise ModelIdAmbiguous(model_id, candidates)
        if candidates:
            return self._read(candidates[0])
        raise ModelNotFound(model_id, difflib.get_close_matches(wanted, ids, n=3, cutoff=0.5), empty=not ids)

    def find_sha256(self, sha256: str) -> InstalledModel | None:
        """The model with these bytes, under whatever id."""
        return next((m for m in self.list().models if m.sha256 == sha256), None)

    def has_size(self, size_bytes: int) -> bool:
        """Whether some model has exactly this many bytes."""
        return any(m.size_bytes == size_bytes for m in self.list().models)

    def free_bytes(self) -> int:
        """Bytes an ordinary user can still write on the store's file system."""
        stats = os.statvfs(self.root)
        return stats.f_bavail * stats.f_frsize

    def verify(self, model_id: str, progress: Progress = ignore_progress) -> InstalledModel:
        """Reads the whole model again and compares its sha256. Raises ``ModelDamaged`` when it differs, and as
        ``get``."""
        model = self.get(model_id)
        try:
            actual = sha256_of(model.path, progress)
        except OSError as error:
            raise _damaged(model.id, f"the file cannot be read: {error.strerror or error}") from error
        if actual != model.sha256:
            raise _damaged(model.id, "its bytes have changed", expected_sha256=model.sha256, actual_sha256=actual)
        return model

    def default_id(self) -> str | None:
        """Id of the default model, ``None`` when none was chosen or the chosen one is gone."""
        try:
            text = (self.root / _DEFAULT_FILE).read_bytes()[:256].decode("ascii", errors="replace").strip()
        except OSError:
            return None
        return text if _ID.fullmatch(text) and (self.root / text).is_dir() else None

    # --- writing -----------------------------------------------------------------------------------------------------

    def set_default(self, model_id: str) -> InstalledModel:
        """Makes a model the default. Raises as ``get``, and ``StoreNotWritable``."""
        model = self.get(model_id)
        try:
            with self._locked():
                self._write_default(model.id)
        except OSError as error:
            raise _not_writable(self.root, error) from error
        return model

    def remove(self, model_id: str) -> str:
        """Removes a model, a damaged one too, and returns its id; if it was the default there is none afterwards.

        Takes only a whole id. Raises ``ModelNotFound`` or ``StoreNotWritable``.
        """
        folder = self.root / model_id
        if not _ID.fullmatch(model_id) or not folder.is_dir():
            self.get(model_id)  # raises with what comes near, or finds an abbreviation, which is not enough here
            raise ModelNotFound(model_id, [self.get(model_id).id])
        grave = self.root / _STAGING / f"{secrets.token_hex(8)}-removed"
        try:
            with self._locked():
                was_default = self.default_id() == model_id
                folder.rename(grave)
                if was_default:
                    (self.root / _DEFAULT_FILE).unlink(missing_ok=True)
                _fsync_folder(self.root)
        except FileNotFoundError as error:
            raise ModelNotFound(model_id, []) from error
        except OSError as error:
            raise _not_writable(self.root, error) from error
        shutil.rmtree(grave, ignore_errors=True)
        return model_id

    @contextlib.contextmanager
    def staging(self) -> Iterator[Staging]:
        """A folder to write a model into; it is gone afterwards, published or not. Raises ``StoreNotWritable``."""
        try:
            with self._locked():
                folder = self.root / _STAGING / secrets.token_hex(8)
                folder.mkdir(mode=_DIR_MODE)
                lock = os.open(folder / _STAGING_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _not_writable(self.root, error) from error
        staging = Staging(folder, lock)
        try:
            yield staging
        finally:
            staging.close()

    def publish(self, staging: Staging, manifest: Manifest) -> tuple[InstalledModel, bool]:
        """Makes the staged model visible under ``manifest.id``; returns it and whether it is new.

        The same bytes already there (an import side by side) win; another model under the id gets this one the id with
        ``-`` and eight digits of its sha256. The first model of a store becomes the default. Raises ``NoSpace`` or
        ``StoreNotWritable``.
        """
        try:
            with self._locked():
                existing = self.find_sha256(manifest.sha256)
                if existing is not None:
                    return existing, False
                final = msgspec.structs.replace(manifest, id=self._free_id(manifest))
                write_file(staging.folder / _MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(final), indent=2))
                (staging.folder / _STAGING_LOCK).unlink(missing_ok=True)
                _fsync_folder(staging.folder)
                if self.default_id() is None:
                    self._write_default(final.id)
                staging.folder.rename(self.root / final.id)
                _fsync_folder(self.root)
        except OSError as error:
            raise write_error(self, error, manifest.size_bytes) from error
        return self._read(final.id), True

    def _free_id(self, manifest: Manifest) -> str:
        for candidate in (manifest.id, f"{manifest.id}-{manifest.sha256[:8]}", f"{manifest.id}-{manifest.sha256[:24]}"):
            if _ID.fullmatch(candidate) and not (self.root / candidate).exists():
                return candidate
        raise FileExistsError(errno.EEXIST, f"no free id for {manifest.id}")

    def _write_default(self, model_id: str) -> None:
        temporary = self.root / _STAGING / f"{secrets.token_hex(8)}-default"
        write_file(temporary, f"{model_id}\n".encode("ascii"))
        temporary.replace(self.root / _DEFAULT_FILE)
        _fsync_folder(self.root)

    def _read(self, model_id: str) -> InstalledModel:
        folder = self.root / model_id
        try:
            with (folder / _MANIFEST_FILE).open("rb") as file:
                raw = file.read(_MAX_MANIFEST_BYTES + 1)
            size = (folder / MODEL_FILE).stat().st_size
        except FileNotFoundError as error:
            if not folder.exists():
                raise ModelNotFound(model_id, []) from error
            raise _damaged(model_id, f"{Path(error.filename).name} is missing") from error
        except OSError as error:
            raise _damaged(model_id, f"it cannot be read: {error.strerror or error}") from error
        try:
            if len(raw) > _MAX_MANIFEST_BYTES:
                raise msgspec.ValidationError("too long")
            manifest = msgspec.json.decode(raw, type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _damaged(model_id, f"its manifest is not readable ({error})") from error
        if manifest.schema != MANIFEST_SCHEMA or manifest.id != model_id:
            raise _damaged(model_id, "its manifest belongs to another model or a newer version")
        if size != manifest.size_bytes:
            raise _damaged(model_id, f"the file has {size:,} bytes instead of {manifest.size_bytes:,}")
        return InstalledModel(
            id=manifest.id,
            name=manifest.name,
            architecture=manifest.architecture,
            quantization=manifest.quantization,
            size_bytes=manifest.size_bytes,
            sha256=manifest.sha256,
            path=folder / MODEL_FILE,
            parameters=manifest.parameters,
            context_length_trained=manifest.context_length_trained,
            has_chat_template=manifest.has_chat_template,
            imported_at=manifest.imported_at,
            source=manifest.source,
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The store's lock, waited for: it is never held for longer than a few renames."""
        lock = os.open(self.root / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _remove_leftovers(self) -> None:
        """Runs under the store's lock, under which staging folders are made and locked: one without a held lock is
        dead."""
        for entry in os.scandir(self.root / _STAGING):
            if not entry.is_dir(follow_symlinks=False):
                Path(entry.path).unlink(missing_ok=True)
            elif not _is_held(Path(entry.path) / _STAGING_LOCK):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_held(lock_file: Path) -> bool:
    try:
        lock = os.open(lock_file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def write_file(path: Path, content: bytes) -> None:
    """Writes a new file and fsyncs it; the caller renames it into place."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_error(store: ModelStore, error: OSError, needed_bytes: int) -> NoSpace | StoreNotWritable:
    """The typed form of a failed write to the store."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(store.root, needed_bytes, store.free_bytes())
    return _not_writable(store.root, error)


def _not_writable(root: Path, error: OSError) -> StoreNotWritable:
    return StoreNotWritable(root, error.strerror or str(error))


def _damaged(model_id: str, problem: str, **details: str) -> ModelDamaged:
    return ModelDamaged(model_id, problem, **details)
