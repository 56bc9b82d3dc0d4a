"""``GET /v1/models`` and ``GET /v1/models/{id}``."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter
from starlette.responses import Response

from appliance.api.health import StatusSource
from appliance.errors import ModelNotFound
from appliance.schemas.openai_response import ModelCard, ModelList
from appliance.serving.types import ServedModel


def models_router(models: Mapping[str, ServedModel], manager: StatusSource) -> APIRouter:
    """The two routes. ``models`` is read anew for each request."""
    router = APIRouter(tags=["models"])

    @router.get("/models", response_model=ModelList)
    async def list_models() -> Response:
        return _json(ModelList(data=[_card(model, manager) for model in models.values()]))

    # A model's id may contain slashes, as those of Hugging Face do.
    @router.get("/models/{model_id:path}", response_model=ModelCard)
    async def get_model(model_id: str) -> Response:
        model = models.get(model_id)
        if model is None:
            raise ModelNotFound(model=model_id, served=", ".join(sorted(models)) or "none")
        return _json(_card(model, manager))

    return router


def _card(model: ServedModel, manager: StatusSource) -> ModelCard:
    status = manager.status()
    loaded = status.info if status.model_id == model.id else None
    return ModelCard(
        id=model.id, created=model.created_at, context_window=None if loaded is None else loaded.context_tokens
    )


def _json(body: ModelCard | ModelList) -> Response:
    return Response(body.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})
