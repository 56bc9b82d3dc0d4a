"""Which of llama.cpp's files go along."""

from __future__ import annotations

from installer.bootstrap.compilers import amx_is_broken
from installer.pack.native import CMAKE_ARGS, build_environment, shipped_modules
from installer.pack.trim import is_wanted_file, is_wanted_module, may_be_stripped

BUILT = [
    "libggml-cpu-x64.so", "libggml-cpu-haswell.so", "libggml-cpu-zen4.so", "libggml-cpu-sapphirerapids.so",
    "libggml-cpu-cooperlake.so", "libggml-cuda.so", "libggml-base.so", "libggml-base.so.0", "libggml.so",
    "libllama.so", "libmtmd.so.0.5.0",
]  # fmt: skip


def test_modules_of_processors_and_cards_go_along() -> None:
    assert shipped_modules(BUILT, amx_is_broken=False) == [
        "libggml-cpu-haswell.so", "libggml-cpu-sapphirerapids.so", "libggml-cpu-x64.so", "libggml-cpu-zen4.so",
        "libggml-cuda.so",
    ]  # fmt: skip


def test_amx_of_an_old_compiler_stays_behind() -> None:
    assert "libggml-cpu-sapphirerapids.so" not in shipped_modules(BUILT, amx_is_broken=True)
    assert amx_is_broken((12, 2))
    assert not amx_is_broken((12, 4))
    assert not amx_is_broken((14, 1))
    assert not amx_is_broken(None)


def test_the_callers_build_settings_come_after_ours() -> None:
    made = build_environment({"CMAKE_ARGS": "-DGGML_CUDA=ON -DGGML_NATIVE=OFF", "PATH": "/bin"})
    assert made["CMAKE_ARGS"].split() == [*CMAKE_ARGS, "-DGGML_CUDA=ON"]
    assert build_environment({})["CMAKE_ARGS"].split() == list(CMAKE_ARGS)
    assert not any("march" in word for word in CMAKE_ARGS)


def test_what_stays_behind() -> None:
    for name in (
        "libstdc++.so.6",
        "libgcc_s.so.1",
        "llama_cpp/lib/libllama.so.0",
        "libggml-base.so.0",
        "a/b.pyi",
        "hf_xet-1.8.0.dist-info/METADATA",
    ):
        assert not is_wanted_file(name), name
    for name in ("libssl.so.3", "libgomp.so.1", "numpy.libs/libscipy.so", "appliance/api/web/index.html", "lib/x.so"):
        assert is_wanted_file(name), name
    assert is_wanted_module("installer.cli")
    assert not is_wanted_module("installer.pack.dist")
    assert not is_wanted_module("installer.bootstrap")
    assert not may_be_stripped("numpy.libs/libscipy_openblas64.so")
    assert may_be_stripped("uvloop/loop.so")
