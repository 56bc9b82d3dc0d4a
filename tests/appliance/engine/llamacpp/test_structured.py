"""Structured answers on the real library: whatever the model would rather say, the answer has its form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis import strategies as st

from appliance.engine.llamacpp.answer import Marks
from appliance.engine.llamacpp.messages import Sampling, WorkerConfig
from appliance.engine.llamacpp.runner import Runner
from appliance.engine.llamacpp.sampler import Draw, SamplingFailed
from appliance.engine.llamacpp.sequence import Finish
from appliance.engine.request import Structure, StructureKind
from tests.appliance.engine.llamacpp.saying import Said, say
from tests.appliance.engine.llamacpp.schemas import Schema, schemas
from tests.models.smollm2 import SMOLLM2

MODEL = Path(__file__).parents[3] / "fixtures" / "tiny_r1" / "gguf" / "Tiny-R1-Q8_0.gguf"
GOLDENS = json.loads((MODEL.parents[1] / "prompts.json").read_text(encoding="utf-8"))["prompts"]
START = "<｜begin▁of▁sentence｜><｜User｜>"
ANSWERS = f"{START}What is the capital of France?<｜Assistant｜><think>\nYes.\n</think>\n\n"
SEATS, CONTEXT = 13, 1024
FORMATS = jsonschema.FormatChecker(formats=("uuid", "ipv4"))
"""Of Python's dates the year 0 is none, which it is in RFC 3339: dates are looked at as text."""


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    config = WorkerConfig(model_path=str(MODEL), seats=SEATS, seat_context=CONTEXT, threads=1)
    made = Runner(config, lambda _fraction: None)
    made.warm_up()
    yield made
    made.close()


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Runner]:
    config = WorkerConfig(model_path=str(SMOLLM2), seats=SEATS, seat_context=CONTEXT, threads=1)
    made = Runner(config, lambda _fraction: None)
    made.warm_up()
    yield made
    made.close()


def structured(
    runner: Runner, structures: list[Structure], prompt: str = ANSWERS, seed: int = 0, **values: Any
) -> list[Said]:
    """One answer for each structure; seeds are their places, from ``seed`` on. Blanks are made rare: a model that knows
    nothing would fill its seat with them."""
    blanks = [
        token for token in range(runner.vocabulary_size) if runner.piece(token) and not runner.piece(token).strip()
    ]
    values.setdefault("logit_bias", tuple((token, -6.0) for token in blanks))
    tokens = runner.tokenize([(prompt, True)], add_bos=False)
    wanted = {
        str(place): (
            tokens,
            Draw(sampling=Sampling(seed=seed + place, **values), constraint=runner.structures.compile(one)),
        )
        for place, one in enumerate(structures)
    }
    said = say(runner, wanted, max_tokens=CONTEXT - len(tokens) - 1, seats=SEATS, seat_context=CONTEXT)
    return [said[str(place)] for place in range(len(structures))]


def of_schema(schema: Schema) -> Structure:
    return Structure(kind=StructureKind.JSON_SCHEMA, text=json.dumps(schema, ensure_ascii=False))


def complete(runner: Runner, structures: list[Structure], prompt: str = ANSWERS, **values: Any) -> list[Said]:
    """The same; answers that were cut at the end of their seat (long lists of long strings) are drawn again."""
    said = structured(runner, structures, prompt, **values)
    for attempt in range(1, 4):
        again = [place for place, one in enumerate(said) if one.finish is Finish.LENGTH]
        if not again:
            break
        more = structured(runner, [structures[place] for place in again], prompt, seed=1000 * attempt, **values)
        for place, one in zip(again, more, strict=True):
            said[place] = one
    for structure, one in zip(structures, said, strict=True):
        assert (one.problem, one.finish) == (None, Finish.STOP), (structure.text, one.text)
    return said


def validate(schema: Schema, said: Said) -> None:
    jsonschema.validate(json.loads(said.text), schema, format_checker=FORMATS)


EXAMPLES = settings(
    deadline=None,
    derandomize=True,
    phases=(HypothesisPhase.explicit, HypothesisPhase.generate),
    suppress_health_check=list(HealthCheck),
)


