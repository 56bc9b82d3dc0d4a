"""What Ollama's clients ask before they chat: version, models, details. And what they ask for in vain, refused plainly.

Models are called ``ID:latest`` here, as clients expect a tag; without it they are found too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from appliance.api.exchange import LATEST, NO_STORE, declared, to_ignored, to_ignored_header, to_model_id
from appliance.api.ollama.errors import NoEmbeddings, NotByThisApi
from appliance.api.ollama.translate import extra_fields, shortened
from appliance.api.openapi import json_body
from appliance.api.routes import Routes
from appliance.api.validation import MissingParameter, parse_body
from appliance.errors import ModelNotFound
from appliance.schemas.models import ModelEntries, ModelEntry
from appliance.schemas.ollama_request import SHOW_IGNORED, ShowBody
from appliance.schemas.ollama_response import (
    ModelDetails,
    ModelFacts,
    ModelTag,
    ModelTags,
    OllamaVersion,
    RunningModel,
    RunningModels,
)
from appliance.serving.types import ServedModel

OLLAMA_VERSION = "0.33.0"
"""Whose API this is. Clients read it as three numbers and refuse what is older than they know."""

NEVER = "2200-01-01T00:00:00Z"
"""When a model is unloaded: it stays until the box needs its room."""

_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


class Directory(Protocol):
    """The part of ``ModelHost`` that is needed here."""

    async def installed(self) -> Mapping[str, int]: ...

    async def entries(self) -> ModelEntries: ...


Served = Callable[[str], ServedModel | None]


def catalogue_router(models: Directory, served: Served, version: str) -> Routes:
    """The routes; ``served`` gives what is known of a loaded model, ``version`` is the box's own."""
    router = Routes(tags=["ollama"])

    async def found() -> list[tuple[str, int, ModelEntry]]:
        """Models that a request may name: id, when it came, what the store has of it."""
        entries = {entry.id: entry for entry in (await models.entries()).models}
        return [(one, at, entries[one]) for one, at in (await models.installed()).items() if one in entries]

    @router.head("/version", include_in_schema=False)
    @router.get("/version", response_model=OllamaVersion, operation_id="ollama_version")
    async def get_version() -> Response:
        return _json(OllamaVersion(version=OLLAMA_VERSION, r1box=version))

    @router.head("/tags", include_in_schema=False)
    @router.get("/tags", response_model=ModelTags, operation_id="ollama_tags")
    async def list_tags() -> Response:
        tags = [_tag(one, at, entry, served(one)) for one, at, entry in await found()]
        return _json(ModelTags(models=tags))

    @router.get("/ps", response_model=RunningModels, operation_id="ollama_ps")
    async def list_running() -> Response:
        running = [_running(one, entry) for one, _, entry in await found() if entry.state == "ready"]
        return _json(RunningModels(models=running))

    @router.post("/show", response_model=ModelFacts, operation_id="ollama_show", openapi_extra=json_body("ShowBody"))
    async def show(request: Request) -> Response:
        body = parse_body(ShowBody, await request.body())
        asked = body.model or body.name
        if not asked:
            raise MissingParameter(param="model")
        known, wanted = await found(), to_model_id(asked)
        for one, at, entry in known:
            if one == wanted:
                ignored = shortened([*to_ignored(body, SHOW_IGNORED), *extra_fields(body)])
                return declared(request, to_ignored_header(ignored), _json(_facts(entry, at, served(one))))
        raise ModelNotFound(model=f"{wanted:.100}", served=", ".join(one for one, _, _ in known) or "none")

    return router


def refusals_router() -> Routes:
    """Routes of Ollama's that this box has not. A plain refusal tells more than a 404, which clients take for a missing
    model and answer with a download."""
    router = Routes(include_in_schema=False)

    async def no_embeddings() -> Response:
        raise NoEmbeddings

    async def not_by_this_api() -> Response:
        raise NotByThisApi

    for path in ("/embed", "/embeddings"):
        router.add_api_route(path, no_embeddings, methods=["POST"])
    for path in ("/pull", "/push", "/create", "/copy", "/blobs/{digest}"):
        router.add_api_route(path, not_by_this_api, methods=["POST"])
    router.add_api_route("/delete", not_by_this_api, methods=["DELETE"])
    router.add_api_route("/blobs/{digest}", not_by_this_api, methods=["HEAD"])
    return router


def _tag(model_id: str, at: int, entry: ModelEntry, served: ServedModel | None) -> ModelTag:
    return ModelTag(
        name=model_id + LATEST,
        model=model_id + LATEST,
        modified_at=_time(at),
        size=entry.size_bytes,
        digest=entry.sha256 or "",
        details=_details(entry),
        capabilities=_capabilities(entry, served),
    )


def _running(model_id: str, entry: ModelEntry) -> RunningModel:
    size = entry.planned_bytes or entry.size_bytes
    return RunningModel(
        name=model_id + LATEST,
        model=model_id + LATEST,
        size=size,
        digest=entry.sha256 or "",
        details=_details(entry),
        expires_at=NEVER,
        size_vram=size if entry.devices else 0,
        context_length=entry.context_tokens or 0,
    )


def _facts(entry: ModelEntry, at: int, served: ServedModel | None) -> ModelFacts:
    architecture = entry.architecture or "unknown"
    info: dict[str, str | int] = {"general.architecture": architecture, "general.basename": entry.name}
    if entry.parameters is not None:
        info["general.parameter_count"] = entry.parameters
    context_tokens = entry.context_tokens or entry.trained_context_tokens
    if context_tokens is not None:
        info[f"{architecture}.context_length"] = context_tokens
    return ModelFacts(
        modelfile=f"# Served by R1 Box; there is no Modelfile.\nFROM {entry.id}\n",
        parameters=_parameters(entry, served),
        template=(served.chat_template or "") if served else "",
        details=_details(entry),
        model_info=info,
        capabilities=_capabilities(entry, served),
        modified_at=_time(at),
    )


def _parameters(entry: ModelEntry, served: ServedModel | None) -> str:
    """What holds when a request sets nothing, a line each."""
    values: list[tuple[str, object]] = []
    if served is not None:
        sampling = served.profile.sampling
        values += [("temperature", sampling.temperature), ("top_p", sampling.top_p)]
    if entry.context_tokens is not None:
        values.append(("num_ctx", entry.context_tokens))
    return "\n".join(f"{name:<30} {value}" for name, value in values)


def _details(entry: ModelEntry) -> ModelDetails:
    family = entry.architecture or ""
    return ModelDetails(
        format=entry.format or "",
        family=family,
        families=[family] if family else [],
        parameter_size="" if entry.parameters is None else parameter_size(entry.parameters),
        quantization_level=entry.quantization,
    )


def _capabilities(entry: ModelEntry, served: ServedModel | None) -> list[str]:
    """Tools are the box's own doing, for every model; that one thinks is known for sure when it is loaded."""
    thinks = served.profile.splits_reasoning if served is not None else bool(entry.thinks)
    return ["completion", "tools", *(["thinking"] if thinks else [])]


def parameter_size(parameters: int) -> str:
    """``7.6B`` for 7,615,616,512."""
    for size, unit in _UNITS:
        if parameters >= size:
            value = parameters / size
            return f"{value:.0f}{unit}" if value >= 100 else f"{value:.1f}".removesuffix(".0") + unit
    return str(parameters)


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json", headers=NO_STORE)
