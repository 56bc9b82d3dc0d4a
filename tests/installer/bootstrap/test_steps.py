"""The argument vectors: everything with hashes, in this environment alone."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from installer.bootstrap import steps

TREE = steps.Tree(Path("/src"), Path("/src/.venv"))


def test_nothing_is_installed_without_hashes() -> None:
    assert "--require-hashes" in steps.install_uv(TREE)
    packages = steps.install_packages(TREE, "run", (), "k")
    assert "--require-hashes" in packages
    for argv in (packages, steps.install_project(TREE, ())):
        assert "--require-build-hashes" in argv
        assert argv[argv.index("--build-constraints") + 1] == "/src/requirements/build.txt"


def test_everything_goes_into_this_environment() -> None:
    for argv in (steps.install_packages(TREE, "dev", (), "k"), steps.install_project(TREE, ())):
        assert argv[0] == "/src/.venv/bin/uv"
        assert argv[argv.index("--python") + 1] == "/src/.venv/bin/python"


@pytest.mark.parametrize("level", ["run", "dev"])
def test_packages_are_one_level_the_demo_and_uv(level: str) -> None:
    argv = steps.install_packages(TREE, level, ("--no-index",), "k")
    assert argv[-3:] == [f"/src/requirements/{name}.txt" for name in (level, "demo", "bootstrap")]
    assert "--no-index" in argv


def test_the_native_build_is_kept_apart_by_its_key() -> None:
    argv = steps.install_packages(TREE, "run", (), "abc123")
    setting = argv[argv.index("--config-settings-package") + 1]
    assert setting == "llama-cpp-python:cmake.define.R1BOX_BUILD_KEY=abc123"
    # "Reinstall" would throw away the wheels that were built: seen with uv 0.13.9.
    assert not [word for word in argv if word.startswith(("--reinstall", "--refresh"))]
    assert steps.remove_native(TREE)[-1] == "llama-cpp-python"


def test_the_project_is_installed_in_place_without_asking_for_its_dependencies() -> None:
    argv = steps.install_project(TREE, ())
    assert argv[-3:] == ["--no-deps", "--editable", "/src"]


def test_as_a_package_it_is_built_anew_and_needs_no_tree() -> None:
    argv = steps.install_project(TREE, ("--no-index",), as_wheel=True)
    assert "--editable" not in argv
    assert "--no-index" in argv
    assert argv[-4:] == ["--no-deps", "--reinstall-package", "r1box", "/src"]


def test_the_projects_files_are_what_its_package_is_made_of(tmp_path: Path) -> None:
    for name in ("appliance/cli/a.py", "appliance/__pycache__/a.pyc", "systemd/x.service", "tests/t.py", "docs/d.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in steps.Tree(tmp_path, tmp_path / "v").project_files()]
    assert found == ["pyproject.toml", "README.md", "LICENSE", "appliance/cli/a.py", "systemd/x.service"]


def test_every_package_of_the_project_counts_as_its_file() -> None:
    root = Path(__file__).resolve().parents[3]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    files = {path.relative_to(root).parts[0] for path in steps.Tree(root, root / ".venv").project_files()}
    assert set(project["targets"]["wheel"]["packages"]) <= files


def test_the_build_key_follows_what_shapes_the_build() -> None:
    plain = steps.build_key({"HOME": "/home/r1box", "CMAKE_ARGS": " "}, "avx2 fma")
    assert plain == steps.build_key({}, "avx2 fma")
    cuda = steps.build_key({"CMAKE_ARGS": "-DGGML_CUDA=on"}, "avx2 fma")
    other_processor = steps.build_key({}, "avx2 avx512f fma")
    other_compiler = steps.build_key({"CC": "clang"}, "avx2 fma")
    assert len({plain, cuda, other_processor, other_compiler}) == 4


def test_pinned_files_are_there() -> None:
    root = Path(__file__).resolve().parents[3]
    tree = steps.Tree(root, root / ".venv")
    assert [path for path in tree.pinned_files() if not path.is_file()] == []
