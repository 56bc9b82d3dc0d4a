"""One request inside the engine: its tokens and how many of them the KV cache holds. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from appliance.engine.llamacpp.thought import ThoughtWatch
from appliance.engine.llamacpp.tier_blocks import Block


class Phase(StrEnum):
    """WAITING -> RUNNING -> FINISHED; RUNNING -> WAITING when preempted. One writer: the Scheduler."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Finish(StrEnum):
    """Why a sequence ended, in the scheduler's words."""

    STOP = "stop"
    LENGTH = "length"
    ABORTED = "aborted"
    ERROR = "error"


INTERACTIVE = 0
BATCH = 1


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens of one request: the prompt, then what was generated.

    ``computed`` tokens from the front are in the slot's KV cache. What is left is *pending*: one token while the
    sequence decodes, more while its prompt is being prefilled (also after a preemption, when everything is computed
    again). ``cached`` is how many prompt tokens the slot already held when the sequence got it.

    ``owner`` is who is charged for it where seats are scarce, ``priority`` ``INTERACTIVE`` or ``BATCH``: the lower goes
    first. ``arrival`` counts sequences as they came, ``turn`` as they got their seats. While ``leader`` is set the
    sequence has a seat and computes nothing: it waits until the sequence of that name has computed the first ``shared``
    tokens, which are its own too, and has seen it idle in ``stalled`` steps. While ``blocks`` is not empty it computes
    nothing either: it takes them over from outside of the KV cache, up to its first ``kept`` tokens (``tiering``).

    ``watch`` brings its thought to an end. Then the last ``forced`` tokens were not drawn but written for it. One that
    is to be ``repeatable`` takes no guesses: rows computed together can differ in their last bit from one alone. One
    that does not keep its answer gives back all but its prompt when it ends: nobody will begin with more of it.
    """

    request_id: str
    prompt: list[int]
    max_tokens: int
    sampling: object = None
    phase: Phase = Phase.WAITING
    slot: int | None = None
    computed: int = 0
    cached: int = 0
    arrival: int = 0
    owner: str | None = None
    priority: int = INTERACTIVE
    turn: int = 0
    leader: str | None = None
    shared: int = 0
    stalled: int = 0
    preempted: int = 0
    """How often it lost its seat."""
    blocks: list[Block] = field(default_factory=list)
    kept: int = 0
    watch: ThoughtWatch | None = None
    forced: int = 0
    repeatable: bool = False
    keeps_answer: bool = True
    tokens: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.tokens:
            self.tokens = list(self.prompt)

    @property
    def pending(self) -> int:
        """Tokens that are known but not in the KV cache yet."""
        return len(self.tokens) - self.computed

    @property
    def cost(self) -> int:
        """What its owner is charged when it gets its seat."""
        return len(self.prompt)

    @property
    def generated(self) -> int:
        """Tokens generated so far."""
        return len(self.tokens) - len(self.prompt)

    @property
    def decoding(self) -> bool:
        """Whether all that is pending was generated here: its last token, or what was written for it."""
        return self.generated > 0 and self.pending <= max(1, self.forced)
