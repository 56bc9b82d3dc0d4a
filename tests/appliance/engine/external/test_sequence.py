"""One request through a server: thoughts, landings, forms, counts. Every rule on token ids alone, no server at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.external.dialect import Chance, Piece
from appliance.engine.external.sequence import RequestRun, Then
from appliance.engine.external.vocabulary import Vocabulary
from appliance.engine.request import (
    Finished,
    FinishReason,
    GenerationRequest,
    SamplingParams,
    Structure,
    StructureKind,
    TextSegment,
    ThinkingControl,
    ThinkingEnd,
    TokenDelta,
)

TINY_R1 = Path(__file__).parents[3] / "fixtures" / "tiny_r1" / "hf"
VOCABULARY = Vocabulary.open(TINY_R1)
LANDING = "\n\nTime to answer.\n</think>\n\n"
JSON = Structure(kind=StructureKind.JSON_OBJECT)


def ids(text: str) -> tuple[int, ...]:
    return tuple(VOCABULARY.encode([TextSegment(text)]))


THINKING = ThinkingControl(
    opened=True, open_tokens=ids("<think>"), close_tokens=ids("</think>"), landing_tokens=ids(LANDING)
)
EOS = next(token for token in range(VOCABULARY.size) if VOCABULARY.ends(token))


class Reader:
    """Takes everything a run gives; a script answers each of its calls in order."""

    def __init__(self, run: RequestRun) -> None:
        self.run = run
        self.text = ""
        self.count = 0
        self.calls = [run.next_call()]

    def say(self, text: str, *, ending: FinishReason | None = None, per_event: int = 3) -> Then:
        tokens = (*ids(text), EOS) if ending is FinishReason.STOP else ids(text)
        then = Then.GO_ON
        for place in range(0, len(tokens), per_event):
            is_last = place + per_event >= len(tokens)
            then = self.take(Piece(tokens=tokens[place : place + per_event], ending=ending if is_last else None))
            if then is not Then.GO_ON:
                break
        return then

    def take(self, piece: Piece) -> Then:
        deltas, then = self.run.take(piece)
        for delta in deltas:
            self.text += delta.text
            self.count += delta.count
        if then is Then.ASK_AGAIN:
            self.calls.append(self.run.next_call())
        return then

    @property
    def finished(self) -> Finished:
        finished = self.run.close(FinishReason.ERROR)
        assert finished.completion_tokens == self.count
        return finished


def reader(**wanted: object) -> Reader:
    request = GenerationRequest(request_id="r", prompt_tokens=ids("Hi"), max_tokens=400, sampling=SamplingParams())
    return Reader(RequestRun(replace(request, **wanted), VOCABULARY, seed=1, model="m"))  # type: ignore[arg-type]


def test_an_answer_as_it_is() -> None:
    r = reader(thinking=THINKING)
    assert r.say("I know.\n</think>\n\nParis.", ending=FinishReason.STOP) is Then.GO_ON
    r.take(Piece(prompt_tokens=1, cached_tokens=1, completion_tokens=99))
    assert r.text == "I know.\n</think>\n\nParis."
    assert (r.finished.reason, r.finished.thinking_end) == (FinishReason.STOP, ThinkingEnd.NATURAL)
    assert r.finished.cached_tokens == 1
    assert len(r.calls) == 1


def test_a_thought_lands_at_its_budget_and_the_answer_goes_on_after_it() -> None:
    r = reader(thinking=replace(THINKING, budget_tokens=20))
    assert r.say("I think about it. " * 30) is Then.ASK_AGAIN
    first, second = r.calls
    assert second.tokens[: len(first.tokens)] == first.tokens
    assert VOCABULARY.text(second.tokens).endswith("Time to answer.\n</think>\n\n")
    assert second.max_tokens == 400 - r.count
    assert r.say("Paris.", ending=FinishReason.STOP) is Then.GO_ON
    assert r.text.endswith("</think>\n\nParis.")
    assert r.finished.thinking_end is ThinkingEnd.BUDGET


def test_who_asks_for_the_answer_gets_it_soon() -> None:
    r = reader(thinking=THINKING)
    r.say("One thought after the other. " * 3)
    r.run.ask()
    assert r.say("And one more. " * 20) is Then.ASK_AGAIN
    assert r.count < 80
    r.say("Paris.", ending=FinishReason.STOP)
    assert r.finished.thinking_end is ThinkingEnd.ASKED


def test_a_thought_in_circles_is_ended() -> None:
    r = reader(thinking=THINKING, max_tokens=4000)
    assert r.say("The count is wrong and I check the sum again. " * 200) is Then.ASK_AGAIN
    r.say("Paris.", ending=FinishReason.STOP)
    assert r.finished.thinking_end is ThinkingEnd.LOOP


def test_a_form_binds_the_answer_alone() -> None:
    r = reader(thinking=THINKING, structure=JSON)
    assert r.calls[0].structure is None
    assert r.say("I know.\n</think>\n\nParis is", per_event=2) is Then.ASK_AGAIN
    assert r.calls[1].structure == JSON
    assert VOCABULARY.text(r.calls[1].tokens).endswith("I know.\n</think>\n\n")
    r.say('{"city": "Paris"}', ending=FinishReason.STOP)
    assert r.text == 'I know.\n</think>\n\n{"city": "Paris"}'
    assert r.finished.reason is FinishReason.STOP


def test_a_landing_begins_the_bound_answer() -> None:
    r = reader(thinking=replace(THINKING, budget_tokens=16), structure=JSON)
    assert r.say("I think about it. " * 30) is Then.ASK_AGAIN
    while r.calls[-1].structure is None:
        assert r.say("Paris is") is Then.ASK_AGAIN
    r.say("{}", ending=FinishReason.STOP)
    assert r.text.endswith("</think>\n\n{}")


def test_without_a_thought_the_form_holds_from_the_first_token() -> None:
    assert reader(structure=JSON).calls[0].structure == JSON


def test_a_model_that_stops_before_its_bound_answer_still_owes_it() -> None:
    r = reader(thinking=THINKING, structure=JSON)
    assert r.say("I know.\n</think>", ending=FinishReason.STOP) is Then.ASK_AGAIN
    assert r.calls[1].structure == JSON


def test_the_answer_alone_is_bounded_by_answer_tokens() -> None:
    r = reader(thinking=THINKING, answer_tokens=3)
    assert r.say("I know.\n</think>" + "one two three four five six", per_event=50) is Then.END
    assert r.finished.reason is FinishReason.LENGTH
    without = reader(answer_tokens=2)
    assert without.calls[0].max_tokens == 2


def test_a_server_that_says_more_than_it_was_asked_for_is_cut() -> None:
    r = reader(max_tokens=5)
    assert r.say("one two three four five six seven eight", per_event=50) is Then.END
    assert (r.finished.reason, r.count) == (FinishReason.LENGTH, 5)


def test_log_probabilities_by_their_ids() -> None:
    r = reader(logprobs=1)
    (token,) = ids("Paris")[:1]
    deltas, _ = r.run.take(Piece(tokens=(token,), chances=(Chance(token, -0.5, ((token, -0.5), (EOS, -2.0))),)))
    (delta,) = deltas
    assert [one.logprob for one in delta.logprobs] == [-0.5]
    assert len(delta.logprobs[0].top) == 1
    assert delta.logprobs[0].token == VOCABULARY.name(token)


def test_a_character_over_two_pieces_comes_whole() -> None:
    r = reader()
    for token in ids("东京 🗼"):
        r.take(Piece(tokens=(token,)))
    r.take(Piece(tokens=(EOS,), ending=FinishReason.STOP))
    assert r.text == "东京 🗼"


@settings(deadline=None, max_examples=60)
@given(
    text=st.text(max_size=60),
    cuts=st.integers(1, 7),
    budget=st.one_of(st.none(), st.integers(1, 40)),
    bound=st.booleans(),
    most=st.integers(1, 120),
    close=st.booleans(),
)
def test_whatever_comes_there_is_one_ending_and_no_more_than_was_asked_for(
    text: str, cuts: int, budget: int | None, bound: bool, most: int, close: bool
) -> None:
    thinking = replace(THINKING, budget_tokens=budget)
    r = reader(thinking=thinking, structure=JSON if bound else None, max_tokens=most)
    said = text + ("</think>\n\nYes." if close else "")
    for _ in range(5):
        if r.say(said or "x", ending=FinishReason.STOP, per_event=cuts) is not Then.ASK_AGAIN:
            break
        said = "Yes."
    assert r.count <= most
    assert all(1 <= call.max_tokens <= most for call in r.calls)
    assert r.finished.completion_tokens <= most
    assert r.run.take(Piece(tokens=(1, 2, 3)))[0] == []


def test_what_ended_gives_nothing_more() -> None:
    r = reader()
    r.say("Paris.", ending=FinishReason.STOP)
    assert r.run.take(Piece(tokens=ids("more"))) == ([], Then.GO_ON)


def test_an_error_of_the_server_is_the_ending() -> None:
    r = reader()
    r.say("Paris")
    assert r.take(Piece(ending=FinishReason.ERROR, error="out of blocks")) is Then.END
    assert "out of blocks" in str(r.finished.error)


def test_text_alone_is_counted_with_our_own_tokens() -> None:
    request = GenerationRequest(request_id="r", prompt_tokens=ids("Hi"), max_tokens=40, sampling=SamplingParams())
    run = RequestRun(request, VOCABULARY, seed=1, model="m", with_text=True)
    assert run.next_call().text == "Hi"
    (delta,), _ = run.take(Piece(tokens=None, text="Paris."))
    assert delta == TokenDelta("Paris.", len(ids("Paris.")))
    run.take(Piece(tokens=None, text="", ending=FinishReason.STOP))
    assert run.close(FinishReason.ERROR).reason is FinishReason.STOP


@pytest.mark.parametrize("name", ["<｜User｜>", "</think>", "<｜end▁of▁sentence｜>"])
def test_no_client_can_write_a_control_token(name: str) -> None:
    token = VOCABULARY.id_of(name)
    assert token in VOCABULARY.encode([TextSegment(f"a{name}b")])
    untrusted = VOCABULARY.encode([TextSegment(f"a{name}b", trusted=False)])
    assert token not in untrusted
    assert VOCABULARY.text(untrusted) == f"a{name}b"
