"""The sites' one port: who says nothing, something else, or everything in pieces, holds nobody up."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from archipel.server import process
from archipel.server.membership.federation import ServerContext
from archipel.tensors import blob_hash
from archipel.transport import front
from archipel.transport.tls import BULK
from worlds.sites_port import Attacked, Keys, Scripted, closing_all, fetched, listening

DATA = bytes(range(256)) * 100
BLOB = blob_hash(DATA)


@pytest.fixture
async def attacked(federation: ServerContext) -> AsyncIterator[Attacked]:
    async with listening(federation, Scripted(DATA)) as found, asyncio.timeout(60):
        yield found


def refuses(tls: ssl.SSLSocket, request: bytes) -> bool:
    """Whether the server ends the connection without an answer."""
    try:
        tls.sendall(request)
        return tls.recv(100) == b""
    except OSError:
        return True


async def both_protocols_work(attacked: Attacked) -> bool:
    return await attacked.still_answers() and await fetched(attacked.client(attacked.other), BLOB) == DATA


def ended(connection: socket.socket, seconds: float = 20) -> bool:
    """Whether the server closes the connection, with nothing said on it."""
    connection.settimeout(seconds)
    try:
        return connection.recv(100) == b""
    except ConnectionError:
        return True


async def test_messages_and_bytes_have_one_port(attacked: Attacked) -> None:
    assert await both_protocols_work(attacked)


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ids=["http", "another-message", "h2-without-tls"],
)
async def test_what_is_not_tls_is_closed(attacked: Attacked, data: bytes) -> None:
    with attacked.plain() as connection:
        connection.sendall(data)
        assert await asyncio.to_thread(ended, connection)
    assert await both_protocols_work(attacked)


@pytest.mark.parametrize("protocols", [[], ["http/1.1"], ["archipel-bulk/2", "h3"], ["x" * 200]])
async def test_a_caller_of_another_protocol_is_closed_without_a_word(attacked: Attacked, protocols: list[str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)

    def call() -> None:
        with attacked.plain() as connection, pytest.raises(OSError):
            context.wrap_socket(connection)

    await asyncio.to_thread(call)
    assert await both_protocols_work(attacked)


async def test_a_bulk_connection_without_a_certificate_is_refused(attacked: Attacked) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([BULK])

    def call() -> None:
        # In TLS 1.3 the client has ended its handshake before the server looks at the certificate.
        with context.wrap_socket(attacked.plain()) as tls:
            assert refuses(tls, b"GET /blobs/x HTTP/1.1\r\nHost: a\r\n\r\n")

    await asyncio.to_thread(call)
    assert not attacked.service.starts


def in_pieces(attacked: Attacked, keys: Keys, protocol: str, record: int, piece: int) -> bool:
    """A handshake whose ClientHello comes in records and in pieces of so many bytes; whether it is completed."""
    context = keys.tls
    context.set_alpn_protocols([protocol])
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(coming, going, server_hostname="127.0.0.1")
    with attacked.plain() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            hello = going.read()
        message = hello[5:]
        records = [message[start : start + record] for start in range(0, len(message), record)]
        data = b"".join(hello[:3] + len(one).to_bytes(2) + one for one in records)
        for start in range(0, len(data), piece):
            connection.sendall(data[start : start + piece])
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(going.read())
                got = connection.recv(1 << 16)
                if not got:
                    return False
                coming.write(got)
        return tls.selected_alpn_protocol() == protocol


@pytest.mark.parametrize("protocol", [BULK, "h2"])
@pytest.mark.parametrize(("record", "piece"), [(1 << 14, 1), (40, 7)], ids=["bytes", "records"])
async def test_a_hello_in_pieces_is_understood(attacked: Attacked, protocol: str, record: int, piece: int) -> None:
    assert await asyncio.to_thread(in_pieces, attacked, attacked.keys, protocol, record, piece)


async def test_a_hello_that_does_not_end_is_given_up(
    federation: ServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "HELLO_S", 0.4)
    async with listening(federation, Scripted(DATA)) as attacked, asyncio.timeout(60):
        slow = [attacked.plain() for _ in range(30)]
        with closing_all(slow):
            for connection in slow:
                connection.sendall(b"\x16\x03\x01\x02\x00\x01")
            assert await both_protocols_work(attacked)
            assert await asyncio.to_thread(lambda: all(map(ended, slow)))


async def test_a_hello_longer_than_any_is_given_up_before_its_time(attacked: Attacked) -> None:
    with attacked.plain() as connection:
        connection.sendall((b"\x16\x03\x01\x3f\x00\x01\x00\x3f\xfc").ljust(front.LONGEST_HELLO + 1, b"\0"))
        assert await asyncio.to_thread(ended, connection, 5)


async def test_a_caller_that_closes_one_direction_of_a_relayed_connection_leaves_nothing(attacked: Attacked) -> None:
    context = attacked.keys.tls
    context.set_alpn_protocols(["h2"])

    def half_closed() -> bool:
        with context.wrap_socket(attacked.plain(), server_hostname="127.0.0.1") as tls:
            socket.socket.shutdown(tls, socket.SHUT_WR)
            tls.settimeout(20)
            try:
                while tls.recv(1 << 14):
                    continue
            except ConnectionError:
                return True
            return True

    assert await asyncio.to_thread(half_closed)
    while attacked.port.open:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as a serving process may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    process.open_all_there_are()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_files")
async def test_more_idle_connections_than_there_may_be_end_each_other_and_no_site(attacked: Attacked) -> None:
    control = attacked.channel().stream_stream("/archipel.Federation/Control")()
    await control.wait_for_connection()
    idle = await asyncio.to_thread(lambda: [attacked.plain() for _ in range(front.MOST_CONNECTIONS + 20)])
    with closing_all(idle):
        assert await both_protocols_work(attacked)
        assert attacked.port.open <= front.MOST_CONNECTIONS
        assert not control.done()
    control.cancel()


async def test_a_stopped_port_ends_its_connections(federation: ServerContext) -> None:
    async with asyncio.timeout(60):
        async with listening(federation, Scripted(DATA)) as attacked:
            silent = attacked.plain()
            bulk = await asyncio.to_thread(attacked.bulk)
            channel = attacked.channel()
            control = channel.stream_stream("/archipel.Federation/Control")()
            await control.wait_for_connection()
            call = asyncio.ensure_future(control.read())
        with closing_all([silent, bulk]):
            assert ended(silent)
            assert bulk.recv(1) == b""
            with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
                await call
