"""Verdicts from measurements, among them published logs of models that fell back without a word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.health.offload.judge import (
    Evidence,
    MemoryReading,
    OffloadState,
    Speed,
    judge,
    live_speed,
    slowest_credible,
)
from models.types import HOST, SpeedBand
from tests.appliance.health.offload.plans import MIB, logged, placed, plan

ON_CARD = plan({"nvidia:0": 18_508})
GOOD_LOG = "cuda-32b-q4_k_m.txt"


def codes(evidence: Evidence, of: object = ON_CARD) -> tuple[str, list[str]]:
    found = judge(of, evidence, has_cards=True)  # type: ignore[arg-type]
    return found.state.value, [reason.code for reason in found.reasons]


def test_weights_memory_and_speed_agree() -> None:
    memory = {"nvidia:0": MemoryReading(20_100 * MIB, 600 * MIB)}
    found = judge(ON_CARD, Evidence(logged(GOOD_LOG), memory, Speed(24.0, 400.0)), has_cards=True)
    assert (found.state, found.reasons, found.fell_back) == (OffloadState.VERIFIED, (), False)
    assert found.proof == (
        "65 of 65 layers on nvidia:0",
        "19,500 MiB taken by the load on nvidia:0",
        "24.0 tokens/s",
    )


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("cuda-32b-tq2_0-on-processor.txt", {"nvidia:0": 11_700.0}),
        ("cann-8b-q4_k_m-on-processor.txt", {f"ascend:{n}.0": 550.0 for n in range(8)}),
    ],
)
def test_a_model_that_llama_cpp_calls_offloaded_and_is_not(name: str, devices: dict[str, float]) -> None:
    """Also where every other measurement is missing: the weights alone tell."""
    of = replace(plan(devices), tensor_split=(9,) * len(devices))
    found = judge(of, Evidence(logged(name)), has_cards=True)
    assert (found.state, found.fell_back) == (OffloadState.CPU, True)
    assert found.reasons[0].code == "weights_on_processor"
    assert "would run on the processor" in found.reasons[0].message


def test_no_card_was_there_at_all() -> None:
    found = judge(ON_CARD, Evidence(placed(host=18_900)), has_cards=True)
    assert (found.state, found.fell_back) == (OffloadState.CPU, True)


def test_a_plan_for_the_processor() -> None:
    on_host = plan({})
    assert judge(on_host, Evidence(placed(host=18_900)), has_cards=False).reasons == ()
    found = judge(on_host, Evidence(placed(host=18_900), speed=Speed(3.0)), has_cards=True)
    assert (found.state, found.fell_back, found.proof) == (OffloadState.CPU, False, ("3.0 tokens/s",))
    assert [reason.code for reason in found.reasons] == ["no_card_used"]


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (Evidence(placed(CUDA0=12_000, host=6_900), speed=Speed(24)), ["weights_partly_on_processor"]),
        (Evidence(placed(splits=130, CUDA0=18_508, host=418), speed=Speed(24)), ["operations_on_processor"]),
        (
            Evidence(placed(CUDA0=18_508), {"nvidia:0": MemoryReading(900 * MIB, 600 * MIB)}, Speed(24)),
            ["memory_not_taken"],
        ),
        (Evidence(placed(CUDA0=18_508), {"nvidia:0": MemoryReading(900 * MIB)}, Speed(24)), ["memory_not_taken"]),
        (Evidence(placed(CUDA0=18_508), {"nvidia:0": MemoryReading(19_500 * MIB, MIB)}, Speed(2.1)), ["slow"]),
        (Evidence(placed(CUDA0=18_508), {"nvidia:0": MemoryReading(19_500 * MIB)}, fast_enough=False), ["slow"]),
        (Evidence(None, None, Speed(2.1)), ["slow"]),
    ],
)
def test_degraded_and_why(evidence: Evidence, expected: list[str]) -> None:
    assert codes(evidence) == ("DEGRADED", expected)


def test_a_card_of_two_that_holds_nothing() -> None:
    two = plan({"nvidia:0": 9_300, "nvidia:1": 9_300})
    assert codes(Evidence(placed(CUDA0=18_600), speed=Speed(24)), two) == ("DEGRADED", ["device_without_weights"])


def test_a_part_that_the_plan_leaves_on_the_host_is_no_fault() -> None:
    part = replace(ON_CARD, host_layers=10)
    assert codes(Evidence(placed(splits=44, CUDA0=18_508, host=4_000), speed=Speed(24)), part) == ("VERIFIED", [])


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (Evidence(), ["placement_unknown"]),
        (Evidence(speed=Speed(24)), ["placement_unknown"]),
        (Evidence(placed(CUDA0=18_508)), ["not_measured"]),
        (Evidence(placed(CUDA0=18_508), {}), ["not_measured"]),
    ],
)
def test_without_evidence_nothing_is_claimed(evidence: Evidence, expected: list[str]) -> None:
    assert codes(evidence) == ("UNKNOWN", expected)


def test_a_card_that_is_not_in_the_table_is_verified_by_its_memory() -> None:
    unknown = plan({"nvidia:0": 18_508}, speed=None)
    memory = {"nvidia:0": MemoryReading(19_500 * MIB, 100 * MIB)}
    assert codes(Evidence(placed(CUDA0=18_508), memory, Speed(1.0)), unknown) == ("VERIFIED", [])


def test_unified_memory_is_judged_by_layers() -> None:
    """There the plan counts the host's part on the device, which llama.cpp keeps apart."""
    whole = plan({"nvidia:0": 18_926})
    unified = replace(whole, memory=whole.memory[:1])
    assert codes(Evidence(placed(CUDA0=17_000, host=1_926), speed=Speed(24)), unified) == ("VERIFIED", [])
    nowhere = judge(unified, Evidence(placed(host=18_926)), has_cards=True)
    assert (nowhere.state, nowhere.fell_back) == (OffloadState.CPU, True)


