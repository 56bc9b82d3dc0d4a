"""Bodies of ``/api/admin/network``, and what the helper that runs as root is told and answers. Unknown is null."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Mode = Literal["dhcp", "static"]
Manager = Literal["networkd", "networkmanager"]
Word = Annotated[str, StringConstraints(min_length=1, max_length=255)]

TRIAL_S = 120
SHORTEST_TRIAL_S = 15
LONGEST_TRIAL_S = 900
MOST_ADDRESSES = 8
MOST_SERVERS = 8


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Interface(_Value):
    """A network card. ``addresses`` have their prefix length; ``mode`` is whence they come; ``manager`` is the service
    that keeps them, None when none does: such a card is not changed from here. ``source`` is its file or connection."""

    name: str
    mac: str | None = None
    up: bool = False
    carrier: bool | None = None
    speed_mbps: int | None = None
    mode: Mode | None = None
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    manager: Manager | None = None
    source: str | None = None


class Clock(_Value):
    """``servers`` are the time servers that were set, ``server`` the one that is asked now. ``service`` keeps the time;
    None where none that is known runs."""

    now: datetime
    zone: str | None = None
    synchronized: bool | None = None
    servers: tuple[str, ...] = ()
    server: str | None = None
    service: str | None = None


class ChangeLine(_Value):
    """What becomes of one thing: ``what`` is a field of ``NetworkChange``."""

    what: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class NetworkChange(_Told):
    """What is to change; what is left out stays. ``addresses`` have a prefix length (10.0.4.17/24) and need the mode
    ``static``, which the interface may have already."""

    interface: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,15}$")] | None = None
    mode: Mode | None = None
    addresses: tuple[Word, ...] | None = Field(default=None, max_length=MOST_ADDRESSES)
    gateways: tuple[Word, ...] | None = Field(default=None, max_length=2)
    dns: tuple[Word, ...] | None = Field(default=None, max_length=MOST_SERVERS)
    ntp: tuple[Word, ...] | None = Field(default=None, max_length=MOST_SERVERS)
    hostname: Word | None = None


class Preview(_Value):
    """What a change would do. ``writes`` are the files and commands as they would be; nothing was done."""

    change: NetworkChange
    lines: tuple[ChangeLine, ...]
    warnings: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


class Trial(_Value):
    """A change that is in force until ``ends_at``, and stays if it is confirmed before. ``gateway_answers`` is whether
    the router was heard after the change; None without one, or where it cannot be asked."""

    id: str
    change: NetworkChange
    lines: tuple[ChangeLine, ...]
    began_at: datetime
    ends_at: datetime
    seconds_left: float
    gateway_answers: bool | None = None


class TrialEnd(_Value):
    """How the last trial since the machine started ended. ``expired``: nobody confirmed it; ``failed``: it could not be
    put in force, and ``reason`` says why. All but ``confirmed`` left everything as it was."""

    id: str
    outcome: Literal["confirmed", "rolled_back", "expired", "failed"]
    lines: tuple[ChangeLine, ...]
    at: datetime
    reason: str | None = None


class Network(_Value):
    """How the machine is on its networks. ``problem`` says why nothing can be changed from here, ``hint`` what to do
    about it."""

    hostname: str
    interfaces: tuple[Interface, ...] = ()
    dns: tuple[str, ...] = ()
    clock: Clock
    trial: Trial | None = None
    last: TrialEnd | None = None
    problem: str | None = None
    hint: str | None = None


class TrialRequest(_Told):
    """Body of ``POST /api/admin/network/trial``."""

    change: NetworkChange
    seconds: int = Field(default=TRIAL_S, ge=SHORTEST_TRIAL_S, le=LONGEST_TRIAL_S)


class TrialConfirmation(_Told):
    """Body of ``POST /api/admin/network/trial/confirm``. ``id`` is the trial's that was seen: another one is not
    confirmed by mistake."""

    id: Word


class TrialStatus(_Value):
    """What the helper knows."""

    trial: Trial | None = None
    last: TrialEnd | None = None
