"""``GET /v1/models`` and ``GET /v1/models/{id}``, which OpenAI's and Anthropic's clients ask alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from appliance.api.anthropic.models import to_info, to_page
from appliance.api.dialects import ANTHROPIC_VERSION
from appliance.api.exchange import to_model_id
from appliance.api.routes import Routes
from appliance.engine.base import EngineState, EngineStatus
from appliance.errors import ModelNotFound
from appliance.schemas.openai_response import ModelCard, ModelList


class ModelDirectory(Protocol):
    """The part of ``ModelHost`` that is needed here."""

    async def installed(self) -> Mapping[str, int]: ...

    def status(self, model_id: str | None = None) -> EngineStatus: ...


def models_router(models: ModelDirectory) -> Routes:
    """The two routes. ``models`` is read anew for each request."""
    router = Routes(tags=["models"])

    @router.get("/models", response_model=ModelList)
    async def list_models(request: Request) -> Response:
        found = await models.installed()
        if ANTHROPIC_VERSION in request.headers:
            infos = [to_info(model_id, at, _context_tokens(models, model_id)) for model_id, at in found.items()]
            return _json(to_page(infos, request.query_params))
        return _json(ModelList(data=[_card(model_id, at, models) for model_id, at in found.items()]))

    # A model's id may contain slashes, as those of Hugging Face do.
    @router.get("/models/{model_id:path}", response_model=ModelCard)
    async def get_model(request: Request, model_id: str) -> Response:
        found, model_id = await models.installed(), to_model_id(model_id)
        if model_id not in found:
            raise ModelNotFound(model=model_id, served=", ".join(sorted(found)) or "none")
        if ANTHROPIC_VERSION in request.headers:
            return _json(to_info(model_id, found[model_id], _context_tokens(models, model_id)))
        return _json(_card(model_id, found[model_id], models))

    return router


def _card(model_id: str, created_at: int, models: ModelDirectory) -> ModelCard:
    status = models.status(model_id)
    state = "installed" if status.state is EngineState.STOPPED else status.state.value
    window = _context_tokens(models, model_id)
    return ModelCard(id=model_id, created=created_at, context_window=window, state=state)


def _context_tokens(models: ModelDirectory, model_id: str) -> int | None:
    info = models.status(model_id).info
    return None if info is None else info.context_tokens


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})
