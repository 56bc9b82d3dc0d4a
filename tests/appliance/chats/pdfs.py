"""PDF files made by hand, good and hostile ones."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def pdf(objects: Sequence[bytes], *, trailer: bytes = b"") -> bytes:
    """A file of these objects; the first is the catalogue."""
    made, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(made)
    made += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    made += b"".join(b"%010d 00000 n \n" % place for place in places)
    made += b"trailer\n<< /Size %d /Root 1 0 R %s>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, table)
    return made


def stream(content: bytes, filters: bytes = b"") -> bytes:
    """A stream object's content."""
    return b"<< /Length %d %s>>\nstream\n%s\nendstream" % (len(content), filters, content)


def pages(*texts: str) -> bytes:
    """A file with a page for each text."""
    contents = [b"BT /F1 12 Tf 72 700 Td (%s) Tj ET" % text.encode("latin-1") for text in texts]
    return _pages([stream(content) for content in contents])


def bomb(inflated_bytes: int) -> bytes:
    """A page whose content grows to so many bytes."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b" " * 2**20) for _ in range(inflated_bytes // 2**20)) + packer.flush()
    return _pages([stream(packed, b"/Filter /FlateDecode ")])


def circle() -> bytes:
    """A tree of pages that is its own child."""
    return pdf([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2 >>"])


def deep(levels: int) -> bytes:
    """An array in an array in an array."""
    nested = b"[" * levels + b"]" * levels
    return pdf(
        [b"<< /Type /Catalog /Pages 2 0 R /Deep %s >>" % nested, b"<< /Type /Pages /Kids %s /Count 1 >>" % nested]
    )


def _pages(contents: Sequence[bytes]) -> bytes:
    first = 4
    kids = b" ".join(b"%d 0 R" % (first + 2 * index) for index in range(len(contents)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(contents)),
        _FONT,
    ]
    for index, content in enumerate(contents):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (first + 2 * index + 1)
        )
        objects.append(content)
    return pdf(objects)
