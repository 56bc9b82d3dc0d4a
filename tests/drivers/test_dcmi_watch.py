"""The watching DCMI child: one sample for each line that it reads, until its input ends."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from drivers.command import CommandFailed, FailureKind
from drivers.conversation import Conversation
from drivers.dcmi_reading import DcmiChipSample, DcmiSample, DcmiStart, child_argv
from tests.fakes.dcmi.build import build_fake_dcmi
from tests.fakes.dcmi.child import child_environment
from tests.fakes.dcmi.scenarios import (
    ascend_910b3_box,
    ascend_950_box,
    atlas_300i_duo_box,
    crashing,
    failing_init,
    hanging,
    lost_chip,
)

LIMIT_S = 30.0
Talk = Callable[[Mapping[str, object]], Conversation]


@pytest.fixture(scope="module")
def fake_dcmi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake library with both sets of functions."""
    return build_fake_dcmi(tmp_path_factory.mktemp("dcmi"))


@pytest.fixture
def talk(tmp_path: Path, fake_dcmi: Path) -> Iterator[Talk]:
    """Starts the watching child and ends it after the test."""
    started: list[Conversation] = []

    def begin(settings: Mapping[str, object]) -> Conversation:
        argv = child_argv(watch=True, libraries=[str(fake_dcmi)])
        started.append(Conversation(argv, environment=child_environment(tmp_path, settings)))
        return started[-1]

    yield begin
    for conversation in started:
        conversation.close()


def start_of(conversation: Conversation) -> DcmiStart:
    return msgspec.json.decode(conversation.read_line(timeout_s=LIMIT_S), type=DcmiStart)


def sample(conversation: Conversation, *, timeout_s: float = LIMIT_S) -> tuple[DcmiChipSample, ...]:
    return msgspec.json.decode(conversation.ask("", timeout_s=timeout_s), type=DcmiSample).chips


def test_samples_follow_the_chips(talk: Talk) -> None:
    changing = {"1.0.aicore": "0|35|90", "1.0.hbm": "65536 3318 1600|65536 40000 1600", "1.0.temperature": "43|51"}
    conversation = talk(ascend_910b3_box(2) | changing)
    assert start_of(conversation).listed == ("0.0", "1.0")
    samples = [sample(conversation) for _ in range(4)]
    assert samples[0][0] == DcmiChipSample(
        card_id=0,
        device_id=0,
        health=0,
        temperature_celsius=43,
        power_deciwatts=1018,
        aicore_percent=0,
        npu_percent=0,
        aicore_mhz=1800,
        hbm_total_mb=65536,
        hbm_used_mb=3318,
    )
    seen = [(chips[1].aicore_percent, chips[1].hbm_used_mb, chips[1].temperature_celsius) for chips in samples]
    assert seen == [(0, 3318, 43), (35, 40000, 51), (90, 40000, 51), (90, 40000, 51)]
    assert all(chips[0] == samples[0][0] for chips in samples)


def test_samples_by_the_second_api(talk: Talk) -> None:
    conversation = talk(ascend_950_box(2) | {"1.power": "1956|2400"})
    assert start_of(conversation).api == 2
    assert [[chip.power_deciwatts for chip in sample(conversation)] for _ in range(2)] == [[1956, 1956], [1956, 2400]]


def test_what_a_chip_does_not_have_is_asked_once(talk: Talk) -> None:
    """The fake would tell power and HBM from the second call on: a child that asked again would print them."""
    again = {"0.0.power.code": "-8255|0", "0.0.power": 500, "0.0.hbm.code": "-8255|0", "0.0.hbm": "100 50 1"}
    conversation = talk(atlas_300i_duo_box([0]) | again | {"0.0.aicore": "512|7"})
    start_of(conversation)
    for _ in range(3):
        chip = sample(conversation)[0]
        assert chip.power_deciwatts is chip.hbm_total_mb is chip.aicore_percent is None
        assert (chip.ddr_total_mb, chip.ddr_available_mb) == (44280, 42751)


def test_a_passing_failure_is_asked_again(talk: Talk) -> None:
    conversation = talk(ascend_910b3_box(1) | {"0.0.power.code": "-8006|0"})
    start_of(conversation)
    assert [sample(conversation)[0].power_deciwatts for _ in range(2)] == [None, 1018]


