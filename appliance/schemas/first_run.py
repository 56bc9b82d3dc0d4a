"""Bodies of ``/api/admin/first-run``: what a new box still needs. Unknown is null."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from appliance.schemas.accounts import Language, Name, Password

StepName = Literal["language", "keyboard", "network", "time", "admin", "tls", "model", "self_test"]
StepState = Literal["open", "running", "failed", "skipped", "done"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TestLine(_Value):
    """One thing that the self-test looked at: ``what`` is ``offload``, ``model`` or ``issues``. ``told`` is the box's
    own words."""

    __test__ = False

    what: str
    ok: bool
    told: str


class Step(_Value):
    """A step. ``by`` is who did or skipped it (``installation`` for an answer file); ``told`` what came of it: the
    chosen value, the model, the reason of a failure. ``job`` is the job that works on it;
    ``model`` the id of one that is installed and not loaded."""

    name: StepName
    state: StepState = "open"
    by: str | None = None
    at: datetime | None = None
    told: str | None = None
    job: str | None = None
    model: str | None = None
    lines: tuple[TestLine, ...] = ()


class FirstRun(_Value):
    """``finished``: nobody needs to be led through it any more. ``next`` is the first step that is neither done nor
    skipped. ``keymaps`` are keyboards that the machine's screen knows."""

    finished: bool
    steps: tuple[Step, ...]
    next: StepName | None = None
    language: Language | None = None
    keymaps: tuple[str, ...] = ()


class StepChange(_Told):
    """Body of ``PUT /api/admin/first-run/steps/NAME``. ``value``: a language (en, zh), a keyboard (de-latin1) or a time
    zone (Asia/Shanghai), which is set at once."""

    state: Literal["open", "skipped", "done"]
    value: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None


class FirstAdmin(_Told):
    """Body of ``POST /api/admin/first-run/admin``."""

    name: Name
    password: Password
    language: Language = "en"
