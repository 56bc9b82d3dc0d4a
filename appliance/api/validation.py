"""Reads a request body into its model. What is wrong becomes a typed error that names the field and quotes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from appliance.errors import AppError, InvalidRequest
from appliance.schemas.unions import TAG

_Model = TypeVar("_Model", bound=BaseModel)

_BRANCHES = ("str", "constrained-str", "int", "bool", "[key]")
_BRANCH_STARTS = ("list[", "dict[", "constrained-list", "literal[", "tagged-union[", TAG)

_MOST_STRINGS = 100_000
"""Strings, keys included, in one body: several times what 10,000 messages have. Parsing and checking take time in the
event loop by the number of values, hardly by the length of texts: 10 MB of text some 10 ms, a million keys seconds."""


class InvalidJson(AppError):
    """The body is not JSON."""

    code = "invalid_json"
    http_status = 400
    template = "The request's body is not valid JSON: {problem}."


class UnknownParameter(AppError):
    """The body has a field that the protocol does not know."""

    code = "unknown_parameter"
    http_status = 400
    template = "There is no parameter '{param}'."
    hint_template = "Look for a spelling mistake, or leave it out; nothing is ignored in silence."


class MissingParameter(AppError):
    """A field that must be there is not."""

    code = "missing_required_parameter"
    http_status = 400
    template = "The parameter '{param}' is missing."


def parse_body(model: type[_Model], body: bytes) -> _Model:
    """``body`` as ``model``. Raises InvalidJson, UnknownParameter, MissingParameter, InvalidRequest.

    One parser does JSON and types: it refuses NaN, bytes that are not UTF-8, lone surrogates and nesting without end,
    all of which Python's ``json`` lets through to where they hurt.
    """
    # Quotes inside texts are escaped. A text that ends with a backslash hides one of its two: the bound doubles.
    if (body.count(b'"') - body.count(b'\\"')) // 2 > _MOST_STRINGS:
        raise InvalidRequest(f"The request's body has more than {_MOST_STRINGS:,} keys and texts.")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=True)
        raise _typed(problems) from None  # the original error quotes the prompt, and would end up in a log


def _typed(problems: Sequence[Any]) -> AppError:
    first = problems[0]
    if first["type"] == "json_invalid":
        return InvalidJson(problem=str(first["ctx"]["error"]).lower())
    if first["type"] == "model_type" and not first["loc"]:
        return InvalidRequest("The request's body is not a JSON object.")
    # For a field of several possible types there is one problem per type; the one that got furthest says most.
    start = _parameter(first["loc"])
    related = [problem for problem in problems if _parameter(problem["loc"]).startswith(start)]
    deepest = max(related, key=lambda problem: len(_path(problem["loc"])))
    parameter = _parameter(deepest["loc"])
    if deepest["type"] == "extra_forbidden":
        return UnknownParameter(param=parameter)
    if deepest["type"] == "missing":
        return MissingParameter(param=parameter)
    if deepest["type"] == "union_tag_invalid":
        known = str(deepest["ctx"]["expected_tags"]).replace(TAG, "")
        return InvalidRequest(f"'{parameter}.type' should be one of {known}.", param=f"{parameter}.type")
    if deepest["type"] == "union_tag_not_found":
        return MissingParameter(param=f"{parameter}.type")
    messages = dict.fromkeys(_plain(p["msg"]) for p in related if _parameter(p["loc"]) == parameter)
    return InvalidRequest(f"'{parameter}' {' or '.join(messages)}.", param=parameter)


def _plain(message: str) -> str:
    return message.replace("Input should", "should", 1).replace("List should", "should", 1).rstrip(".")


def _path(location: Sequence[str | int]) -> list[str | int]:
    """The location without pydantic's marks for the branches of a union (``str``, ``list[ContentPart]``)."""
    return [
        part for part in location if isinstance(part, int) or not (part in _BRANCHES or part.startswith(_BRANCH_STARTS))
    ]


def _parameter(location: Sequence[str | int]) -> str:
    """``messages[0].content`` for ``("messages", 0, "content", "str")``."""
    text = ""
    for part in _path(location):
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
