"""What is installed, read from real files: distributions as pip writes them, and a library that gcc linked."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.software import llama_folders, read_llama_cuda, read_python


def install(folder: Path, name: str, version: str | None) -> None:
    """A distribution's metadata as an installer leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", *([] if version is None else [f"Version: {version}"])]
    (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")


def names(folder: Path) -> dict[str, str]:
    return {one.name: one.version for one in read_python(folder)}


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    folder = tmp_path / "lib" / "python3.11" / "site-packages"
    folder.mkdir(parents=True)
    return folder


def test_another_environment_is_read_from_its_folder(site_packages: Path) -> None:
    for name, version in (
        ("torch", "2.9.0"),
        ("torch_npu", "2.9.0.post2"),
        ("VLLM", "0.18.0"),
        ("vllm-ascend", "0.18.0"),
    ):
        install(site_packages, name, version)
    install(site_packages, "numpy", "2.0.0")
    assert names(site_packages) == {
        "python": "3.11",
        "torch": "2.9.0",
        "torch-npu": "2.9.0.post2",
        "vllm": "0.18.0",
        "vllm-ascend": "0.18.0",
    }


def test_nothing_is_imported(site_packages: Path) -> None:
    install(site_packages, "torch", "2.9.0")
    package = site_packages / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemError('imported')", encoding="utf-8")
    before = set(sys.modules)
    assert names(site_packages)["torch"] == "2.9.0"
    assert "torch" not in set(sys.modules) - before


@pytest.mark.parametrize(
    ("torch", "runtime", "cuda"),
    [
        ("2.5.1+cu121", None, "12.1"),
        ("2.9.0+cu130", ("nvidia-cuda-runtime", "13.0.48"), "13.0"),
        ("2.7.1", ("nvidia-cuda-runtime-cu12", "12.6.77"), "12.6.77"),
        ("2.7.1+cpu", ("nvidia-cuda-runtime-cu12", "12.6.77"), None),
        ("2.7.1", None, None),
    ],
)
def test_the_cuda_that_torch_was_built_for(
    site_packages: Path, torch: str, runtime: tuple[str, str] | None, cuda: str | None
) -> None:
    install(site_packages, "torch", torch)
    if runtime is not None:
        install(site_packages, *runtime)
    assert names(site_packages).get("torch-cuda") == cuda


def test_remains_of_a_package_are_passed_over(site_packages: Path) -> None:
    install(site_packages, "vllm", None)
    (site_packages / "torch-2.9.0.dist-info").mkdir()
    install(site_packages, "torch-npu", "2.9.0")
    assert names(site_packages) == {"python": "3.11", "torch-npu": "2.9.0"}


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert read_python(tmp_path / "gone") == ()
    assert llama_folders(tmp_path / "gone") == ()


def test_this_program_itself() -> None:
    found = {one.name: one for one in read_python()}
    assert found["python"].version == platform.python_version()
    assert found["llama-cpp-python"].version
    folder = llama_folders()[0]
    assert list(folder.glob("libllama.so*"))


def link(folder: Path, runtime: str | None) -> Path:
    """``libggml-cuda.so`` that needs the CUDA runtime of that name, as the linker makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = []
    if runtime is not None:
        stub = folder / "stub.so"
        subprocess.run(
            ["gcc", "-shared", "-nostdlib", f"-Wl,-soname,{runtime}", "-x", "c", "/dev/null", "-o", stub], check=True
        )
        arguments = ["-Wl,--no-as-needed", str(stub)]
    library = folder / "libggml-cuda.so"
    subprocess.run(
        ["gcc", "-shared", "-nostdlib", "-x", "c", "/dev/null", "-o", library, "-x", "none", *arguments], check=True
    )
    return library


@pytest.mark.parametrize(
    ("runtime", "version"), [("libcudart.so.12", "12"), ("libcudart.so.11.0", "11.0"), (None, None)]
)
def test_the_cuda_that_llama_cpp_was_linked_with(tmp_path: Path, runtime: str | None, version: str | None) -> None:
    library = link(tmp_path / "lib", runtime)
    found = read_llama_cuda([tmp_path / "none", tmp_path / "lib"])
    assert (None if found is None else found.version) == version
    if found is not None:
        assert (found.name, found.path) == ("llama-cpp-cuda", str(library))


def test_an_empty_library_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "libggml-cuda.so").touch()
    assert read_llama_cuda([tmp_path]) is None


def test_the_folders_of_an_installed_llama_cpp(site_packages: Path) -> None:
    install(site_packages, "llama_cpp_python", "0.3.36")
    link(site_packages / "lib", "libcudart.so.12")
    found = read_llama_cuda(llama_folders(site_packages))
    assert found is not None
    assert found.version == "12"
