"""The compute check through llama.cpp: its real libraries on the processor, and a compiled backend posing as CUDA."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import drivers.compute_ggml
from drivers.command import minimal_environment
from drivers.compute import ComputeResult, ComputeState, run_compute_checks
from drivers.compute_llama import device_key, library_folder
from drivers.compute_reading import ListedDevice, Problem, Subject, Words, judge, run_child
from drivers.types import Device, HardwareSnapshot, Host, Vendor
from tests.drivers.conftest import HANG_LIMITS_S
from tests.fakes.ggml.build import BACKEND_NAME, build_fake_cuda, build_unloadable_cuda, compile_library

Check = Callable[..., tuple[ComputeResult, ...]]

L20 = Device(Vendor.NVIDIA, 0, "NVIDIA L20", pci_address="0000:01:00.0")
SECOND = Device(Vendor.NVIDIA, 1, "NVIDIA L20", pci_address="0000:02:00.0")
STEPS = ["import", "devices", "allocate", *["matmul", "compare"] * 3]


def snapshot(*devices: Device) -> HardwareSnapshot:
    return HardwareSnapshot(Host(), devices)


def libraries() -> Path:
    folder = library_folder()
    assert folder is not None
    return folder


def only(results: tuple[ComputeResult, ...]) -> ComputeResult:
    assert len(results) == 1, results
    return results[0]


def steps(result: ComputeResult) -> list[tuple[str, str]]:
    return [(step.name.value, step.state.value) for step in result.steps]


@pytest.fixture(scope="module")
def fake_cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that holds the backend posing as CUDA."""
    return build_fake_cuda(tmp_path_factory.mktemp("cuda"), libraries()).parent


@pytest.fixture
def check(fake_cuda: Path) -> Check:
    """Runs the check with the fake backend doing what the word says."""

    def run(word: str = "", *devices: Device, timeout_s: float = 60.0) -> tuple[ComputeResult, ...]:
        found = devices or (L20,)
        environment = minimal_environment(FAKE_GPU=word, FAKE_GPU_COUNT=str(len(found)))
        return run_compute_checks(
            snapshot(*found), timeout_s=timeout_s, environment=environment, backends_dir=fake_cuda
        )

    return run


def test_the_processor_passes() -> None:
    seen: list[ComputeResult] = []
    result = only(run_compute_checks(snapshot(), cpu=True, on_result=seen.append))
    assert seen == [result]
    assert (result.state, result.name, result.device, result.backend) == (ComputeState.PASSED, "CPU", None, "llama.cpp")
    assert steps(result) == [(name, "passed") for name in STEPS]
    assert all(step.seconds is not None for step in result.steps)
    assert result.code is None
    # Three formats: weights of 4, 2 and 1.06 bytes each, inputs and outputs in F32.
    assert result.bytes_allocated is not None
    assert result.bytes_allocated >= 1024 * 1024 * (4 + 2 + 1) + 3 * 2 * 256 * 1024 * 4
    assert result.relative_error is not None
    assert 0 < result.relative_error < 0.02
    assert result.max_abs_error is not None
    assert result.max_abs_error > 0
    assert result.gflops is not None
    assert result.gflops > 0
    assert "F32, F16, Q8_0" in result.message


def test_nothing_to_check_without_cards() -> None:
    assert run_compute_checks(snapshot()) == ()


@pytest.mark.parametrize("what", ["weights", "rows"])
def test_a_wrong_reference_is_detected(what: str) -> None:
    # Not only that a wrong product is seen, but that the comparison really is one with the packed weights.
    spoil = "exact + 0.5" if what == "weights" else "exact[::-1]"
    source = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import drivers.compute_ggml as child; pack = child.pack\n"
        "def spoiled(*arguments):\n    packed, exact = pack(*arguments)\n"
        f"    return packed, {spoil}\n"
        "child.pack = spoiled; child.main()"
    )
    root = str(Path(drivers.compute_ggml.__file__).parents[1])
    argv = [sys.executable, "-I", "-c", source, root, "--library-dir", str(libraries()), "--device", "CPU"]
    outcome = run_child(argv, timeout_s=60, environment=minimal_environment())
    result = judge(outcome, Subject("llama.cpp", "CPU", "look"), unexpected)
    assert (result.state, result.code) == (ComputeState.FAILED, "compute_wrong_result")
    assert [state for name, state in steps(result) if name == "compare"] == ["failed"] * 3


def unexpected(problem: Problem) -> Words:
    raise AssertionError(problem)


