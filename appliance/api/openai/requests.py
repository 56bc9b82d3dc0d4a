"""``POST /v1/chat/requests/{id}/answer_now``: an addition of R1 Box for those who have seen enough of a thought."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from appliance.api.access import caller_of
from appliance.api.routes import Routes
from appliance.schemas.requests import RunningRequest
from appliance.serving.chat import ChatService

_MAX_ID_CHARS = 100
_COMPLETION = "chatcmpl-"


def requests_router(chat: ChatService) -> Routes:
    """The route. Only the caller's own requests are found: those of the same key, or of the same person."""
    router = Routes(tags=["chat"])

    @router.post("/chat/requests/{request_id}/answer_now", response_model=RunningRequest)
    async def answer_now(request_id: str, request: Request) -> Response:
        name = request_id[:_MAX_ID_CHARS]
        if name.startswith(_COMPLETION):  # the id that OpenAI's clients see in every chunk
            name = f"req_{name.removeprefix(_COMPLETION)}"
        state = await chat.answer_now(name, owner=caller_of(request).subject)
        content = RunningRequest(id=name, state=state.value).model_dump_json()
        return Response(content, media_type="application/json", headers={"Cache-Control": "no-store"})

    return router
