"""How the prompt tokens of a step are shared out between the prompts that are being computed. Pure."""

from __future__ import annotations

from collections.abc import Collection

from appliance.engine.llamacpp.sequence import Sequence

SMALL_REST = 16
"""Tokens of a prompt that make hardly any step long."""


def share_out(running: Collection[Sequence], budget: int, limit: int, *, beside_decode: bool = False) -> dict[str, int]:
    """Tokens for each prompt by the name of its request: ``budget`` in all, and ``limit`` at most.

    Half of it gets the one that came first, half the one that is done soonest, interactive ones before batch. What a
    prompt has left after its share goes along when it is no more than half of the share: a small rest costs nearly as
    much in a step of its own as a whole chunk does. With ``beside_decode``, where others wait for the step's end, no
    more than a quarter of it or ``SMALL_REST`` tokens.
    """
    followers = _followers(running)
    prompts = {s.request_id: s for s in running if not (s.decoding or s.leader or s.blocks)}
    if not prompts or budget <= 0:
        return {}

    def priority(sequence: Sequence) -> int:
        return min([sequence.priority, *(one.priority for one in followers.get(sequence.request_id, ()))])

    def soonest(sequence: Sequence) -> tuple[int, float, int]:
        served = 1 + len(followers.get(sequence.request_id, ()))
        return priority(sequence), sequence.pending / served, sequence.turn

    first = min(prompts.values(), key=lambda sequence: (priority(sequence), sequence.turn))
    counts = {first.request_id: min(first.pending, (budget + 1) // 2)}
    budget -= counts[first.request_id]
    for sequence in sorted(prompts.values(), key=soonest):
        given = counts.get(sequence.request_id, 0)
        more = min(sequence.pending - given, budget)
        if more > 0:
            counts[sequence.request_id] = given + more
            budget -= more
    limit -= sum(counts.values())
    for name, count in counts.items():
        rest = prompts[name].pending - count
        if 0 < rest <= min(max(count // 4, min(count // 2, SMALL_REST)) if beside_decode else count // 2, limit):
            counts[name] = count + rest
            limit -= rest
    return counts


def _followers(running: Collection[Sequence]) -> dict[str, list[Sequence]]:
    """Who waits, directly or through others, for a prefix that each sequence computes."""
    by_name = {sequence.request_id: sequence for sequence in running}
    followers: dict[str, list[Sequence]] = {}
    for sequence in running:
        leader = by_name.get(sequence.leader or "")
        while leader is not None:
            followers.setdefault(leader.request_id, []).append(sequence)
            leader = by_name.get(leader.leader or "")
    return followers
