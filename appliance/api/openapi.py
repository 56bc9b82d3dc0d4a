"""The API's own description, ``/openapi.json``: behind a key, without viewer pages, which load from the internet."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from appliance.schemas.errors import ErrorEnvelope
from appliance.schemas.openai_request import ChatCompletionRequest

# Bodies that routes read themselves (after the key was checked), so FastAPI does not know of them.
_BODIES = (ChatCompletionRequest, ErrorEnvelope)
_BEHIND_A_KEY = ("/v1/", "/api/", "/metrics")
_REFERENCE = "#/components/schemas/{model}"


def json_body(model: str) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads ``model`` from the body itself."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model)}}},
        }
    }


def build_schema(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of ``app``'s routes."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    _, definitions = models_json_schema([(model, "validation") for model in _BODIES], ref_template=_REFERENCE)
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(definitions["$defs"])
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    error = {"description": "Error", "content": {"application/json": {"schema": _ref("ErrorEnvelope")}}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            if path.startswith(_BEHIND_A_KEY):
                operation["security"] = [{"key": []}]
                operation["responses"]["default"] = error
    return document


def openapi_router(app: FastAPI) -> APIRouter:
    """The route of the document, which is made when it is first asked for."""
    router = APIRouter(include_in_schema=False)
    made: list[bytes] = []

    @router.get("/openapi.json")
    def openapi_json() -> Response:
        if not made:
            made.append(msgspec.json.encode(build_schema(app)))
        return Response(made[0], media_type="application/json")

    return router


def _ref(model: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model)}
