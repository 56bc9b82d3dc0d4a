"""A server that somebody else runs, as a model of this box: asked like any other, never started, never ended.

Its model need not be in the store; a folder with its tokenizer, template and config.json says what is to be known of
it. Counts, thoughts and forms are the box's where the server takes and gives token ids (``attach_protocol``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from appliance.engine.external.completions import TextCompletions, VllmCompletions
from appliance.engine.external.dialect import Dialect
from appliance.engine.external.infer_token import MindieTokens
from appliance.engine.external.launch import Endpoint
from appliance.engine.external.server_factory import Installation, ServerSpec
from appliance.engine.serve_order import ServeOrder
from appliance.errors import BadSetting
from appliance.server_setup import served_folder
from appliance.serving.types import ServedModel
from appliance.settings import Settings
from models.errors import ModelError
from models.model_store import ModelStore
from models.store_types import DiskBudget, ModelFormat
from models.stored_folder import read_described
from models.types import EngineName, FitPlan, InstalledModel, KvType, StoreListing

USUAL_SEATS = 8
_DIALECTS: dict[str, Callable[[], Dialect]] = {
    "vllm": VllmCompletions,
    "openai": TextCompletions,
    "mindie": MindieTokens,
}
_ENGINES = {"vllm": EngineName.VLLM, "openai": EngineName.VLLM, "mindie": EngineName.MINDIE}


class StoreWithAttached(ModelStore):
    """The store, and the attached model beside what it holds."""

    def __init__(self, folder: Path, *, budget: DiskBudget, attached: InstalledModel) -> None:
        super().__init__(folder, budget=budget)
        self._attached = attached

    def list(self) -> StoreListing:
        """All models, the attached one among them."""
        found = super().list()
        models = sorted((*found.models, self._attached), key=lambda model: model.id)
        return StoreListing(tuple(models), found.damaged)

    def get(self, model_id: str) -> InstalledModel:
        """As the store's; the attached model by its whole name."""
        return self._attached if model_id == self._attached.id else super().get(model_id)

    @contextmanager
    def hold(self, model_id: str) -> Iterator[InstalledModel]:
        """Nobody can remove the attached model from here."""
        if model_id == self._attached.id:
            yield self._attached
            return
        with super().hold(model_id) as held:
            yield held

    def default_id(self) -> str | None:
        """The store's own; the attached model where it has none."""
        return super().default_id() or self._attached.id

    def set_default(self, model_id: str) -> InstalledModel:
        """Of the attached model nothing is written: it is the default of a store without one."""
        return self._attached if model_id == self._attached.id else super().set_default(model_id)


def attached_model(settings: Settings) -> InstalledModel | None:
    """The attached model as the store would have it; ``None`` without ``attach_url``.

    Raises BadSetting for a folder that does not describe a model.
    """
    if settings.attach_url is None:
        return None
    folder = settings.attach_folder
    assert folder is not None  # the settings see to it
    try:
        found = read_described(folder)
    except ModelError as error:
        raise BadSetting(
            name="attach_folder", reason=f"it describes no model: {error.message}", origin=str(folder)
        ) from error
    name = settings.attach_model or folder.name
    return InstalledModel(
        id=name,
        name=name,
        architecture=found.architecture,
        quantization=found.quantization,
        size_bytes=0,
        sha256="",
        path=folder / "config.json",
        parameters=0,
        context_length_trained=found.shape.context_length,
        has_chat_template=found.chat_template is not None,
        imported_at=datetime.fromtimestamp((folder / "config.json").stat().st_mtime, UTC).isoformat(timespec="seconds"),
        source=settings.attach_url,
        format=ModelFormat.SAFETENSORS,
    )


def place_attached(installed: InstalledModel, settings: Settings) -> tuple[FitPlan, ServerSpec, ServedModel]:
    """The attached model's set-up: seats and context as set, the server's own bound holds where it tells one."""
    assert settings.attach_url is not None
    assert settings.attach_folder is not None
    found = read_described(settings.attach_folder)
    engine = _ENGINES[settings.attach_protocol]
    plan = FitPlan(
        variant=installed.name,
        quantization=installed.quantization,
        engine=engine,
        devices=(),
        seats=settings.seats or USUAL_SEATS,
        context_tokens=min(settings.context_tokens or found.shape.context_length, found.shape.context_length),
        kv_type=KvType.F16,
        flash_attention=True,
        ubatch_tokens=0,
        gpu_layers=0,
        tensor_split=(),
        memory=(),
        file_bytes=0,
        attached=True,
    )
    order = ServeOrder(
        name=installed.id,
        folder=settings.attach_folder,
        plan=plan,
        quantization=installed.quantization,
        architecture=installed.architecture,
    )
    key = None if settings.attach_key_file is None else settings.attach_key_file.read_text(encoding="utf-8").strip()
    endpoint = Endpoint(
        url=settings.attach_url,
        model=installed.id,
        dialect=_DIALECTS[settings.attach_protocol](),
        api_key=key,
        ca_file=settings.attach_ca_file,
    )
    place = Installation(run_dir=settings.state_dir, cache_dir=settings.state_dir)
    spec = ServerSpec(engine=engine, order=order, installation=place, backends=("attached",), attached=endpoint)
    return plan, spec, served_folder(installed, found)
