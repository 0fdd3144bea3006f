"""One address or one token cannot shut the REST port: when it is full, the caller with the most connections gives up
one, and nobody is banned.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from test_rest import submitted

from archipel.server.membership.federation import ServerContext
from archipel.transport.connections import Connection, Connections, to_close
from archipel.transport.enrolment import ENROLMENT_HEADER
from archipel.transport.rest import Interrupted
from worlds.people import OLGA
from worlds.server import Applicant, Served, make_server, serving

ROOM = 12
FLOOD = 3 * ROOM
HOSPITAL, ATTACKER, PROXY = "127.0.0.1", "127.0.0.2", "127.0.0.3"
"""Addresses of this machine."""


def held(*callers: str, busy: bool = True) -> list[Connection]:
    return [Connection(caller, float(number), busy) for number, caller in enumerate(callers)]


def test_the_caller_with_the_most_gives_up_its_oldest() -> None:
    connections = held("ada", "eve", "eve", "eve", "bert", "bert")
    assert to_close(connections, connections[-1]) is connections[1]


def test_of_one_caller_a_connection_without_a_request_goes_first_and_the_newest_never() -> None:
    connections = held("eve", "eve", "eve")
    connections[1].busy = connections[2].busy = False
    assert to_close(connections, connections[2]) is connections[1]
    connections[1].busy = True
    assert to_close(connections, connections[2]) is connections[0]


def test_where_nobody_has_two_one_in_use_is_not_ended() -> None:
    connections = held("ada", "bert", "carl") + held("dora", busy=False)
    assert to_close(connections, connections[-1]) is connections[-1]
    connections[1].busy = False
    assert to_close(connections, connections[-1]) is connections[1]


def test_the_operator_reads_once_a_minute_who_holds_the_port() -> None:
    now = [0.0]
    connections = Connections(2, lambda: now[0])
    with capture_logs() as logged:
        for moment in range(70):
            now[0] = float(moment)
            connections.add(Connection("198.51.100.7", now[0]))
    assert [(line["caller"], line["connections"]) for line in logged] == [("198.51.100.7", 3)] * 2


@dataclass
class Attack:
    """Connections to a server, all of which are closed at the end."""

    served: Served
    opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def say(self, text: str, source: str = ATTACKER, tls: bool = True) -> asyncio.StreamReader:
        trust = ssl.create_default_context(cadata=self.served.federation.authority.pem) if tls else None
        port = self.served.federation.settings.rest_port
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trust, server_hostname="127.0.0.1" if tls else None, local_addr=(source, 0)
        )
        writer.write(text.encode())
        self.opened.append((reader, writer))
        return reader

    async def follow(self, token: str, source: str = ATTACKER, more: str = "") -> asyncio.StreamReader:
        """An event stream that has begun."""
        request = f"GET /v1/experiments/first/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
        reader = await self.say(request, source)
        async with asyncio.timeout(30):
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        return reader

    def token(self, name: str, *scopes: str) -> str:
        tokens = self.served.federation.tokens
        return tokens.create(name, scopes or ("read",), timedelta(days=1), datetime.now(UTC), by=OLGA)[0]

    async def close(self) -> None:
        for _, writer in self.opened:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def attacking(federation: ServerContext) -> AsyncIterator[Attack]:
    """A server with little room, and its experiment "first"."""
    async with serving(federation, connections=ROOM) as served:
        await submitted(served, Applicant("berlin").enrol(federation))
        attack = Attack(served)
        yield attack
        await attack.close()


@pytest.fixture
async def attack(federation: ServerContext) -> AsyncIterator[Attack]:
    async with attacking(federation) as found:
        yield found


async def is_answered(attack: Attack, times: int = 3) -> bool:
    """Whether other people are answered: each on a new connection."""
    codes = []
    for _ in range(times):
        async with attack.served.client("read") as client:
            codes.append((await client.get("/v1/experiments/first")).status_code)
    return codes == [200] * times


async def lives(stream: asyncio.StreamReader) -> bool:
    """Whether an event stream brings the event that happens now."""
    async with asyncio.timeout(30):
        try:
            await stream.readuntil(b"of now")
        except (asyncio.IncompleteReadError, OSError):
            return False
    return True


async def test_no_connection_leaves_the_account_by_an_upgrade(attack: Attack) -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"
    reader = await attack.say(f"GET /v1/health HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n")
    async with asyncio.timeout(30):
        assert (await reader.readuntil(b'"}')).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("tls", [False, True], ids=["no TLS", "no request"])
async def test_silent_connections_of_one_address_shut_nobody_out(attack: Attack, tls: bool) -> None:
    for _ in range(FLOOD):
        await attack.say("", tls=tls)
        assert await is_answered(attack, 1)


async def test_slow_bodies_with_one_join_token_shut_nobody_out(attack: Attack) -> None:
    token = attack.served.federation.enrolment.create_token("paris", by=OLGA)
    begun = f"POST /v1/enrolment HTTP/1.1\r\nHost: x\r\n{ENROLMENT_HEADER}: {token.id}\r\nContent-Length: 99\r\n\r\n{{"
    for number in range(FLOOD):
        # From another address each: the token is the caller.
        await attack.say(begun, f"127.0.1.{number}")
    assert await is_answered(attack)
    async with attack.served.client() as client:
        request = Applicant("paris").request(token).model_dump(mode="json")
        joined = await client.post("/v1/enrolment", json=request, headers={ENROLMENT_HEADER: token.id})
    assert joined.status_code == 200


async def test_slow_bodies_with_one_access_token_shut_nobody_out(attack: Attack) -> None:
    token = attack.token("eve", "research")
    blob = "blake3:" + "0" * 64
    begun = f"PUT /v1/blobs/{blob} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 99\r\n\r\nx"
    for number in range(FLOOD):
        await attack.say(begun, f"127.0.1.{number}")
    assert await is_answered(attack)


async def test_event_streams_of_one_token_leave_room_for_others_and_keep_the_rest(attack: Attack) -> None:
    eve = attack.token("eve")
    streams = [await attack.follow(eve, f"127.0.1.{number}") for number in range(FLOOD)]
    assert await is_answered(attack)
    people = [await attack.follow(attack.token(name), HOSPITAL) for name in ("ada", "bert", "carl")]
    await attack.served.experiments.happen("first", Interrupted(reason="of now"))
    assert [await lives(stream) for stream in people] == [True] * 3
    left = [await lives(stream) for stream in streams]
    # No ban: what nobody else needs stays hers, and it is her newest.
    assert left == sorted(left) and sum(left) in range(ROOM - 8, ROOM - 2), left


async def test_many_people_behind_one_address_go_on_while_another_address_floods(attack: Attack) -> None:
    people = [await attack.follow(attack.token(f"person {number}"), HOSPITAL) for number in range(ROOM - 2)]
    eve = attack.token("eve")
    for _ in range(FLOOD):
        await attack.follow(eve)
        await attack.say("", tls=False)
    assert await is_answered(attack)
    await attack.served.experiments.happen("first", Interrupted(reason="of now"))
    assert [await lives(stream) for stream in people] == [True] * len(people)


async def test_an_untrusted_address_gains_nothing_by_naming_others(attack: Attack) -> None:
    people = [await attack.follow(attack.token(f"person {number}"), HOSPITAL) for number in range(ROOM - 4)]
    slow = "GET /openapi.json HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.{}\r\n\r\n"
    for number in range(FLOOD):
        await attack.say(slow.format(number))
    assert await is_answered(attack)
    await attack.served.experiments.happen("first", Interrupted(reason="of now"))
    assert [await lives(stream) for stream in people] == [True] * len(people)


@pytest.fixture
async def behind_a_proxy(tmp_path: Path) -> AsyncIterator[Attack]:
    with make_server(tmp_path / "proxied", trusted_proxies=(PROXY,)) as federation:
        async with attacking(federation) as found:
            yield found


async def test_behind_a_trusted_proxy_callers_are_those_that_it_names(behind_a_proxy: Attack) -> None:
    attack = behind_a_proxy
    people = []
    for number in range(ROOM - 3):
        via = f"X-Forwarded-For: 192.0.2.{number}\r\n"
        people.append(await attack.follow(attack.token(f"person {number}"), PROXY, via))
    # One client of the proxy, who claims to be another person each time and never reads what is answered.
    for number in range(FLOOD):
        via = f"X-Forwarded-For: 203.0.113.{number}, 198.51.100.66\r\n"
        await attack.say(f"GET /openapi.json HTTP/1.1\r\nHost: x\r\n{via}\r\n", PROXY)
    assert await is_answered(attack)
    await attack.served.experiments.happen("first", Interrupted(reason="of now"))
    assert [await lives(stream) for stream in people] == [True] * len(people)


async def test_failures_to_enrol_behind_a_trusted_proxy_are_those_of_the_address_that_it_names(
    behind_a_proxy: Attack,
) -> None:
    async def status(claimed: str) -> bytes:
        via = f"X-Forwarded-For: {claimed}\r\nConnection: close\r\n"
        reader = await behind_a_proxy.say(f"POST /v1/enrolment HTTP/1.1\r\nHost: x\r\n{via}\r\n", PROXY)
        async with asyncio.timeout(30):
            return (await reader.read(4096))[9:12]

    said = [await status(f"203.0.113.{number}, 198.51.100.66") for number in range(21)]
    assert said == [b"401"] * 20 + [b"429"]
    assert await status("198.51.100.7") == b"401"
