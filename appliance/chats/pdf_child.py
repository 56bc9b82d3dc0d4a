"""Reads the text of one PDF in a process of its own: ``python -m appliance.chats.pdf_child``.

The file comes by standard input; ``{"text", "pages"}`` or ``{"problem"}`` goes to standard output. Whatever a file
makes of its reader, this process alone ends of it: memory and processor time are bounded, it can open no more than a
few files and write none.
"""

from __future__ import annotations

import json
import logging
import resource
import sys

MAX_MEMORY_BYTES = 768 * 1024**2
MAX_PROCESSOR_S = 20
MAX_PAGES = 2_000
MAX_CHARACTERS = 2_000_000


class _Problem(Exception):
    """What is wrong with the file, in a word of ``appliance.chats.extract``."""


def main() -> int:
    """Exit code 0 when something can be said about the file."""
    data = sys.stdin.buffer.read()
    from pypdf.errors import LimitReachedError, PyPdfError  # before the limits: loading code is no matter of the file

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_PROCESSOR_S, MAX_PROCESSOR_S))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    logging.disable()
    told: dict[str, object]
    try:
        text, pages = read(data)
        told = {"text": text, "pages": pages}
    except _Problem as problem:
        told = {"problem": str(problem)}
    except (MemoryError, RecursionError):
        return 1
    except LimitReachedError:
        told = {"problem": "beyond_limits"}
    except (PyPdfError, ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, AssertionError):
        # pypdf answers damage with any of these.
        told = {"problem": "damaged"}
    json.dump(told, sys.stdout)
    return 0


def read(data: bytes) -> tuple[str, int]:
    """Text, the pages apart by a blank line, and their number."""
    from io import BytesIO

    from pypdf import PdfReader

    reader = PdfReader(BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise _Problem("encrypted")
    count = len(reader.pages)
    if count > MAX_PAGES:
        raise _Problem("too_many_pages")
    texts, length = [], 0
    for page in reader.pages:
        text = page.extract_text().strip().encode("utf-8", "replace").decode()
        length += len(text)
        if length > MAX_CHARACTERS:
            raise _Problem("too_long")
        if text:
            texts.append(text)
    if not texts:
        raise _Problem("no_text")
    return "\n\n".join(texts), count


if __name__ == "__main__":
    sys.exit(main())
