"""Bodies of ``/api/admin/settings``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

JsonValue = None | bool | int | float | str | list[str]


class SettingItem(BaseModel):
    """One setting. ``value`` is in force now, ``stored`` what holds after a restart (``pending``: they differ); null is
    a setting without a value. ``source``: flag, environment (a variable), changed (in the running box), file, default;
    ``origin`` names the place. ``applies``: a change holds now, for models that are loaded from now on (``load``),
    after a restart, or can only be made in the file. ``locked``: a flag or a variable has it. ``kind`` is the value's
    JSON Schema."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: Any = None
    stored: Any = None
    default: Any = None
    source: Literal["flag", "environment", "changed", "file", "default"]
    origin: str
    applies: Literal["now", "load", "restart", "file"]
    locked: bool
    pending: bool
    secret: bool
    kind: dict[str, Any]
    description: str


class SettingList(BaseModel):
    """All settings. ``restart_needed``: names of those that a restart would change; ``file``: where changes are
    kept."""

    model_config = ConfigDict(frozen=True)

    items: tuple[SettingItem, ...]
    restart_needed: tuple[str, ...] = ()
    file: str


class SettingsChange(BaseModel):
    """New values by name; null goes back to what the file or the default says. All of them or none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    values: Annotated[dict[str, JsonValue], Field(min_length=1, max_length=100)]
