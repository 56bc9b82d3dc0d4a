"""The compute check through torch-npu: the real child and the real loader, stand-ins for torch and torch-npu."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.command import minimal_environment
from drivers.compute import ComputeResult, ComputeState
from drivers.compute_torch import Package, missing_library, package_of, torch_checks
from drivers.types import Device, HardwareSnapshot, Host, Software, Vendor
from tests.drivers.conftest import HANG_LIMITS_S
from tests.fakes.torch_npu.build import break_extension, install, link_extension

Check = Callable[..., list[ComputeResult]]

FIRST = Device(Vendor.ASCEND, 0, "Ascend 910B3", card_id=0, chip_id=0)
SECOND = Device(Vendor.ASCEND, 1, "Ascend 910B3", card_id=32, chip_id=0)
SILENT = Device(Vendor.ASCEND, None, "Ascend", pci_address="0000:81:00.0")
CANN = "usr/local/Ascend/cann/set_env.sh"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Folder with the stand-ins, for PYTHONPATH."""
    return install(tmp_path)


@pytest.fixture
def check(tmp_path: Path, site: Path) -> Check:
    """Runs the check with the stand-in doing what the word says, below a root of its own."""

    def run(
        word: str = "",
        *devices: Device,
        timeout_s: float = 60.0,
        python: str = sys.executable,
        software: tuple[Software, ...] = (),
        **environment: str,
    ) -> list[ComputeResult]:
        given = {"PYTHONPATH": str(site), "FAKE_NPU": word, "PYTHONDONTWRITEBYTECODE": "1"} | environment
        snapshot = HardwareSnapshot(Host(), devices or (FIRST,), software=software)
        return list(
            torch_checks(
                snapshot,
                python=python,
                timeout_s=timeout_s,
                environment=minimal_environment(**given),
                root=tmp_path / "root",
            )
        )

    return run


def only(results: list[ComputeResult]) -> ComputeResult:
    assert len(results) == 1, results
    return results[0]


def steps(result: ComputeResult) -> list[tuple[str, str]]:
    return [(step.name.value, step.state.value) for step in result.steps]


def put(root: Path, path: str) -> None:
    file = root / "root" / path
    file.parent.mkdir(parents=True)
    file.write_text("# sets the environment\n")


def test_every_device_passes_and_sees_itself_alone(check: Check) -> None:
    # The loader of torch-npu is switched off whatever the environment says: the stand-in fails at once otherwise.
    results = check("", FIRST, SECOND, TORCH_DEVICE_BACKEND_AUTOLOAD="1")
    assert [(one.device, one.name, one.state) for one in results] == [
        ("ascend:0.0", "npu:0", ComputeState.PASSED),
        ("ascend:32.0", "npu:1", ComputeState.PASSED),
    ]
    assert [one.steps[1].detail for one in results] == ["Ascend910B3 at 0", "Ascend910B3 at 1"]
    first = results[0]
    assert steps(first) == [(name, "passed") for name in ("import", "devices", "allocate", "matmul", "compare")]
    assert first.steps[0].detail == "torch 2.13.0+cpu, torch-npu 2.13.0"
    assert first.bytes_allocated == 2 * 2 * 1024 * 1024
    assert first.relative_error is not None
    assert 0 < first.relative_error < 0.001
    assert first.gflops is not None
    assert first.gflops > 0
    assert (first.code, first.backend) == (None, "torch-npu")


