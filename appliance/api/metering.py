"""The gate of the serving layer: what the caller of the running HTTP request may use, and what it used.

Every protocol's router ends in ``ChatService``, which asks this gate; that a route is counted and limited must not
depend on its author passing the caller on. So the guard of the route leaves the caller in a context variable (``CALL``,
which tasks of a request inherit), and without one nothing passes.
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from appliance.engine.request import FinishReason, Priority
from appliance.errors import describe
from appliance.security.errors import ModelNotAllowed
from appliance.security.identity import Caller, KeyPriority
from appliance.security.limits import Limits, LimitState, Reservation
from appliance.serving.charge import Outcome
from appliance.serving.transcript import MOST_CHARS
from appliance.serving.types import SamplingPolicy
from appliance.usage.records import PromptRecord, RequestRecord

_NO_MODEL = ("model_not_found", "model_not_allowed")


@dataclass(frozen=True, slots=True)
class Call:
    """The HTTP request that is being worked on. ``headers`` go out with its answer."""

    caller: Caller
    path: str
    headers: dict[str, str]


CALL: ContextVar[Call] = ContextVar("r1box_call")


class UsageSink(Protocol):
    """What ``UsageWriter`` gives. Does not block."""

    def add(self, record: RequestRecord) -> None: ...

    def add_text(self, record: PromptRecord) -> None: ...


class Metering:
    """``appliance.serving.charge.Gate`` for callers of the API."""

    def __init__(self, limits: Limits, usage: UsageSink, *, keeps_text: bool = False) -> None:
        self._limits = limits
        self._usage = usage
        self.keeps_text = keeps_text
        """Whether what is asked and answered is kept, from the next request on."""

    def begin(self, request_id: str, model: str) -> CallCharge:
        """Raises LookupError outside of a guarded route, ModelNotAllowed, RateLimited."""
        charge = CallCharge(CALL.get(), request_id, model, self._limits, self._usage, keeps_text=self.keeps_text)
        charge.begin()
        return charge

    def check(self, request_id: str, model: str) -> None:
        """Raises LookupError outside of a guarded route, ModelNotAllowed, which is recorded."""
        CallCharge(CALL.get(), request_id, model, self._limits, self._usage).check_model()


class CallCharge:
    """One request on its caller's account."""

    def __init__(
        self,
        call: Call,
        request_id: str,
        model: str,
        limits: Limits,
        usage: UsageSink,
        *,
        keeps_text: bool = False,
    ) -> None:
        self.keeps_text = keeps_text
        self._asked: str | None = None
        self._call = call
        self._request_id = request_id
        self._model = model
        self._limits = limits
        self._usage = usage
        self._reservations: tuple[Reservation, ...] = ()
        self._is_over = False

    @property
    def owner(self) -> str:
        return self._call.caller.subject

    @property
    def name(self) -> str:
        return self._call.caller.name

    @property
    def priority(self) -> Priority | None:
        policy = self._call.caller.policy
        # What an interactive key asks for itself (a batch job among its requests) stays.
        return Priority.BATCH if policy.priority is KeyPriority.BATCH else None

    @property
    def sampling_policy(self) -> SamplingPolicy | None:
        return SamplingPolicy.FREE if self._call.caller.policy.may_override_sampling else None

    def asked(self, text: str) -> None:
        """What was asked, for boxes that keep it."""
        self._asked = text

    def check_model(self) -> None:
        """Raises ModelNotAllowed."""
        caller = self._call.caller
        allowed = caller.policy.models
        if allowed is not None and self._model not in allowed:
            error = ModelNotAllowed(key=caller.name, model=f"{self._model:.100}", allowed=", ".join(allowed))
            self.refuse(error)
            raise error

    def begin(self) -> None:
        """Count the request. Raises ModelNotAllowed, RateLimited."""
        caller = self._call.caller
        self.check_model()
        try:
            self._limits.begin_all(caller.payers)
        except Exception as error:
            self.refuse(error)
            raise
        self._tell()

    def admit(self, prompt_tokens: int, answer_tokens: int, *, is_asked: bool) -> int:
        """Set the tokens aside. Raises RateLimited, QuotaExceeded."""
        try:
            self._reservations = self._limits.reserve_all(
                self._call.caller.payers,
                prompt_tokens=prompt_tokens,
                answer_tokens=answer_tokens,
                is_asked=is_asked,
            )
        finally:
            self._tell()
        return self._reservations[-1].answer_tokens

    def settle(self, outcome: Outcome) -> None:
        """It has run and ended."""
        usage, finished = outcome.usage, outcome.finished
        for reservation in self._reservations:
            self._limits.settle(reservation, usage.prompt_tokens + usage.completion_tokens)
        self._keep_text(outcome.answer)
        error = None if finished is None else finished.error
        self._record(
            finish=(FinishReason.ABORTED if finished is None else finished.reason).value,
            error_code=None if error is None else describe(error).code,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            thinking_tokens=usage.reasoning_tokens,
            answer_tokens=usage.completion_tokens,
            queued_s=outcome.queued_s,
            first_token_s=outcome.first_token_s,
            duration_s=outcome.duration_s,
            changed=", ".join(outcome.changes) or None,
        )

    def refuse(self, error: BaseException) -> None:
        """It never ran."""
        for reservation in self._reservations:
            self._limits.settle(reservation, 0)
        code = describe(error).code if isinstance(error, Exception) else "client_left"
        self._record(finish="refused", error_code=code)
        self._tell()

    def _keep_text(self, answer: str | None) -> None:
        if self._asked is None or answer is None or self._is_over:
            return
        is_cut = len(self._asked) > MOST_CHARS or len(answer) > MOST_CHARS
        asked, answer = self._asked[:MOST_CHARS], answer[:MOST_CHARS]
        at = datetime.now(UTC)
        self._usage.add_text(
            PromptRecord(request_id=self._request_id, at=at, prompt=asked, answer=answer, is_cut=is_cut)
        )

    def _record(self, **values: object) -> None:
        if self._is_over:
            return
        self._is_over = True
        caller = self._call.caller
        fields: dict[str, object] = {
            "request_id": self._request_id,
            "at": datetime.now(UTC),
            "subject": caller.subject,
            "name": caller.name[:64],
            "key_id": caller.key_id,
            "user_id": caller.user_id,
            # A name that a client made up is no model's: it would grow the sums without end.
            "model": "" if values.get("error_code") in _NO_MODEL else self._model[:256],
            "path": self._call.path[:64],
            **values,
        }
        self._usage.add(RequestRecord(**fields))  # type: ignore[arg-type]

    def _tell(self) -> None:
        """What is left, in OpenAI's headers and one of our own for the day."""
        states = self._limits.states_all(self._call.caller.payers)
        for name, state in (("requests", states.requests), ("tokens", states.tokens), ("day-tokens", states.day)):
            if state is not None:
                self._call.headers.update(_headers(name, state))


def _headers(name: str, state: LimitState) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{name}": str(state.limit),
        f"x-ratelimit-remaining-{name}": str(state.remaining),
        f"x-ratelimit-reset-{name}": duration(state.reset_s),
    }


def duration(seconds: float) -> str:
    """As OpenAI writes it: ``6m0s``, ``1.5s``, ``20ms``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    whole = math.ceil(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return (f"{hours}h" if hours else "") + f"{minutes}m{whole % 60}s"
