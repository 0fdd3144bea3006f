"""A site with a good certificate floods the server's gRPC port: refused in few words, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from archipel.server.membership.federation import ServerContext
from archipel.server.membership.registry import Site
from archipel.server.state.schema import sites
from archipel.transport import FetchStart, Peer, start_grpc_server
from archipel.transport.messages import FromSite, Offset, RenewRequest, UploadStart
from archipel.transport.reading import LONGEST_FROM_SITE
from archipel.transport.service import MOST_FETCHES, MOST_STREAMS, SERVICE
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
    """The listening server, and the site's keys."""

    address: str
    credentials: grpc.ChannelCredentials
    channels: list[Any] = field(default_factory=list)

    def channel(self) -> Any:
        """A connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channels.append(grpc.aio.secure_channel(self.address, self.credentials, options=options))
        return self.channels[-1]

    async def still_answers(self) -> bool:
        renew = self.channel().unary_unary(f"/{SERVICE}/Renew")
        return b"a certificate" in await renew(RenewRequest(csr="", proof="").model_dump_json().encode())


@pytest.fixture
async def attacked(federation: ServerContext) -> AsyncIterator[Attacked]:
    site, state = Applicant("berlin"), federation.state
    token = federation.enrolment.create_token("berlin", by=OLGA)
    certificate = federation.enrolment.enrol(site.request(token), datetime.now(UTC)).certificate
    federation.authority.ensure_server_certificate(state, ["127.0.0.1"], datetime.now(UTC))
    authority = state.ca_certificate.read_bytes()
    server, port = await start_grpc_server(
        Endless(), host="127.0.0.1", port=0, authority=authority,
        key=state.tls_key.read_bytes(), certificate=state.tls_certificate.read_bytes(),
    )  # fmt: skip
    keys = grpc.ssl_channel_credentials(authority, site.tls_pem(), certificate.encode())
    found = Attacked(f"127.0.0.1:{port}", keys)
    yield found
    for channel in found.channels:
        await channel.close(None)
    await server.stop(None)


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


async def test_a_site_has_so_many_fetches_at_a_time_over_all_its_connections(attacked: Attacked) -> None:
    async def first_chunk(call: Any) -> str:
        try:
            return "open" if len(await call.read()) else "empty"
        except grpc.aio.AioRpcError as error:
            return str(json.loads(error.details() or "")["code"])

    channels = [attacked.channel() for _ in range(MOST_FETCHES // MOST_STREAMS + 1)]
    calls = [channel.unary_stream(f"/{SERVICE}/Fetch")(FETCH) for channel in channels for _ in range(MOST_STREAMS)]
    async with asyncio.timeout(60):
        found = await asyncio.gather(*map(first_chunk, calls))
    assert sorted(found) == [str(ErrorCode.LOST)] * MOST_STREAMS + ["open"] * MOST_FETCHES
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
