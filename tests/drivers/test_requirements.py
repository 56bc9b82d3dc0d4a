"""Which versions go together: the data as it ships, each state, and data that contradicts itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.requirements import (
    Grade,
    RequirementResult,
    RequirementsInvalid,
    RequirementState,
    Row,
    Rule,
    check,
    described,
    load_requirements,
    parse_requirements,
)
from drivers.types import Software

DATA = load_requirements()

MINIMAL = """
schema = 1
[names]
cann = "CANN"
ascend-driver = "Ascend driver"
[sources.a]
title = "A document"
url = "https://example.org/a"
grade = "vendor document"
[[rules]]
id = "pair"
vendor = "ascend"
subject = ["cann"]
source = "a"
rows = [{ version = "8.5.0", needs = { ascend-driver = ["25.2.*"] } }]
"""


def example(spec: str) -> str:
    """A version that meets the specification."""
    return spec.split(",")[0].removeprefix(">=").replace(".*", ".0")


def rows() -> Iterator[tuple[Rule, Row, str]]:
    for rule in DATA.rules:
        for row in rule.rows:
            for name in row.needs:
                yield rule, row, name


def judge(*installed: tuple[str, str]) -> dict[tuple[str, str], RequirementResult]:
    """Results by subject and need."""
    results = check([Software(name, version) for name, version in installed], DATA)
    return {(result.subject.name, result.needs): result for result in results}


@pytest.mark.parametrize(
    ("rule", "row", "name"), list(rows()), ids=lambda value: getattr(value, "id", None) or str(value)[:40]
)
def test_every_version_listed_is_satisfied_by_its_row(rule: Rule, row: Row, name: str) -> None:
    subject = Software(rule.subject[0], example(row.version))
    for spec in row.needs[name]:
        found = [one for one in check([subject, Software(name, example(spec))], DATA) if one.rule == rule.id]
        result = next(one for one in found if one.needs == name)
        assert result.state is RequirementState.SATISFIED, result.message
        assert result.hint is None


def test_every_source_is_used_and_can_be_looked_up() -> None:
    used = {row.source or rule.source for rule in DATA.rules for row in rule.rows}
    assert used == set(DATA.sources)
    assert all(source.url.startswith("https://") for source in DATA.sources.values())
    assert {source.grade for source in DATA.sources.values()} == set(Grade)


def test_every_name_is_used() -> None:
    used = {name for rule in DATA.rules for row in rule.rows for name in (*rule.subject, *row.needs)}
    assert used | {"llama-cpp-python", "cuda-driver"} == set(DATA.names)


@pytest.mark.parametrize(
    ("cann", "driver", "state", "grade"),
    [
        ("8.5.0", "25.2.0", RequirementState.SATISFIED, Grade.VENDOR_DOCUMENT),
        ("8.5.0", "25.3.rc1", RequirementState.SATISFIED, Grade.VENDOR_DOCUMENT),
        ("8.2.RC1", "24.1.rc3.b010", RequirementState.SATISFIED, Grade.VENDOR_DOCUMENT),
        ("8.1.RC1", "24.1.rc3", RequirementState.SATISFIED, Grade.INFERRED),
        ("8.1.RC1", "25.0.rc1.1", RequirementState.SATISFIED, Grade.SOURCE_CODE),
        ("9.1.0", "25.0.rc1", RequirementState.TOO_OLD, Grade.VENDOR_DOCUMENT),
        ("9.1.0", "24.1.rc3", RequirementState.UNKNOWN, Grade.VENDOR_DOCUMENT),
        ("8.5.0", "99.0.0", RequirementState.UNKNOWN, Grade.VENDOR_DOCUMENT),
    ],
)
def test_cann_and_its_driver(cann: str, driver: str, state: RequirementState, grade: Grade) -> None:
    result = judge(("cann", cann), ("ascend-driver", driver))["cann", "ascend-driver"]
    assert (result.state, result.source.grade) == (state, grade)
    assert result.blocks


def test_how_to_upgrade_is_said_with_what_to_install() -> None:
    hint = judge(("cann", "9.1.0"), ("ascend-driver", "25.0.rc1"))["cann", "ascend-driver"].hint or ""
    assert hint.startswith("Install Ascend driver 25.2, 25.3, ")
    assert hint.endswith("An upgrade begins with the firmware, then comes the driver, then a reboot.")


def test_a_known_pair_is_said_plainly() -> None:
    result = judge(("cann", "8.5.0"), ("ascend-driver", "25.2.0"))["cann", "ascend-driver"]
    assert result.message == "Ascend driver 25.2.0 and CANN 8.5.0 are a known pair."


def test_an_unlisted_subject_is_unknown_and_names_nothing_to_install() -> None:
    result = judge(("cann", "42.0"), ("ascend-driver", "25.2.0"))["cann", "ascend-driver"]
    assert result.state is RequirementState.UNKNOWN
    assert (result.accepted, result.hint, result.broken) == ((), None, False)


@pytest.mark.parametrize("version", ["", "unknown", "NA"])
def test_a_version_that_cannot_be_read_is_unknown(version: str) -> None:
    found = judge(("cann", "8.5.0"), ("ascend-driver", version))["cann", "ascend-driver"]
    assert found.state is RequirementState.UNKNOWN
    assert "could not be read" in found.message


def test_torch_npu_wants_its_torch_exactly() -> None:
    def torch(version: str) -> RequirementResult:
        return judge(("torch-npu", "2.9.0"), ("torch", version), ("cann", "8.5.0"))["torch-npu", "torch"]

    assert torch("2.9.0+cpu").state is RequirementState.SATISFIED
    assert torch("2.8.0").state is RequirementState.TOO_OLD
    assert torch("2.10.0").state is RequirementState.TOO_NEW
    assert torch("2.8.0").message == "torch 2.8.0 is too old for torch-npu 2.9.0, which needs torch 2.9.0."
    assert torch("2.8.0").hint == "Install torch 2.9.0."


def test_torch_npu_with_a_cann_that_is_not_listed_is_unknown() -> None:
    found = judge(("torch-npu", "2.9.0"), ("torch", "2.9.0"), ("cann", "8.5.1"))
    assert found["torch-npu", "cann"].state is RequirementState.UNKNOWN
    assert found["torch-npu", "cann"].accepted == ("8.5.0",)


def test_what_is_missing_is_named_with_its_version() -> None:
    result = judge(("torch-npu", "2.9.0"), ("torch", "2.9.0"))["torch-npu", "cann"]
    assert result.state is RequirementState.MISSING
    assert result.message == "torch-npu 2.9.0 needs CANN 8.5.0; none was found."
    assert result.found is None


def test_several_fitting_versions_between_which_one_lies_are_a_mismatch() -> None:
    found = judge(("vllm-ascend", "0.10.1rc1"), ("vllm", "0.10.1.0.5"), ("torch", "2.7.1"))
    assert found["vllm-ascend", "vllm"].state is RequirementState.MISMATCH
    assert "does not go with vLLM-Ascend 0.10.1rc1" in found["vllm-ascend", "vllm"].message


def test_a_whole_row_of_vllm_ascend() -> None:
    found = judge(
        ("vllm-ascend", "0.23.0"),
        ("vllm", "0.23.0+empty"),
        ("cann", "9.1.0"),
        ("torch", "2.10.0"),
        ("torch-npu", "2.10.0.post4"),
        ("python", "3.12.3"),
        ("ascend-driver", "26.0.rc1"),
    )
    assert {result.state for result in found.values()} == {RequirementState.SATISFIED}
    assert ("vllm-ascend", "vllm") in found


@pytest.mark.parametrize(
    ("cuda", "driver", "state"),
    [
        ("12", "525.60.13", RequirementState.SATISFIED),
        ("12", "525.60.11", RequirementState.TOO_OLD),
        ("13", "570.124.06", RequirementState.TOO_OLD),
        ("13.0", "580.65.06", RequirementState.SATISFIED),
        ("11.8", "470.82.01", RequirementState.SATISFIED),
        ("14", "600.10", RequirementState.UNKNOWN),
    ],
)
def test_cuda_and_its_driver(cuda: str, driver: str, state: RequirementState) -> None:
    result = judge(("llama-cpp-cuda", cuda), ("nvidia-driver", driver))["llama-cpp-cuda", "nvidia-driver"]
    assert result.state is state


def test_a_driver_older_than_the_toolkit_but_of_its_family_runs_with_a_word_of_care() -> None:
    def note(driver: str) -> str:
        return judge(("torch-cuda", "12.8.61"), ("nvidia-driver", driver))["torch-cuda", "nvidia-driver"].message

    assert "It was made for 570.26 or newer" in note("550.54.15")
    assert "It was made for" not in note("570.124.06")


def test_only_the_engine_that_serves_blocks() -> None:
    found = judge(("llama-cpp-cuda", "13"), ("torch-cuda", "13.0"), ("nvidia-driver", "535.54.03"))
    assert found["llama-cpp-cuda", "nvidia-driver"].blocks
    assert not found["torch-cuda", "nvidia-driver"].blocks


def test_every_card_has_to_have_the_compute_capability() -> None:
    installed = [Software("llama-cpp-cuda", "13"), Software("nvidia-driver", "580.65.06")]
    cards = [Software("compute-capability", text) for text in ("8.9", "7.0", "12.0")]
    states = [one.state for one in check([*installed, *cards], DATA) if one.needs == "compute-capability"]
    assert states == [RequirementState.SATISFIED, RequirementState.TOO_OLD, RequirementState.SATISFIED]


def test_of_several_installed_versions_the_fitting_one_counts() -> None:
    found = judge(("torch-npu", "2.9.0"), ("torch", "2.9.0"), ("cann", "8.1.RC1"), ("cann", "8.5.0"))
    assert found["torch-npu", "cann"].found == Software("cann", "8.5.0")


def test_only_the_vendors_asked_for() -> None:
    software = [Software("cann", "8.5.0"), Software("llama-cpp-cuda", "12")]
    assert {result.vendor for result in check(software, DATA)} == {"ascend", "nvidia"}
    assert {result.vendor for result in check(software, DATA, vendors=["nvidia"])} == {"nvidia"}
    assert check([], DATA) == ()


@given(st.lists(st.builds(Software, st.sampled_from(sorted(DATA.names)), st.text(max_size=20)), max_size=6))
def test_nothing_installed_makes_the_check_fail(software: list[Software]) -> None:
    for result in check(software, DATA):
        assert result.message
        assert result.broken == (result.state not in (RequirementState.SATISFIED, RequirementState.UNKNOWN))


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        (["8.5.0"], "8.5.0"),
        (["25.2.*", "25.3.*", "25.5.*"], "25.2, 25.3 or 25.5"),
        ([">=525.60.13"], "525.60.13 or newer"),
        ([">=3.10,<3.14"], "3.10 or newer below 3.14"),
    ],
)
def test_specifications_in_words(specs: list[str], words: str) -> None:
    assert described(specs) == words


def test_the_minimal_data_is_right() -> None:
    assert parse_requirements(MINIMAL).label("cann") == "CANN"
    assert parse_requirements(MINIMAL).label("other") == "other"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("schema = 1", "schema = 2", "schema 2"),
        ('source = "a"', 'source = "b"', "no source b"),
        ('["25.2.*"]', '["newest"]', "'newest' is no version"),
        ('version = "8.5.0"', 'version = "all"', "'all' is no version"),
        ('["25.2.*"]', "[]", "needs names no versions"),
        ("needs = { ascend-driver", "needs = { firmware", r"firmware has no entry in \[names\]"),
        ('["25.2.*"] }', '["25.2.*"] }, refused = { cann = ["1.0"] }', "needs names no versions"),
        ('vendor = "ascend"', 'vendr = "ascend"', "vendr"),
        ('grade = "vendor document"', 'grade = "hearsay"', "hearsay"),
        ("schema = 1", "schema =", "Invalid value"),
    ],
)
def test_wrong_data_is_refused_with_its_place(old: str, new: str, problem: str) -> None:
    assert old in MINIMAL
    with pytest.raises(RequirementsInvalid, match=problem):
        parse_requirements(MINIMAL.replace(old, new))