def test_a_gpu_backend_is_loaded_and_its_device_passes(check: Check) -> None:
    result = only(check())
    assert (result.state, result.device, result.name) == (ComputeState.PASSED, "nvidia:0", "CUDA0")
    assert steps(result) == [(name, "passed") for name in STEPS]
    assert "CUDA0 (Fake L20)" in result.message


def test_one_bad_tile_of_one_of_two_cards(check: Check) -> None:
    good, bad = check("wrong@1", L20, SECOND)
    assert (good.device, good.state) == ("nvidia:0", ComputeState.PASSED)
    assert (bad.device, bad.state, bad.code) == ("nvidia:1", ComputeState.FAILED, "compute_wrong_result")
    assert bad.hint is not None
    assert "Serve nothing from this device" in bad.hint


def test_a_result_that_is_not_a_number(check: Check) -> None:
    result = only(check("nan"))
    assert (result.state, result.code) == (ComputeState.FAILED, "compute_wrong_result")
    assert "not a number" in result.message
    assert result.max_abs_error is None


def test_crash_in_the_product_of_one_of_two_cards(check: Check) -> None:
    bad, good = check("crash@0", L20, SECOND)
    assert (bad.device, bad.state, bad.code) == ("nvidia:0", ComputeState.FAILED, "compute_crashed")
    assert "at the step matmul (F32) with signal 6 (SIGABRT)" in bad.message
    assert "an illegal memory access was encountered" in bad.message
    assert steps(bad) == [*((name, "passed") for name in STEPS[:3]), ("matmul", "failed")]
    assert good.state is ComputeState.PASSED


def test_hang_in_the_product(check: Check) -> None:
    for limit_s in HANG_LIMITS_S:
        result = only(check("hang", timeout_s=limit_s))
        if result.device and steps(result)[-1][0] == "matmul":
            break
    assert (result.state, result.code, result.device) == (ComputeState.FAILED, "compute_timed_out", "nvidia:0")
    assert "at the step matmul (F32)" in result.message
    assert result.hint


def test_crash_while_the_backend_is_loaded(check: Check) -> None:
    result = only(check("load_crash"))
    assert (result.state, result.code, result.device) == (ComputeState.FAILED, "compute_crashed", None)
    assert "at the step import with signal 6 (SIGABRT)" in result.message


def test_hang_while_the_backend_is_loaded(check: Check) -> None:
    for limit_s in HANG_LIMITS_S:
        result = only(check("load_hang", timeout_s=limit_s))
        if result.steps:
            break
    assert (result.state, result.code, result.device) == (ComputeState.FAILED, "compute_timed_out", None)
    assert steps(result) == [("import", "failed")]


@pytest.mark.parametrize(("word", "code"), [("no_backend", "backend_refused"), ("status", "compute_failed")])
def test_the_backend_says_no(check: Check, word: str, code: str) -> None:
    result = only(check(word))
    assert (result.state, result.code, result.device) == (ComputeState.FAILED, code, "nvidia:0")
    assert result.hint


def test_a_format_that_is_not_computed_is_named(check: Check) -> None:
    result = only(check("no_q8_0"))
    assert result.state is ComputeState.PASSED
    assert "does not multiply Q8_0" in result.message
    assert result.hint
    assert len(result.steps) == len(STEPS) - 2


def test_a_backend_without_f16_fails(check: Check) -> None:
    result = only(check("no_f16"))
    assert (result.state, result.code) == (ComputeState.FAILED, "matmul_unsupported")


def test_build_without_gpu_backend() -> None:
    result = only(run_compute_checks(snapshot(L20)))
    assert (result.state, result.code, result.device) == (ComputeState.UNAVAILABLE, "no_gpu_backend", None)
    assert "has the backends: CPU. None computes on cards of NVIDIA" in result.message
    assert result.hint is not None
    assert "-DGGML_CUDA=on" in result.hint


def test_a_backend_whose_library_is_missing(tmp_path: Path) -> None:
    build_unloadable_cuda(tmp_path, "libcudart.so.12")
    result = only(run_compute_checks(snapshot(L20), backends_dir=tmp_path))
    assert (result.state, result.code) == (ComputeState.UNAVAILABLE, "backend_not_loaded")
    assert f"{BACKEND_NAME} does not load: libcudart.so.12 is not found" in result.message
    assert "the CUDA runtime" in result.message