@settings(EXAMPLES, max_examples=16)
@given(wanted=st.lists(schemas, min_size=SEATS, max_size=SEATS))
def test_answers_to_random_schemas_validate(runner: Runner, wanted: list[Schema]) -> None:
    """208 schemas, 13 in a batch."""
    answers = complete(runner, [of_schema(one) for one in wanted], temperature=1.0, top_p=1.0)
    for schema, said in zip(wanted, answers, strict=True):
        validate(schema, said)


@settings(EXAMPLES, max_examples=1)
@given(wanted=st.lists(schemas, min_size=SEATS, max_size=SEATS))
def test_answers_of_another_vocabulary_validate(smollm2: Runner, wanted: list[Schema]) -> None:
    prompt = "<|im_start|>user\nAnswer with an object.<|im_end|>\n<|im_start|>assistant\n"
    answers = complete(smollm2, [of_schema(one) for one in wanted], prompt, temperature=0.7)
    for schema, said in zip(wanted, answers, strict=True):
        validate(schema, said)


PATTERNS = [
    r"[A-Z][a-z]{2,8}",
    r"\d{4}-\d{2}-\d{2}",
    r"(yes|no|maybe)( indeed)?",
    r"^\+?[0-9]{6,9}$",
    r"([a-f0-9]{2}:){5}[a-f0-9]{2}",
    r"Größe: \d+ (日本|😀)",
    r"[^a]{5}",
    r"a/b\\\\c\"d'\s",
]


def test_patterns_match(runner: Runner) -> None:
    structures = [Structure(kind=StructureKind.REGEX, text=text) for text in PATTERNS]
    for pattern, said in zip(PATTERNS, complete(runner, structures, temperature=1.5, top_p=1.0), strict=True):
        assert re.fullmatch(pattern, said.text), (pattern, said.text)


def test_any_object_is_an_object_and_a_model_that_writes_one_writes_the_same(runner: Runner) -> None:
    """JSON mode. The golden answer is what the model says without a structure."""
    golden = next(one for one in GOLDENS if one["id"] == "json-person")
    prompt = f"{START}{golden['messages'][0]['content']}<｜Assistant｜><think>\n"
    said = thinking(runner, prompt, opened=True, structure=Structure(kind=StructureKind.JSON_OBJECT))
    assert said.text == golden["text"]
    anything = structured(runner, [Structure(kind=StructureKind.JSON_OBJECT)], temperature=0.0)[0]
    assert anything.text.startswith("{")
    assert anything.finish is not Finish.STOP or isinstance(json.loads(anything.text), dict)


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= item (", " item)*\nitem ::= [a-c]+ "=" ("1" | "2")',
        'start: item (", " item)*\nitem: /[a-c]+/ "=" ("1" | "2")',
    ],
    ids=["gbnf", "lark"],
)
def test_grammars_hold(runner: Runner, grammar: str) -> None:
    said = complete(runner, [Structure(kind=StructureKind.GRAMMAR, text=grammar)] * 4, temperature=0.8)
    assert all(re.fullmatch(r"[a-c]+=[12](, [a-c]+=[12])*", one.text) for one in said)


def test_an_answer_that_is_cut_has_length_and_is_the_beginning_of_one(runner: Runner) -> None:
    structure = of_schema({"type": "array", "items": {"const": "abc"}, "minItems": 300})
    tokens = runner.tokenize([(ANSWERS, True)], add_bos=False)
    draw = Draw(sampling=Sampling(seed=1), constraint=runner.structures.compile(structure))
    said = say(runner, {"a": (tokens, draw)}, max_tokens=20, seats=SEATS, seat_context=CONTEXT)["a"]
    assert (said.finish, said.problem, len(said.tokens)) == (Finish.LENGTH, None, 20)
    assert said.text.startswith("[")


