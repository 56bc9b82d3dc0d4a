"""The console's entry point, `r1box-console`."""

from __future__ import annotations

import sys


def main() -> int:
    """Say that there is no console yet and what does its work; exit code 2."""
    print(
        "The operator's console is not built yet. Until it is:\n"
        "  r1box detect        what cards and memory this machine has\n"
        "  r1box plan          which R1 fits and why others do not\n"
        "  r1box models        what is in the model store\n"
        "  r1box keys          who may use the box\n"
        "  r1box chat          a conversation in the terminal",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
