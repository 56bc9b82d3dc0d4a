"""Settings that are changed in the running box: what each one is, where its value comes from, and a file of changes.

Changes are in ``settings.toml`` in the state folder, which a service may write; the settings file of the machine
(/etc/r1box/config.toml) belongs to root and stays as it is. Settings that decide what the box may read, write, trust or
load as code (``FILE_ONLY``) are never changed here.
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from appliance.errors import AppError, BadSetting
from appliance.settings import (
    CHANGED_NAME,
    FILE_ONLY,
    SECRET,
    Origin,
    Settings,
    load_settings,
    origin_of,
    read_changed,
)

NOW = frozenset(
    {
        "load_on_request",
        "idle_unload_s",
        "max_waiting",
        "session_idle_s",
        "session_max_s",
        "browser_console",
        "audit_keep_days",
        "audit_keep_rows",
        "audit_keep_bytes",
        "usage_keep_days",
        "store_prompts",
        "prompt_log_days",
        "prompt_log_bytes",
        "request_log_days",
        "request_log_rows",
        "sampling_policy",
        "thinking_effort",
        "thinking_max_tokens",
        "loop_breaker",
        "log_level",
        "hub_order",
        "huggingface_endpoint",
        "modelscope_endpoint",
        "download_bytes_per_s",
        "alert_urls",
        "alert_secret",
        "alert_severity",
        "backup_keep",
    }
)
"""Settings that hold from the next request on."""

ON_LOAD = frozenset(
    {
        "seats",
        "context_tokens",
        "threads",
        "speculation",
        "draft_model",
        "offload",
        "chat_memory_bytes",
        "chat_disk_bytes",
        "start_timeout_s",
    }
)
"""Settings that hold for models that are loaded from now on."""

HIDDEN = "***"


class Applies(StrEnum):
    """When a changed value is in force; ``file``: it cannot be changed here."""

    NOW = "now"
    LOAD = "load"
    RESTART = "restart"
    FILE = "file"


class UnknownSetting(AppError):
    """There is no setting of that name."""

    code = "unknown_setting"
    http_status = 400
    template = "There is no setting '{param}'."
    hint_template = "GET /api/admin/settings and r1box settings list all of them."


class SettingNotUsable(AppError):
    """The value cannot be used."""

    code = "setting_not_usable"
    http_status = 400
    template = "The setting {param} is not usable: {reason}."


class SettingInFile(AppError):
    """Only whoever owns the machine sets it."""

    code = "setting_in_file"
    http_status = 403
    template = "The setting {param} cannot be changed here: it decides what the box reads, trusts or runs."
    hint_template = "On the box, write it to the settings file (docs/settings.md) and restart: systemctl restart r1box"


class SettingLocked(AppError):
    """A flag or a variable has it, which counts more than any file."""

    code = "setting_locked"
    http_status = 409
    template = "The setting {param} comes from {origin}, which goes before a change made here."


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingState:
    """One setting. ``value`` is in force, ``stored`` what holds after a restart; both and ``default`` are JSON.
    ``kind`` is the value's JSON Schema."""

    name: str
    value: Any
    stored: Any
    default: Any
    origin: Origin
    place: str
    applies: Applies
    kind: dict[str, Any]
    description: str


class SettingsStore:
    """All methods block on files. ``settings`` are in force at the start, ``flags`` those of them that flags gave."""

    def __init__(self, settings: Settings, flags: frozenset[str] = frozenset()) -> None:
        self._settings = settings
        self._flags = {name: getattr(settings, name) for name in flags}

    @property
    def file(self) -> Path:
        """Where changes are kept."""
        return self._settings.state_dir / CHANGED_NAME

    @property
    def in_force(self) -> Settings:
        """The settings of the running box."""
        return self._settings

    def states(self) -> tuple[SettingState, ...]:
        """Every setting, in the order of their list. Raises BadSetting when a file was broken meanwhile."""
        stored = plain(load_settings(self._flags))
        value, default = plain(self._settings), _defaults()
        kinds = Settings.model_json_schema()["properties"]
        found = []
        for name, field in Settings.model_fields.items():
            origin, place = origin_of(name, self._flags, self._settings.state_dir)
            values = [HIDDEN if name in SECRET and one else one for one in (value[name], stored[name])]
            found.append(
                SettingState(
                    name=name,
                    value=values[0],
                    stored=values[1],
                    default=default[name],
                    origin=origin,
                    place=place,
                    applies=applies(name),
                    kind={key: part for key, part in kinds[name].items() if key not in _NOT_KIND},
                    description=field.description or "",
                )
            )
        return tuple(found)

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the file of changes would have with ``values`` in it; None takes a change back.

        Raises UnknownSetting, SettingInFile, SettingLocked, SettingNotUsable.
        """
        for name in values:
            if name not in Settings.model_fields:
                raise UnknownSetting(param=name[:64])
            if name in FILE_ONLY:
                raise SettingInFile(param=name)
            origin, place = origin_of(name, self._flags, self._settings.state_dir)
            if origin in (Origin.FLAG, Origin.ENVIRONMENT):
                raise SettingLocked(param=name, origin=place)
        changed = {**read_changed(self._settings.state_dir), **values}
        changed = {name: value for name, value in changed.items() if value is not None}
        try:
            wanted = plain(load_settings(self._flags, changed=changed))
        except BadSetting as error:
            raise SettingNotUsable(param=error.details["name"], reason=error.details["reason"]) from error
        # As they were understood: a number that came as text is written as a number.
        return {name: wanted[name] for name in changed}

    def write(self, changed: Mapping[str, Any]) -> Settings:
        """Write what ``check`` gave, and take over what holds without a restart; the settings in force. Raises
        OSError."""
        text = to_toml(changed)
        assert tomllib.loads(text) == dict(changed)
        _replace(self.file, text)
        stored = load_settings(self._flags)
        taken = {name: getattr(stored, name) for name in NOW | ON_LOAD}
        self._settings = self._settings.model_copy(update=taken)
        return self._settings


def applies(name: str) -> Applies:
    """When a change of that setting is in force."""
    if name in FILE_ONLY:
        return Applies.FILE
    if name in NOW:
        return Applies.NOW
    return Applies.LOAD if name in ON_LOAD else Applies.RESTART


def plain(settings: Settings) -> dict[str, Any]:
    """All values as JSON has them."""
    return settings.model_dump(mode="json")


def to_toml(values: Mapping[str, Any]) -> str:
    """Flat TOML of texts, numbers, truth values and lists of texts."""
    lines = ["# Written by R1 Box: settings that were changed in the running box. docs/settings.md"]
    # JSON's texts, numbers and lists are TOML's too (TOML 1.0, but for DEL, which no setting takes).
    lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(values.items())]
    return "\n".join(lines) + "\n"


_NOT_KIND = ("title", "description", "default")


def _defaults() -> dict[str, Any]:
    given = Settings.model_construct()
    return {name: json.loads(json.dumps(getattr(given, name), default=str)) for name in Settings.model_fields}


def _replace(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}-", delete=False, encoding="utf-8"
    ) as new:
        try:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
            Path(new.name).replace(path)
        except BaseException:
            Path(new.name).unlink(missing_ok=True)
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
