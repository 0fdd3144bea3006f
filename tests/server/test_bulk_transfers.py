"""A model comes down and an update goes up: over breaks, refusals at any moment, ends, and connections used again."""

from __future__ import annotations

import asyncio
import contextlib
import io
import mmap
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archipel.server.membership import Authority
from archipel.server.membership.federation import ServerContext
from archipel.server.state import ServerState
from archipel.tensors import blob_hash, document_hash
from archipel.transport import CHUNK, Download, Peer, UploadStart, bodies
from archipel.transport.bulk_requests import upload_head
from archipel.transport.dialling import dial
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    Conflict,
    ErrorCode,
    NotFound,
    NotPermitted,
    StorageFull,
    TaskKey,
    Update,
)
from worlds.sites_port import ENDLESS, ENDLESS_BYTES, Attacked, Scripted, answer, fetched, listening

DATA = np.random.default_rng(0).bytes(4 * CHUNK + 77)
BLOB = blob_hash(DATA)
REVOKED = NotPermitted("certificate 1 of berlin", "is revoked", "ask for a join token", code=ErrorCode.REVOKED)


class Checks(Scripted):
    """Admits so many times; then the certificate is revoked."""

    def __init__(self, *blobs: bytes, times: int = 10**9) -> None:
        super().__init__(*blobs)
        self.times, self.asked = times, 0

    def admit(self, peer: Peer) -> None:
        self.asked += 1
        if self.asked > self.times:
            raise REVOKED


def start(data: bytes, offset: int = 0) -> UploadStart:
    key = TaskKey(experiment="first", round=1)
    update = Update(
        key=key,
        site="berlin",
        task_hash="sha256:" + "0" * 64,
        model=blob_hash(data),
        model_bytes=len(data),
        samples=1,
    )
    return UploadStart(update=update, offset=offset)


@pytest.fixture
async def server(federation: ServerContext) -> AsyncIterator[Attacked]:
    async with listening(federation, Checks(DATA, b"")) as found, asyncio.timeout(60):
        yield found


def into(memory: bytearray, blob: str = BLOB) -> Download:
    return Download(blob, lambda size: memoryview(memory))


async def test_a_blob_arrives_where_it_stays(server: Attacked) -> None:
    memory = bytearray(len(DATA))
    download = into(memory)
    await server.client().fetch(download)
    assert memory == DATA and download.is_right
    assert await fetched(server.client(), blob_hash(b"")) == b""


async def test_a_document_is_checked_by_its_own_hash() -> None:
    for blob, right in ((document_hash(b"a job"), True), (document_hash(b"another"), False), (BLOB, False)):
        download = Download(blob, lambda size: memoryview(bytearray(size)))
        piece = download.window(5)
        piece[:] = b"a job"
        download.came(piece)
        assert download.is_right is right


async def test_an_update_is_taken_from_the_byte_on_at_which_it_goes_on(server: Attacked) -> None:
    client = server.client()
    await client.upload(start(DATA), io.BytesIO(DATA))
    assert server.service.uploaded == DATA
    server.service.uploaded.clear()
    await client.upload(start(DATA, 3 * CHUNK), io.BytesIO(DATA))
    assert server.service.uploaded == DATA[3 * CHUNK :]
    assert server.service.starts == [start(DATA), start(DATA, 3 * CHUNK)]


async def test_an_update_without_tensors_is_taken(server: Attacked) -> None:
    one = start(DATA)
    without = one.model_copy(update={"update": one.update.model_copy(update={"model": None, "model_bytes": 0})})
    await server.client().upload(without, None)
    assert server.service.starts == [without] and not server.service.uploaded


async def test_transfers_one_after_the_other_use_one_connection(server: Attacked) -> None:
    client = server.client()
    for _ in range(3):
        assert await fetched(client, BLOB) == DATA
        await client.upload(start(DATA), io.BytesIO(DATA))
    assert server.port.open == 1


async def test_a_connection_that_the_server_ended_meanwhile_is_made_again(server: Attacked) -> None:
    client = server.client()
    assert await fetched(client, BLOB) == DATA
    (link,) = client._idle
    # As by a firewall that forgets it: nothing is said to this end.
    assert link.connection is not None
    socket.socket.shutdown(link.connection, socket.SHUT_WR)
    while server.port.open:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await fetched(client, BLOB) == DATA


