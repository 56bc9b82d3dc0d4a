"""Texts that repeat themselves, and texts that only look like it, for the loop detector.

Tokens are made as the vocabularies of R1 and its distills make them, roughly: words with their leading space, digits in
groups of up to three, runs of signs and of line breaks.
"""

from __future__ import annotations

import random
import re

_TOKEN = re.compile(r" ?[^\W\d_]{1,8}|\d{1,3}| ?[^\s\w]{1,3}|\n+| +|\w")


def tokens(text: str) -> list[int]:
    """Token ids of a text; the same piece always has the same one."""
    return [hash_of(piece) for piece in _TOKEN.findall(text)]


def hash_of(piece: str) -> int:
    """A number for a piece, the same in every run."""
    value = 0
    for byte in piece.encode():
        value = (value * 257 + byte + 1) % 150_001
    return value


def _long_division(top: int, bottom: int, digits: int) -> str:
    lines, rest = [], top % bottom
    for _ in range(digits):
        rest *= 10
        lines.append(f"Bring down a 0: {rest} / {bottom} = {rest // bottom}, remainder {rest % bottom}.")
        rest %= bottom
    return "\n".join(lines)


def _multiplication(left: int, right: int) -> str:
    lines = [f"{left} x {right}:"]
    total = 0
    for place, digit in enumerate(reversed(str(right))):
        part = left * int(digit) * 10**place
        total += part
        lines.append(f"{left} x {digit} x 10^{place} = {part}; the sum so far is {total}.")
    return "\n".join(lines)


def _life(generations: int, size: int) -> str:
    source = random.Random(3)
    cells = [[source.randrange(2) for _ in range(size)] for _ in range(size)]
    shown = []
    for generation in range(generations):
        shown.append(f"Generation {generation}:\n" + "\n".join(" ".join(map(str, row)) for row in cells))
        cells = [
            [
                int(
                    (n := sum(cells[(y + dy) % size][(x + dx) % size] for dy in (-1, 0, 1) for dx in (-1, 0, 1))) == 3
                    or (n == 4 and cells[y][x])
                )
                for x in range(size)
            ]
            for y in range(size)
        ]
    return "\n\n".join(shown)


ESSAY = (
    "The river begins as a spring under a grey rock, and for the first mile it is no wider than a hand. Below the "
    "mill it takes in two brooks, and from there on people have always fished in it. In spring it floods the meadows, "
    "which is why the houses of the old village stand on posts; in August one can cross it without wet knees. The "
    "bridge was built by a mason from the next valley, who was paid in wool. When the railway came the river lost its "
    "barges, and with them the inn, the smithy and the market. What is left is the water, the posts and the bridge. "
) * 2

_RANDOM = random.Random(7)

