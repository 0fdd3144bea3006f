"""Heads of sites' journals that come with updates: the newest is kept, whatever order they arrive in."""

from __future__ import annotations

import asyncio
import gc

import pytest
from sqlalchemy import select

from archipel.governance import JournalHead, sign_head
from archipel.server import schema
from archipel.server.experiments import Experiments
from archipel.server.federation import Federation
from archipel.server.hub import Stream
from archipel.server.wire import Wire
from archipel.transport import Hello, Peer
from archipel.vocabulary import ArchipelError, ErrorCode


def faults(federation: Federation) -> list[str]:
    query = select(schema.journal.c.kind).where(schema.journal.c.kind == "site-journal-fault")
    with federation.database.read() as connection:
        return list(connection.scalars(query))


class Site:
    """Site berlin showing heads of its journal."""

    def __init__(self, federation: Federation, applicant) -> None:  # type: ignore[no-untyped-def]
        self.applicant = applicant
        self.wire = Wire(Experiments(federation))

    def head(self, number: int, digit: str = "1") -> JournalHead:
        unsigned = JournalHead(owner="berlin", number=number, hash="sha256:" + digit * 64, at="")
        return sign_head(self.applicant.identity, unsigned)

    def hello(self, head: JournalHead) -> None:
        said = Hello(site="berlin", version="0", time="", head=head.model_dump(mode="json"))
        self.wire._note_hello(Peer("berlin", "1", ""), said)

    async def upload(self, head: JournalHead) -> None:
        await self.wire._hear_head("berlin", head.model_dump(mode="json"))

    @property
    def newest(self) -> JournalHead:
        return self.wire.hub.attested["berlin"]


async def test_an_older_head_does_not_take_the_place_of_a_newer_one(federation, enrolled) -> None:  # type: ignore[no-untyped-def]
    site = Site(federation, enrolled)
    site.hello(site.head(5))
    await site.upload(site.head(9))
    await site.upload(site.head(7))
    assert site.newest == site.head(9) and site.wire.hub.heads["berlin"] == site.head(9)
    # Uploads of two experiments may overtake each other, so that alone is no fault.
    assert faults(federation) == []


async def test_another_line_at_the_same_number_is_a_fault_and_the_first_stays(federation, enrolled) -> None:  # type: ignore[no-untyped-def]
    site = Site(federation, enrolled)
    site.hello(site.head(5))
    await site.upload(site.head(9))
    await site.upload(site.head(9))
    assert faults(federation) == []
    await site.upload(site.head(9, "2"))
    assert site.newest == site.head(9) and len(faults(federation)) == 1


async def test_a_journal_that_is_shorter_at_the_next_hello_is_a_fault(federation, enrolled) -> None:  # type: ignore[no-untyped-def]
    site = Site(federation, enrolled)
    site.hello(site.head(9))
    site.hello(site.head(8))
    assert site.newest == site.head(9) and len(faults(federation)) == 1


async def test_a_head_that_the_site_did_not_sign_is_refused(federation, enrolled) -> None:  # type: ignore[no-untyped-def]
    site = Site(federation, enrolled)
    site.hello(site.head(5))
    with pytest.raises(ArchipelError) as caught:
        await site.upload(site.head(9).model_copy(update={"number": 10}))
    assert caught.value.code is ErrorCode.TRUST
    assert site.newest == site.head(5)


class EndsWhenCancelled:
    """A stream of messages that ends as gRPC's do: with the end of the iteration while one is awaited."""

    def __aiter__(self) -> EndsWhenCancelled:
        return self

    async def __anext__(self):  # type: ignore[no-untyped-def]
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise ValueError("the call is over") from None


async def test_a_stream_that_ends_leaves_no_error_unread(federation, enrolled, caplog) -> None:  # type: ignore[no-untyped-def]
    site = Site(federation, enrolled)

    async def send(message) -> None:  # type: ignore[no-untyped-def]
        """Nobody hears it."""

    async def nothing():  # type: ignore[no-untyped-def]
        return
        yield

    unread: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unread.append(context))
    for is_closed in (False, True):
        stream = Stream(Peer("berlin", "1", ""), send)
        if is_closed:
            stream.closed.set()
        await site.wire._listen(stream, nothing(), 5.0)
    listening = asyncio.create_task(site.wire._listen(Stream(Peer("berlin", "1", ""), send), EndsWhenCancelled(), 60.0))
    await asyncio.sleep(0.01)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert listening.cancelled()
    gc.collect()
    await asyncio.sleep(0)
    assert unread == []
