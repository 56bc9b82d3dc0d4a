"""What the box says to a server and what it hears, whatever the server's own words are. Values and one Protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from appliance.engine.base import Feature
from appliance.engine.external.sse import Event
from appliance.engine.request import FinishReason, Priority, SamplingParams, Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a sequence; a sequence that is ended or bound in its middle takes more than one.

    ``text`` is the same as ``tokens``, for servers that take no ids. ``request_id`` differs for each call of a
    sequence, whose own is ``sequence_id``; ``owner`` is who is charged for it.
    """

    request_id: str
    model: str
    tokens: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams
    seed: int
    priority: Priority = Priority.INTERACTIVE
    structure: Structure | None = None
    logprobs: int | None = None
    text: str = ""
    sequence_id: str = ""
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Chance:
    """A token's log probability and those of the likeliest in its place, by their ids."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one event says. ``tokens`` is ``None`` where the server does not give ids; ``ending`` with ``error`` for one
    that the server itself calls a failure. ``None`` for counts it does not tell."""

    tokens: tuple[int, ...] | None = ()
    text: str = ""
    ending: FinishReason | None = None
    error: str | None = None
    chances: tuple[Chance, ...] = ()
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None


class NotUnderstood(Exception):
    """An event that is none of the protocol's."""


class CannotAsk(Exception):
    """The request wants something that the protocol has no word for."""


class Dialect(Protocol):
    """One protocol. Pure: values in, values out."""

    @property
    def path(self) -> str:
        """Where generations are asked for."""
        ...

    @property
    def health_path(self) -> str: ...

    @property
    def metrics_path(self) -> str | None: ...

    @property
    def models_path(self) -> str | None:
        """Where the server lists its models as OpenAI does."""
        ...

    @property
    def version_path(self) -> str | None: ...

    @property
    def features(self) -> frozenset[Feature]: ...

    @property
    def gives_tokens(self) -> bool:
        """Ids of what was generated come with it."""
        ...

    def body(self, call: Call) -> dict[str, Any]:
        """The request's JSON. Raises CannotAsk."""
        ...

    def read(self, event: Event) -> Piece | None:
        """What an event says, ``None`` for one that says nothing. Raises NotUnderstood."""
        ...
