"""Which guessed tokens go into a step, and whether any: those that make the most tokens per second. Pure.

A guess is computed behind the token that a sequence is about to compute anyway, and kept as far as the sequence's own
sampler draws the very same tokens: what is said, and how likely it is, does not change. It costs rows in the step. So
it pays where rows are cheap (a card that waits for its memory, a processor with one stream) and guesses are good, and
never where many sequences fill the step.

Both are learned. How likely a guessed token is right depends on how long the match before it is; that is counted per
sequence (``Hits``), and also where nothing was computed for it: the sequence's next token tells. What rows cost is
measured per number of sequences (``costs``). ``choose`` then takes the likeliest tokens as long as the step's
tokens per second rise, and nobody's own speed suffers.
"""

from __future__ import annotations

from collections.abc import Sequence as Run
from dataclasses import dataclass, field

from appliance.engine.llamacpp.lookup import Lookup, continuation
from appliance.engine.llamacpp.sequence import Sequence
from appliance.engine.llamacpp.step import SlotTokens, StepResult
from appliance.engine.llamacpp.step_costs import StepCosts

WORTH = 1.1
"""A guess must promise at least so many times the tokens per second of a step without."""

OWN_SPEED = 0.9
"""Nobody's own expected speed falls below this part of what it is without guesses, so that one who can be guessed well
does not slow down the others."""

PLAIN_EVERY = 64
"""After so many steps with guesses one without shows what they save."""

INDEXED_PER_STEP = 2048
"""Tokens that one step takes into the indexes: about 2 ms. A long prompt is indexed in several steps."""

MODEL_LONGEST = 8
"""Tokens that a draft model guesses for a sequence at most: each is a pass of its own."""

MODEL_FIRST_GUESS = 0.7
"""How likely a draft model's token is right, before anything was counted."""

MODEL_HOPE = 0.9
"""Where not even this would pay, a draft model is not tried again."""

MODEL_RETRY_STEPS = 256
"""After so many steps in which it did not pay a draft model is asked for a few tokens."""

MODEL_RETRY_TOKENS = 2

_CLASSES = (4, 8, 16)
"""Matches up to each of these lengths, and longer ones, are counted apart."""

_FIRST_GUESS = (0.4, 0.55, 0.7, 0.85)
"""How likely a token after a match of each class is right, before anything was counted."""

_DECAY = 0.95
_DECAY_ALL = 0.995
_PRIOR_WEIGHT = 3.0


def match_class(length: int) -> int:
    """The class in which a match of this length is counted."""
    return sum(length > bound for bound in _CLASSES)


@dataclass(slots=True)
class Hits:
    """How often guessed tokens were right, per class of match: exponential averages that begin at what others saw."""

    decay: float
    hits: list[float] = field(default_factory=lambda: [0.0] * len(_FIRST_GUESS))
    tries: list[float] = field(default_factory=lambda: [0.0] * len(_FIRST_GUESS))

    def count(self, kind: int, *, hit: bool) -> None:
        """One guessed token of class ``kind`` was right or wrong."""
        self.hits[kind] = self.hits[kind] * self.decay + hit
        self.tries[kind] = self.tries[kind] * self.decay + 1.0

    def rate(self, kind: int, prior: float) -> float:
        """The share of right ones, with ``prior`` as good as a few tries."""
        return (self.hits[kind] + _PRIOR_WEIGHT * prior) / (self.tries[kind] + _PRIOR_WEIGHT)


