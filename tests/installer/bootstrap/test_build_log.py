"""Lines of real builds (uv 0.13.9 with -v, scikit-build-core 1.1.2, ninja 1.13) and what they mean."""

from __future__ import annotations

import pytest

from installer.bootstrap.build_log import BuildStarted, Compiled, Note, read_line, telling_lines


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("DEBUG [32/193] : && /usr/bin/g++ -fPIC -O3 -DNDEBUG   -shared", Compiled(32, 193)),
        ("[193/193] Linking CXX shared library bin/libmtmd.so", Compiled(193, 193)),
        ("   Building llama-cpp-python==0.3.36", BuildStarted("llama-cpp-python==0.3.36")),
        ("   Building r1box @ file:///src", BuildStarted("r1box")),
        ("      Built llama-cpp-python==0.3.36", Note("built llama-cpp-python==0.3.36")),
        ("Downloading numpy (16.1MiB)", Note("downloading numpy, 16.1MiB")),
        ("Resolved 67 packages in 151ms", Note("67 packages, fetching what is missing")),
        ("Prepared 20 packages in 223ms", Note("prepared 20 packages")),
        ("DEBUG [12/] : cut", None),
        ("DEBUG [9/3] : impossible", None),
        ("DEBUG  5949 |                        _mm256_undefined_pd (),", None),
        ("DEBUG Found stale response for: [1/2] https://mirror.example/simple/numpy/", None),
        (" + alembic==1.20.1", None),
        ("", None),
    ],
)
def test_meaning_of_a_line(line: str, meaning: object) -> None:
    assert read_line(line) == meaning


def test_what_a_failed_build_says_is_found_among_the_chatter() -> None:
    chatter = [f"DEBUG Adding direct dependency: package{number}" for number in range(500)]
    lines = [
        *chatter,
        "DEBUG FAILED: a.o",
        "DEBUG a.c:3:1: error: unknown type name 'x'",
        *chatter,
        "",
        "error: Failed",
    ]
    assert telling_lines(lines) == ["DEBUG FAILED: a.o", "DEBUG a.c:3:1: error: unknown type name 'x'", "error: Failed"]


def test_chatter_is_better_than_nothing() -> None:
    lines = [f"DEBUG line {number}" for number in range(50)]
    assert telling_lines(lines, limit=3) == ["DEBUG line 47", "DEBUG line 48", "DEBUG line 49"]
