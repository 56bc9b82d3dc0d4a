"""What can be wrong with a request to make or end a key."""

from __future__ import annotations

from appliance.errors import AppError


class BadKeyName(AppError):
    """The name cannot be used."""

    code = "bad_key_name"
    http_status = 400
    template = "The name {name!r} cannot be used for a key: {reason}."
    hint_template = "Use 1 to 64 printable characters, such as: ward-3-app"


class KeyNameTaken(AppError):
    """A live key has the name."""

    code = "key_name_taken"
    http_status = 409
    template = "There is a key with the name '{name}' already."
    hint_template = "Choose another name, or end the old one with: r1box keys revoke {name}"


class KeyNotFound(AppError):
    """No live key has the name."""

    code = "key_not_found"
    http_status = 404
    template = "There is no live key with the name '{name}'."
    hint_template = "r1box keys list shows them."
