"""Every machine that reaches the REST port may open connections: silent ones are closed, and their number is
bounded.
"""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from test_rest import submitted

from archipel.server import process
from archipel.server.membership.federation import ServerContext
from archipel.transport.enrolment import ENROLMENT_HEADER
from worlds.people import OLGA
from worlds.server import Applicant, Served, serving


@pytest.fixture
async def hurried(federation: ServerContext) -> AsyncIterator[Served]:
    async with serving(federation, request_s=1.0) as found:
        yield found


@pytest.fixture
async def three_connections(federation: ServerContext) -> AsyncIterator[Served]:
    async with serving(federation, connections=3) as found:
        yield found


async def dialled(served: Served, tls: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    trust = ssl.create_default_context(cadata=served.federation.authority.pem)
    return await asyncio.open_connection("127.0.0.1", served.federation.settings.rest_port, ssl=trust if tls else None)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What the other side said until it closed the connection."""
    said = b""
    async with asyncio.timeout(30):
        try:
            while chunk := await reader.read(4096):
                said += chunk
        except (ConnectionError, ssl.SSLError):
            pass
    return said


BEGUN = b"GET /v1/health HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("said", [b"", BEGUN, b"G"], ids=["nothing", "half a request", "a byte"])
async def test_a_connection_without_a_whole_request_is_closed(hurried: Served, said: bytes) -> None:
    reader, writer = await dialled(hurried)
    writer.write(said)
    assert await ended(reader) == b""
    writer.close()


async def test_a_second_request_that_does_not_end_is_not_waited_for_either(hurried: Served) -> None:
    reader, writer = await dialled(hurried)
    writer.write(BEGUN + b"\r\n")
    assert (await reader.readuntil(b'"}')).startswith(b"HTTP/1.1 200")
    writer.write(BEGUN)
    assert await ended(reader) == b""
    writer.close()


async def test_a_connection_that_never_begins_tls_is_closed(federation: ServerContext) -> None:
    async with serving(federation, handshake_s=0.5) as served:
        reader, writer = await dialled(served, tls=False)
        assert await ended(reader) == b""
        writer.close()


async def test_a_body_may_take_longer_than_what_stands_before_it(hurried: Served) -> None:
    async with hurried.client("operate") as client:

        async def slow() -> object:
            yield b'{"site":'
            # A connection that began later and says nothing is closed: this one had all the time of a request.
            reader, writer = await dialled(hurried)
            assert await ended(reader) == b""
            writer.close()
            yield b'"paris"}'

        assert (await client.post("/v1/join-tokens", content=slow())).status_code == 201


async def test_a_body_that_does_not_come_is_not_waited_for(federation: ServerContext) -> None:
    invited = federation.enrolment.create_token("berlin", by=OLGA).id
    async with serving(federation, body_s=0.2) as served:
        reader, writer = await dialled(served)
        writer.write(f"POST /v1/enrolment HTTP/1.1\r\nHost: x\r\n{ENROLMENT_HEADER}: {invited}\r\n".encode())
        writer.write(b"Content-Length: 100\r\n\r\n{")
        said = await ended(reader)
        assert said.startswith(b"HTTP/1.1 400") and b"did not come within" in said
        writer.close()


@pytest.mark.parametrize(
    ("token", "cause"),
    [
        ("", "is not named in the header"),
        ("f00d", "is not known here"),
        ("used", "was used"),
        ("revoked", "was revoked"),
        ("expired", "expired"),
    ],
)
async def test_the_body_of_a_stranger_is_not_waited_for_at_all(
    federation: ServerContext, token: str, cause: str
) -> None:
    now, enrolment = datetime.now(UTC), federation.enrolment
    past = now - timedelta(days=9) if token == "expired" else now
    known = enrolment.create_token("berlin", timedelta(days=1), past, by=OLGA)
    if token == "revoked":
        enrolment.revoke_token(known.id, by=OLGA)
    if token == "used":
        enrolment.enrol(Applicant("berlin").request(known), now)
    named = token if token in ("", "f00d") else known.id
    async with serving(federation) as served:
        reader, writer = await dialled(served)
        writer.write(f"POST /v1/enrolment HTTP/1.1\r\nHost: x\r\n{ENROLMENT_HEADER}: {named}\r\n".encode())
        writer.write(b"Content-Length: 100\r\n\r\n{")
        async with asyncio.timeout(30):
            said = await reader.readuntil(b'"}')
        assert said.startswith(b"HTTP/1.1 401") and cause.encode() in said
        writer.close()


async def answered(served: Served) -> bytes:
    """What a new connection is answered; nothing if it is closed, be it before it has begun TLS."""
    try:
        reader, writer = await dialled(served)
    except OSError:
        return b""
    writer.write(BEGUN + b"Connection: close\r\n\r\n")
    said = await ended(reader)
    writer.close()
    return said


async def test_one_connection_too_many_is_closed_and_the_next_is_served_when_one_goes(
    three_connections: Served,
) -> None:
    await submitted(three_connections, Applicant("berlin").enrol(three_connections.federation))
    held = []
    for person in range(3):
        token, _ = three_connections.federation.tokens.create(
            f"person {person}", ["read"], timedelta(days=1), datetime.now(UTC), by=OLGA
        )
        reader, writer = await dialled(three_connections)
        asked = f"GET /v1/experiments/first/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        writer.write(asked.encode())
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        held.append(writer)
    assert await answered(three_connections) == b""
    held[0].close()
    async with asyncio.timeout(30):
        while not (said := await answered(three_connections)):
            pass
    assert said.startswith(b"HTTP/1.1 200")
    for writer in held[1:]:
        writer.close()


async def test_for_one_connection_too_many_goes_the_one_that_has_said_nothing_for_longest(
    three_connections: Served,
) -> None:
    silent = [await dialled(three_connections) for _ in range(3)]
    for gone in range(2):
        reader, writer = await dialled(three_connections)
        writer.write(BEGUN + b"\r\n")
        assert (await reader.readuntil(b'"}')).startswith(b"HTTP/1.1 200")
        assert await ended(silent[gone][0]) == b""
    assert not silent[2][0].at_eof()


@pytest.fixture
def few_files() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_server_opens_as_many_files_as_it_may(few_files: int) -> None:
    process.open_all_there_are()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (few_files, few_files)
