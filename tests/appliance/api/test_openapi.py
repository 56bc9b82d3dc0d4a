from __future__ import annotations

from typing import Any

import httpx

PATHS = {
    "/api/admin/audit",
    "/api/admin/audit/export",
    "/api/admin/audit/verify",
    "/api/admin/keys",
    "/api/admin/keys/{key_id}",
    "/api/admin/sessions",
    "/api/admin/sessions/{session_id}",
    "/api/admin/requests",
    "/api/admin/updates",
    "/api/admin/updates/restart",
    "/api/admin/updates/rollback",
    "/api/admin/usage",
    "/api/admin/users",
    "/api/admin/users/{user_id}",
    "/api/admin/users/{user_id}/password",
    "/api/auth/login",
    "/api/auth/logout",
    "/api/auth/me",
    "/api/auth/password",
    "/api/auth/sessions",
    "/api/auth/sessions/{session_id}",
    "/api/auth/setup",
    "/api/admin/first-run",
    "/api/admin/first-run/admin",
    "/api/admin/first-run/finish",
    "/api/admin/first-run/self-test",
    "/api/admin/first-run/steps/{name}",
    "/api/admin/hardware",
    "/api/admin/hardware/refresh",
    "/api/admin/alerts",
    "/api/admin/alerts/test",
    "/api/admin/requests/export",
    "/api/admin/requests/{request_id}/text",
    "/api/admin/box",
    "/api/admin/backups",
    "/api/admin/backups/restore",
    "/api/admin/backups/passphrase",
    "/api/admin/backups/{name}",
    "/api/admin/factory-reset",
    "/api/admin/restart",
    "/api/admin/cluster",
    "/api/admin/requests/live",
    "/api/admin/about",
    "/api/admin/requests/live/{request_id}",
    "/api/admin/sticks",
    "/api/admin/plans",
    "/api/admin/serving/history",
    "/api/admin/logs",
    "/api/admin/logs/events",
    "/api/admin/settings",
    "/api/admin/issues",
    "/api/admin/issues/check",
    "/api/admin/issues/{issue_id}/fixups/{name}",
    "/api/admin/jobs",
    "/api/admin/jobs/events",
    "/api/admin/jobs/{job_id}",
    "/api/admin/jobs/{job_id}/events",
    "/api/admin/models",
    "/api/admin/models/{model_id}",
    "/api/admin/models/{model_id}/activate",
    "/api/admin/models/{model_id}/load",
    "/api/admin/models/{model_id}/unload",
    "/api/admin/network",
    "/api/admin/network/preview",
    "/api/admin/network/trial",
    "/api/admin/network/trial/confirm",
    "/api/admin/offload",
    "/api/admin/offload/check",
    "/api/admin/telemetry",
    "/api/admin/telemetry/history",
    "/api/attachments",
    "/api/attachments/{attachment_id}",
    "/api/chat",
    "/api/generate",
    "/api/ps",
    "/api/show",
    "/api/tags",
    "/api/version",
    "/api/chats",
    "/api/chats/{chat_id}",
    "/api/chats/count",
    "/api/chats/{chat_id}/answers/{answer_id}/answer_now",
    "/api/chats/{chat_id}/answers/{answer_id}/events",
    "/api/chats/{chat_id}/answers/{answer_id}/stop",
    "/api/chats/{chat_id}/count",
    "/api/chats/{chat_id}/export",
    "/api/chats/{chat_id}/messages",
    "/api/console/terminals",
    "/api/console/terminals/{terminal_id}/input",
    "/api/page",
    "/healthz",
    "/metrics",
    "/readyz",
    "/v1/chat/completions",
    "/v1/chat/requests/{request_id}/answer_now",
    "/v1/completions",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/models",
    "/v1/models/{model_id}",
    "/v1/responses",
    "/v1/responses/{response_id}",
    "/v1/responses/{response_id}/cancel",
    "/v1/responses/{response_id}/input_items",
}


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(references(value) for value in node))
    return set()


async def test_document_is_whole(client: httpx.AsyncClient) -> None:
    response = await client.get("/openapi.json")
    assert response.status_code == 200
    document = response.json()
    assert document["info"] == {"title": "R1 Box", "version": "1.2.3"}
    assert set(document["paths"]) == PATHS
    defined = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= defined
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert chat["security"] == [{"key": []}, {"session": []}]
    assert chat["x-r1box-rule"] == "inference"
    assert chat["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/ChatCompletionRequest")
    assert (await client.get("/openapi.json")).content == response.content


async def test_what_needs_a_key_says_so(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    open_paths = {
        path
        for path, operations in document["paths"].items()
        if not all(operation.get("security") for operation in operations.values())
    }
    assert open_paths == {"/healthz", "/readyz", "/api/auth/login", "/api/auth/setup", "/api/page"}


async def test_parameters_of_the_history_are_described(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/api/admin/telemetry/history"]["get"]
    parameters = {one["name"]: one["schema"] for one in operation["parameters"]}
    assert set(parameters) == {"seconds", "points", "series"}
    assert (parameters["seconds"]["minimum"], parameters["seconds"]["maximum"]) == (1, 3600)
    assert parameters["series"]["type"] == "array"
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/TelemetryHistory"}
