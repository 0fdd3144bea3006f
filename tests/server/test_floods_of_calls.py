"""A site with a good certificate floods the sites' port: refused in few words, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

from archipel.server import process
from archipel.server.membership.federation import ServerContext
from archipel.server.membership.registry import Site
from archipel.server.state.schema import sites
from archipel.tensors import blob_hash
from archipel.transport import FetchStart, UploadStart, service
from archipel.transport.bulk_requests import fetch_head, upload_head
from archipel.transport.bulk_service import MOST_TRANSFERS
from archipel.transport.messages import RenewRequest
from archipel.transport.reading import LONGEST_FROM_SITE
from archipel.transport.service import MOST_CALLS, SERVICE
from archipel.vocabulary import ArchipelError, ErrorCode, TaskKey, Update
from worlds.server import Applicant
from worlds.sites_port import ENDLESS, Attacked, Keys, Scripted, answer, closing_all, fetched, listening

START = UploadStart(
    update=Update(
        key=TaskKey(experiment="first", round=1),
        site="berlin",
        task_hash="sha256:" + "0" * 64,
        model="blake3:" + "0" * 64,
        model_bytes=1 << 20,
        samples=1,
    )
)


@pytest.fixture
async def attacked(federation: ServerContext) -> AsyncIterator[Attacked]:
    async with listening(federation) as found:
        yield found


FLOODS = {
    "Control": b'{"type":"datasets","datasets":[' + b",".join([b"{}"] * 100_000) + b"]}",
    "Offset": b'{"update":{"metrics":{' + b",".join(b'"a%x":{}' % n for n in range(40_000)) + b"}}}",
    "Renew": b"{" + b",".join(b'"a%x":0' % n for n in range(40_000)) + b"}",
}


@pytest.mark.parametrize("method", FLOODS)
async def test_a_flood_of_faults_ends_the_call_and_not_the_server(attacked: Attacked, method: str) -> None:
    call = attacked.channel().stream_stream(f"/{SERVICE}/{method}")()
    with contextlib.suppress(grpc.aio.UsageError, asyncio.InvalidStateError, grpc.aio.AioRpcError):
        await call.write(FLOODS[method])
        await call.done_writing()
    async with asyncio.timeout(60):
        assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION
        details = await call.details()
    assert json.loads(details)["cause"].startswith("is not one of this protocol") and len(details) < 300
    assert await attacked.still_answers()


async def test_a_message_longer_than_any_is_refused_before_it_arrived(attacked: Attacked) -> None:
    call = attacked.channel().stream_stream(f"/{SERVICE}/Control")()
    with contextlib.suppress(grpc.aio.UsageError, asyncio.InvalidStateError, grpc.aio.AioRpcError):
        await call.write(bytes(LONGEST_FROM_SITE + 1))
    async with asyncio.timeout(60):
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await attacked.still_answers()


async def test_the_calls_of_one_certificate_keep_no_other_site_out(attacked: Attacked) -> None:
    most = MOST_CALLS["Control"]

    def called(keys: Keys | None = None) -> Any:
        return attacked.channel(keys).stream_stream(f"/{SERVICE}/Control")()

    calls = [called() for _ in range(most + 8)]
    async with asyncio.timeout(60):
        while len(refused := [call for call in calls if call.done()]) < 8:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        told = {json.loads(await call.details())["cause"] for call in refused}
    assert len(refused) == 8 and told == {f"has {most} calls of Control under way"}
    other = called(attacked.other)
    assert not (await asyncio.wait({asyncio.ensure_future(other.code())}, timeout=0.3))[0]
    for call in (*calls, other):
        call.cancel()


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as a serving process may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    process.open_all_there_are()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_files")
async def test_silent_connections_keep_no_site_out(attacked: Attacked) -> None:
    silent = await asyncio.to_thread(lambda: [attacked.plain() for _ in range(520)])
    with closing_all(silent):
        async with asyncio.timeout(30):
            assert await attacked.still_answers()


async def test_a_connection_without_a_call_is_closed(
    federation: ServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "IDLE_MS", 500)
    async with asyncio.timeout(60), listening(federation) as attacked:
        channel = attacked.channel()
        renew = RenewRequest(csr="", proof="").model_dump_json().encode()
        await channel.unary_unary(f"/{SERVICE}/Renew")(renew)
        while (state := channel.get_state()) is not grpc.ChannelConnectivity.IDLE:
            await channel.wait_for_state_change(state)


def slow_uploads(attacked: Attacked, count: int) -> list[ssl.SSLSocket]:
    """Connections of one site that have each begun an update and sent one byte of its tensor file."""
    record = START.model_dump_json().encode()
    begun = []
    for _ in range(count):
        begun.append(attacked.bulk())
        begun[-1].sendall(upload_head("server", len(record), 1 << 20, waits=False) + record + b"x")
    return begun


async def test_slow_bodies_of_one_site_keep_no_other_site_out(federation: ServerContext) -> None:
    data = bytes(range(256)) * 9000
    async with listening(federation, Scripted(data)) as attacked, asyncio.timeout(60):
        slow = await asyncio.to_thread(slow_uploads, attacked, MOST_TRANSFERS + 12)
        with closing_all(slow):
            refused = [await asyncio.to_thread(answer, one) for one in slow[MOST_TRANSFERS:]]
            assert {status for status, _ in refused} == {503}
            assert {(error.code, error.cause) for _, error in refused if error} == {
                (ErrorCode.LOST, f"has {MOST_TRANSFERS} transfers under way")
            }
            assert await fetched(attacked.client(attacked.other), blob_hash(data)) == data
        # Those that ended make room for the site's next one.
        while True:
            try:
                assert await fetched(attacked.client(), blob_hash(data)) == data
                break
            except ArchipelError as error:
                assert error.code is ErrorCode.LOST


async def test_a_body_whose_bytes_trickle_is_given_up(federation: ServerContext) -> None:
    def trickle(connection: ssl.SSLSocket) -> int:
        for sent in range(200):
            try:
                connection.send(b"x")
            except OSError:
                return sent
            time.sleep(0.05)
        pytest.fail("bytes that trickle are taken for ever")

    async with listening(federation, silence_s=0.5) as attacked, asyncio.timeout(60):
        (slow,) = await asyncio.to_thread(slow_uploads, attacked, 1)
        with closing_all([slow]):
            # Each byte comes in time: it is the piece that does not.
            assert await asyncio.to_thread(trickle, slow) >= 5


async def test_a_site_that_does_not_read_what_it_asked_for_is_given_up(federation: ServerContext) -> None:
    async with listening(federation, silence_s=0.5) as attacked, asyncio.timeout(60):
        deaf = await asyncio.to_thread(attacked.bulk)
        with closing_all([deaf]):
            deaf.sendall(fetch_head("server", FetchStart(hash=ENDLESS)))
            for begun in (True, False):
                while bool(attacked.port.bulk.transfers.count("berlin")) is not begun:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"nothing",
        b"{}",
        b'{"update":{"metrics":{' + b",".join(b'"a%x":{}' % n for n in range(40_000)) + b"}}}",
        b"[" * 100_000,
    ],
    ids=["none", "text", "empty", "flood", "nested"],
)
async def test_an_upload_without_an_update_is_refused(attacked: Attacked, record: bytes) -> None:
    def ask() -> tuple[int, ArchipelError | None]:
        with attacked.bulk() as connection:
            connection.sendall(upload_head("server", len(record), 100, waits=False) + record + bytes(100))
            return answer(connection)

    status, error = await asyncio.to_thread(ask)
    assert status == 409 and error is not None and error.code is ErrorCode.BAD_INPUT and len(str(error)) < 300
    assert not attacked.service.starts and await attacked.still_answers()


REQUESTS = [
    b"GET /blobs/blake3:" + b"0" * 64 + b" HTTP/1.1\r\nHost: a\r\nRange: bytes=5-9\r\n\r\n",
    b"GET /blobs/../keys HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /blobs/blake3:00 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"DELETE /updates HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /updates HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /updates HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
    b"POST /updates HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nArchipel-Start: 11\r\n\r\n",
    b"POST /updates HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\nArchipel-Start: 9999999\r\n\r\n",
    b"\x00\x01\x02\x03\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
]


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
async def test_a_request_that_is_none_of_this_protocol_is_refused(attacked: Attacked, request_: bytes) -> None:
    def ask() -> tuple[int, ArchipelError | None]:
        with attacked.bulk() as connection:
            connection.sendall(request_)
            return answer(connection)

    status, error = await asyncio.to_thread(ask)
    assert status == 409 and error is not None and error.code is ErrorCode.BAD_INPUT and len(str(error)) < 400


def test_what_was_kept_of_a_sites_datasets_before_there_were_bounds_hides_no_site(
    federation: ServerContext, enrolled: Applicant
) -> None:
    with federation.database.write() as connection:
        kept = json.dumps([{"name": "d", "kind": "x" * 1000, "subjects": 5}])
        connection.execute(sites.update().values(summary=kept))
    found: Site = federation.registry.site("berlin")
    assert found.datasets == ()
    assert [site.site for site in federation.registry.sites()] == ["berlin"]
