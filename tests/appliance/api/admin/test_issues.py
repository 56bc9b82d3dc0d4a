"""Issues over the API, and in the metrics."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx

from appliance.schemas.issues import FixupButton, Issue, IssueList
from tests.appliance.api.box import Box

LOST = Issue(
    id="device_lost@nvidia:0", code="device_lost", severity="error", message="It does not answer.", subject="nvidia:0",
    since=datetime(2026, 6, 1, tzinfo=UTC), fixups=(FixupButton(name="detect_hardware", label="Look again"),),
)  # fmt: skip


async def test_issues_and_their_fix_ups(client: httpx.AsyncClient, stranger: httpx.AsyncClient, box: Box) -> None:
    assert (await client.get("/api/admin/issues")).json() == {"issues": [], "checked_at": None}
    box.issues.told = IssueList(issues=(LOST,))
    for told in (await client.get("/api/admin/issues"), await client.post("/api/admin/issues/check")):
        assert IssueList.model_validate_json(told.content) == box.issues.told
    done = await client.post(f"/api/admin/issues/{LOST.id}/fixups/detect_hardware")
    assert (done.status_code, done.json()["message"]) == (200, "Done.")
    assert box.issues.asked == [(LOST.id, "detect_hardware")]
    missing = await client.post("/api/admin/issues/none/fixups/detect_hardware")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "issue_not_found")
    metrics = (await client.get("/metrics")).text
    assert 'r1box_issues{severity="error"} 1.0' in metrics
    assert 'r1box_issue{code="device_lost",severity="error",subject="nvidia:0"} 1.0' in metrics
    assert (await stranger.get("/api/admin/issues")).status_code == 401
