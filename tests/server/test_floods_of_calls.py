"""A site with a good certificate floods the server's gRPC port: refused in few words, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from archipel.server import process
from archipel.server.membership.federation import ServerContext
from archipel.server.membership.registry import Site
from archipel.server.state.schema import sites
from archipel.transport import FetchStart, Peer, service, start_grpc_server
from archipel.transport.messages import FromSite, Offset, RenewRequest, UploadStart
from archipel.transport.reading import LONGEST_FROM_SITE
from archipel.transport.service import MOST_CALLS, MOST_STREAMS, SERVICE
from archipel.vocabulary import ErrorCode
from worlds.people import OLGA
from worlds.server import Applicant

FETCH = FetchStart(hash="blake3:" + "0" * 64).model_dump_json().encode()


class Endless:
    """A server's room that admits everybody and sends chunks for as long as somebody takes them."""

    def admit(self, peer: Peer) -> None:
        pass

    async def control(self, peer: Peer, incoming: AsyncIterator[FromSite], send: Any) -> None:
        async for _ in incoming:
            pass

    async def fetch(self, peer: Peer, start: FetchStart) -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    async def upload(self, peer: Peer, start: UploadStart, chunks: AsyncIterator[bytes]) -> None:
        pytest.fail("no update was sent")

    async def offset(self, peer: Peer, start: UploadStart) -> Offset:
        pytest.fail("no update was asked for")

    async def renew(self, peer: Peer, request: RenewRequest) -> str:
        return "a certificate"


@dataclass
class Attacked:
    """The listening server, the site's keys, and those of another site."""

    address: str
    credentials: grpc.ChannelCredentials
    other: grpc.ChannelCredentials
    channels: list[Any] = field(default_factory=list)

    def channel(self, credentials: grpc.ChannelCredentials | None = None) -> Any:
        """A connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channels.append(grpc.aio.secure_channel(self.address, credentials or self.credentials, options=options))
        return self.channels[-1]

    async def still_answers(self) -> bool:
        renew = self.channel().unary_unary(f"/{SERVICE}/Renew")
        return b"a certificate" in await renew(RenewRequest(csr="", proof="").model_dump_json().encode())


@contextlib.asynccontextmanager
async def listening(federation: ServerContext) -> AsyncIterator[Attacked]:
    state = federation.state
    federation.authority.ensure_server_certificate(state, ["127.0.0.1"], datetime.now(UTC))
    authority = state.ca_certificate.read_bytes()
    server, port = await start_grpc_server(
        Endless(), host="127.0.0.1", port=0, authority=authority,
        key=state.tls_key.read_bytes(), certificate=state.tls_certificate.read_bytes(),
    )  # fmt: skip

    def keys(name: str) -> grpc.ChannelCredentials:
        site = Applicant(name)
        token = federation.enrolment.create_token(name, by=OLGA)
        certificate = federation.enrolment.enrol(site.request(token), datetime.now(UTC)).certificate
        return grpc.ssl_channel_credentials(authority, site.tls_pem(), certificate.encode())

    found = Attacked(f"127.0.0.1:{port}", keys("berlin"), keys("paris"))
    yield found
    for channel in found.channels:
        await channel.close(None)
    await server.stop(None)


@pytest.fixture
async def attacked(federation: ServerContext) -> AsyncIterator[Attacked]:
    async with listening(federation) as found:
        yield found


FLOODS = {
    "Control": b'{"type":"datasets","datasets":[' + b",".join([b"{}"] * 100_000) + b"]}",
    "Upload": b'{"update":{"metrics":{' + b",".join(b'"a%x":{}' % n for n in range(40_000)) + b"}}}",
    "Offset": b'{"update":{"metrics":{' + b",".join(b'"a%x":{}' % n for n in range(40_000)) + b"}}}",
    "Fetch": b"{" + b",".join(b'"a%x":0' % n for n in range(40_000)) + b"}",
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


@pytest.mark.parametrize("method", ["Control", "Upload"])
async def test_the_calls_of_one_certificate_keep_no_other_site_out(attacked: Attacked, method: str) -> None:
    most = MOST_CALLS[method]

    def called(credentials: grpc.ChannelCredentials | None = None) -> Any:
        return attacked.channel(credentials).stream_stream(f"/{SERVICE}/{method}")()

    calls = [called() for _ in range(most + 8)]
    async with asyncio.timeout(60):
        while len(refused := [call for call in calls if call.done()]) < 8:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        told = {json.loads(await call.details())["cause"] for call in refused}
    assert len(refused) == 8 and told == {f"has {most} calls of {method} under way"}
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
    host, port = attacked.address.split(":")
    silent = [(await asyncio.open_connection(host, int(port)))[1] for _ in range(520)]
    async with asyncio.timeout(30):
        assert await attacked.still_answers()
    for writer in silent:
        writer.close()


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


async def test_a_site_has_so_many_fetches_at_a_time_over_all_its_connections(attacked: Attacked) -> None:
    async def first_chunk(call: Any) -> str:
        try:
            return "open" if len(await call.read()) else "empty"
        except grpc.aio.AioRpcError as error:
            return str(json.loads(error.details() or "")["code"])

    most = MOST_CALLS["Fetch"]
    channels = [attacked.channel() for _ in range(most // MOST_STREAMS + 1)]
    calls = [channel.unary_stream(f"/{SERVICE}/Fetch")(FETCH) for channel in channels for _ in range(MOST_STREAMS)]
    async with asyncio.timeout(60):
        found = await asyncio.gather(*map(first_chunk, calls))
    assert sorted(found) == [str(ErrorCode.LOST)] * MOST_STREAMS + ["open"] * most
    for call in calls:
        call.cancel()
    async with asyncio.timeout(60):
        again = str(ErrorCode.LOST)
        while again != "open":
            again = await first_chunk(channels[0].unary_stream(f"/{SERVICE}/Fetch")(FETCH))


def test_what_was_kept_of_a_sites_datasets_before_there_were_bounds_hides_no_site(
    federation: ServerContext, enrolled: Applicant
) -> None:
    with federation.database.write() as connection:
        kept = json.dumps([{"name": "d", "kind": "x" * 1000, "subjects": 5}])
        connection.execute(sites.update().values(summary=kept))
    found: Site = federation.registry.site("berlin")
    assert found.datasets == ()
    assert [site.site for site in federation.registry.sites()] == ["berlin"]
