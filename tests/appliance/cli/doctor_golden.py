"""The doctor's checklists as people see them, one text for each described machine and form.

``python -m tests.appliance.cli.doctor_golden`` writes them anew; then read the difference.
"""

from __future__ import annotations

from pathlib import Path

from appliance.cli.doctor_view import SIGNS, WORDS, Marks, report_lines
from tests.drivers.doctor_machines import MACHINES, examined

GOLDEN = Path(__file__).parent / "golden_doctor"
FORMS: dict[str, tuple[int | None, Marks]] = {"80": (80, SIGNS), "piped-words": (None, WORDS)}


def rendered(machine: str, form: str) -> str:
    """The checklist of one machine."""
    width, marks = FORMS[form]
    return "\n".join(report_lines(examined(machine), marks=marks, width=width)) + "\n"


def write() -> None:
    """All texts anew."""
    GOLDEN.mkdir(exist_ok=True)
    for machine in MACHINES:
        for form in FORMS:
            (GOLDEN / f"{machine}-{form}.txt").write_text(rendered(machine, form), encoding="utf-8")


if __name__ == "__main__":
    write()