def test_a_chip_that_goes_and_comes_back(talk: Talk) -> None:
    conversation = talk(ascend_910b3_box(2) | {"0.0.health.code": "0|-8008|0"})
    start_of(conversation)
    samples = [sample(conversation) for _ in range(3)]
    assert [chips[0].error for chips in samples] == [None, -8008, None]
    assert samples[1][0] == DcmiChipSample(card_id=0, device_id=0, error=-8008)
    assert samples[0] == samples[2]
    assert [chips[1].error for chips in samples] == [None] * 3


def test_a_chip_that_was_lost_before(talk: Talk) -> None:
    conversation = talk(lost_chip(ascend_910b3_box(2), "1.0") | {"0.chips.code": -8007})
    start_of(conversation)
    assert [[chip.error for chip in sample(conversation)] for _ in range(2)] == [[-8007, -8008]] * 2


def test_controllers_are_left_out(talk: Talk) -> None:
    conversation = talk(atlas_300i_duo_box([0]) | {"0.chips": 3})
    start_of(conversation)
    assert [chip.device_id for chip in sample(conversation)] == [0, 1]


def test_a_failed_start_ends_the_child(talk: Talk) -> None:
    conversation = talk(failing_init(-8005))
    assert start_of(conversation).error == -8005
    with pytest.raises(CommandFailed) as failure:
        conversation.read_line(timeout_s=LIMIT_S)
    assert failure.value.kind is FailureKind.EXIT_CODE
    assert failure.value.result.exit_code == 0


def test_a_hang_is_noticed(talk: Talk) -> None:
    conversation = talk(hanging(ascend_910b3_box(2), "dcmi_get_device_temperature", "1.0", call=2))
    start_of(conversation)
    assert len(sample(conversation)) == 2
    with pytest.raises(CommandFailed) as failure:
        sample(conversation, timeout_s=0.5)
    assert failure.value.kind is FailureKind.TIMED_OUT


def test_a_crash_is_noticed(talk: Talk) -> None:
    conversation = talk(crashing(ascend_910b3_box(2), "dcmi_get_device_health", "0.0", call=3))
    start_of(conversation)
    assert [len(sample(conversation)) for _ in range(2)] == [2, 2]
    with pytest.raises(CommandFailed) as failure:
        sample(conversation)
    assert failure.value.kind is FailureKind.SIGNALLED


def test_what_the_library_prints_does_not_disturb(talk: Talk) -> None:
    conversation = talk(ascend_910b3_box(1) | {"chatter": 1})
    assert start_of(conversation).api == 1
    assert len(sample(conversation)) == 1


def end_input(tmp_path: Path, library: Path, settings: Mapping[str, object], *, after: str, ask: bool) -> int:
    """Exit code of the child when its input ends after the library has printed ``after``."""
    process = subprocess.Popen(
        child_argv(watch=True, libraries=[str(library)]),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=child_environment(tmp_path, {**settings, "chatter": 1}),
        text=True,
    )
    with process:
        try:
            assert process.stdin is not None
            assert process.stderr is not None
            if ask:
                process.stdin.write("\n")
                process.stdin.flush()
            assert any(line.strip() == after for line in process.stderr)
            process.stdin.close()
            return process.wait(LIMIT_S)
        finally:
            process.kill()


def test_the_end_of_its_input_ends_it(tmp_path: Path, fake_dcmi: Path) -> None:
    settings = ascend_910b3_box(1)
    assert end_input(tmp_path, fake_dcmi, settings, after="fake DCMI: dcmi_get_card_list", ask=False) == 0


def test_the_end_of_its_input_ends_it_while_the_init_hangs(tmp_path: Path, fake_dcmi: Path) -> None:
    settings = hanging(ascend_910b3_box(1), "dcmi_init")
    assert end_input(tmp_path, fake_dcmi, settings, after="fake DCMI: dcmi_init", ask=False) == 0


def test_the_end_of_its_input_ends_it_while_a_sample_hangs(tmp_path: Path, fake_dcmi: Path) -> None:
    settings = hanging(ascend_910b3_box(2), "dcmi_get_device_health", "1.0")
    after = "fake DCMI: dcmi_get_device_health 1.0"
    assert end_input(tmp_path, fake_dcmi, settings, after=after, ask=True) == 0
