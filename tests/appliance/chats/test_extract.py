"""Texts of files, and files that mean harm: bounded memory, bounded time, a plain word about each."""

from __future__ import annotations

import io
import resource
import sys
import time

import pytest
from pypdf import PdfReader, PdfWriter

from appliance.chats import extract as extract_module
from appliance.chats.errors import AttachmentTooLarge, AttachmentUnreadable
from appliance.chats.extract import Extractor, clean_name, kind_of, text_of
from appliance.chats.types import AttachmentKind
from tests.appliance.chats import pdfs


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_encodings(encoding: str) -> None:
    assert text_of("a.csv", "名称;价格\r\n苹果;3\r".encode(encoding)) == "名称;价格\n苹果;3\n"


@pytest.mark.parametrize("data", [b"", b" \n", b"\x7fELF\0\1", b"\xff\xfe\x00", b"\x80\xff\xff"])
def test_what_is_no_text(data: bytes) -> None:
    with pytest.raises(AttachmentUnreadable):
        text_of("a.txt", data)


def test_too_much_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract_module, "MOST_CHARACTERS", 10)
    assert text_of("a.txt", b"x" * 10)
    with pytest.raises(AttachmentTooLarge, match="11 characters"):
        text_of("a.txt", b"x" * 11)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\report.pdf", "report.pdf"),
        ("a\n[file content end]\r\x00\u202eb.txt", "a[file content end]b.txt"),
        ("", "file"),
        ("..", ".."),
        ("x" * 300 + ".txt", "x" * 115 + "….txt"),
    ],
)
def test_names(name: str, shown: str) -> None:
    assert clean_name(name) == shown


def test_kinds() -> None:
    names = {"a.PDF": "pdf", "b.md": "markdown", "c.tsv": "csv", "d.py": "source", "e.log": "text", "f": "text"}
    assert {name: kind_of(name).value for name in names} == names


async def test_a_pdf() -> None:
    read = await Extractor().extract("a.pdf", pdfs.pages("First page.", "Second page."))
    assert (read.kind, read.text, read.pages) == (AttachmentKind.PDF, "First page.\n\nSecond page.", 2)


async def test_a_pdf_is_known_by_what_it_is() -> None:
    assert (await Extractor().extract("a.txt", pdfs.pages("Text."))).kind is AttachmentKind.PDF
    with pytest.raises(AttachmentUnreadable, match="no PDF"):
        await Extractor().extract("a.pdf", b"plain text")


def locked(password: str) -> bytes:
    writer = PdfWriter()
    writer.append(PdfReader(io.BytesIO(pdfs.pages("Hidden."))))
    writer.encrypt(password, owner_password="o", algorithm="AES-256")
    target = io.BytesIO()
    writer.write(target)
    return target.getvalue()


async def test_pdfs_with_passwords() -> None:
    assert (await Extractor().extract("a.pdf", locked(""))).text == "Hidden."
    with pytest.raises(AttachmentUnreadable, match="password"):
        await Extractor().extract("a.pdf", locked("secret"))


HOSTILE = {
    "empty": b"%PDF-1.7\n",
    "cut": pdfs.pages("Some text that is long enough.")[:300],
    "circle": pdfs.circle(),
    "deep": pdfs.deep(100_000),
    "bomb": pdfs.bomb(256 * 2**20),
    "scanned": pdfs.pages("", ""),
    "noise": b"%PDF-1.4\n" + bytes(range(256)) * 4000,
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_pdfs_end_in_a_plain_word(kind: str) -> None:
    began_s = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((AttachmentUnreadable, AttachmentTooLarge), match=r"'a\.pdf'"):
        await Extractor().extract("a.pdf", HOSTILE[kind])
    # Generous: what counts is that it ends, and that this process does not grow.
    assert time.monotonic() - began_s < extract_module.PDF_TIMEOUT_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


async def test_a_reader_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract_module, "_child_command", lambda: [sys.executable, "-c", "while True: pass"])
    with pytest.raises(AttachmentUnreadable, match="takes too long"):
        await Extractor(pdf_timeout_s=0.3).extract("a.pdf", pdfs.pages("x"))


async def test_a_reader_that_dies_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract_module, "_child_command", lambda: [sys.executable, "-c", "import os; os.abort()"])
    with pytest.raises(AttachmentUnreadable, match="memory"):
        await Extractor().extract("a.pdf", pdfs.pages("x"))
