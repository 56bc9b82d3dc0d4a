"""What each kind of job does: the functions of ``models``, called in a thread with the job's ``Control``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from appliance.demo import is_demo
from appliance.errors import InvalidRequest
from appliance.jobs.control import Control, PullReport
from appliance.jobs.errors import JobCancelled
from appliance.jobs.folders import AllowedFolders, medium_of
from appliance.jobs.hubs import asked_hubs, hubs_of, plans_of
from appliance.jobs.service import Work
from appliance.jobs.threads import in_thread
from appliance.jobs.updates import UpdateDoor
from appliance.model_setup import engine_vendors
from appliance.schemas.jobs import (
    BundleExportWish,
    BundleImportWish,
    DoctorWish,
    ImportWish,
    LoadWish,
    PullWish,
    RequantizeWish,
    UpdateWish,
    VerifyWish,
)
from appliance.security.audit import AuditLog
from appliance.security.identity import Actor
from appliance.serving.template_check import check_template
from appliance.settings import Settings
from drivers.types import HardwareSnapshot
from models.bundle.create import CreateOptions, Sticks, create_bundle, source_of_model
from models.bundle.errors import BundleTargetUnusable
from models.bundle.judge import Judgement, judge
from models.bundle.layout import stick_space
from models.bundle.manifest import BundleManifest
from models.bundle.receive import ImportOptions, UntrustedImport, import_bundle
from models.bundle.trust import read_trusted_keys
from models.download import PullContext, choose, pull
from models.download_select import make_request
from models.hashing import Progress
from models.import_checks import ChatTemplateFacts, TemplateFindings
from models.importer import ImportResult, import_path
from models.model_store import ModelStore
from models.requantize import PureType, requantize
from models.site_catalogue import load_site_catalogue
from models.store_manifest import make_id
from models.store_types import ModelFormat
from models.store_verify import verify_models

STORE_LANE = "store"
"""Work that fills disks and networks."""
QUICK_LANE = "quick"
"""Work that must not wait for a download of hours."""
UPDATE_LANE = "update"
"""One at a time: it writes the only other system."""

LOAD_POLL_S = 0.5


class Models(Protocol):
    """The part of ``ModelHost`` that loads need."""

    async def load(self, model_id: str, *, swap: bool = True, pin: bool = False) -> Any: ...

    def progress(self, model_id: str) -> float | None: ...


@dataclass(frozen=True, slots=True)
class WorkPlace:
    """What works work with. ``detect`` blocks and gives the machine as it is; ``examine`` is the doctor, ``verified``
    is told what a check found of a model (``None``: all is well); ``door`` is where updates of the system are asked
    for."""

    store: ModelStore
    settings: Settings
    audit: AuditLog
    models: Models
    detect: Callable[[], HardwareSnapshot]
    examine: Callable[[], dict[str, Any]]
    verified: Callable[[str, str | None], None]
    door: UpdateDoor = field(default_factory=UpdateDoor)

    @property
    def folders(self) -> AllowedFolders:
        return AllowedFolders(self.settings.job_folders)


@dataclass(frozen=True, slots=True)
class Threaded:
    """A work that blocks."""

    body: Callable[[WorkPlace, Any, Control, Actor], dict[str, Any]]
    place: WorkPlace
    checks: Callable[[WorkPlace, Any], object] = lambda place, wish: None
    lane: str = STORE_LANE
    can_cancel: bool = True

    def check(self, wish: Any) -> None:
        self.checks(self.place, wish)

    async def run(self, wish: Any, control: Control, actor: Actor) -> dict[str, Any]:
        return await in_thread(f"job {wish.kind}", self._body, wish, control, actor)

    def _body(self, wish: Any, control: Control, actor: Actor) -> dict[str, Any]:
        control.check()
        try:
            return self.body(self.place, wish, control, actor)
        except Exception as error:
            # Between two reports a network may fail first, or code that was told to stop says so in its own way.
            if control.is_cancelled:
                raise JobCancelled from error
            raise


@dataclass(frozen=True, slots=True)
class Loading:
    """A model's load, which the model host carries out to its end."""

    place: WorkPlace
    lane: str = QUICK_LANE
    can_cancel: bool = False

    def check(self, wish: LoadWish) -> None:
        """Raises ModelError for a model that is not there."""
        self.place.store.get(wish.model)

    async def run(self, wish: LoadWish, control: Control, actor: Actor) -> dict[str, Any]:
        del actor
        loading = asyncio.ensure_future(self.place.models.load(wish.model, swap=wish.swap, pin=wish.pin))
        while not loading.done():
            await asyncio.wait({loading}, timeout=LOAD_POLL_S)
            control.fraction_done(self.place.models.progress(wish.model))
        info = loading.result()
        return {"model": wish.model, "seats": info.seats, "context_tokens": info.context_tokens}