def test_small_models_on_fast_cards_are_not_called_slow() -> None:
    """Launching kernels bounds them, not the memory's bandwidth from which the band comes."""
    limit = slowest_credible(SpeedBand(1200.0, 1900.0))
    assert limit is not None
    assert 100 < limit < 200
    assert slowest_credible(None) is None


def test_live_traffic_shows_speed_slowness_or_nothing() -> None:
    band = SpeedBand(20.0, 30.0)
    assert live_speed(band, steps=200, tokens=800, decode_s=10.0) is True
    assert live_speed(band, steps=20, tokens=60, decode_s=10.0) is False
    assert live_speed(band, steps=50, tokens=5_000, decode_s=10.0) is None  # long prompts make long steps
    assert live_speed(band, steps=0, tokens=0, decode_s=0.0) is None
    assert live_speed(None, steps=200, tokens=800, decode_s=10.0) is None


@given(
    on_card=st.floats(0, 30_000),
    before=st.one_of(st.none(), st.integers(0, 80_000)),
    used=st.integers(0, 80_000),
    speed=st.one_of(st.none(), st.floats(0.01, 500)),
    splits=st.one_of(st.none(), st.integers(1, 400)),
)
def test_whatever_is_measured(
    on_card: float, before: int | None, used: int, speed: float | None, splits: int | None
) -> None:
    """VERIFIED is never said with the weights elsewhere or against a measurement, and every other verdict says why."""
    reading = MemoryReading(used * MIB, None if before is None else before * MIB)
    placement = placed(splits, CUDA0=on_card, host=max(0.0, 18_900 - on_card))
    evidence = Evidence(placement, {"nvidia:0": reading}, None if speed is None else Speed(speed))
    found = judge(ON_CARD, evidence, has_cards=True)
    if found.state is OffloadState.VERIFIED:
        assert found.reasons == ()
        assert on_card >= 0.97 * 18_508
        assert speed is None or speed > 10
    else:
        assert found.reasons
    assert found.fell_back == (on_card < 0.5 * 18_508 - 0.5 or found.fell_back)
    assert HOST not in found.proof
