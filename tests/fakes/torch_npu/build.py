"""Installs the stand-ins for torch and torch-npu into a folder, with real shared libraries where a test wants them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_SITE = Path(__file__).with_name("site")


def install(folder: Path, *, torch_version: str = "2.13.0+cpu", torch_npu_version: str = "2.13.0") -> Path:
    """Copy both packages with their metadata; returns the folder for PYTHONPATH."""
    site = folder / "site"
    shutil.copytree(_SITE, site, ignore=shutil.ignore_patterns("__pycache__"))
    for name, version in (("torch", torch_version), ("torch_npu", torch_npu_version)):
        metadata = site / f"{name}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n")
    return site


def link_extension(site: Path, library: str) -> None:
    """Give torch_npu a binary part that is linked against ``library`` (``libhccl.so``), which is then deleted."""
    package = site / "torch_npu"
    stub = package / library
    _compile("int present;", stub, f"-Wl,-soname,{library}")
    _compile(
        "extern int present; int *use(void) { return &present; }", package / "_C.so", f"-L{package}", f"-l:{library}"
    )
    stub.unlink()


def break_extension(site: Path, symbol: str) -> None:
    """Give torch_npu a binary part that needs a function which no library has."""
    source = f"extern int {symbol}(void); int use(void) {{ return {symbol}(); }}"
    _compile(source, site / "torch_npu" / "_C.so", "-Wl,-z,now")


def _compile(source: str, output: Path, *flags: str) -> None:
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-x", "none", "-o", str(output), *flags]
    subprocess.run(command, input=source.encode(), check=True, timeout=60)
