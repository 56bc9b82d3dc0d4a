"""Sampler chains, detokenizer and frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.detokenizer import Detokenizer
from appliance.engine.llamacpp.sampler import LIKELIEST, candidate_window, chain_for


def names(**sampling: float) -> list[str]:
    chain = chain_for(wire.Sampling(seed=7, **sampling), vocabulary_size=1000, context_tokens=256)  # type: ignore[arg-type]
    return [step.name for step in chain]


def test_r1_sampling_applies_the_temperature_before_top_p() -> None:
    assert names(temperature=0.6, top_p=0.95) == ["top_k", "temp", "top_p", "dist"]


def test_temperature_zero_is_greedy_after_penalties() -> None:
    assert names(temperature=0.0) == ["greedy"]
    assert names(temperature=0.0, presence_penalty=0.5) == ["penalties", "greedy"]


def test_plain_sampling_has_no_filters() -> None:
    assert names(temperature=1.0, top_p=1.0) == ["dist"]


def test_an_explicit_top_k_is_kept_and_bounded() -> None:
    chains = [
        chain_for(wire.Sampling(seed=1, top_k=k), vocabulary_size=9, context_tokens=9)[0].arguments
        for k in (0, 40, 5000)
    ]
    assert chains == [(LIKELIEST,), (40,), (LIKELIEST,)]


def test_only_plain_sampling_may_look_at_the_best_tokens_alone() -> None:
    def window(**sampling: object) -> float | None:
        return candidate_window(wire.Sampling(seed=1, **sampling))  # type: ignore[arg-type]

    assert (window(temperature=0.0), window(temperature=0.5), window(temperature=2.0)) == (0.0, 10.0, 40.0)
    assert window(temperature=0.0, presence_penalty=0.1) is None
    assert window(repeat_penalty=1.1) is None
    assert window(temperature=0.0, logit_bias=((1, -100.0),)) == 0.0


@given(st.text(max_size=40), st.data())
def test_text_is_whole_however_its_bytes_are_cut(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    detokenizer = Detokenizer()
    assert "".join([*(detokenizer.add(piece) for piece in pieces), detokenizer.finish()]) == text


def test_an_unfinished_character_is_shown_as_a_replacement_only_at_the_end() -> None:
    detokenizer = Detokenizer()
    assert [detokenizer.add(b"a\xe6\x9d"), detokenizer.finish()] == ["a", "\ufffd"]


def test_messages_survive_the_wire() -> None:
    generate = wire.Generate("r1", [1, 2, 3], 5, wire.Sampling(seed=3, logit_bias=((4, -100.0),)))
    frame = wire.encode_frame(generate)
    body = frame[wire.HEADER_BYTES :]
    assert wire.frame_length(frame[: wire.HEADER_BYTES]) == len(body)
    assert wire.to_worker_decoder.decode(body) == generate


def test_a_frame_that_is_too_long_is_refused_on_both_sides() -> None:
    with pytest.raises(wire.FrameError, match="the most is"):
        wire.frame_length(b"\xff\xff\xff\xff")
    with pytest.raises(wire.FrameError, match="longer than a frame"):
        wire.encode_frame(wire.LoadFailed("x", "y" * wire.MAX_FRAME_BYTES))