@dataclass(slots=True)
class _Guessing:
    """What is known of one sequence. ``guess`` was made when it had ``length`` tokens, after a match of ``match``."""

    lookup: Lookup = field(default_factory=Lookup)
    hits: Hits = field(default_factory=lambda: Hits(_DECAY))
    length: int = 0
    match: int = 0
    guess: list[int] = field(default_factory=list)
    model: Hits = field(default_factory=lambda: Hits(_DECAY))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A guess for a sequence: its tokens and how likely each is right given that those before it are."""

    tokens: list[int]
    chances: list[float]


def choose(candidates: Run[Candidate | None], costs: StepCosts, limit: int) -> list[int]:
    """How many tokens of each sequence's guess to compute: those that make the most expected tokens per second.

    ``candidates`` has an entry for every sequence of the step, None without a guess; at most ``limit`` tokens in all.
    The next likeliest token of all comes first; a token counts only with all before it.
    """
    count = len(candidates)
    none = [0] * count
    plain_s = costs.cost_s(count, count)
    if plain_s is None:
        return none
    ranked: list[tuple[float, int, int]] = []
    for index, candidate in enumerate(candidates):
        chance = 1.0
        for depth, one in enumerate(candidate.chances if candidate is not None else ()):
            chance *= one
            # Chances fall along a guess, so that this order keeps each guess in its own; equal ones take turns.
            ranked.append((-chance, depth, index))
    ranked.sort()
    sizes = set(costs.sizes(count, min(limit, len(ranked))))
    best, best_rate = none, WORTH * count / plain_s
    chosen, expected = list(none), [1.0] * count
    for taken, (chance, _, index) in enumerate(ranked[:limit], start=1):
        chosen[index] += 1
        expected[index] -= chance
        if taken not in sizes:
            continue
        step_s = costs.cost_s(count, count + taken)
        assert step_s is not None
        rate = sum(expected) / step_s
        if rate > best_rate and min(expected) / step_s >= OWN_SPEED / plain_s:
            best, best_rate = list(chosen), rate
    return best


def choose_depth(chances: Run[float], rooms: Run[int], costs: StepCosts, passes: StepCosts, limit: int) -> int:
    """How many tokens a draft model shall guess for each sequence: as many as make the most expected tokens per second,
    0 for none. ``chances[i]`` is how likely a token of the i-th one's guess is right after those before it. A pass of
    the draft model for all of them costs what ``passes`` says."""
    count = len(chances)
    plain_s, pass_s = costs.cost_s(count, count), passes.cost_s(count, count)
    if plain_s is None or pass_s is None:
        return 0
    best, best_rate = 0, WORTH * count / plain_s
    expected = [1.0] * count
    for depth in range(1, MODEL_LONGEST + 1):
        guessed = sum(min(depth, room) for room in rooms)
        if guessed > limit or all(room < depth for room in rooms):
            break
        for index, (chance, room) in enumerate(zip(chances, rooms, strict=True)):
            expected[index] += chance**depth if depth <= room else 0.0
        step_s = costs.cost_s(count, count + guessed)
        assert step_s is not None
        step_s += depth * pass_s
        if sum(expected) / step_s > best_rate and min(expected) / step_s >= OWN_SPEED / plain_s:
            best, best_rate = depth, sum(expected) / step_s
    return best


class Speculation:
    """Guesses for the sequences of a step, and what became of them. ``longest`` tokens a sequence; 0 is off."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.costs = StepCosts()
        self.drafted = 0
        self.accepted = 0
        self._all = Hits(_DECAY_ALL)
        self._guessing: dict[str, _Guessing] = {}
        self._since_plain = 0
        self._plain = False
        """This step goes without guesses, to see what it takes."""
        self.passes = StepCosts()
        self.model_drafted = 0
        self.model_accepted = 0
        self._has_model = False
        self._since_model = 0
        self._all_model = Hits(_DECAY_ALL)

    def guesses(self, decoding: Run[Sequence], rooms: Run[int], limit: int) -> list[list[int]]:
        """Guessed tokens for each sequence that decodes in a step, ``rooms[i]`` at most for the i-th and ``limit`` in
        all. Called once for every step that decodes and computes no prompts."""
        if not self.longest:
            return [[] for _ in decoding]
        budget = INDEXED_PER_STEP
        candidates: list[Candidate | None] = []
        for sequence, room in zip(decoding, rooms, strict=True):
            state = self._guessing.setdefault(sequence.request_id, _Guessing())
            self._check(state, sequence.tokens)
            budget -= state.lookup.extend(sequence.tokens, budget)
            candidates.append(self._candidate(state, sequence.tokens, min(room, self.longest)))
        counts = choose(candidates, self.costs, limit)
        self._plain = False
        if any(counts) and self._is_plain():
            counts = [0] * len(counts)
        return [
            candidate.tokens[:count] if candidate is not None else []
            for candidate, count in zip(candidates, counts, strict=True)
        ]

    def _is_plain(self) -> bool:
        """Whether a step that could guess shall not."""
        self._since_plain += 1
        self._plain = self._since_plain > PLAIN_EVERY
        if self._plain:
            self._since_plain = 0
        return self._plain

    def _candidate(self, state: _Guessing, tokens: list[int], room: int) -> Candidate | None:
        match = state.lookup.find(tokens)
        if match is None:
            return None
        # At least one is looked at, also where there is no room to compute it: that is how guesses are judged.
        state.guess = continuation(tokens, match.position, max(room, 1))
        state.length, state.match = len(tokens), match.length
        if room < 1:
            return None
        rates = [state.hits.rate(kind, self._all.rate(kind, prior)) for kind, prior in enumerate(_FIRST_GUESS)]
        return Candidate(state.guess, [rates[match_class(match.length + i)] for i in range(room)])

    def _check(self, state: _Guessing, tokens: list[int]) -> None:
        """Compare the last guess with what the sequence said since."""
        for i, said in enumerate(tokens[state.length :]):
            if i >= len(state.guess):
                break
            kind = match_class(state.match + i)
            for hits in (state.hits, self._all):
                hits.count(kind, hit=said == state.guess[i])
            if said != state.guess[i]:
                break
        state.guess = []

    # -- a draft model ----------------------------------------------------------------------------------------------

    def begin_with_model(self, pass_s: float) -> None:
        """There is a draft model, whose pass for one sequence takes so long."""
        self._has_model = True
        self.passes.learn(1, 1, pass_s)

    def asks(self, decoding: Run[Sequence], rooms: Run[int], limit: int) -> list[int]:
        """How many tokens the draft model shall guess for each sequence, where ``guesses`` had none."""
        none = [0] * len(decoding)
        if not self.longest or not self._has_model or not decoding or self._plain:
            return none
        rooms = [max(0, min(room, self.longest)) for room in rooms]
        prior = self._all_model.rate(0, MODEL_FIRST_GUESS)
        chances = [self._guessing.setdefault(one.request_id, _Guessing()).model.rate(0, prior) for one in decoding]
        depth = choose_depth(chances, rooms, self.costs, self.passes, limit)
        self._since_model += 1
        if not depth and self._since_model > MODEL_RETRY_STEPS:
            self._since_model = 0
            if choose_depth([MODEL_HOPE] * len(chances), rooms, self.costs, self.passes, limit):
                depth = MODEL_RETRY_TOKENS
        if not depth or self._is_plain():
            return none
        self._since_model = 0
        counts = [min(depth, room) for room in rooms]
        return counts if sum(counts) <= limit else none

    def learn_pass(self, result: StepResult) -> None:
        """Take what the draft model's passes of a step took; one in which it caught up tells nothing of the others."""
        if result.draft_passes and not result.draft_caught_up and result.drafts:
            count = len(result.drafts)
            self.passes.learn(count, count, result.draft_s / result.draft_passes)

    def took(self, entry: SlotTokens, drafted: int, accepted: int) -> None:
        """Of ``drafted`` guessed tokens of an entry the first ``accepted`` were what its sequence said."""
        self.drafted += drafted
        self.accepted += accepted
        if not entry.propose or not drafted:
            return
        self.model_drafted += drafted
        self.model_accepted += accepted
        for hits in (self._guessing.setdefault(entry.request_id, _Guessing()).model, self._all_model):
            for index in range(min(accepted + 1, drafted)):
                hits.count(0, hit=index < accepted)

    def forget(self, request_id: str) -> None:
        """The sequence has ended."""
        self._guessing.pop(request_id, None)