@pytest.mark.parametrize("error", [NotFound, Conflict, BadInput, NotPermitted])
async def test_an_update_that_is_refused_before_its_bytes_tells_why(server: Attacked, error: type[Any]) -> None:
    server.service.refuses = error("update", "is not wanted", "nothing", code=ErrorCode.ROUND_CLOSED)
    for data in (DATA, DATA[: CHUNK // 2]):
        with pytest.raises(ArchipelError, match="update: is not wanted; nothing") as told:
            await server.client().upload(start(data), io.BytesIO(data))
        assert told.value.code is ErrorCode.ROUND_CLOSED
    assert not server.service.uploaded


async def test_a_full_disk_in_the_middle_of_a_long_update_is_told(server: Attacked) -> None:
    server.service.full = StorageFull("disk", "the disk is full", "free space there")
    long = bytes(40 * CHUNK)
    with pytest.raises(StorageFull, match="the disk is full"):
        await server.client().upload(start(long), io.BytesIO(long))


async def test_an_unexpected_error_is_told_without_its_text(server: Attacked) -> None:
    server.service.full = RuntimeError("a secret")
    with pytest.raises(ArchipelError, match="could not answer") as told:
        await server.client().upload(start(DATA), io.BytesIO(DATA))
    assert "secret" not in str(told.value) and told.value.code is ErrorCode.INTERNAL


async def test_a_blob_that_is_not_here_is_told(server: Attacked) -> None:
    with pytest.raises(NotFound, match="is not here"):
        await fetched(server.client(), blob_hash(b"another"))


async def test_a_site_with_less_room_reads_nothing_of_a_longer_blob(server: Attacked) -> None:
    def room(size: int) -> memoryview:
        raise BadInput("model", f"has {size} bytes", "")

    with pytest.raises(BadInput, match=f"has {ENDLESS_BYTES} bytes"):
        await server.client().fetch(Download(ENDLESS, room))
    # The connection that would bring it is not used again.
    assert await fetched(server.client(), BLOB) == DATA


async def test_the_certificate_is_checked_again_on_the_way(server: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "CHECK_EVERY", CHUNK)
    service = server.service
    assert isinstance(service, Checks)
    # Once for the request, and once behind each of the first two pieces.
    service.times = service.asked + 2
    client, memory = server.client(), bytearray(len(DATA))
    download = into(memory)
    with pytest.raises(ArchipelError) as lost:
        await client.fetch(download)
    assert lost.value.code is ErrorCode.LOST and CHUNK <= download.position < len(DATA)
    with pytest.raises(ArchipelError, match="is revoked") as revoked:
        await client.fetch(download)
    assert revoked.value.code is ErrorCode.REVOKED
    # What had come is kept, and the rest comes from that byte on.
    service.times = 10**9
    await client.fetch(download)
    assert memory == DATA and download.is_right
    service.times = service.asked + 2
    with pytest.raises(ArchipelError, match="is revoked"):
        await client.upload(start(DATA), io.BytesIO(DATA))
    assert len(service.uploaded) == 2 * CHUNK


async def test_a_revoked_certificate_ends_its_connections_at_once(server: Attacked) -> None:
    service = server.service
    assert isinstance(service, Checks)
    client = server.client()
    assert await fetched(client, BLOB) == DATA
    (idle,) = client._idle
    client._idle.clear()
    moving = asyncio.create_task(client.fetch(Download(ENDLESS, long_window)))
    while server.port.bulk.transfers.count("berlin") == 0:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    service.times = service.asked
    server.port.bulk.cut_revoked()
    with pytest.raises(ArchipelError) as lost:
        await moving
    assert lost.value.code is ErrorCode.LOST and idle.connection is not None
    with idle.connection:
        assert await asyncio.to_thread(idle.connection.recv, 1) == b""


def long_window(size: int) -> memoryview:
    return memoryview(mmap.mmap(-1, size))


async def test_a_fetch_that_is_cancelled_writes_no_more(server: Attacked) -> None:
    class Slow(Download):
        """Waits behind its first piece."""

        begun, go_on = threading.Event(), threading.Event()

        def came(self, piece: memoryview) -> None:
            super().came(piece)
            self.begun.set()
            assert self.go_on.wait(30)

    memory = bytearray(len(DATA))
    download = Slow(BLOB, lambda _: memoryview(memory))
    moving = asyncio.create_task(server.client().fetch(download))
    assert await asyncio.to_thread(download.begun.wait, 30)
    moving.cancel()
    await asyncio.sleep(0.05)
    assert not moving.done(), "the memory is given back while a thread writes to it"
    download.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await moving
    here = bytes(memory)
    await asyncio.sleep(0.05)
    assert bytes(memory) == here


async def test_a_client_that_closes_loses_what_is_under_way_and_what_waits(server: Attacked) -> None:
    client = server.client()
    moving = [asyncio.create_task(client.fetch(Download(ENDLESS, long_window))) for _ in range(6)]
    while server.port.bulk.transfers.count("berlin") == 0:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    client.close()
    for one in await asyncio.gather(*moving, fetched(client, BLOB), return_exceptions=True):
        assert isinstance(one, ArchipelError) and one.code is ErrorCode.LOST


async def test_a_server_of_another_ca_or_address_is_not_trusted(server: Attacked, tmp_path: Path) -> None:
    other = ServerState(tmp_path / "other")
    other.make_folders()
    Authority.create(other, "other", datetime.now(UTC))
    strange = replace(server.keys, authority=other.ca_certificate.read_bytes())
    elsewhere = server.client()
    elsewhere._address = f"localhost:{server.port.number}"
    for client in (server.client(strange), elsewhere):
        with pytest.raises(ArchipelError, match="the server's certificate: is not from the CA that this site knows"):
            await client.upload(start(DATA), io.BytesIO(DATA))


async def test_bytes_behind_an_update_are_not_a_part_of_it(server: Attacked) -> None:
    def ask() -> list[tuple[int, ArchipelError | None]]:
        record = start(DATA).model_dump_json().encode()
        with server.bulk() as connection:
            head = upload_head("server", len(record), len(DATA), waits=False)
            connection.sendall(head + record + DATA + b"more\r\n\r\n")
            return [answer(connection), answer(connection)]

    (first, _), (second, error) = await asyncio.to_thread(ask)
    assert (first, second) == (204, 409) and error is not None
    assert server.service.uploaded == DATA


class Proxy:
    """A web proxy that connects whoever shows a name and a password."""

    def __init__(self, says: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        self.asked, self._says = b"", says

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked = await reader.readuntil(b"\r\n\r\n")
        address = self.asked.split()[1].decode()
        writer.write(self._says)
        if b" 200 " not in self._says:
            writer.close()
            return
        host, port = address.split(":")
        far, to = await asyncio.open_connection(host, int(port))

        async def pass_on(come: asyncio.StreamReader, go: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await come.read(1 << 16):
                    go.write(data)
                    await go.drain()
            go.close()

        await asyncio.gather(pass_on(reader, to), pass_on(far, writer))


@contextlib.asynccontextmanager
async def proxied(proxy: Proxy) -> AsyncIterator[int]:
    listening_ = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield listening_.sockets[0].getsockname()[1]
    finally:
        listening_.close()


async def test_everything_goes_through_a_proxy_that_wants_a_password(server: Attacked) -> None:
    proxy = Proxy()
    async with proxied(proxy) as port:
        client = server.client(proxy=f"http://eve:p%40ss@127.0.0.1:{port}")
        assert await fetched(client, BLOB) == DATA
        client.close()
    assert proxy.asked.startswith(f"CONNECT {server.address} HTTP/1.1\r\n".encode())
    assert b"Basic ZXZlOnBAc3M=" in proxy.asked


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the web proxy answers CONNECT with 407"),
        (b"SSH-2.0\r\n\r\n", "the web proxy's answer is not HTTP"),
    ],
)
async def test_a_proxy_that_refuses_is_named(server: Attacked, says: bytes, told: str) -> None:
    async with proxied(Proxy(says)) as port:
        with pytest.raises(ArchipelError, match=told) as lost:
            await fetched(server.client(proxy=f"http://127.0.0.1:{port}"), BLOB)
    assert lost.value.code is ErrorCode.LOST


def test_a_server_that_does_not_listen_is_an_error_of_the_system() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(OSError):
        dial(f"127.0.0.1:{port}", "", ssl.create_default_context())
