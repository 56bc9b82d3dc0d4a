"""Responses that clients may come back to: by ``previous_response_id``, or to read them again.

In memory, so what people asked is on no disk and gone with a restart; a client that wants more sends the conversation
itself. Bounded by number and size; the oldest go first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from appliance.errors import AppError
from appliance.serving.types import ChatMessage

MAX_RESPONSES_PER_OWNER = 1_000
MAX_CHARS = 64 * 1024 * 1024


class ResponseNotFound(AppError):
    """No response of this id is kept for this owner; whether another has one is not told."""

    code = "response_not_found"
    http_status = 404
    template = "There is no response '{response_id}'."
    hint_template = "Responses are kept until the box restarts or room is needed, for the key that made them."


class PreviousResponseNotFound(AppError):
    """As ``ResponseNotFound``, named by a request that wanted to go on from it."""

    code = "previous_response_not_found"
    http_status = 400
    template = "There is no response '{response_id}' to go on from."
    hint_template = "Send the whole conversation as input: responses are kept until the box restarts or room is needed."

    def __init__(self, response_id: str) -> None:
        super().__init__(response_id=response_id, param="previous_response_id")


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """``body`` as it was answered, ``input_items`` with ids, ``messages`` the whole conversation with the answer,
    without instructions."""

    body: dict[str, Any]
    input_items: tuple[dict[str, Any], ...]
    messages: tuple[ChatMessage, ...]

    @property
    def chars(self) -> int:
        """A rough size; conversations that share turns count them each."""
        texts = sum(
            len(message.content)
            + len(message.reasoning or "")
            + sum(len(call.arguments) for call in message.tool_calls or ())
            for message in self.messages
        )
        return 2 * texts + 2_000


class ResponseStore:
    """Keeps responses by owner (who a key belongs to) and id."""

    def __init__(self, *, max_per_owner: int = MAX_RESPONSES_PER_OWNER, max_chars: int = MAX_CHARS) -> None:
        self._kept: OrderedDict[tuple[str, str], StoredResponse] = OrderedDict()
        self._of_owner: dict[str, int] = {}
        self._chars = 0
        self._max_per_owner = max_per_owner
        self._max_chars = max_chars

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, owner: str, stored: StoredResponse) -> None:
        """Keep it; what is too large for the whole store is not kept."""
        if stored.chars > self._max_chars:
            return
        self._kept[owner, str(stored.body["id"])] = stored
        self._of_owner[owner] = self._of_owner.get(owner, 0) + 1
        self._chars += stored.chars
        if self._of_owner[owner] > self._max_per_owner:
            self._drop(next(key for key in self._kept if key[0] == owner))
        while self._chars > self._max_chars:
            self._drop(next(iter(self._kept)))

    def get(self, owner: str, response_id: str) -> StoredResponse:
        """Raises ResponseNotFound."""
        stored = self._kept.get((owner, response_id))
        if stored is None:
            raise ResponseNotFound(response_id=response_id[:128])
        self._kept.move_to_end((owner, response_id))
        return stored

    def delete(self, owner: str, response_id: str) -> None:
        """Raises ResponseNotFound."""
        self.get(owner, response_id)
        self._drop((owner, response_id))

    def item(self, owner: str, item_id: str) -> dict[str, Any] | None:
        """An item of the input or output of one of the owner's responses, the latest first."""
        for (of, _), stored in reversed(self._kept.items()):
            if of == owner:
                for item in (*stored.body["output"], *stored.input_items):
                    if item.get("id") == item_id:
                        return dict(item)
        return None

    def _drop(self, key: tuple[str, str]) -> None:
        stored = self._kept.pop(key)
        self._chars -= stored.chars
        self._of_owner[key[0]] -= 1
        if not self._of_owner[key[0]]:
            del self._of_owner[key[0]]
