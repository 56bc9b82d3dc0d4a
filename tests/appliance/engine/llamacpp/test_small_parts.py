"""Detokenizer and frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.detokenizer import Detokenizer


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
