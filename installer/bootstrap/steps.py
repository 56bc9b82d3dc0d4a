"""Every step's argument vector, computed without running anything.

Nothing is taken that the repository does not name with a hash: pip installs the pinned uv, uv installs the rest, and
what builds packages from source is pinned with hashes too. The project itself is installed in place, without asking for
its dependencies again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NATIVE_PACKAGE = "llama-cpp-python"
_BUILD_VARIABLES = ("CMAKE_ARGS", "CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CUDACXX", "CUDAARCHS", "CUDAHOSTCXX")
"""What the user may set to shape the native build."""

_PACKAGES = ("appliance", "drivers", "installer", "models", "tui", "systemd")
_PREVIEW = ("--preview-features", "build-dependency-hashes")


@dataclass(frozen=True, slots=True)
class Tree:
    """Where the source tree and its environment are."""

    root: Path
    venv: Path

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def uv(self) -> Path:
        return self.venv / "bin" / "uv"

    def requirements(self, name: str) -> Path:
        return self.root / "requirements" / f"{name}.txt"

    def pinned_files(self) -> list[Path]:
        """Everything that decides what is in the environment."""
        names = ("bootstrap", "build", "demo", "dev", "run")
        return [*(self.requirements(name) for name in names), self.root / "pyproject.toml"]

    def project_files(self) -> list[Path]:
        """Everything that goes into the project's own package, in order."""
        found = [self.root / name for name in ("pyproject.toml", "README.md", "LICENSE")]
        for package in _PACKAGES:
            below = (path for path in (self.root / package).rglob("*") if path.is_file())
            found += sorted(path for path in below if "__pycache__" not in path.parts)
        return found


def build_key(environ: Mapping[str, str], processor_features: str) -> str:
    """A short name for everything outside the repository that shapes the native build.

    uv keeps one built wheel per set of build settings but looks neither at environment variables nor at the processor,
    so the key is handed to the build as a setting: a CUDA build never takes the CPU build's wheel, changing back costs
    nothing, and a home folder shared by different machines holds one wheel for each kind of processor.
    """
    lines = [f"{name}={environ[name].strip()}" for name in _BUILD_VARIABLES if environ.get(name, "").strip()]
    return hashlib.sha256("\n".join([processor_features, *lines]).encode()).hexdigest()[:12]


def make_venv(tree: Tree, python: str, clear: bool) -> list[str]:
    return [python, "-m", "venv", *(["--clear"] if clear else []), str(tree.venv)]


def install_uv(tree: Tree) -> list[str]:
    pip = [str(tree.python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    return [*pip, "install", "--require-hashes", "--only-binary", "uv", "-r", str(tree.requirements("bootstrap"))]


def list_pip_config(tree: Tree) -> list[str]:
    return [str(tree.python), "-m", "pip", "--disable-pip-version-check", "config", "list"]


def _uv_pip(tree: Tree, command: str, flags: tuple[str, ...]) -> list[str]:
    uv = [str(tree.uv), "--verbose", "--color", "never", "--no-python-downloads", *_PREVIEW, "pip", command]
    hashes = ["--require-build-hashes", "--build-constraints", str(tree.requirements("build"))]
    return [*uv, "--python", str(tree.python), *hashes, *flags]


def remove_native(tree: Tree) -> list[str]:
    """Take the native package out, so that the next step puts in the one with the right key.

    Not `--reinstall-package`: that makes uv forget the wheels it has built, and every new clone would compile again.
    """
    return [str(tree.uv), "--color", "never", "pip", "uninstall", "--python", str(tree.python), NATIVE_PACKAGE]


def install_packages(tree: Tree, level: str, flags: tuple[str, ...], key: str) -> list[str]:
    """Make the environment hold exactly the pinned packages of `level` and the demo model, nothing else."""
    argv = [*_uv_pip(tree, "sync", flags), "--require-hashes"]
    argv += ["--config-settings-package", f"{NATIVE_PACKAGE}:cmake.define.R1BOX_BUILD_KEY={key}"]
    return [*argv, *(str(tree.requirements(name)) for name in (level, "demo", "bootstrap"))]


def install_project(tree: Tree, flags: tuple[str, ...], as_wheel: bool = False) -> list[str]:
    """As a package it is built anew every time: its version says nothing about its contents."""
    how = ["--reinstall-package", "r1box"] if as_wheel else ["--editable"]
    return [*_uv_pip(tree, "install", flags), "--no-deps", *how, str(tree.root)]


def check_native(tree: Tree) -> list[str]:
    """Load the freshly built library once: a broken compiler set-up shows now, not at the first request."""
    return [str(tree.python), "-c", "import llama_cpp; llama_cpp.llama_backend_init()"]
