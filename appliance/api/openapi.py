"""The API's own description, ``/openapi.json``: for whoever has a key, without viewer pages, which load from the
internet. ``x-r1box-rule`` of an operation is the scope a key needs for it (or ``known``, ``person``, ``public``)."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from appliance.api.access import Entry, rules
from appliance.api.routes import Routes
from appliance.schemas import accounts, backups, chats
from appliance.schemas.anthropic_request import CountTokensRequest, MessagesRequest
from appliance.schemas.errors import ErrorEnvelope
from appliance.schemas.first_run import FirstAdmin, StepChange
from appliance.schemas.jobs import JobRequest
from appliance.schemas.network import NetworkChange, TrialConfirmation, TrialRequest
from appliance.schemas.ollama_request import ChatCall, GenerateBody, ShowBody
from appliance.schemas.openai_completion import CompletionBody
from appliance.schemas.openai_request import ChatCompletionRequest
from appliance.schemas.openai_responses import ResponseRequest
from appliance.schemas.settings import SettingsChange
from appliance.schemas.terminals import TerminalInput, TerminalWish
from appliance.schemas.updates import RollbackOrder, UpdateOrder

# Bodies that routes read themselves (after the key was checked), so FastAPI does not know of them.
_BODIES = (
    ChatCompletionRequest,
    CompletionBody,
    ResponseRequest,
    MessagesRequest,
    CountTokensRequest,
    ChatCall,
    GenerateBody,
    ShowBody,
    ErrorEnvelope,
    accounts.LoginBody,
    accounts.SetupBody,
    accounts.LogoutBody,
    accounts.PasswordBody,
    accounts.PreferencesBody,
    accounts.UserCreate,
    accounts.UserChange,
    accounts.PasswordReset,
    accounts.KeyCreate,
    accounts.KeyGrant,
    chats.ChatCreate,
    chats.ChatChange,
    chats.MessageCreate,
    JobRequest,
    UpdateOrder,
    RollbackOrder,
    SettingsChange,
    TerminalWish,
    TerminalInput,
    backups.BackupOrder,
    backups.RestoreOrder,
    backups.PassphraseOrder,
    backups.ResetOrderBody,
    StepChange,
    FirstAdmin,
    NetworkChange,
    TrialRequest,
    TrialConfirmation,
)
TITLE = "R1 Box"
_REFERENCE = "#/components/schemas/{model}"


def json_body(model: str) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads ``model`` from the body itself."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model)}}},
        }
    }


def build_schema(routes: Routes, version: str) -> dict[str, Any]:
    """The OpenAPI document of ``routes``."""
    described = [declaration.described() for declaration in routes.declared()]
    document = get_openapi(title=TITLE, version=version, routes=described)
    _, definitions = models_json_schema([(model, "validation") for model in _BODIES], ref_template=_REFERENCE)
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(definitions["$defs"])
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": "r1box_session"},
    }
    declared = {(path, method.lower()): found[0] for method, path, found in rules(described)}
    error = {"description": "Error", "content": {"application/json": {"schema": _ref("ErrorEnvelope")}}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["responses"].pop("422", None)
            rule = declared[path, method]
            operation["x-r1box-rule"] = rule.value
            if rule is not Entry.PUBLIC:
                operation["security"] = [{"session": []}] if rule is Entry.PERSON else [{"key": []}, {"session": []}]
            if path.startswith(("/v1/", "/api/", "/metrics")):
                operation["responses"]["default"] = error
    return document


def openapi_router(routes: Routes, version: str) -> Routes:
    """The route of the document of ``routes``, which is made when it is first asked for."""
    router = Routes(include_in_schema=False)
    made: list[bytes] = []

    @router.get("/openapi.json")
    def openapi_json() -> Response:
        if not made:
            made.append(msgspec.json.encode(build_schema(routes, version)))
        return Response(made[0], media_type="application/json")

    return router


def _ref(model: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model)}
