"""The folder of installed models.

    ROOT/<id>/manifest.json + files         one model, never changed after it appeared
    ROOT/default                            id of the model that is served when none is named
    ROOT/.staging/<...>/                    an import (or removal) under way: ``store_staging``
    ROOT/.lock                              held for moments: making and publishing a staging folder, default, removal

A model appears by one rename of its finished and fsynced folder, so a reader never sees half of one. Opening the store
finishes what a power cut left complete but unpublished, keeps what can be resumed and removes the rest. Files with the
same bytes lie on the disk once: they are hard links, so removing one model leaves the other whole. Locks are ``flock``:
they end with their process.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from models import store_staging as staged
from models.errors import (
    BudgetExceeded,
    ModelDamaged,
    ModelIdAmbiguous,
    ModelInUse,
    ModelIsDefault,
    ModelNotFound,
    NoSpace,
    StoreNotWritable,
)
from models.hashing import Progress, ignore_progress
from models.store_files import (
    DIR_MODE,
    FILE_MODE,
    disk_bytes,
    fsync_path,
    is_held,
    link_file,
    not_writable,
    take_lock,
    unique_bytes,
    write_error,
    write_file,
    written_bytes,
)
from models.store_folder import (
    check_staged,
    clear_default,
    free_id,
    is_readable,
    locked,
    read_default,
    read_model,
    removable,
    same_content,
    scan,
    write_default,
)
from models.store_manifest import (
    ID,
    MANIFEST_FILE,
    Manifest,
    ManifestUnreadable,
    decode,
    encode,
    manifest_problem,
)
from models.store_staging import STAGING, Staging
from models.store_types import DiskBudget, ModelFile, ModelFormat, StoreUsage, VerifyResult
from models.store_verify import damage_of, verify_models
from models.types import InstalledModel, StoreListing


class ModelStore:
    """The models under ``root``. Several processes may use the same folder."""

    def __init__(self, root: Path, *, budget: DiskBudget | None = None, clock: Callable[[], float] = time.time) -> None:
        """Makes the folders if need be and deals with what dead imports left. Raises ``StoreNotWritable``."""
        self.root = root
        self.budget = budget or DiskBudget()
        self._clock = clock
        try:
            for folder in (root, root / STAGING):
                folder.mkdir(mode=DIR_MODE, parents=True, exist_ok=True)
            with locked(self.root):
                for folder in staged.remove_dead(root, clock()):
                    with contextlib.suppress(OSError):  # a full disk: the next opening tries again
                        self._finish(folder)
        except OSError as error:
            raise not_writable(root, error) from error

    # --- reading -----------------------------------------------------------------------------------------------------

    def list(self) -> StoreListing:
        """All models by id, and folders that are damaged (named, never silently skipped). Raises
        ``StoreNotWritable``."""
        return scan(self.root)

    def get(self, model_id: str) -> InstalledModel:
        """The model of this id, or the only one whose id begins with it.

        Raises ``ModelNotFound``, ``ModelIdAmbiguous`` or ``ModelDamaged``.
        """
        if ID.fullmatch(model_id) and (self.root / model_id).is_dir():
            return read_model(self.root, model_id)
        listing = self.list()
        ids = [m.id for m in listing.models] + [d.id for d in listing.damaged]
        wanted = model_id.strip().lower()
        candidates = [i for i in ids if wanted and i.startswith(wanted)]
        if len(candidates) > 1:
            raise ModelIdAmbiguous(model_id, candidates)
        if candidates:
            return read_model(self.root, candidates[0])
        raise ModelNotFound(model_id, difflib.get_close_matches(wanted, ids, n=3, cutoff=0.5), empty=not ids)

    def find_sha256(self, sha256: str) -> InstalledModel | None:
        """The model with this content (``InstalledModel.sha256``), under whatever id."""
        return next((m for m in self.list().models if m.sha256 == sha256), None)

    def files_of_size(self, size_bytes: int) -> tuple[ModelFile, ...]:
        """Stored files of exactly this length, one of each content."""
        found = {f.sha256: f for m in self.list().models for f in m.files if f.size_bytes == size_bytes}
        return tuple(found[sha256] for sha256 in sorted(found))

    def free_bytes(self) -> int:
        """Bytes an ordinary user can still write on the store's file system."""
        stats = os.statvfs(self.root)
        return stats.f_bavail * stats.f_frsize

    def usage(self) -> StoreUsage:
        """What the store takes of the disk. Raises ``StoreNotWritable``."""
        models = self.list().models
        try:
            with locked(self.root):
                used = disk_bytes([self.root])
                unfinished = tuple(staged.unfinished(self.root, self._clock()))
                apparent = sum(m.size_bytes for m in models)
                unique = unique_bytes(f.path for m in models for f in m.files)
                return StoreUsage(used, max(apparent - unique, 0), self.free_bytes(), unfinished)
        except OSError as error:
            raise not_writable(self.root, error) from error

    def verify(self, model_id: str, progress: Progress = ignore_progress) -> InstalledModel:
        """Reads the whole model again and compares the sha256 of every file. Raises ``ModelDamaged``, which names the
        files that differ, and as ``get``."""
        model = self.get(model_id)
        problems = damage_of(model, progress)
        if problems:
            raise ModelDamaged(model.id, "; ".join(problems), files=[p.partition(":")[0] for p in problems])
        return model

    def verify_all(self, progress: Progress = ignore_progress) -> tuple[VerifyResult, ...]:
        """Verifies every model, those damaged at first sight included; shared files are read once."""
        listing = self.list()
        broken = [VerifyResult(d.id, 0, (d.problem,)) for d in listing.damaged]
        return tuple(sorted(verify_models(listing.models, progress) + broken, key=lambda r: r.id))

    def default_id(self) -> str | None:
        """Id of the default model, ``None`` when none was chosen or the chosen one is gone."""
        return read_default(self.root)

    @contextlib.contextmanager
    def hold(self, model_id: str) -> Iterator[InstalledModel]:
        """While the block runs the model counts as being served: ``remove`` refuses it, here and in other processes.
        Raises as ``get``."""
        model = self.get(model_id)
        with locked(self.root):
            held = os.open(self.root / model.id / MANIFEST_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            fcntl.flock(held, fcntl.LOCK_SH)
        try:
            yield model
        finally:
            os.close(held)

    # --- changing ----------------------------------------------------------------------------------------------------

    def set_default(self, model_id: str) -> InstalledModel:
        """Makes a model the default. Raises as ``get``, and ``StoreNotWritable``."""
        model = self.get(model_id)
        try:
            with locked(self.root):
                write_default(self.root, model.id)
        except OSError as error:
            raise not_writable(self.root, error) from error
        return model

    def remove(self, model_id: str, *, force: bool = False) -> str:
        """Removes a model, a damaged one too, and returns its id; if it was the default there is none afterwards.

        Takes only a whole id. Without ``force`` the default model is refused with ``ModelIsDefault`` (unless it is
        damaged) and one that is being served with ``ModelInUse``. Raises ``ModelNotFound`` or ``StoreNotWritable``.
        """
        folder = self.root / model_id
        if not ID.fullmatch(model_id) or not folder.is_dir():
            self.get(model_id)  # raises with what comes near, or finds an abbreviation, which is not enough here
            raise ModelNotFound(model_id, [self.get(model_id).id])
        try:
            with locked(self.root):
                was_default = self.default_id() == model_id
                if not force and is_held(folder / MANIFEST_FILE):
                    raise ModelInUse(model_id)
                if was_default and not force and is_readable(self.root, model_id):
                    raise ModelIsDefault(model_id)
                grave = self._bury(model_id)
                if was_default:
                    clear_default(self.root)
                fsync_path(self.root)
        except FileNotFoundError as error:
            raise ModelNotFound(model_id, []) from error
        except OSError as error:
            raise not_writable(self.root, error) from error
        shutil.rmtree(grave, ignore_errors=True)
        return model_id

    # --- importing ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def staging(self) -> Iterator[Staging]:
        """A folder to write a model into; it is gone afterwards, published or not. Raises ``StoreNotWritable``."""
        try:
            with locked(self.root):
                folder = self.root / STAGING / secrets.token_hex(8)
                folder.mkdir(mode=DIR_MODE)
                staging = Staging(folder, take_lock(folder / staged.LOCK_FILE))
        except OSError as error:
            raise not_writable(self.root, error) from error
        try:
            yield staging
        finally:
            staging.close()

    @contextlib.contextmanager
    def resumable(self, key: str) -> Iterator[Staging]:
        """A folder that survives crashes, the same one for the same ``key``; see the guide in ``store_staging``.

        Raises ``ImportRunning`` or ``StoreNotWritable``.
        """
        try:
            with locked(self.root):
                staging = staged.open_resumable(self.root, key)
        except OSError as error:
            raise not_writable(self.root, error) from error
        try:
            yield staging
        finally:
            staging.close()

    def reserve(self, staging: Staging, needed_bytes: int) -> None:
        """Claims room for an import before it writes; what other imports have claimed is taken. Raises ``NoSpace``,
        ``BudgetExceeded`` or ``StoreNotWritable``."""
        try:
            with locked(self.root):
                claimed = staged.outstanding_bytes(self.root, besides=staging.folder)
                free = self.free_bytes() - claimed
                if free < needed_bytes + self.budget.keep_free_bytes:
                    needed = needed_bytes + self.budget.keep_free_bytes
                    raise NoSpace(self.root, needed, free, removable(self.root, needed - free))
                limit = self.budget.max_bytes
                if limit is not None:
                    used = self._used_bytes() + claimed
                    if used + needed_bytes > limit:
                        over = used + needed_bytes - limit
                        raise BudgetExceeded(self.root, needed_bytes, used, limit, removable(self.root, over))
                staged.reserve(staging, needed_bytes)
        except OSError as error:
            raise self.write_error(error, needed_bytes) from error

    def adopt(self, staging: Staging, name: str, size_bytes: int, sha256: str) -> bool:
        """Takes the file ``name`` from a model that has the same bytes, by a hard link, and says whether it did.

        The stored bytes are read and hashed first, so damage does not spread. Raises ``StoreNotWritable``.
        """
        for file in self.files_of_size(size_bytes):
            if file.sha256 == sha256 and not damage_of(file) and self.link(staging, name, file):
                return True
        return False

    def link(self, staging: Staging, name: str, file: ModelFile) -> bool:
        """As ``adopt``, for a stored file whose bytes the caller has just read and found right."""
        target = staging.path(name)
        try:
            target.unlink(missing_ok=True)
            return link_file(file.path, target)
        except FileNotFoundError:
            return False  # its model was removed meanwhile
        except OSError as error:
            raise not_writable(self.root, error) from error

    def publish(self, staging: Staging, manifest: Manifest) -> tuple[InstalledModel, bool]:
        """Makes the staged model visible under ``manifest.id``; returns it and whether it is new.

        The same content already there (an import side by side) wins, unless its bytes are damaged: then this one takes
        its place and id. Another model under the id gets this one the id with ``-`` and eight digits of its sha256. The
        first GGUF of a store becomes the default. Raises ``NoSpace``, ``StoreNotWritable``, or ``ValueError`` when the
        files are not those of the manifest.
        """
        problem = manifest_problem(manifest)
        if problem:
            raise ValueError(f"the manifest cannot be published: {problem}")
        try:
            for file in manifest.files:
                check_staged(staging.path(file.name), file.size_bytes)
            twin = self.find_sha256(manifest.sha256)
            damaged = None if twin is None or same_content(twin, staging.folder) else twin.id
            with locked(self.root):
                existing = self.find_sha256(manifest.sha256)
                if existing is not None and existing.id != damaged:
                    staging.discard()
                    return existing, False
                final = self._complete(staging.folder, manifest, existing)
                grave = self._bury(existing.id) if existing is not None else None
                try:
                    self._appear(staging.folder, final)
                except OSError:
                    if existing is not None and grave is not None:
                        grave.rename(self.root / existing.id)
                    raise
                staging.published()
        except OSError as error:
            with contextlib.suppress(OSError):
                (staging.folder / MANIFEST_FILE).unlink(missing_ok=True)  # else the next opening would finish it
            raise self.write_error(error, manifest.size_bytes) from error
        if grave is not None:
            shutil.rmtree(grave, ignore_errors=True)
        return read_model(self.root, final.id), True

    def write_error(self, error: OSError, needed_bytes: int) -> NoSpace | StoreNotWritable:
        """The typed form of a failed write to the store."""
        try:
            free = self.free_bytes()
        except OSError:
            free = 0
        return write_error(self.root, error, needed_bytes, free)

    # --- within ------------------------------------------------------------------------------------------------------

    def _complete(self, folder: Path, manifest: Manifest, replaced: InstalledModel | None) -> Manifest:
        """Writes the manifest: from here on the import is finished even if the power goes."""
        final = msgspec.structs.replace(manifest, id=replaced.id if replaced else free_id(self.root, manifest))
        new = folder / f".{MANIFEST_FILE}.new"
        write_file(new, encode(final))
        new.replace(folder / MANIFEST_FILE)
        fsync_path(folder)
        return final

    def _appear(self, folder: Path, final: Manifest) -> None:
        """One rename; undone when it cannot be made to last. Whatever the manifest does not name stays behind."""
        wanted = {MANIFEST_FILE, *(f.name for f in final.files)}
        for entry in folder.iterdir():
            if entry.name in wanted:
                if stat.S_IMODE(entry.stat().st_mode) != FILE_MODE:
                    entry.chmod(FILE_MODE)
            elif entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        fsync_path(folder)
        if self.default_id() is None and final.format is ModelFormat.GGUF:
            write_default(self.root, final.id)
        folder.rename(self.root / final.id)
        try:
            fsync_path(self.root)
        except OSError:
            (self.root / final.id).rename(folder)
            raise

    def _finish(self, folder: Path) -> None:
        """Publishes what a process that died had completed; what is not complete after all goes."""
        try:
            manifest = decode((folder / MANIFEST_FILE).read_bytes())
            for file in manifest.files:
                check_staged(folder / file.name, file.size_bytes)
        except (FileNotFoundError, ValueError, ManifestUnreadable):
            shutil.rmtree(folder, ignore_errors=True)
            return
        if self.find_sha256(manifest.sha256) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._appear(folder, self._complete(folder, manifest, None))

    def _bury(self, model_id: str) -> Path:
        grave = self.root / STAGING / f"{secrets.token_hex(8)}{staged.REMOVED}"
        (self.root / model_id).rename(grave)
        return grave

    def _used_bytes(self) -> int:
        models = disk_bytes(e for e in self.root.iterdir() if e.name != STAGING)
        return models + sum(written_bytes(f) for f in (self.root / STAGING).iterdir())
