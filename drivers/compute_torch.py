"""The torch-npu check of Ascend devices: how its child is run, and what its problems mean in words.

The loader names the library it misses; which package brings that library and what has to be done, is said here.
Sources: the libraries that torch-npu 2.13.0's own are linked against (``readelf -d``), its module_loader.py and
registry_manager.py, the install scripts of the Ascend driver (hicann/driver), vllm-ascend #152 (nnal).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from drivers.compute_reading import Facts, Outcome, Problem, Reading, Subject, Words, first_line, judge, run_child
from drivers.compute_types import TORCH_NPU, ComputeResult, ComputeState, StepName
from drivers.requirements import check, described, load_requirements
from drivers.types import Device, HardwareSnapshot, Software, Vendor

_BOOT = (
    "import sys; sys.path = [entry for entry in sys.path if entry]; import runpy; sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
"""Runs the child without its folder on the path (our ``types.py`` lies there) and without the current folder. An
isolated interpreter (``-I``) would do so too, but CANN compiles kernels in Python and is found by PYTHONPATH."""

_MISSING_LIBRARY = re.compile(r"(?P<file>[^\s:'\"]+\.so[\w.]*): cannot open shared object file")
_UNDEFINED_SYMBOL = re.compile(r"undefined symbol: (?P<symbol>\S+)")
_ASCEND = "/usr/local/Ascend"
_DRIVER_FOLDERS = (f"{_ASCEND}/driver/lib64/driver", f"{_ASCEND}/driver/lib64/common", f"{_ASCEND}/driver/lib64")
_CANN_SCRIPTS = (f"{_ASCEND}/cann/set_env.sh", f"{_ASCEND}/ascend-toolkit/set_env.sh")
"""CANN 8.5 brought the folder ``cann``."""
_NNAL_SCRIPT = f"{_ASCEND}/nnal/atb/set_env.sh"


_CRASH_HINT = (
    "Read the logs in ~/ascend/log and the kernel's (journalctl -k), then r1box doctor. Often another program holds "
    "the device, or driver, firmware and CANN do not go together."
)


class Package(StrEnum):
    """What brings a library."""

    TOOLKIT = "the CANN toolkit"
    OPERATORS = "CANN's operators (the package of kernels for this chip; in older releases the toolkit)"
    NNAL = "CANN's NNAL package"
    DRIVER = "the Ascend driver"
    OTHER = "neither CANN nor the Ascend driver"


_PACKAGES: tuple[tuple[re.Pattern[str], Package], ...] = (
    (re.compile(r"lib(ascend_hal|drv\w*|dcmi|c_sec)\.so"), Package.DRIVER),
    (re.compile(r"lib(atb\w*|asdsip\w*|asdops\w*|mki\w*|tbe_adapter)\.so"), Package.NNAL),
    (re.compile(r"lib(opapi\w*|aclnn_\w*|cust_opapi)\.so"), Package.OPERATORS),
    (
        re.compile(
            r"lib(hccl\w*|ascendcl\w*|acl_\w*|ge_\w*|graph\w*|runtime\w*|register|error_manager|metadef|lowering"
            r"|exe_graph|nnopbase|msprof\w*|profapi\w*|platform|opp_registry|te_fusion|aicpu\w*|ascend\w*)\.so"
        ),
        Package.TOOLKIT,
    ),
)


def package_of(library: str) -> Package:
    """Which package brings the library of that file name."""
    name = library.rpartition("/")[2]
    return next((package for pattern, package in _PACKAGES if pattern.match(name)), Package.OTHER)


def missing_library(text: str) -> str | None:
    """File name of the library that the loader says it misses."""
    found = _MISSING_LIBRARY.search(text)
    return found["file"].rpartition("/")[2] if found else None


def torch_argv(python: Path | str, device: int, size: int | None = None) -> list[str]:
    """How to run the child with the given Python on the device of that number. The one place that knows its file."""
    child = str(Path(__file__).with_name("compute_torch_npu.py"))
    argv = [str(python), "-c", _BOOT, child, "--device", str(device)]
    return argv if size is None else [*argv, "--size", str(size)]


def torch_checks(
    snapshot: HardwareSnapshot,
    *,
    python: Path | str,
    timeout_s: float,
    environment: Mapping[str, str],
    root: Path,
    size: int | None = None,
) -> Iterator[ComputeResult]:
    """Check every Ascend device that has an index, one child each; stop when not even the import came to an end.

    A child is shown its own device alone, so that a check takes memory nowhere else. With Ascend devices none of which
    has an index (the driver does not answer) one child still tells whether torch-npu can be loaded.
    """
    devices = [device for device in snapshot.devices if device.vendor == Vendor.ASCEND]
    numbered = [device for device in devices if device.index is not None]
    for device in numbered or devices[:1]:
        shown = {} if device.index is None else {"ASCEND_RT_VISIBLE_DEVICES": str(device.index)}
        outcome = run_child(torch_argv(python, 0, size), timeout_s=timeout_s, environment={**environment, **shown})
        imported = any(step.name is StepName.IMPORT for step in outcome.reading.steps)
        yield _result(outcome, device if imported else None, str(python), snapshot, root)
        if not imported:
            return


def _result(
    outcome: Outcome, device: Device | None, python: str, snapshot: HardwareSnapshot, root: Path
) -> ComputeResult:
    known = device is not None and device.index is not None
    name = f"npu:{device.index}" if device is not None and known else None
    subject = Subject(
        backend=TORCH_NPU,
        label=f"torch-npu on {device.key} ({device.name})" if device is not None else "torch-npu",
        crash_hint=_CRASH_HINT,
        device=device.key if device is not None and known else None,
        name=name,
    )
    explain = _Explain(outcome.reading, subject, python, snapshot.software, root)
    return judge(outcome, subject, explain.words)


@dataclass(frozen=True, slots=True)
class _Explain:
    """The words for a problem that the child reported."""

    reading: Reading
    subject: Subject
    python: str
    software: tuple[Software, ...]
    root: Path

    def words(self, problem: Problem) -> Words:
        if problem.code in ("torch_not_installed", "torch_npu_not_installed"):
            name = "torch" if problem.code == "torch_not_installed" else "torch-npu"
            hint = (
                "Install r1box's extra ascend (pip install 'r1box[ascend]'), or name the Python that has torch-npu. "
                "r1box serves through llama.cpp without it."
            )
            message = f"{name} is not installed in {self.python}."
            return Words(ComputeState.UNAVAILABLE, "torch_npu_not_installed", message, hint)
        if problem.code == "no_such_device":
            message = (
                f"{self.subject.label}: the driver's device is not seen by torch-npu, which counts {problem.text}."
            )
            hint = "r1box doctor shows whether this user may open /dev/davinci* and /dev/davinci_manager."
            return Words(ComputeState.FAILED, "torch_npu_no_device", message, hint)
        if (library := missing_library(problem.text)) is not None:
            return self._missing(library)
        if wrong := self._environment():
            return wrong
        if "Two accelerators cannot be used" in problem.text:
            message = f"{self._torch_npu} refuses the torch beside it, which is built for another accelerator."
            hint = "Install the CPU build of torch in the Python that holds torch-npu."
            return Words(ComputeState.UNAVAILABLE, "torch_other_accelerator", message, hint)
        if (symbol := _UNDEFINED_SYMBOL.search(problem.text)) is not None:
            return self._mismatch(symbol["symbol"])
        step = self.reading.open_step.name.value if self.reading.open_step else "import"
        message = f"{self.subject.label} failed at the step {step}: {first_line(problem.text).rstrip('.')}."
        return Words(ComputeState.FAILED, "torch_npu_failed", message, self.subject.crash_hint)

    @property
    def _facts(self) -> Facts:
        return self.reading.facts or Facts(python=self.python)

    @property
    def _torch_npu(self) -> str:
        return f"torch-npu {self._facts.torch_npu}" if self._facts.torch_npu else "torch-npu"

    def _missing(self, library: str) -> Words:
        package = package_of(library)
        verb = "belongs to" if package is not Package.OTHER else "is part of"
        message = f"{self._torch_npu} cannot be loaded: {library} is not found. It {verb} {package.value}."
        code, hint = "cann_library_missing", ""
        match package:
            case Package.DRIVER:
                code, hint = "ascend_driver_library_missing", self._driver_hint(library)
            case Package.NNAL:
                hint = self._nnal_hint()
            case Package.OTHER:
                code, hint = "library_missing", f"Install the system's package that holds {library}."
            case _:
                hint = self._cann_hint(library)
        return Words(ComputeState.UNAVAILABLE, code, message, hint)

    def _cann_hint(self, library: str) -> str:
        if wrong := self._environment():
            return f"{wrong.message} {wrong.hint}"
        script = self._cann_script()
        if self._facts.home.value:
            again = f"source {script}" if script else "source CANN's set_env.sh"
            return (
                f"ASCEND_HOME_PATH is {self._facts.home.value}, but the loader finds no {library} there: run `{again}` "
                f"again, and if that does not help install CANN again ({self._release()})."
            )
        if script:
            return f"CANN is installed, but its environment is not set: run `source {script}`, then this check again."
        return (
            f"Install the CANN toolkit and the kernels for this chip ({self._release()}), run "
            f"`source {_CANN_SCRIPTS[0]}` (before CANN 8.5: {_CANN_SCRIPTS[1]}), then this check again."
        )

    def _driver_hint(self, library: str) -> str:
        there = any((self.root / folder.lstrip("/") / library).exists() for folder in _DRIVER_FOLDERS)
        if there:
            folders = ":".join(_DRIVER_FOLDERS)
            return f"The driver is installed: run `export LD_LIBRARY_PATH={folders}:$LD_LIBRARY_PATH`, then this again."
        return (
            f"Install the Ascend driver; in a container mount {_ASCEND}/driver from the host. r1box doctor says more."
        )

    def _nnal_hint(self) -> str:
        if (self.root / _NNAL_SCRIPT.lstrip("/")).is_file():
            return f"NNAL is installed, but its environment is not set: run `source {_NNAL_SCRIPT}`, then this again."
        return f"Install NNAL in CANN's release ({self._release()}), run `source {_NNAL_SCRIPT}`, then this again."

    def _environment(self) -> Words | None:
        """CANN's variables that name what is not there (torch-npu refuses to start then)."""
        facts = self._facts
        script = self._cann_script()
        hint = f"Run `source {script or _CANN_SCRIPTS[0]}` in a new shell, then this check again."
        for variable, fact in (("ASCEND_HOME_PATH", facts.home), ("ASCEND_OPP_PATH", facts.opp)):
            if fact.value and not fact.exists:
                message = f"{variable} is {first_line(fact.value)}, which does not exist."
                return Words(ComputeState.UNAVAILABLE, "cann_environment_wrong", message, hint)
        if facts.home.value and not facts.opp.value:
            message = "ASCEND_HOME_PATH is set but ASCEND_OPP_PATH is not: CANN's operators are not found."
            return Words(ComputeState.UNAVAILABLE, "cann_environment_wrong", message, hint)
        return None

    def _mismatch(self, symbol: str) -> Words:
        facts = self._facts
        message = f"{self._torch_npu} cannot be loaded: the symbol {symbol} is in none of its libraries."
        torch_version, own = (version or "" for version in (facts.torch, facts.torch_npu))
        if torch_version.split(".")[:2] != own.split(".")[:2]:
            message += f" The torch beside it is {torch_version}."
            hint = f"Install the torch of the same number as torch-npu {own}."
        else:
            hint = f"Install the CANN that goes with this torch-npu ({self._release()})."
        return Words(ComputeState.UNAVAILABLE, "torch_npu_mismatch", message, hint)

    def _cann_script(self) -> str | None:
        """CANN's set_env.sh on this machine."""
        beside = [
            str(folder / "set_env.sh")
            for software in self.software
            if software.name == "cann" and software.path
            for folder in Path(software.path).parents
        ]
        return next((path for path in (*beside, *_CANN_SCRIPTS) if (self.root / path.lstrip("/")).is_file()), None)

    def _release(self) -> str:
        """The CANN that goes with this torch-npu, in words."""
        if version := self._facts.torch_npu:
            for result in check((Software(TORCH_NPU, version),), load_requirements(), vendors=[Vendor.ASCEND]):
                if result.needs == "cann" and result.accepted:
                    return f"CANN {described(result.accepted)}"
        return f"for the CANN release of {self._torch_npu} see COMPATIBILITY.en.md of Ascend/pytorch"
