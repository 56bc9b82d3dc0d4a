"""Errors as Ollama's clients read them: ``error`` is a text, with the box's ``code``, ``param`` and ``hint`` beside
it."""

from __future__ import annotations

import msgspec

from appliance.errors import AppError, ErrorDescription


class NoEmbeddings(AppError):
    """Embeddings are asked for."""

    code = "embeddings_not_offered"
    http_status = 400
    template = "This box makes no embeddings: the models that it serves write text."
    hint_template = "Ask another server for embeddings."


class NotByThisApi(AppError):
    """A client of Ollama's wants to change what is installed."""

    code = "not_by_this_api"
    http_status = 403
    template = "Models are not installed, changed or removed by this API."
    hint_template = "An operator does that: r1box models --help"


def ollama_envelope(description: ErrorDescription) -> bytes:
    """The JSON of ``{"error": "..."}``; in a stream it is a line."""
    error = {"error": description.message, "code": description.code, "param": description.param}
    if description.hint:
        error["hint"] = description.hint
    return msgspec.json.encode(error)
