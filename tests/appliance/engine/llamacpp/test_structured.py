"""Structured answers on the real library: whatever the model would rather say, the answer has its form."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, Phase, given, settings
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
    config = WorkerConfig(model_path=str(SMOLLM2), seats=8, seat_context=384, threads=1)
    made = Runner(config, lambda _fraction: None)
    made.warm_up()
    yield made
    made.close()


def structured(
    runner: Runner, structures: list[Structure], *, prompt: str = ANSWERS, seats: int = SEATS, context: int = CONTEXT, **values: Any
) -> list[Said]:
    """One answer for each structure; seeds are their places."""
    tokens = runner.tokenize([(prompt, True)], add_bos=False)
    wanted = {
        str(place): (tokens, Draw(sampling=Sampling(seed=place, **values), constraint=runner.structures.compile(one)))
        for place, one in enumerate(structures)
    }
    said = say(runner, wanted, max_tokens=context - len(tokens) - 1, seats=seats, seat_context=context)
    return [said[str(place)] for place in range(len(structures))]


def of_schema(schema: Schema) -> Structure:
    return Structure(kind=StructureKind.JSON_SCHEMA, text=json.dumps(schema, ensure_ascii=False))


def check(schema: Schema, said: Said) -> None:
    assert said.problem is None
    assert said.finish is Finish.STOP, said.text
    jsonschema.validate(json.loads(said.text), schema, format_checker=FORMATS)


@settings(max_examples=16, deadline=None, phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck))
@given(wanted=st.lists(schemas, min_size=13, max_size=13))
def test_answers_to_random_schemas_validate(runner: Runner, wanted: list[Schema]) -> None:
    """208 schemas, 13 in a batch."""
    for schema, said in zip(wanted, structured(runner, [of_schema(one) for one in wanted], temperature=1.0, top_p=1.0), strict=True):
        check(schema, said)