HARMLESS: dict[str, str] = {
    "multiplication table": "\n".join(f"{a} x {b} = {a * b}" for a in range(1, 21) for b in range(1, 21)),
    "chinese multiplication table": "".join(f"{a}乘{b}等于{a * b}，" for a in range(1, 20) for b in range(1, 20)),
    "truth table": "| p | q | r | s | t | u | p and q |\n"
    + "\n".join("| " + " | ".join("TF"[(n >> k) & 1] for k in range(7)) + " |" for n in range(128)),
    "counting": ", ".join(str(n) for n in range(1, 1500)),
    "counting in words": "\n".join(f"After that comes number {n}, and I must not skip it." for n in range(1, 300)),
    "brute force": "\n".join(
        f"Try n = {n}: {n}^2 = {n * n}, and {n * n} mod 97 = {n * n % 97}, which is not 5." for n in range(1, 400)
    ),
    "long division": _long_division(22, 97, 90),
    "long multiplication": _multiplication(987654321987654321, 123456789123456789123456789),
    "repeating decimal": "1/7 = 0." + "142857" * 100,
    "zeros": "0, " * 300,
    "zero matrix": "\\\\\n".join(" & ".join("0" for _ in range(16)) for _ in range(16)),
    "identity matrix": "\\\\\n".join(" & ".join("01"[x == y] for x in range(24)) for y in range(24)),
    "life": _life(14, 12),
    "bits": " ".join(str(_RANDOM.randrange(2)) for _ in range(6000)),
    "dice": ", ".join(str(_RANDOM.randrange(1, 7)) for _ in range(3000)),
    "csv": "\n".join(f"{n},2024-01-{n % 28 + 1:02},open,,,0,{n % 7}" for n in range(400)),
    "table of few values": "| id | state | retries | note |\n|---|---|---|---|\n"
    + "\n".join(f"| {n} | waiting | 0 | none |" for n in range(300)),
    "json records": "[\n"
    + ",\n".join(f'  {{"id": {n}, "name": "user{n}", "active": true, "roles": [], "email": null}}' for n in range(150))
    + "\n]",
    "tests": "\n\n".join(
        f"def test_case_{n}() -> None:\n    result = compute({n}, {n + 1})\n    assert result is not None\n"
        f"    assert result.value == {n * 3 + 1}\n    assert result.errors == []"
        for n in range(80)
    ),
    "getters": "\n\n".join(
        f"    public String get{name}() {{\n        return this.{name.lower()};\n    }}\n\n"
        f"    public void set{name}(String {name.lower()}) {{\n        this.{name.lower()} = {name.lower()};\n    }}"
        for name in (
            f"{a}{b}" for a in ("First", "Last", "Old", "New", "Main") for b in ("Name", "Town", "Code", "Key")
        )
    ),
    "a draft, read again twice": ESSAY + "\n\nLet me read that again.\n\n" + ESSAY + "\n\nOnce more.\n\n" + ESSAY,
    "a draft with a change in each version": "\n\n".join(
        f"Version {n}: " + ESSAY.replace("two brooks", f"{n} brooks") for n in range(3)
    ),
    "song with a refrain": "\n\n".join(
        f"{n} bottles of beer on the wall, {n} bottles of beer.\nTake one down and pass it around, {n - 1} bottles."
        for n in range(99, 0, -1)
    ),
    "rules": "\n".join("-" * 60 for _ in range(30)),
    "sieve": "\n".join(
        f"Cross out the multiples of {p}: {', '.join(map(str, range(2 * p, 300, p)))}." for p in (2, 3, 5)
    ),
    "five times thirty": "\n\n".join(
        f"{start} " + ", ".join(f"number {n}" for n in range(1, 31))
        for start in ("Once:", "Again:", "A third time:", "A fourth time:", "Once more:")
    ),
    "hex dump": "\n".join(f"{n:08x}: " + "00 00 00 00 00 00 00 00 " * 2 for n in range(0, 4096, 16)),
}

_SENTENCES = (
    " But wait, maybe the question is about something else.",
    " Alternatively, maybe I should look at the first line again.",
    " Hmm, that does not fit with what the user said before.",
    " Let me think about this from the beginning, step by step.",
    " No, that cannot be right, because the number is too large.",
    " So the answer must be that there is no such number at all.",
)

LOOPS: dict[str, str] = {
    "a word": "I see. " + "Hmm " * 3000,
    "a short sentence": "Let me see." + " Wait, no." * 1000,
    "two sentences": "If it is true, it is false."
    + " But if it is false, then it is true. Wait, if it is true, then it is false." * 100,
    "a paragraph": "Well.\n\n" + (ESSAY[: len(ESSAY) // 2] + "\n\n") * 12,
    "a long paragraph": ESSAY * 6,
    "chinese": "让我想想。" + "但是如果这句话是真的，那么它就是假的。等等，如果它是假的，那么它就是真的。" * 60,
    "after a long thought": HARMLESS["brute force"] + " Wait, let me check that the last one was right." * 100,
    "the same sentences in changing order": "".join(random.Random(5).choice(_SENTENCES) for _ in range(600)),
    "the same table over and over": ("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n") * 60,
}