def all_works(place: WorkPlace) -> Mapping[str, Work]:
    """Every kind by its name."""
    return {
        "pull": Threaded(_pull, place),
        "import": Threaded(_import, place, _paths_of_import),
        "verify": Threaded(_verify, place, lambda place, wish: wish.model and place.store.get(wish.model)),
        "requantize": Threaded(_requantize, place, lambda place, wish: place.store.get(wish.model)),
        "bundle_import": Threaded(_bundle_import, place, _paths_of_bundle),
        "bundle_export": Threaded(_bundle_export, place, _sticks_of_export),
        "doctor": Threaded(_doctor, place, lane=QUICK_LANE),
        "load": Loading(place),
        "update": Threaded(_update, place, _file_of_update, lane=UPDATE_LANE, can_cancel=False),
    }


def _template(facts: ChatTemplateFacts) -> TemplateFindings:
    return check_template(
        facts.source,
        control_tokens=facts.control_tokens,
        bos_token=facts.bos_token,
        eos_token=facts.eos_token,
        name=facts.name,
    )


def _pull(place: WorkPlace, wish: PullWish, control: Control, actor: Actor) -> dict[str, Any]:
    del actor
    control.phase("choose")
    settings, store = place.settings, place.store
    catalogue = load_site_catalogue(settings.catalogue_dir)
    hubs = hubs_of(settings)
    asked = asked_hubs(hubs, wish.hub)
    if not asked:
        raise InvalidRequest(f"The setting hub_order ({settings.hub_order}) leaves {wish.hub} out.", param="hub")
    request = make_request(
        catalogue,
        wish.target,
        ModelFormat(wish.format),
        wish.revision,
        lambda: plans_of(settings, catalogue, store, place.detect()),
    )
    choice = choose(asked, request, accept_changed=wish.accept_changed)
    control.phase("download")
    context = PullContext(catalogue, others=hubs, report=PullReport(control), check_template=_template)
    result = pull(store, choice, context, name=wish.name)
    listing = choice.listing
    return {
        **_taken(store, result, choice.warnings),
        "hub": listing.hub.value,
        "repository": listing.repository,
        "revision": listing.revision,
    }


def _paths_of_import(place: WorkPlace, wish: ImportWish) -> Path:
    return place.folders.resolve(wish.path)


def _import(place: WorkPlace, wish: ImportWish, control: Control, actor: Actor) -> dict[str, Any]:
    path = _paths_of_import(place, wish)
    control.phase("copy")

    def take(store: ModelStore, folder: Path, progress: Progress) -> ImportResult:
        # What its signature does not vouch for needs a wish of its own kind, which says so.
        options = _bundle_options(place, actor, BundleImportWish(paths=(str(folder),)))
        return import_bundle(store, [folder], _trusted(place.settings), progress, options)

    result = import_path(
        place.store,
        path,
        control.bytes_done,
        name=wish.name,
        check_template=_template,
        catalogue=load_site_catalogue(place.settings.catalogue_dir),
        import_bundle=take,
    )
    return _taken(place.store, result)


def _verify(place: WorkPlace, wish: VerifyWish, control: Control, actor: Actor) -> dict[str, Any]:
    del actor
    control.phase("check")
    store = place.store
    models = store.list().models if wish.model is None else (store.get(wish.model),)
    results = verify_models(models, control.bytes_done)
    for one in results:
        place.verified(one.id, "; ".join(one.problems) or None)
    return {
        "whole": all(not one.problems for one in results),
        "models": [{"id": one.id, "size_bytes": one.size_bytes, "problems": list(one.problems)} for one in results],
    }


def _requantize(place: WorkPlace, wish: RequantizeWish, control: Control, actor: Actor) -> dict[str, Any]:
    del actor
    control.phase("compute")
    made = requantize(
        place.store,
        place.store.get(wish.model),
        PureType(wish.to),
        control.bytes_done,
        force=wish.force,
        check_template=_template,
        catalogue=load_site_catalogue(place.settings.catalogue_dir),
    )
    return _taken(place.store, made.result, made.warnings)


