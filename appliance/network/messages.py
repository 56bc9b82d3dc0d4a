"""What is said on the helper's socket: one JSON object in a line each way, then the connection ends."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from appliance.schemas.network import LONGEST_TRIAL_S, SHORTEST_TRIAL_S, NetworkChange, TrialStatus

LARGEST_BYTES = 64 * 1024
Zone = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$", max_length=64)]
Keymap = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9_.-]*$", max_length=64)]


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Status(_Said):
    """How a trial stands."""

    do: Literal["status"] = "status"


class Try(_Said):
    """Put a change on trial."""

    do: Literal["try"] = "try"
    change: NetworkChange
    seconds: int = Field(ge=SHORTEST_TRIAL_S, le=LONGEST_TRIAL_S)


class Confirm(_Said):
    """Keep what is on trial."""

    do: Literal["confirm"] = "confirm"
    id: Annotated[str, StringConstraints(max_length=64)]


class RollBack(_Said):
    """Take back what is on trial."""

    do: Literal["roll_back"] = "roll_back"


class SetZone(_Said):
    """Set the time zone."""

    do: Literal["set_zone"] = "set_zone"
    zone: Zone


class SetKeymap(_Said):
    """Set the keyboard of the machine's screen."""

    do: Literal["set_keymap"] = "set_keymap"
    keymap: Keymap


Request = Annotated[Status | Try | Confirm | RollBack | SetZone | SetKeymap, Field(discriminator="do")]


class Refusal(BaseModel):
    """An error as ``appliance.errors`` describes it."""

    code: str
    message: str
    http_status: int
    hint: str | None = None
    param: str | None = None


class Reply(BaseModel):
    """How a trial stands after the request, or why it was refused."""

    status: TrialStatus = TrialStatus()
    error: Refusal | None = None