def test_what_structure_and_bias_together_exclude_ends_with_a_plain_reason(runner: Runner) -> None:
    digits = [runner.tokenize([(digit, True)], add_bos=False)[0] for digit in "0123456789"]
    sampling = Sampling(seed=1, logit_bias=tuple((token, -float("inf")) for token in digits))
    digit = Structure(kind=StructureKind.REGEX, text="[0-9]")
    tokens = runner.tokenize([(ANSWERS, True)], add_bos=False)
    draws = {
        "stuck": (tokens, Draw(sampling=sampling, constraint=runner.structures.compile(digit))),
        "beside": (tokens, Draw(sampling=Sampling(seed=1), constraint=runner.structures.compile(digit))),
    }
    said = say(runner, draws, max_tokens=20, seats=SEATS, seat_context=CONTEXT)
    assert said["stuck"].problem is not None
    assert "exclude them all" in said["stuck"].problem
    assert said["beside"].problem is None
    assert re.fullmatch("[0-9]", said["beside"].text)


def test_a_structure_that_cannot_be_compiled_is_an_error(runner: Runner) -> None:
    for structure in (of_schema({"type": "strin"}), Structure(kind=StructureKind.REGEX, text="(")):
        with pytest.raises(SamplingFailed):
            runner.structures.compile(structure)


# -- thoughts -------------------------------------------------------------------------------------------------------


def marks(runner: Runner, *, opened: bool) -> Marks:
    def tokens(text: str) -> tuple[int, ...]:
        return tuple(runner.tokenize([(text, True)], add_bos=False))

    return Marks(opened=opened, open_tokens=tokens("<think>"), close_tokens=tokens("</think>"), breaks=runner.breaks)


def thinking(runner: Runner, prompt: str, *, opened: bool, structure: Structure | None, **values: Any) -> Said:
    tokens = runner.tokenize([(prompt, True)], add_bos=False)
    constraint = None if structure is None else runner.structures.compile(structure)
    sampling = Sampling(seed=1, **{"temperature": 0.0, **values})
    draw = Draw(sampling=sampling, marks=marks(runner, opened=opened), constraint=constraint)
    return say(runner, {"a": (tokens, draw)}, max_tokens=300, seats=SEATS, seat_context=CONTEXT)["a"]


ASKS = f"{START}What is the capital of France?<｜Assistant｜>"
THOUGHT = "The user asks for the capital of France. I know that it is Paris.\n</think>\n\n"
PARIS = Structure(kind=StructureKind.REGEX, text=r"\{\"city\": \"[A-Z][a-z]{3,10}\"\}")


def test_a_thought_is_free_and_the_answer_has_its_form(runner: Runner) -> None:
    """The thought is word for word the one of an answer without a form, line breaks after it included."""
    said = thinking(runner, f"{ASKS}<think>\n", opened=True, structure=PARIS)
    assert said.text.startswith(THOUGHT)
    assert list(json.loads(said.text.removeprefix(THOUGHT))) == ["city"]


def test_a_thought_that_the_model_opens_is_free_too(runner: Runner) -> None:
    said = thinking(runner, ASKS, opened=False, structure=PARIS)
    assert said.text.startswith(f"<think>\n{THOUGHT}")
    assert list(json.loads(said.text.removeprefix(f"<think>\n{THOUGHT}"))) == ["city"]


def test_without_a_thought_the_answer_has_its_form_at_once(runner: Runner) -> None:
    said = thinking(runner, ANSWERS, opened=False, structure=PARIS, logit_bias=((1525, -1000.0),))
    assert list(json.loads(said.text)) == ["city"]


def test_bias_and_penalties_leave_the_thought_alone(runner: Runner) -> None:
    free = thinking(runner, f"{ASKS}<think>\n", opened=True, structure=None)
    token = next(token for token in free.tokens[::-1] if runner.piece(token).strip() == b"Paris")
    banned = thinking(
        runner,
        f"{ASKS}<think>\n",
        opened=True,
        structure=None,
        logit_bias=((token, -100.0),),
        frequency_penalty=2.0,
        presence_penalty=2.0,
    )
    assert banned.text.startswith(THOUGHT)
    assert token in banned.tokens[: len(runner.tokenize([(THOUGHT, True)], add_bos=False))]
    assert token not in banned.tokens[len(runner.tokenize([(THOUGHT, True)], add_bos=False)) :]
