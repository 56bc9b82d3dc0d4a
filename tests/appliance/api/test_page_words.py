"""The page says what the box says in Chinese too: every code of the documents and of the errors that it can meet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from appliance import terminals as of_consoles
from appliance.backup import errors as of_backups
from appliance.chats import errors as of_chats
from appliance.cluster import errors as of_clusters
from appliance.errors import AppError
from appliance.health.fixups import all_fixups
from appliance.jobs import errors as of_jobs
from appliance.jobs import updates as of_updates
from appliance.schemas.jobs import JobKindWord
from appliance.schemas.telemetry import TelemetryEvent
from appliance.security import errors as of_security
from appliance.serving import errors as of_serving

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "appliance" / "api" / "web-src" / "src"
PARTS = (of_chats, of_jobs, of_security, of_serving, of_consoles, of_backups, of_updates, of_clusters)
MODULES = ("appliance.errors", *(part.__name__ for part in PARTS))
_HAN = re.compile(r"[\u4e00-\u9fff]")


def table(file: str, name: str) -> dict[str, str]:
    """A table of the page's source: code to Chinese words."""
    text = (SOURCE / file).read_text(encoding="utf-8").partition(f"export const {name}:")[2].partition("\n};")[0]
    rows = re.findall(r"^  (\w+): '([^']+)',$", text, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a code stands there twice"
    assert len(rows) == len([line for line in text.splitlines() if re.match(r"  \w", line)]), "a row has another form"
    return dict(rows)


def documented(page: str, start: str, end: str = "\n## ") -> set[str]:
    """The codes in the first or second column of the tables between two headings."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(start)[2].partition(end)[0]
    cells = [cell for row in re.findall(r"^\| (.+) \|$", text, re.MULTILINE) for cell in row.split(" | ")[:2]]
    bare = [cell.removesuffix(" and others").strip() for cell in cells]
    named = [cell for cell in bare if re.fullmatch(r"`[a-z_]+`(, `[a-z_]+`)*", cell)]
    return {code for cell in named for code in re.findall(r"`([a-z_]+)`", cell)}


def below(base: type[AppError]) -> set[type[AppError]]:
    return {base} | {one for child in base.__subclasses__() for one in below(child)}


ERRORS = table("i18n/codes.ts", "ZH_CODES")
FINDINGS = table("operator/findings.ts", "ZH_FINDINGS")
EVENTS = table("operator/findings.ts", "ZH_EVENTS")
FIXUPS = table("operator/findings.ts", "ZH_FIXUPS")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_kind_of_job(language: str) -> None:
    text = (SOURCE / "operator" / f"{language}.ts").read_text(encoding="utf-8")
    assert [kind for kind in get_args(JobKindWord) if f"\n  job_{kind}: '" not in text] == []


def test_every_error_of_the_api_document() -> None:
    codes = documented("api.md", "## Errors\n")
    assert {"context_length_exceeded", "queue_full", "bad_http", "login_failed", "invalid_value"} <= codes
    assert codes - set(ERRORS) == set()


def test_every_error_that_the_page_can_meet() -> None:
    codes = {one.code for one in below(AppError) if one.__module__ in MODULES}
    assert len(codes) > 60
    assert codes - set(ERRORS) == set()


@pytest.mark.parametrize(
    ("page", "start", "end", "one"),
    [
        ("issues.md", "# Issues\n", "\n## ", "engine_crash_loop"),
        ("drivers.md", "\n## Findings\n", "\n## ", "nouveau_bound"),
        ("offload.md", "| reason |", "\nThe check", "slow"),
    ],
)
def test_every_issue_finding_and_reason(page: str, start: str, end: str, one: str) -> None:
    codes = documented(page, start, end) - set(FIXUPS)
    assert one in codes
    assert codes - set(FINDINGS) == set()


def test_every_event_and_every_button() -> None:
    kinds = set(TelemetryEvent.model_fields["kind"].annotation.__args__)  # type: ignore[union-attr]
    assert kinds - set(FINDINGS) - set(EVENTS) == set()
    fixups = all_fixups(models=None, verifier=None, hardware=None, offload=None, alerts=None)  # type: ignore[arg-type]
    assert set(FIXUPS) == {fixup.name for fixup in fixups}


def test_the_words_are_chinese() -> None:
    for words in (ERRORS, FINDINGS, EVENTS, FIXUPS):
        assert [code for code, text in words.items() if not _HAN.search(text)] == []
