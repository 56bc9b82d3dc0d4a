"""docs/metrics.md, the dashboard and the rules name what the daemon exports, and all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.appliance.api.box import MODEL, Box

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "metrics.md"
DASHBOARD = DOCS / "grafana-dashboard.json"
RULES = DOCS / "prometheus-rules.yml"
_NAME = re.compile(r"\br1box_[a-z0-9_]+")
_RECORDED = re.compile(r"\br1box:[a-z0-9_:]+")
_SELECTOR = re.compile(r"\b(r1box_[a-z0-9_]+)\{([^}]*)\}")


def _documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels by name."""
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `r1box_")]
    return {row[0].strip("| `"): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in rows}


DOCUMENTED = _documented()


def exported(text: str) -> dict[str, str]:
    """Type by name, of every family, with or without a value at this moment."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def series(names: set[str]) -> set[str]:
    """What queries may name."""
    histograms = {name for name in names if DOCUMENTED[name][0] == "histogram"}
    parts = {f"{name}{part}" for name in histograms for part in ("_bucket", "_sum", "_count")}
    return (names - histograms) | parts


def check_queries(queries: list[str]) -> None:
    """Every metric and every label of theirs is there."""
    found = {name for query in queries for name in _NAME.findall(query)}
    assert found <= series(set(DOCUMENTED)), found - series(set(DOCUMENTED))
    for query in queries:
        for name, selector in _SELECTOR.findall(query):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            allowed = DOCUMENTED[re.sub(r"_(bucket|sum|count)$", "", name) if name not in DOCUMENTED else name][1]
            assert labels <= allowed | {"instance", "job", "le"}, (name, labels)


async def test_every_metric_is_documented_and_every_documented_one_is_there(
    client: httpx.AsyncClient, box: Box
) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "2 + 2?"}]}
    assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
    text = (await client.get("/metrics")).text
    assert exported(text) == {name: kind for name, (kind, _) in DOCUMENTED.items()}
    used: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(r1box_\w+)\{(.*)\} ", text, re.MULTILINE):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        used.setdefault(name if name in DOCUMENTED else base, set()).update(re.findall(r'(\w+)="', labels))
    for name, labels in used.items():
        assert labels - {"le"} == DOCUMENTED[name][1], name


def test_the_page_says_what_ends_there_are() -> None:
    from appliance.engine.request import FinishReason

    row = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if "r1box_requests_ended_total" in line)
    assert row.split("ended: ")[1].strip(" |").split(", ") == [reason.value for reason in FinishReason]


def test_the_dashboard_asks_for_what_is_there() -> None:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    panels = dashboard["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    variables = [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    assert len(queries) > 30
    check_queries([*queries, *variables])
    assert len({panel["id"] for panel in panels}) == len(panels)
    # Nothing lies over anything else.
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    # What an operator looks for first must be on it.
    wanted = (
        "time_to_first_token",
        "inter_token",
        "requests_waiting",
        "thinking_tokens",
        "engine_cells_used",
        "prefix_hits",
    )
    for name in (*wanted, "loops_broken", "r1box_offload", "device_temperature", "r1box_issue"):
        assert any(name in query for query in queries), name


def test_the_rules_ask_for_what_is_there() -> None:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    check_queries([rule["expr"] for rule in rules])
    recorded = {rule["record"] for rule in rules if "record" in rule}
    assert {name for rule in rules for name in _RECORDED.findall(rule["expr"])} <= recorded
    for rule in rules:
        assert ("record" in rule) != ("alert" in rule)
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert set(rule["annotations"]) == {"summary", "description"}
