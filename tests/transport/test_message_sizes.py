"""How large a message is: the more sites, the smaller, so that a server's memory stays the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from archipel.transport import CHUNK, SMALLEST, Offset, message_size


@given(st.integers(0, 5000))
def test_messages_of_all_sites_together_are_no_more_than_those_of_four(sites: int) -> None:
    size = message_size(sites)
    assert size == SMALLEST or size * sites <= 4 * CHUNK
    assert CHUNK % size == 0 and size >= message_size(sites + 1)


@pytest.mark.parametrize("message", [0, SMALLEST - 1, CHUNK + 1])
def test_a_server_cannot_ask_for_messages_of_any_size(message: int) -> None:
    with pytest.raises(ValidationError):
        Offset(offset=0, message=message)
