"""Tokens: what they carry, and what is not one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cluster.errors import BadInvitation
from appliance.cluster.invitation import PREFIX, fits, hash_of, new_invitation, read_token

FINGERPRINT = bytes(range(32))


@given(st.ip_addresses(), st.integers(min_value=1, max_value=65_535))
def test_a_token_carries_all_that_a_box_needs(address: object, port: int) -> None:
    made = new_invitation(str(address), port, FINGERPRINT)
    assert read_token(made.token) == made
    assert read_token(f"  {made.token[:20]}\n{made.token[20:]} ") == made


def test_nothing_shows_the_secret() -> None:
    made = new_invitation("10.0.0.1", 8470, FINGERPRINT)
    assert made.secret.hex() not in repr(made)
    assert repr(made.secret) not in repr(made)
    assert hash_of(made.secret) != made.secret.hex()
    assert fits(made.secret, hash_of(made.secret))
    assert not fits(made.secret[:-1] + b"\0", hash_of(made.secret))


@given(st.text(max_size=300))
def test_what_is_no_token_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(BadInvitation):
        read_token(text)


@given(st.binary(max_size=90))
def test_bytes_that_are_no_invitation_are_refused(raw: bytes) -> None:
    import base64

    token = PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")
    try:
        found = read_token(token)
    except BadInvitation:
        return
    assert found.port > 0
    assert found.address


def test_a_token_that_lost_characters_is_refused() -> None:
    token = new_invitation("10.0.0.1", 8470, FINGERPRINT).token
    with pytest.raises(BadInvitation):
        read_token(token[:40])
