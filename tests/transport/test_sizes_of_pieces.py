"""How much of a transfer is in memory: the more transfers, the less, so that a server's memory stays the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from archipel.transport.bodies import Buffers
from archipel.transport.messages import CHUNK, SMALLEST, piece_size


@given(st.integers(0, 5000))
def test_pieces_of_all_transfers_together_are_no_more_than_those_of_four(transfers: int) -> None:
    size = piece_size(transfers)
    assert size == SMALLEST or size * transfers <= 4 * CHUNK
    assert CHUNK % size == 0 and size >= piece_size(transfers + 1)


def test_a_buffer_is_used_again_by_the_next_transfer() -> None:
    buffers = Buffers()
    with buffers.one() as first, buffers.one() as second:
        assert first.obj is not second.obj
        kept = {id(first.obj), id(second.obj)}
    with buffers.one() as again:
        assert id(again.obj) in kept and len(again) == CHUNK
