"""Child process that makes one Ascend device compute a matrix product through torch-npu and prints each step.

It is run by path (see ``drivers.compute_torch.torch_argv``) by whatever Python holds torch-npu, 3.9 and later, and
imports nothing of ours: torch-npu opens a context on the device, takes its memory, and may hang or crash. It is a
self-test on request and never a means of monitoring. Lines are printed as soon as they are known, one JSON object
each; nothing is judged here.

    {"kind": "facts", "python": str, "torch": str | null, "torch_npu": str | null, "home": str | null, ...}
    {"kind": "begin", "name": "import" | "devices" | "allocate" | "matmul" | "compare", "format": str | null}
    {"kind": "step", "name": str, "format": str | null, "seconds": float, ...what drivers.compute_reading.Step holds}
    {"kind": "problem", "code": str, "text": str}
    {"kind": "end"}

The product is F16 on the device, from values between -1 and 1 made with a fixed seed, and F32 on the processor.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

DEFAULT_SIZE = 1024
"""Rows and columns of the square matrices: 2 MiB each in F16."""
SEED = 20260901
MEASURED_S = 0.2
MOST_RUNS = 50


class NotPossibleError(Exception):
    """The check ends here: ``code`` for the parent, which has the words."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(text)
        self.code = code


class Lines:
    """Writes the records to the parent. Whatever a library prints goes to standard error instead."""

    def __init__(self) -> None:
        self._out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def say(self, kind: str, **fields: Any) -> None:
        """One record, flushed: the next call may never come back."""
        self._out.write(json.dumps({"kind": kind, **fields}) + "\n")
        self._out.flush()

    @contextlib.contextmanager
    def step(self, name: str, number_format: str | None = None) -> Iterator[dict[str, Any]]:
        """Announce a step, time it, and print it with the fields put into the yielded dict."""
        self.say("begin", name=name, format=number_format)
        started = time.monotonic()
        fields: dict[str, Any] = {}
        yield fields
        self.say("step", name=name, format=number_format, seconds=time.monotonic() - started, **fields)


def version_of(distribution: str) -> str | None:
    """Version of an installed distribution, read without importing it."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def path_fact(variable: str) -> dict[str, Any]:
    """What an environment variable of CANN names, and whether it is there."""
    value = os.environ.get(variable)
    return {"value": value, "exists": value is not None and Path(value).exists()}


def say_facts(lines: Lines) -> None:
    """Versions and CANN's variables, before anything is imported: the import may end this process."""
    lines.say(
        "facts",
        python=sys.executable,
        torch=version_of("torch"),
        torch_npu=version_of("torch-npu"),
        home=path_fact("ASCEND_HOME_PATH"),
        opp=path_fact("ASCEND_OPP_PATH"),
    )


def load(lines: Lines) -> Any:
    """Import torch, then torch-npu; returns torch. Raises NotPossibleError and whatever the import raises."""
    with lines.step("import") as fields:
        for module in ("torch_npu", "torch"):
            if importlib.util.find_spec(module) is None:
                raise NotPossibleError(f"{module}_not_installed")
        # "import torch" alone loads torch-npu through its entry point (torch 2.5 and later) and then hides the
        # loader's words behind a general error. Set here, so that it holds whatever environment we were given.
        os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
        torch = importlib.import_module("torch")
        torch_npu = importlib.import_module("torch_npu")
        fields["detail"] = f"torch {torch.__version__}, torch-npu {torch_npu.__version__}"
        # Not in every release, and not in every CANN: only for the reader.
        with contextlib.suppress(ImportError, AttributeError, RuntimeError):
            version = importlib.import_module("torch_npu.npu.utils").get_cann_version()
            fields["detail"] += f", CANN {version}" if version else ""
    return torch


def check(lines: Lines, device: int, size: int) -> None:
    """All steps on the device of that number, as torch-npu counts. Raises what torch raises."""
    torch = load(lines)
    with lines.step("devices") as fields:
        count = torch.npu.device_count()
        if device >= count:
            raise NotPossibleError("no_such_device", str(count))
        torch.npu.set_device(device)
        fields["detail"] = str(torch.npu.get_device_name(device))
    generator = torch.Generator().manual_seed(SEED)
    left, right = ((torch.rand(size, size, generator=generator) * 2 - 1).half() for _ in range(2))
    with lines.step("allocate") as fields:
        there_left, there_right = left.to(f"npu:{device}"), right.to(f"npu:{device}")
        torch.npu.synchronize()
        fields["bytes_allocated"] = int(torch.npu.memory_allocated(device))
    with lines.step("matmul", "F16") as fields:
        product = torch.matmul(there_left, there_right)
        torch.npu.synchronize()
        best_s = math.inf
        until = time.monotonic() + MEASURED_S
        for _ in range(MOST_RUNS):
            started = time.monotonic()
            product = torch.matmul(there_left, there_right)
            torch.npu.synchronize()
            best_s = min(best_s, time.monotonic() - started)
            if time.monotonic() >= until:
                break
        fields["gflops"] = 2 * size**3 / best_s / 1e9 if best_s > 0 else None
        fields["detail"] = f"{size} x {size} x {size}"
    with lines.step("compare", "F16") as fields:
        reference = torch.matmul(left.float(), right.float())
        difference = product.cpu().float() - reference
        norm = float(reference.norm().item())
        largest, relative = float(difference.abs().max().item()), float(difference.norm().item()) / norm
        # JSON has no NaN: a result that is not a number has no error either.
        fields["max_abs_error"] = largest if math.isfinite(largest) else None
        fields["relative_error"] = relative if math.isfinite(relative) else None
        fields["reference_rms"] = norm / size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--size", type=int, default=DEFAULT_SIZE)
    options = parser.parse_args()
    lines = Lines()
    say_facts(lines)
    try:
        check(lines, options.device, options.size)
    except NotPossibleError as problem:
        lines.say("problem", code=problem.code, text=str(problem))
    except Exception as error:  # noqa: BLE001 - the top of the child: passed on to the parent, which reports it
        lines.say("problem", code="exception", text=f"{type(error).__name__}: {error}"[:4000])
    lines.say("end")
    # Not through the interpreter's end: libraries that crash while they are unloaded would spoil a check that is done.
    os._exit(0)


if __name__ == "__main__":
    main()
