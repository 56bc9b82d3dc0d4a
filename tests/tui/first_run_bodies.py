"""The first minutes' list of a made-up box: new, in the middle, and after a self-test that went wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, get_args

from appliance.schemas.box import BoxIdentity, Certificate
from appliance.schemas.first_run import FirstRun, Step, StepName, TestLine
from tests.tui.moments import NOON

NAMES: tuple[StepName, ...] = get_args(StepName)
LATER = NOON - timedelta(minutes=2)


def identity() -> BoxIdentity:
    """A box with its own authority."""

    def certificate(first: str, issuer: str) -> Certificate:
        fingerprint = ":".join(f"{(int(first, 16) + 7 * place) % 256:02X}" for place in range(32))
        return Certificate(
            fingerprint=fingerprint, issuer=issuer, names=("ward-3.local", "10.0.4.17"), not_before=LATER,
            not_after=LATER + timedelta(days=397),
        )  # fmt: skip

    return BoxIdentity(
        version="0.1.0", hostname="ward-3", started_at=LATER, urls=("https://10.0.4.17:8080/",), host="0.0.0.0",
        port=8080, tls="local", only_local=False, certificate=certificate("3a", "R1 Box ward-3"),
        authority=certificate("c1", "R1 Box ward-3"), admin_socket="/run/r1box/admin.sock",
        state_dir="/var/lib/r1box", models_dir="/var/lib/r1box/models",
    )  # fmt: skip


def _list(**states: dict[str, Any]) -> FirstRun:
    steps = tuple(Step(name=name, **states.get(name, {})) for name in NAMES)
    following = next((one.name for one in steps if one.state in ("open", "failed")), None)
    return FirstRun(finished=False, steps=steps, next=following, language="en", keymaps=("us", "de", "fr"))


def new() -> FirstRun:
    """Nothing is done."""
    return _list()


def middle() -> FirstRun:
    """After an installation with an answer file, up to the certificate."""
    answered = {"state": "done", "by": "installation"}
    done = {"state": "done", "by": "local", "at": LATER}
    return _list(
        language=answered,
        network=answered,
        time={**answered, "told": "Asia/Shanghai"},
        keyboard={**done, "told": "us"},
        admin=done,
    )


def fetching() -> FirstRun:
    """A model comes by network."""
    told = middle()
    steps = tuple(
        one.model_copy(update={"state": "done", "by": "local"})
        if one.name == "tls"
        else one.model_copy(update={"state": "running", "job": "job_1"})
        if one.name == "model"
        else one
        for one in told.steps
    )
    return told.model_copy(update={"steps": steps, "next": "model"})


def tested() -> FirstRun:
    """Everything is there; the test saw a model that fell back to the processor."""
    told = fetching()
    lines = (
        TestLine(what="model", ok=True, told="R1-Distill-Qwen-32B Q8_0"),
        TestLine(what="offload", ok=False, told="DEGRADED, 2.1 tok/s: It is as slow as the processor."),
        TestLine(what="issues", ok=True, told="1"),
    )
    result = {"state": "failed", "by": "local", "at": LATER, "told": lines[1].told, "lines": lines}
    steps = tuple(
        one.model_copy(update=result)
        if one.name == "self_test"
        else one.model_copy(update={"state": "done", "job": None, "told": "R1-Distill-Qwen-32B Q8_0"})
        if one.name == "model"
        else one
        for one in told.steps
    )
    return told.model_copy(update={"steps": steps, "next": "self_test"})