def test_a_file_that_is_no_backend(tmp_path: Path) -> None:
    compile_library("int nothing;", tmp_path / BACKEND_NAME)
    result = only(run_compute_checks(snapshot(L20), backends_dir=tmp_path))
    assert result.code == "backend_not_loaded"
    assert "offers no backend" in result.message


def test_a_card_that_the_backend_does_not_see(fake_cuda: Path) -> None:
    environment = minimal_environment(FAKE_GPU_COUNT="1")
    missing, good = run_compute_checks(snapshot(L20, SECOND), environment=environment, backends_dir=fake_cuda)
    assert (missing.device, missing.code, missing.state) == ("nvidia:1", "device_not_seen", ComputeState.FAILED)
    assert (good.device, good.state) == ("nvidia:0", ComputeState.PASSED)


_VERSION = 'const char *ggml_version(void) {{ return "{}"; }}'


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("int nothing;", "before 0.9.1"),
        (_VERSION.format("0.9.4"), "0.9.4"),
        (_VERSION.format("1.0.0"), "1.0.0"),
        (_VERSION.format("0.25.9"), "0.25.9"),
    ],
)
def test_another_ggml_is_refused_not_tried(tmp_path: Path, source: str, words: str) -> None:
    compile_library(source, tmp_path / "libggml.so.0")
    result = only(run_compute_checks(snapshot(L20), llama_library_dir=tmp_path))
    assert (result.state, result.code) == (ComputeState.UNAVAILABLE, "ggml_version_unknown")
    assert words in result.message


def test_another_size_of_tensors_is_refused(tmp_path: Path) -> None:
    functions = "".join(
        f"void {name}(void) {{}}\n" for name in drivers.compute_ggml._FUNCTIONS if "overhead" not in name
    )
    sizes = (
        "unsigned long ggml_graph_overhead(void) { return 1; } unsigned long ggml_tensor_overhead(void) { return 400; }"
    )
    compile_library(_VERSION.format("0.25.9") + functions + sizes, tmp_path / "libggml.so.0")
    result = only(run_compute_checks(snapshot(L20), llama_library_dir=tmp_path))
    assert result.code == "ggml_version_unknown"
    assert "400 bytes" in result.message


def test_no_library(tmp_path: Path) -> None:
    result = only(run_compute_checks(snapshot(L20), llama_library_dir=tmp_path))
    assert (result.state, result.code) == (ComputeState.UNAVAILABLE, "ggml_missing")
    assert str(tmp_path) in result.message


def test_a_library_that_needs_another(tmp_path: Path) -> None:
    stub = compile_library("int present;", tmp_path / "libgomp.so.9", "-Wl,-soname,libgomp.so.9")
    source = "extern int present; int *use(void) { return &present; }"
    compile_library(source, tmp_path / "libggml.so.0", f"-L{tmp_path}", "-l:libgomp.so.9")
    stub.unlink()
    result = only(run_compute_checks(snapshot(L20), llama_library_dir=tmp_path))
    assert result.code == "ggml_unloadable"
    assert "libgomp.so.9 is not found" in result.message


@pytest.mark.parametrize(
    ("listed", "devices", "key"),
    [
        (ListedDevice("CUDA0", 1, "CUDA", address="0000:02:00.0"), (L20, SECOND), "nvidia:1"),
        (ListedDevice("CUDA1", 1, "CUDA"), (L20, SECOND), "nvidia:1"),
        (ListedDevice("CUDA1", 1, "CUDA", address="0000:09:00.0"), (L20, SECOND), None),
        (ListedDevice("CUDA2", 1, "CUDA"), (L20, SECOND), None),
        (ListedDevice("Vulkan0", 1, "Vulkan"), (L20,), None),
        (ListedDevice("Vulkan1", 1, "Vulkan", address="0000:01:00.0"), (L20,), "nvidia:0"),
        # A card in MIG mode takes no work itself; its instance has the same address.
        (
            ListedDevice("CUDA0", 1, "CUDA", address="0000:01:00.0"),
            (replace(L20, partitioned=True), replace(L20, card_id=0, chip_id=1, parent="nvidia:0")),
            "nvidia:0.1",
        ),
        # Two chips on one function: the number decides.
        (
            ListedDevice("CANN1", 1, "CANN", address="0000:81:00.0"),
            tuple(Device(Vendor.ASCEND, n, "310P3", card_id=32, chip_id=n) for n in range(2)),
            "ascend:32.1",
        ),
    ],
)
def test_which_device_a_name_is(listed: ListedDevice, devices: tuple[Device, ...], key: str | None) -> None:
    assert device_key(listed, devices) == key
