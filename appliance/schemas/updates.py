"""Bodies of ``/api/admin/updates``: the two systems of an installed box. Unknown is null."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SlotStateWord = Literal["running", "not_proved", "ready", "did_not_serve", "empty"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class SystemSlot(_Value):
    """One of the two systems. ``running`` has proved itself, ``not_proved`` runs and has not yet; ``ready`` may be
    started; ``did_not_serve`` was started and gave up, and is not started any more; ``empty`` holds none that may be.
    ``tries``: starts since it was last proved, as the boot loader counts them (0 or 1)."""

    name: str
    state: SlotStateWord
    booted: bool
    next: bool
    version: str | None = None
    installed_at: str | None = None
    device: str | None = None
    tries: int | None = None


class UpdateFile(_Value):
    """An update on a stick, which nobody has checked yet."""

    path: str
    name: str
    size_bytes: int


class Updates(_Value):
    """``available``: this box can be updated by files; ``problem`` and ``hint`` say why not. ``booted`` and ``next``
    are names of ``slots``; ``restart_needed``: another system is started next than runs now. ``fell_back``: the slot
    that was to run and did not serve. ``rescue``: neither has proved itself. ``files`` lie on the sticks that are
    plugged in."""

    version: str
    available: bool
    problem: str | None = None
    hint: str | None = None
    compatible: str | None = None
    booted: str | None = None
    next: str | None = None
    restart_needed: bool = False
    can_roll_back: bool = False
    fell_back: str | None = None
    rescue: bool = False
    slots: tuple[SystemSlot, ...] = ()
    files: tuple[UpdateFile, ...] = ()


class UpdateOrder(BaseModel):
    """Install the update in this file of a stick. ``restart``: restart the machine when it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    restart: bool = False


class RollbackOrder(BaseModel):
    """Go back to the other system. ``restart``: restart the machine at once; else it begins with the next restart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    restart: bool = True


class UpdateDone(_Value):
    """What is started next. ``restart``: the machine restarts now."""

    slot: str | None = None
    version: str | None = None
    restart: bool = False
