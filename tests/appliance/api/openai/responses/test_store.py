"""What is kept is bounded, by owner and in all; the oldest go first."""

from __future__ import annotations

import pytest

from appliance.api.openai.responses.store import ResponseNotFound, ResponseStore, StoredResponse
from appliance.serving.types import ChatMessage


def stored(name: str, chars: int = 10) -> StoredResponse:
    return StoredResponse({"id": name, "output": []}, (), (ChatMessage(role="user", content="x" * chars),))


def test_each_owner_has_a_bound_of_its_own() -> None:
    store = ResponseStore(max_per_owner=2)
    for owner, name in (("a", "1"), ("b", "1"), ("a", "2"), ("a", "3")):
        store.put(owner, stored(name))
    with pytest.raises(ResponseNotFound):
        store.get("a", "1")
    assert store.get("b", "1").body["id"] == "1"
    assert len(store) == 3


def test_what_is_asked_for_again_stays_longer() -> None:
    store = ResponseStore(max_chars=stored("x", 1_000).chars * 2)
    store.put("a", stored("1", 1_000))
    store.put("a", stored("2", 1_000))
    store.get("a", "1")
    store.put("b", stored("3", 1_000))
    assert store.get("a", "1")
    with pytest.raises(ResponseNotFound):
        store.get("a", "2")


def test_what_is_too_large_is_not_kept_and_drives_nothing_out() -> None:
    store = ResponseStore(max_chars=10_000)
    store.put("a", stored("1"))
    store.put("a", stored("2", 10_000))
    assert len(store) == 1
    store.delete("a", "1")
    assert len(store) == 0
    with pytest.raises(ResponseNotFound):
        store.delete("a", "1")
