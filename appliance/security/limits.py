"""What keys and people may use: requests and tokens per minute, tokens per day. In memory; for one event loop.

Tokens are reserved before a request runs and settled when it has ended, so that requests running at the same time
cannot go over together:

- per minute (a token bucket that refills evenly and holds one minute's worth): reserved is the prompt with the answer
  the client asked for, or ``USUAL_ANSWER_TOKENS`` when it named no length, and never more than the bucket holds. What a
  request then really used is put right at its end; if that was more, the bucket owes and the next requests wait.
- per day: reserved is the prompt with the longest answer that may come. An answer without a length of its own is
  bounded to what the day has left, so the quota is never exceeded by a token. Days begin at 00:00 UTC; what runs then
  counts in the new one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from appliance.security.errors import QuotaExceeded, RateLimited
from appliance.security.identity import PERSON, Policy

Payer = tuple[str, Policy]
"""A subject and its limits."""

USUAL_ANSWER_TOKENS = 2_048
LEAST_ANSWER_TOKENS = 16
"""With less of the day left there is no use in beginning an answer."""

_MINUTE_S = 60.0
_CRUMB = 1e-6
_DAY_S = 86_400
_MOST_ACCOUNTS = 10_000


class Bucket:
    """A token bucket with room for a minute's worth. May owe: then nothing goes until it has refilled."""

    def __init__(self, per_minute: int, now_s: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at_s = now_s

    def level(self, now_s: float) -> float:
        """What it holds now; negative when it owes."""
        if now_s > self._at_s:
            self._level = min(self._level + (now_s - self._at_s) * self.per_minute / _MINUTE_S, float(self.per_minute))
            self._at_s = now_s
        return self._level

    def take(self, amount: float, now_s: float) -> None:
        """Take out, also more than there is; a negative amount puts back."""
        self._level = min(self.level(now_s) - amount, float(self.per_minute))

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until it holds ``amount``; 0 when it does."""
        missing = amount - self.level(now_s)
        # Sums of floats leave crumbs: whoever has waited as long as told must not be sent away for one.
        return missing * _MINUTE_S / self.per_minute if missing > _CRUMB else 0.0


@dataclass(slots=True)
class _Account:
    requests: Bucket | None = None
    tokens: Bucket | None = None
    day: date | None = None
    used_today: int = 0
    reserved_today: int = 0


@dataclass(slots=True)
class Reservation:
    """Tokens set aside for one request. ``answer_tokens`` is the longest answer it may have."""

    subject: str
    answer_tokens: int
    minute_tokens: int = 0
    day_tokens: int = 0
    is_settled: bool = False


@dataclass(frozen=True, slots=True)
class LimitState:
    """One limit for the ``x-ratelimit-*`` headers: ``reset_s`` until it is whole again."""

    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class LimitStates:
    """What a key has left. None for what it has no limit of."""

    requests: LimitState | None = None
    tokens: LimitState | None = None
    day: LimitState | None = None


@dataclass(slots=True)
class Limits:
    """The accounts of all keys. ``clock`` counts seconds, ``utc`` is the time of day."""

    clock: Callable[[], float] = time.monotonic
    utc: Callable[[], datetime] = lambda: datetime.now(UTC)
    _accounts: dict[str, _Account] = field(default_factory=dict)

    def preload(self, day: date, used: Mapping[str, int]) -> None:
        """Begin with what was used today before the daemon started, by subject."""
        for subject, tokens in used.items():
            account = self._accounts.setdefault(subject, _Account())
            account.day, account.used_today = day, tokens

    def begin(self, subject: str, policy: Policy) -> None:
        """Count a request. Raises RateLimited; then it is not counted."""
        self.begin_all(((subject, policy),))

    def begin_all(self, payers: Sequence[Payer]) -> None:
        """Count a request of each of ``payers``. Raises RateLimited; then it is counted of none."""
        now_s = self.clock()
        buckets = [(subject, self._account(subject, policy, now_s).requests) for subject, policy in payers]
        for subject, bucket in buckets:
            wait_s = 0.0 if bucket is None else bucket.wait_s(1, now_s)
            if bucket is not None and wait_s > 0:
                raise RateLimited(who=_who(subject), what="requests", limit=bucket.per_minute, wait_s=math.ceil(wait_s))
        for _, bucket in buckets:
            if bucket is not None:
                bucket.take(1, now_s)

    def reserve_all(
        self, payers: Sequence[Payer], *, prompt_tokens: int, answer_tokens: int, is_asked: bool
    ) -> tuple[Reservation, ...]:
        """``reserve`` for each of ``payers``; the last one's ``answer_tokens`` is what all of them allow. Raises as it;
        then nothing is set aside."""
        made: list[Reservation] = []
        try:
            for subject, policy in payers:
                one = self.reserve(
                    subject, policy, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens, is_asked=is_asked
                )
                made.append(one)
                answer_tokens = one.answer_tokens
        except BaseException:
            for one in made:
                self.settle(one, 0)
            raise
        return tuple(made)

    def reserve(
        self, subject: str, policy: Policy, *, prompt_tokens: int, answer_tokens: int, is_asked: bool
    ) -> Reservation:
        """Set tokens aside for a prompt and an answer of at most ``answer_tokens``; ``is_asked``: the client named that
        length. Raises RateLimited, QuotaExceeded; then nothing is set aside."""
        now_s = self.clock()
        account = self._account(subject, policy, now_s)
        if policy.tokens_per_day is not None:
            answer_tokens = self._within_day(subject, policy.tokens_per_day, prompt_tokens, answer_tokens, is_asked)
        reservation = Reservation(subject, answer_tokens)
        bucket = account.tokens
        if bucket is not None:
            expected = answer_tokens if is_asked else min(answer_tokens, USUAL_ANSWER_TOKENS)
            amount = min(prompt_tokens + expected, bucket.per_minute)
            wait_s = bucket.wait_s(amount, now_s)
            if wait_s > 0:
                raise RateLimited(who=_who(subject), what="tokens", limit=bucket.per_minute, wait_s=math.ceil(wait_s))
            bucket.take(amount, now_s)
            reservation.minute_tokens = amount
        if policy.tokens_per_day is not None:
            reservation.day_tokens = prompt_tokens + answer_tokens
            account.reserved_today += reservation.day_tokens
        return reservation

    def settle(self, reservation: Reservation, used_tokens: int) -> None:
        """Put what was really used in the place of what was set aside. Idempotent."""
        account = self._accounts.get(reservation.subject)
        if reservation.is_settled or account is None:
            return
        reservation.is_settled = True
        if account.tokens is not None:
            account.tokens.take(used_tokens - reservation.minute_tokens, self.clock())
        # A request that ran over midnight counts where it ended, as its usage row does.
        self._turn_day(account)
        account.reserved_today -= reservation.day_tokens
        account.used_today += used_tokens

    def states_all(self, payers: Sequence[Payer]) -> LimitStates:
        """What there is left now: of each limit the one that leaves least."""
        found = [self.states(subject, policy) for subject, policy in payers]
        return LimitStates(*(_least([getattr(one, name) for one in found]) for name in ("requests", "tokens", "day")))

    def states(self, subject: str, policy: Policy) -> LimitStates:
        """What there is left now."""
        now_s = self.clock()
        account = self._account(subject, policy, now_s)
        day = None
        if policy.tokens_per_day is not None:
            left = policy.tokens_per_day - account.used_today - account.reserved_today
            day = LimitState(policy.tokens_per_day, max(left, 0), float(self._to_midnight_s()))
        return LimitStates(_state(account.requests, now_s), _state(account.tokens, now_s), day)

    def _within_day(self, subject: str, limit: int, prompt_tokens: int, answer_tokens: int, is_asked: bool) -> int:
        account = self._accounts[subject]
        left = limit - account.used_today - account.reserved_today - prompt_tokens
        if answer_tokens <= left:
            return answer_tokens
        if not is_asked and left >= LEAST_ANSWER_TOKENS:
            return left
        spent = account.used_today + prompt_tokens + (answer_tokens if is_asked else LEAST_ANSWER_TOKENS) > limit
        raise QuotaExceeded(
            who=_who(subject),
            limit=limit,
            used=account.used_today,
            reserved=account.reserved_today,
            wanted=prompt_tokens + (answer_tokens if is_asked else LEAST_ANSWER_TOKENS),
            # What running requests have set aside and do not use comes back when they end.
            wait_s=self._to_midnight_s() if spent else 5,
            reset_s=self._to_midnight_s(),
        )

    def _account(self, subject: str, policy: Policy, now_s: float) -> _Account:
        account = self._accounts.get(subject)
        if account is None:
            if len(self._accounts) >= _MOST_ACCOUNTS:
                self._forget()
            account = self._accounts[subject] = _Account()
        account.requests = _bucket(account.requests, policy.requests_per_minute, now_s)
        account.tokens = _bucket(account.tokens, policy.tokens_per_minute, now_s)
        self._turn_day(account)
        return account

    def _turn_day(self, account: _Account) -> None:
        today = self.utc().date()
        # A clock that is set back must not give the day anew.
        if account.day is None or today > account.day:
            account.day, account.used_today = today, 0

    def _forget(self) -> None:
        idle = [name for name, one in self._accounts.items() if not one.used_today and not one.reserved_today]
        for name in idle:
            del self._accounts[name]

    def _to_midnight_s(self) -> int:
        now = self.utc()
        return _DAY_S - (now.hour * 3_600 + now.minute * 60 + now.second)


def _who(subject: str) -> str:
    return "This person" if subject.startswith(PERSON) else "This key"


def _least(states: list[LimitState | None]) -> LimitState | None:
    return min((one for one in states if one is not None), key=lambda one: one.remaining, default=None)


def _bucket(bucket: Bucket | None, per_minute: int | None, now_s: float) -> Bucket | None:
    """The bucket for a limit, which an operator may have changed meanwhile."""
    if per_minute is None:
        return None
    if bucket is None or bucket.per_minute != per_minute:
        return Bucket(per_minute, now_s)
    return bucket


def _state(bucket: Bucket | None, now_s: float) -> LimitState | None:
    if bucket is None:
        return None
    level = bucket.level(now_s)
    return LimitState(bucket.per_minute, max(math.floor(level), 0), bucket.wait_s(bucket.per_minute, now_s))