def _paths_of_bundle(place: WorkPlace, wish: BundleImportWish) -> list[Path]:
    folders = place.folders
    return [folders.resolve(one) for one in wish.paths]


def _bundle_import(place: WorkPlace, wish: BundleImportWish, control: Control, actor: Actor) -> dict[str, Any]:
    paths = _paths_of_bundle(place, wish)
    control.phase("copy")
    options = _bundle_options(place, actor, wish)
    return _taken(place.store, import_bundle(place.store, paths, _trusted(place.settings), control.bytes_done, options))


def _bundle_options(place: WorkPlace, actor: Actor, wish: BundleImportWish) -> ImportOptions:
    settings = place.settings

    def record(untrusted: UntrustedImport) -> None:
        details = {"path": untrusted.path[:1024], "content_sha256": untrusted.content_sha256, "key": untrusted.key_id}
        place.audit.record(actor, "bundle.import_untrusted", untrusted.bundle, details)

    def fits(manifest: BundleManifest) -> Judgement:
        vendors = engine_vendors(settings.backends_dir)
        return judge(manifest, place.detect(), usable_vendors=vendors, allow_cpu=settings.allow_cpu_fallback)

    return ImportOptions(
        allow_unsigned=wish.allow_unsigned,
        audit=record,
        judge=None if wish.even_if_it_does_not_fit else fits,
        check_template=_template,
        catalogue=load_site_catalogue(settings.catalogue_dir),
    )


def _trusted(settings: Settings) -> Any:
    return read_trusted_keys(settings.trusted_keys_dir or settings.state_dir / "trusted-keys")


def _sticks_of_export(place: WorkPlace, wish: BundleExportWish) -> list[Path]:
    place.store.get(wish.model)
    folders = place.folders
    found = [folders.resolve(one) for one in wish.to]
    for folder in found:
        if not folder.is_dir():
            raise BundleTargetUnusable(folder, "it is no folder", "Give the folder where the stick is mounted.")
    return found


def _bundle_export(place: WorkPlace, wish: BundleExportWish, control: Control, actor: Actor) -> dict[str, Any]:
    del actor
    to = _sticks_of_export(place, wish)
    model = place.store.get(wish.model)
    bundle_id = make_id(wish.name or model.name, model.quantization)
    spaces = []
    for folder in to:
        filesystem, room = medium_of(folder / bundle_id)
        spaces.append(stick_space(room, filesystem, fat32=wish.fat32))

    def folder_of(number: int, manifest: BundleManifest) -> Path:
        return to[number - 1] / manifest.id

    control.phase("write")
    options = CreateOptions(
        name=wish.name, check_template=_template, catalogue=load_site_catalogue(place.settings.catalogue_dir)
    )
    made = create_bundle(source_of_model(model), Sticks(tuple(spaces), folder_of), control.bytes_done, options)
    return {
        "id": made.manifest.id,
        "size_bytes": made.manifest.size_bytes,
        "signed": False,
        "folders": [str(folder) for folder in made.folders],
    }


def _doctor(place: WorkPlace, wish: DoctorWish, control: Control, actor: Actor) -> dict[str, Any]:
    del wish, actor
    control.phase("examine")
    return place.examine()


def _file_of_update(place: WorkPlace, wish: UpdateWish) -> Path:
    place.door.check()
    return place.folders.resolve(wish.path)


def _update(place: WorkPlace, wish: UpdateWish, control: Control, actor: Actor) -> dict[str, Any]:
    del actor
    file = _file_of_update(place, wish)

    def report(phase: str | None, fraction: float | None) -> None:
        if phase is not None and phase != control.reading.phase:
            control.phase(phase)
        control.fraction_done(fraction)

    return place.door.install(file, restart=wish.restart, report=report).model_dump()


def _taken(store: ModelStore, result: ImportResult, warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    """What has come; the first real model becomes the default, as on the command line."""
    model = result.model
    default = store.default_id()
    if model.format is ModelFormat.GGUF and (default is None or is_demo(store.get(default))):
        store.set_default(model.id)
    return {
        "id": model.id,
        "name": model.name,
        "quantization": model.quantization,
        "format": model.format.value,
        "size_bytes": model.size_bytes,
        "sha256": model.sha256,
        "variant": model.variant,
        "is_new": result.is_new,
        "default": store.default_id() == model.id,
        "warnings": [*warnings, *model.warnings],
    }
