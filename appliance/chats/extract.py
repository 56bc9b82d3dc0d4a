"""The text of a file that somebody attaches. Files are hostile until proved otherwise: sizes are bounded, and a PDF is
read in a child process that has bounds of its own (``appliance.chats.pdf_child``)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath

from appliance.chats.errors import AttachmentTooLarge, AttachmentUnreadable
from appliance.chats.types import AttachmentKind

MOST_FILE_BYTES = 20 * 1024 * 1024
MOST_CHARACTERS = 2_000_000
"""Some 500,000 tokens and more: beyond what any seat holds."""
PDF_TIMEOUT_S = 60.0
_MOST_NAME = 120
_AT_ONCE = 2
"""PDFs that are read at the same time; others wait."""

_MARKDOWN = frozenset(("md", "markdown", "mdx"))
_TABLES = frozenset(("csv", "tsv"))
_SOURCE_ENDINGS = """
asm bash bat c cc cfg clj conf cpp cs css cu cxx dart diff dockerfile erl ex f90 fs go gradle graphql groovy h
hpp hs html htm ini ipynb java jl js json jsonl jsx kt kts less lisp lua m makefile mk ml mm nim nix patch php
pl pm proto ps1 py pyi r rb rs sass scala scss sh sol sql st sv svelte swift tcl tex tf toml ts tsx v vb vhd
vhdl vue xml xsd yaml yml zig zsh
"""
_SOURCE = frozenset(_SOURCE_ENDINGS.split())
_REASONS = {
    "encrypted": "it needs a password",
    "no_text": "it holds no text; pages that were scanned are pictures of text",
    "beyond_limits": "it unpacks to more than a document needs",
    "damaged": "it is damaged, or no PDF",
    "too_many_pages": "it has more pages than are read",
}


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was read. ``pages`` only of a PDF."""

    kind: AttachmentKind
    text: str
    pages: int | None = None


def clean_name(name: str) -> str:
    """A file's name as it is shown and put into the prompt: its last part, on one line, not too long."""
    last = PurePosixPath(name.replace("\\", "/")).name
    shown = "".join(letter for letter in last if unicodedata.category(letter)[0] != "C").strip()
    if len(shown) > _MOST_NAME:
        stem, dot, ending = shown.rpartition(".")
        ending = f"{dot}{ending}" if stem and len(ending) <= 10 else ""
        shown = shown[: _MOST_NAME - len(ending) - 1] + "…" + ending
    return shown or "file"


def kind_of(name: str) -> AttachmentKind:
    """By the ending of the name; what is not known is text."""
    ending = name.lower().rpartition(".")[2]
    if ending == "pdf":
        return AttachmentKind.PDF
    if ending in _MARKDOWN:
        return AttachmentKind.MARKDOWN
    if ending in _TABLES:
        return AttachmentKind.CSV
    return AttachmentKind.SOURCE if ending in _SOURCE else AttachmentKind.TEXT


def text_of(name: str, data: bytes) -> str:
    """UTF-8, UTF-16 with its mark, or GB18030, in which Chinese spreadsheets are saved. Raises AttachmentUnreadable,
    AttachmentTooLarge."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif b"\0" in data:
        raise AttachmentUnreadable(name=name, reason="it is no text file")
    else:
        encodings = ["utf-8-sig", "gb18030"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        return checked(name, text)
    raise AttachmentUnreadable(name=name, reason="it is no text in UTF-8, UTF-16 or GB18030")


def checked(name: str, text: str) -> str:
    """The text with plain line ends, if it is one and not too long."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    if not text.strip():
        raise AttachmentUnreadable(name=name, reason="it is empty")
    if len(text) > MOST_CHARACTERS:
        raise AttachmentTooLarge(name=name, problem=f"{len(text):,} characters; {MOST_CHARACTERS:,} are the most")
    return text


class Extractor:
    """Reads files."""

    def __init__(self, *, pdf_timeout_s: float = PDF_TIMEOUT_S) -> None:
        self._pdf_timeout_s = pdf_timeout_s
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def extract(self, name: str, data: bytes) -> Extracted:
        """Raises AttachmentTooLarge, AttachmentUnreadable."""
        if len(data) > MOST_FILE_BYTES:
            raise AttachmentTooLarge(name=name, problem=f"more than {MOST_FILE_BYTES:,} bytes")
        if data[:1024].lstrip().startswith(b"%PDF-"):
            async with self._free:
                return await self._pdf(name, data)
        kind = kind_of(name)
        if kind is AttachmentKind.PDF:
            raise AttachmentUnreadable(name=name, reason=_REASONS["damaged"])
        return Extracted(kind, await asyncio.to_thread(text_of, name, data))

    async def _pdf(self, name: str, data: bytes) -> Extracted:
        child = await asyncio.create_subprocess_exec(
            *_child_command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"LANG": "C.UTF-8"},
            start_new_session=True,
        )
        try:
            output, _ = await asyncio.wait_for(child.communicate(data), self._pdf_timeout_s)
        except TimeoutError as error:
            raise AttachmentUnreadable(name=name, reason="reading it takes too long") from error
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                await child.wait()
        if child.returncode == -signal.SIGXCPU:
            raise AttachmentUnreadable(name=name, reason="reading it takes too long")
        if child.returncode != 0:
            raise AttachmentUnreadable(
                name=name, reason="it takes more memory than a file may, or makes its reader fail"
            )
        told = await asyncio.to_thread(json.loads, output)
        if "problem" in told:
            if told["problem"] == "too_long":
                problem = f"more than {MOST_CHARACTERS:,} characters of text"
                raise AttachmentTooLarge(name=name, problem=problem)
            raise AttachmentUnreadable(name=name, reason=_REASONS[told["problem"]])
        text = await asyncio.to_thread(checked, name, told["text"])
        return Extracted(AttachmentKind.PDF, text, told["pages"])


def _child_command() -> list[str]:
    """Isolated, so that no file of the current folder is imported."""
    return [sys.executable, "-I", "-m", "appliance.chats.pdf_child"]
