"""A QR code as text, two modules to a character."""

from __future__ import annotations

QUIET = 2
"""Modules of margin. The standard has four; phones read two, and a terminal of 24 lines has no room for more."""


def qr_rows(content: str) -> tuple[str, ...]:
    """Rows of half blocks to be drawn dark on light: a set module is the foreground. Error correction L, the smallest
    code: a screen is not scratched. An address of 32 characters is 29 columns wide and 15 rows high."""
    import segno  # late: most starts show no code

    code = segno.make_qr(content, error="l", boost_error=False)
    matrix = [[bool(module) for module in row] for row in code.matrix_iter(scale=1, border=QUIET)]
    if len(matrix) % 2:
        matrix.append([False] * len(matrix[0]))
    return tuple(
        "".join(" ▄▀█"[lower + 2 * upper] for upper, lower in zip(matrix[row], matrix[row + 1], strict=True))
        for row in range(0, len(matrix), 2)
    )