@pytest.mark.parametrize("module", ["runpy", "json", "torch_npu"])
def test_nothing_is_imported_from_the_current_folder(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    (tmp_path / f"{module}.py").write_text("raise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    assert only(check()).state is ComputeState.PASSED


def test_one_wrong_tile_on_one_device(check: Check) -> None:
    good, bad = check("wrong@1", FIRST, SECOND)
    assert good.state is ComputeState.PASSED
    assert (bad.device, bad.state, bad.code) == ("ascend:32.0", ComputeState.FAILED, "compute_wrong_result")
    assert steps(bad)[-1] == ("compare", "failed")
    # The norm alone would have let it pass.
    assert bad.relative_error is not None
    assert bad.relative_error < 0.02


def test_a_result_that_is_not_a_number(check: Check) -> None:
    result = only(check("nan"))
    assert (result.code, result.max_abs_error, result.relative_error) == ("compute_wrong_result", None, None)


def test_hang_in_the_product(check: Check) -> None:
    for limit_s in HANG_LIMITS_S:
        result = only(check("hang", timeout_s=limit_s))
        if steps(result)[-1][0] == "matmul":
            break
    assert (result.state, result.code, result.device) == (ComputeState.FAILED, "compute_timed_out", "ascend:0.0")
    assert f"gave no answer within {limit_s:g} s at the step matmul (F16)" in result.message
    assert steps(result)[-1] == ("matmul", "failed")


def test_crash_in_the_product(check: Check) -> None:
    result = only(check("crash"))
    assert (result.state, result.code) == (ComputeState.FAILED, "compute_crashed")
    assert "at the step matmul (F16) with signal 11 (SIGSEGV): the vendor's last words." in result.message
    assert result.hint is not None
    assert "ascend/log" in result.hint


def test_crash_of_the_import_is_said_once(check: Check) -> None:
    result = only(check("crash_import", FIRST, SECOND))
    assert (result.device, result.code) == (None, "compute_crashed")
    assert "at the step import with signal 11" in result.message


def test_exit_in_the_middle(check: Check) -> None:
    result = only(check("exit"))
    assert (result.state, result.code) == (ComputeState.FAILED, "compute_exited")
    assert "ended with exit code 3 at the step allocate: the runtime gives up." in result.message


def test_device_that_torch_npu_does_not_see(check: Check) -> None:
    result = only(check("no_device"))
    assert (result.state, result.code) == (ComputeState.FAILED, "torch_npu_no_device")
    assert "which counts 0" in result.message


def test_device_that_another_program_holds(check: Check) -> None:
    result = only(check("busy"))
    assert (result.state, result.code) == (ComputeState.FAILED, "torch_npu_failed")
    assert (
        "failed at the step devices: RuntimeError: SetDevice: the device is used by another process" in result.message
    )
    assert "[ERROR]" not in result.message


def test_torch_for_another_accelerator(check: Check) -> None:
    result = only(check("other_accelerator"))
    assert (result.state, result.code) == (ComputeState.UNAVAILABLE, "torch_other_accelerator")


def test_not_installed(check: Check, tmp_path: Path) -> None:
    result = only(check("", FIRST, SECOND, PYTHONPATH=str(tmp_path)))
    assert (result.state, result.code, result.device) == (ComputeState.UNAVAILABLE, "torch_npu_not_installed", None)
    assert result.hint is not None
    assert "r1box[ascend]" in result.hint


def test_no_such_python(check: Check, tmp_path: Path) -> None:
    result = only(check("", python=str(tmp_path / "python")))
    assert (result.state, result.code) == (ComputeState.UNAVAILABLE, "python_not_found")


def test_a_silent_driver_still_tells_whether_torch_npu_loads(check: Check, site: Path) -> None:
    link_extension(site, "libhccl.so")
    result = only(check("", SILENT))
    assert (result.device, result.code) == (None, "cann_library_missing")


def test_without_ascend_nothing_is_asked(check: Check) -> None:
    assert check("", Device(Vendor.NVIDIA, 0, "NVIDIA L20")) == []


def test_cann_is_missing(check: Check, site: Path) -> None:
    link_extension(site, "libhccl.so")
    result = only(check("", FIRST, SECOND))
    assert (result.state, result.code, result.device) == (ComputeState.UNAVAILABLE, "cann_library_missing", None)
    assert (
        result.message == "torch-npu 2.13.0 cannot be loaded: libhccl.so is not found. It belongs to the CANN toolkit."
    )
    assert result.hint is not None
    assert "Install the CANN toolkit and the kernels for this chip" in result.hint
    assert "source /usr/local/Ascend/cann/set_env.sh" in result.hint


def test_the_release_of_cann_is_named(check: Check, tmp_path: Path) -> None:
    site = install(tmp_path / "old", torch_version="2.9.0+cpu", torch_npu_version="2.9.0.post2")
    link_extension(site, "libascendcl.so")
    result = only(check(PYTHONPATH=str(site)))
    assert result.hint is not None
    assert "CANN 9.0.0" in result.hint


def test_cann_is_there_but_its_environment_is_not_set(check: Check, site: Path, tmp_path: Path) -> None:
    link_extension(site, "libge_runner.so")
    put(tmp_path, CANN)
    result = only(check())
    assert result.hint == (
        "CANN is installed, but its environment is not set: run `source /usr/local/Ascend/cann/set_env.sh`, then this "
        "check again."
    )


def test_cann_in_a_folder_of_its_own(check: Check, site: Path, tmp_path: Path) -> None:
    link_extension(site, "libhccl.so")
    put(tmp_path, "opt/cann-8.5.0/set_env.sh")
    found = Software("cann", "8.5.0", "/opt/cann-8.5.0/aarch64-linux/ascend_toolkit_install.info")
    result = only(check(software=(found,)))
    assert result.hint is not None
    assert "source /opt/cann-8.5.0/set_env.sh" in result.hint


def test_half_of_cann(check: Check, site: Path, tmp_path: Path) -> None:
    link_extension(site, "libhccl.so")
    result = only(check(ASCEND_HOME_PATH=str(tmp_path), ASCEND_OPP_PATH=str(tmp_path)))
    assert result.hint is not None
    assert f"ASCEND_HOME_PATH is {tmp_path}, but the loader finds no libhccl.so there" in result.hint


def test_variables_of_a_cann_that_is_gone(check: Check, site: Path, tmp_path: Path) -> None:
    link_extension(site, "libhccl.so")
    result = only(check(ASCEND_HOME_PATH=str(tmp_path / "gone")))
    assert result.hint is not None
    assert f"ASCEND_HOME_PATH is {tmp_path / 'gone'}, which does not exist" in result.hint


@pytest.mark.parametrize("opp", [None, "gone"])
def test_operators_are_not_found(check: Check, tmp_path: Path, opp: str | None) -> None:
    variables = {"ASCEND_HOME_PATH": str(tmp_path)} | ({} if opp is None else {"ASCEND_OPP_PATH": str(tmp_path / opp)})
    result = only(check("busy", **variables))
    assert (result.state, result.code) == (ComputeState.UNAVAILABLE, "cann_environment_wrong")
    assert "ASCEND_OPP_PATH" in result.message


def test_library_of_the_driver(check: Check, site: Path, tmp_path: Path) -> None:
    link_extension(site, "libascend_hal.so")
    result = only(check())
    assert (result.state, result.code) == (ComputeState.UNAVAILABLE, "ascend_driver_library_missing")
    assert "It belongs to the Ascend driver." in result.message
    assert result.hint is not None
    assert "Install the Ascend driver" in result.hint
    put(tmp_path, "usr/local/Ascend/driver/lib64/driver/libascend_hal.so")
    hint = only(check()).hint
    assert hint is not None
    assert "export LD_LIBRARY_PATH=/usr/local/Ascend/driver/lib64/driver:" in hint


def test_library_of_nnal(check: Check, site: Path, tmp_path: Path) -> None:
    link_extension(site, "libatb.so")
    hint = only(check()).hint
    assert hint is not None
    assert hint.startswith("Install NNAL")
    put(tmp_path, "usr/local/Ascend/nnal/atb/set_env.sh")
    hint = only(check()).hint
    assert hint is not None
    assert hint.startswith("NNAL is installed")


def test_library_of_the_system(check: Check, site: Path) -> None:
    link_extension(site, "libgomp.so.9")
    result = only(check())
    assert result.code == "library_missing"
    assert result.hint == "Install the system's package that holds libgomp.so.9."


def test_torch_of_another_number(check: Check, tmp_path: Path) -> None:
    site = install(tmp_path / "mixed", torch_version="2.12.0+cpu")
    break_extension(site, "c10_function_of_another_release")
    result = only(check(PYTHONPATH=str(site)))
    assert (result.state, result.code) == (ComputeState.UNAVAILABLE, "torch_npu_mismatch")
    assert "c10_function_of_another_release" in result.message
    assert result.hint == "Install the torch of the same number as torch-npu 2.13.0."


def test_cann_of_another_release(check: Check, tmp_path: Path) -> None:
    site = install(tmp_path / "mixed", torch_version="2.9.0+cpu", torch_npu_version="2.9.0")
    break_extension(site, "aclFunctionOfAnotherRelease")
    result = only(check(PYTHONPATH=str(site)))
    assert result.code == "torch_npu_mismatch"
    assert result.hint is not None
    assert "CANN 8.5.0" in result.hint


@pytest.mark.parametrize(
    ("library", "package"),
    [
        # What the libraries of torch-npu 2.13.0 are linked against or open by name.
        *((f"lib{name}.so", Package.TOOLKIT) for name in ("hccl", "ascendcl", "acl_op_compiler", "ge_runner", "graph")),
        *((f"lib{name}.so", Package.TOOLKIT) for name in ("acl_tdt_channel", "runtime")),
        *((f"lib{name}.so", Package.OPERATORS) for name in ("opapi", "aclnn_math", "aclnn_ops_infer", "cust_opapi")),
        *((f"lib{name}.so", Package.NNAL) for name in ("atb", "asdsip")),
        *((f"lib{name}.so", Package.DRIVER) for name in ("ascend_hal", "c_sec", "drvdsmi_host")),
        *((f"lib{name}", Package.OTHER) for name in ("gomp.so.1", "stdc++.so.6", "torch_cpu.so", "hccl_like")),
    ],
)
def test_which_package_brings_a_library(library: str, package: Package) -> None:
    assert package_of(library) is package
    assert package_of(f"/some/folder/{library}") is package


@pytest.mark.parametrize(
    ("text", "library"),
    [
        ("ImportError: libhccl.so: cannot open shared object file: No such file or directory", "libhccl.so"),
        ("OSError: /opt/x/libatb.so.1: cannot open shared object file: Permission denied", "libatb.so.1"),
        ("x.bin: error while loading shared libraries: liba-b.so: cannot open shared object file", "liba-b.so"),
        ("libhccl.so is fine", None),
    ],
)
def test_the_loaders_words(text: str, library: str | None) -> None:
    assert missing_library(text) == library
