"""Bodies of ``/api/admin/jobs``: long work that was asked for, how far it is, and how it ended."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag

from appliance.schemas.unions import TAG

JobStateWord = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled", "interrupted"]
JobKindWord = Literal[
    "pull", "import", "verify", "requantize", "bundle_import", "bundle_export", "doctor", "load", "update", "backup",
    "restore", "factory_reset",
]  # fmt: skip

PathText = Annotated[str, Field(min_length=1, max_length=4096)]
ModelId = Annotated[str, Field(min_length=1, max_length=256)]
NewName = Annotated[str, Field(min_length=1, max_length=128)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Wish(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PullWish(_Wish):
    """Download a model from a hub. ``target`` is ``VARIANT[:QUANT]``, ``auto`` or ``OWNER/REPO[@REVISION][:FILE]``.
    ``accept_changed`` takes a file that the hub replaced since the catalogue or the box knew it."""

    kind: Literal["pull"] = "pull"
    target: str = Field(min_length=1, max_length=512)
    hub: Literal["auto", "huggingface", "modelscope"] = "auto"
    format: Literal["gguf", "safetensors"] = "gguf"
    revision: str | None = Field(default=None, min_length=1, max_length=256)
    name: NewName | None = None
    accept_changed: bool = False


class ImportWish(_Wish):
    """Copy a model from a file or folder of the box (a stick) into the store."""

    kind: Literal["import"] = "import"
    path: PathText
    name: NewName | None = None


class VerifyWish(_Wish):
    """Read a model's files again and compare them with what was imported; all models without ``model``."""

    kind: Literal["verify"] = "verify"
    model: ModelId | None = None


class RequantizeWish(_Wish):
    """Make another form of a model. ``force``: also from one that has lost quality already."""

    kind: Literal["requantize"] = "requantize"
    model: ModelId
    to: Literal["Q8_0", "Q4_0"]
    force: bool = False


class BundleImportWish(_Wish):
    """Copy the model of a signed bundle into the store. ``paths`` are its folders or the sticks it lies on."""

    kind: Literal["bundle_import"] = "bundle_import"
    paths: tuple[PathText, ...] = Field(min_length=1, max_length=64)
    allow_unsigned: bool = False
    even_if_it_does_not_fit: bool = False


class BundleExportWish(_Wish):
    """Write a model of the store to sticks as a bundle, which is not signed yet. ``to`` are the sticks' folders."""

    kind: Literal["bundle_export"] = "bundle_export"
    model: ModelId
    to: tuple[PathText, ...] = Field(min_length=1, max_length=64)
    name: NewName | None = None
    fat32: bool = False


class DoctorWish(_Wish):
    """Check the way from the cards to the engine."""

    kind: Literal["doctor"] = "doctor"


class LoadWish(_Wish):
    """Load a model. ``swap`` lets others that are not pinned leave; ``pin`` keeps this one from leaving for others."""

    kind: Literal["load"] = "load"
    model: ModelId
    swap: bool = True
    pin: bool = False


class UpdateWish(_Wish):
    """Install an update of the system from a stick. ``restart``: restart the machine when it is written."""

    kind: Literal["update"] = "update"
    path: PathText
    restart: bool = False


class _SecretWish(_Wish):
    """With a passphrase, which is never shown, logged or kept with the job."""

    passphrase: str | None = Field(default=None, exclude=True, repr=False)


class BackupWish(_SecretWish):
    """Make a backup in the box's folder or in ``to``; without a passphrase by the box's own. Asked for by
    ``/api/admin/backups``, as are the next two: not every operator may."""

    kind: Literal["backup"] = "backup"
    to: PathText | None = None


class RestoreWish(_SecretWish):
    """Check a backup and restart with its state: ``name`` of the box's folder, or ``path`` of a stick."""

    kind: Literal["restore"] = "restore"
    name: str | None = None
    path: PathText | None = None


class FactoryResetWish(_Wish):
    """Restart as a new box."""

    kind: Literal["factory_reset"] = "factory_reset"
    remove_models: bool = False
    keep_backups: bool = False


JobWish = (
    PullWish
    | ImportWish
    | VerifyWish
    | RequantizeWish
    | BundleImportWish
    | BundleExportWish
    | DoctorWish
    | LoadWish
    | UpdateWish
    | BackupWish
    | RestoreWish
    | FactoryResetWish
)


def _tag_of(value: Any) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return None if kind is None else f"{TAG}{kind}"


class JobRequest(
    RootModel[
        Annotated[
            Annotated[PullWish, Tag(f"{TAG}pull")]
            | Annotated[ImportWish, Tag(f"{TAG}import")]
            | Annotated[VerifyWish, Tag(f"{TAG}verify")]
            | Annotated[RequantizeWish, Tag(f"{TAG}requantize")]
            | Annotated[BundleImportWish, Tag(f"{TAG}bundle_import")]
            | Annotated[BundleExportWish, Tag(f"{TAG}bundle_export")]
            | Annotated[DoctorWish, Tag(f"{TAG}doctor")]
            | Annotated[LoadWish, Tag(f"{TAG}load")]
            | Annotated[UpdateWish, Tag(f"{TAG}update")],
            Discriminator(_tag_of),
        ]
    ]
):
    """What is to be done: ``kind`` and what that kind needs."""


class JobProgress(_Value):
    """How far a job is. ``phase`` is what it does now. Bytes where the work is counted in bytes; ``fraction`` is 0 to
    1. ``bytes_per_s`` is of the last half minute or so, ``eta_s`` what is left at that rate."""

    phase: str | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None
    fraction: float | None = None
    bytes_per_s: float | None = None
    eta_s: float | None = None


class JobError(_Value):
    """Why a job failed or was interrupted."""

    code: str
    message: str
    hint: str | None = None


class Job(_Value):
    """One job. ``request`` is what was asked for; ``result`` is there when it succeeded, ``error`` when it failed or
    was interrupted by the end of the daemon. ``cancellable`` is false for what ends only by itself."""

    id: str
    kind: JobKindWord
    state: JobStateWord
    request: dict[str, Any]
    created_by: str
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancellable: bool = True
    progress: JobProgress = JobProgress()
    result: dict[str, Any] | None = None
    error: JobError | None = None


class JobList(_Value):
    """Jobs, the newest first. ``folders`` are those that imports may read from and exports write to now."""

    jobs: tuple[Job, ...] = ()
    folders: tuple[str, ...] = ()
