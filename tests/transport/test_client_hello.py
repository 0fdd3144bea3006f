"""The first message of TLS is read as it comes: in pieces, over several records, cut, changed, or something else."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.transport.client_hello import LONGEST_HELLO, HelloReader


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


def offered_protocols(data: bytes) -> tuple[str, ...] | None:
    return HelloReader().read(data)


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


@pytest.mark.parametrize("data", [BULK, over_records(BULK, 1), over_records(BULK, 7)], ids=["one", "bytes", "records"])
def test_what_comes_in_pieces_is_read_by_one_reader(data: bytes) -> None:
    reader = HelloReader()
    said = [reader.read(data[:count]) for count in range(len(data) + 1)]
    assert said == [None] * len(data) + [("archipel-bulk/1",)]


class CountedBytes(bytes):
    """Bytes that count how often a record's head is taken from them."""

    heads = 0

    def __getitem__(self, at: object) -> bytes:  # type: ignore[override]
        CountedBytes.heads += 1
        return super().__getitem__(at)  # type: ignore[index]


def test_a_hello_in_records_of_one_byte_costs_no_more_for_being_looked_at_often() -> None:
    # The longest one has 2,700 records. Read from the start at each of 40 looks, those of 1,000 callers were 20
    # seconds of work for each second.
    message = b"\x01\x00\x3f\x00" + bytes(2000)
    data = b"".join(b"\x16\x03\x01\x00\x01" + message[at : at + 1] for at in range(len(message)))
    reader, looks = HelloReader(), 40
    CountedBytes.heads = 0
    for look in range(looks):
        assert reader.read(CountedBytes(data[: len(data) - looks + look])) is None
    assert CountedBytes.heads <= 2 * len(message) + 2 * looks


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
