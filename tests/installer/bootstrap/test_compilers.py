"""Flags against known faults of compilers."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.bootstrap.compilers import gcc_version, with_safe_flags

AMX = "amx_bf16 amx_int8 amx_tile avx512f"


def versions(version: tuple[int, int] | None) -> object:
    return lambda _command: version


@pytest.mark.parametrize("version", [(11, 4), (12, 2), (12, 3), (13, 2)])
def test_an_older_gcc_builds_without_amx(version: tuple[int, int]) -> None:
    environ = with_safe_flags({"CXXFLAGS": "-g"}, AMX, versions(version))  # type: ignore[arg-type]
    assert environ["CFLAGS"] == "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    assert environ["CXXFLAGS"] == "-g -mno-amx-tile -mno-amx-int8 -mno-amx-bf16"


@pytest.mark.parametrize("version", [(10, 2), (11, 5), (12, 4), (13, 3), (14, 1), (15, 0), None])
def test_a_right_or_unknown_compiler_is_left_alone(version: tuple[int, int] | None) -> None:
    assert with_safe_flags({"PATH": "/bin"}, AMX, versions(version)) == {"PATH": "/bin"}  # type: ignore[arg-type]


def test_a_processor_without_amx_asks_no_compiler() -> None:
    def unexpected(_command: str) -> tuple[int, int] | None:
        raise AssertionError

    assert with_safe_flags({}, "avx2 fma", unexpected) == {}


def test_the_compiler_that_the_user_named_is_the_one_that_is_asked() -> None:
    def only_mine(command: str) -> tuple[int, int] | None:
        return (12, 2) if command == "my-g++" else (14, 1)

    environ = with_safe_flags({"CXX": "my-g++ -m64"}, AMX, only_mine)
    assert "CFLAGS" not in environ
    assert "-mno-amx-tile" in environ["CXXFLAGS"]


def test_the_version_of_a_real_gcc_and_of_what_is_none(tmp_path: Path) -> None:
    version = gcc_version("gcc")
    assert version is not None
    assert version[0] >= 5
    assert gcc_version("false") is None
    assert gcc_version(str(tmp_path / "nothing")) is None
