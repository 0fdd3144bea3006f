"""The first message of TLS is read as it comes: in pieces, over several records, cut, changed, or something else."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.transport.client_hello import LONGEST_HELLO, offered_protocols


def hello(*protocols: str) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="server.example").do_handshake()
    return out.read()


def over_records(data: bytes, size: int) -> bytes:
    """The same handshake message, in records of so many bytes each."""
    version, message = data[1:3], data[5:]
    pieces = (message[start : start + size] for start in range(0, len(message), size))
    return b"".join(b"\x16" + version + len(piece).to_bytes(2) + piece for piece in pieces)


BULK = hello("archipel-bulk/1")


@pytest.mark.parametrize("protocols", [(), ("h2",), ("archipel-bulk/1",), ("h2", "http/1.1")])
def test_the_offered_protocols_are_read_in_their_order(protocols: tuple[str, ...]) -> None:
    assert offered_protocols(hello(*protocols)) == protocols


@pytest.mark.parametrize("size", [1, 3, 5, 100])
def test_a_hello_over_several_records_is_read(size: int) -> None:
    assert offered_protocols(over_records(BULK, size)) == ("archipel-bulk/1",)


@pytest.mark.parametrize("data", [BULK, over_records(BULK, 7)], ids=["one-record", "records"])
def test_while_some_of_it_is_missing_nothing_is_said(data: bytes) -> None:
    assert [offered_protocols(data[:count]) for count in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-x\r\n",
        b"\x16\x02\x00",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x15\x03\x01\x00\x02\x01\x00",
    ],
)
def test_what_is_not_a_client_hello_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(ValueError):
        offered_protocols(data)


def test_a_hello_that_is_longer_than_any_is_refused() -> None:
    long = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc"
    with pytest.raises(ValueError, match="too long"):
        offered_protocols(long.ljust(LONGEST_HELLO, b"\0"))


@given(st.integers(0, len(BULK) - 1), st.integers(0, 255))
def test_a_changed_byte_gives_protocols_or_an_error_and_never_another_exception(place: int, value: int) -> None:
    changed = bytearray(BULK)
    changed[place] = value
    try:
        offered_protocols(bytes(changed))
    except ValueError:
        return


@given(st.binary(max_size=200))
def test_any_bytes_behind_a_record_head_are_refused_or_waited_for(data: bytes) -> None:
    try:
        offered_protocols(b"\x16\x03\x01" + len(data).to_bytes(2) + data)
    except ValueError:
        return
