"""Who pays for a request: the gate that every request passes before it costs anything, and the bill at its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from appliance.engine.request import FinishReason, GenerationRequest, Priority
from appliance.serving.times import ModelTimes
from appliance.serving.transcript import Transcript
from appliance.serving.types import ChatEvent, ChatFinished, SamplingPolicy, Timing, Usage

Request = TypeVar("Request", bound=Any)
"""A ``ChatRequest`` or a ``CompletionRequest``."""
Plan = TypeVar("Plan", bound=Any)
"""A ``ChatPlan``, which knows this module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a request went. ``finished`` is None when its client left before its end. ``queued_s`` is the wait for the
    seat, ``first_token_s`` until something came (None: nothing did), both from the request's opening on. ``answer`` is
    what was written, where the charge keeps it."""

    usage: Usage
    finished: ChatFinished | None
    duration_s: float
    changes: tuple[str, ...] = ()
    queued_s: float | None = None
    first_token_s: float | None = None
    answer: str | None = None


class Charge(Protocol):
    """One request on somebody's account. Exactly one of ``settle`` and ``refuse`` ends it."""

    @property
    def owner(self) -> str | None: ...

    @property
    def name(self) -> str | None:
        """What the owner is called."""
        ...

    @property
    def priority(self) -> Priority | None: ...

    @property
    def sampling_policy(self) -> SamplingPolicy | None: ...

    @property
    def keeps_text(self) -> bool:
        """Whether it wants to know what was asked and answered."""
        ...

    def asked(self, text: str) -> None:
        """What was asked, told once where it is kept."""
        ...

    def admit(self, prompt_tokens: int, answer_tokens: int, *, is_asked: bool) -> int:
        """Set the tokens aside; the longest answer that may come. Raises what the account's limits refuse with."""
        ...

    def settle(self, outcome: Outcome) -> None:
        """The request has run and ended."""
        ...

    def refuse(self, error: BaseException) -> None:
        """The request never ran."""
        ...


class Gate(Protocol):
    """Opens a charge for whoever asks."""

    def begin(self, request_id: str, model: str) -> Charge:
        """Raises what the account's limits refuse with."""
        ...

    def check(self, request_id: str, model: str) -> None:
        """Raises what ``begin`` refuses with because of the model; counts nothing that it lets through."""
        ...


class Bill:
    """Measures one request, for the model's ``times``, and settles its charge, once. ``changes`` as in ``ChatPlan``."""

    def __init__(self, charge: Charge | None, changes: tuple[str, ...], times: ModelTimes | None = None) -> None:
        self._charge = charge
        self._changes = changes
        self._times = times or ModelTimes()
        self._is_paid = False
        self._transcript = Transcript() if charge is not None and charge.keeps_text else None
        self._came_s: float | None = None
        self._opened_s = time.monotonic()
        self._queued_s: float | None = None
        self.first_token_s: float | None = None

    def seated(self) -> None:
        """The wait is over."""
        self._queued_s = time.monotonic() - self._opened_s
        self._times.queue.add(self._queued_s)

    def came(self, tokens: int) -> None:
        """So many tokens came from the engine at once."""
        now_s = time.monotonic()
        if self._came_s is None:
            self.first_token_s = now_s - self._opened_s
            self._times.first_token.add(self.first_token_s)
        elif tokens:
            self._times.between_tokens.add((now_s - self._came_s) / tokens, tokens)
        self._came_s = now_s

    def timing(self) -> Timing:
        """What was measured up to now."""
        return Timing(
            duration_s=time.monotonic() - self._opened_s, queued_s=self._queued_s, first_token_s=self.first_token_s
        )

    def said(self, event: ChatEvent) -> None:
        """Something that its reader gets."""
        if self._transcript is not None:
            self._transcript.add(event)

    def pay(self, usage: Usage, finished: ChatFinished | None) -> None:
        """It is over. Idempotent."""
        if self._is_paid:
            return
        self._is_paid = True
        self._count(usage, finished)
        charge, self._charge = self._charge, None
        if charge is not None:
            timing = self.timing()
            charge.settle(
                Outcome(
                    usage=usage,
                    finished=finished,
                    changes=self._changes,
                    duration_s=timing.duration_s,
                    queued_s=timing.queued_s,
                    first_token_s=timing.first_token_s,
                    answer=None if self._transcript is None else self._transcript.text,
                )
            )

    def _count(self, usage: Usage, finished: ChatFinished | None) -> None:
        reason = FinishReason.ABORTED if finished is None else finished.reason
        self._times.ends[reason.value] += 1
        self._times.prefix_hits += usage.cached_tokens > 0
        self._times.request.add(time.monotonic() - self._opened_s)


def charged(request: Request, charge: Charge) -> Request:
    """The request as whoever pays may have it."""
    return replace(
        request,
        owner=charge.owner or request.owner,
        priority=charge.priority or request.priority,
        sampling_policy=charge.sampling_policy or request.sampling_policy,
    )


def admitted(plan: Plan, charge: Charge, *, is_asked: bool) -> Plan:
    """The plan with an answer as long as the account allows. Raises what its limits refuse with."""
    generation: GenerationRequest = plan.generation
    allowed = charge.admit(len(generation.prompt_tokens), generation.max_tokens, is_asked=is_asked)
    if allowed >= generation.max_tokens:
        return plan
    bounded = replace(generation, max_tokens=allowed)
    return replace(plan, generation=bounded, changes=(*plan.changes, f"max_tokens={generation.max_tokens}->{allowed}"))


class _NoCharge:
    owner = None
    name = None
    priority = None
    sampling_policy = None
    keeps_text = False

    def asked(self, text: str) -> None:
        del text

    def admit(self, prompt_tokens: int, answer_tokens: int, *, is_asked: bool) -> int:
        del prompt_tokens, is_asked
        return answer_tokens

    def settle(self, outcome: Outcome) -> None:
        del outcome

    def refuse(self, error: BaseException) -> None:
        del error


class OpenGate:
    """Lets everything through and counts nothing: for what is not asked by anybody in particular."""

    def begin(self, request_id: str, model: str) -> Charge:
        del request_id, model
        return _NoCharge()

    def check(self, request_id: str, model: str) -> None:
        del request_id, model
