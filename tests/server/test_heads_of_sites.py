"""Heads of journals on the wire: a site's newest is kept, whatever order they come in; the server's never go back."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from archipel.governance import IdentityKey, JournalHead, sign_closed, sign_head
from archipel.server.experiments import journal_heads
from archipel.server.experiments.hub import Stream
from archipel.server.experiments.service import Experiments
from archipel.server.membership.federation import ServerContext
from archipel.server.sites.servicer import FederationServicer
from archipel.server.state import schema
from archipel.transport import Heartbeat, Hello, Peer
from archipel.vocabulary import ArchipelError, ErrorCode, RoundClosed
from worlds.people import OLGA
from worlds.server import Applicant


def faults(federation: ServerContext) -> list[str]:
    query = select(schema.journal.c.kind).where(schema.journal.c.kind == "site-journal-fault")
    with federation.database.read() as connection:
        return list(connection.scalars(query))


class Site:
    """Site berlin showing heads of its journal."""

    def __init__(self, federation: ServerContext, applicant) -> None:  # type: ignore[no-untyped-def]
        self.applicant = applicant
        self.wire = FederationServicer(Experiments(federation))

    def head(self, number: int, digit: str = "1") -> JournalHead:
        unsigned = JournalHead(owner="berlin", number=number, hash="sha256:" + digit * 64, at="")
        return sign_head(self.applicant.identity, unsigned)

    def hello(self, head: JournalHead) -> None:
        said = Hello(site="berlin", version="0", time="", head=head.model_dump(mode="json"))
        self.wire._note_hello(Peer("berlin", "1"), said)

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
    assert site.newest == site.head(9) and site.wire.hub.journal_heads["berlin"] == site.head(9)
    # Uploads of two experiments may overtake each other, so that alone is not a fault.
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


async def test_an_update_that_comes_before_the_hello_is_sent_again_after_it(federation, enrolled) -> None:  # type: ignore[no-untyped-def]
    site = Site(federation, enrolled)
    with pytest.raises(ArchipelError) as early:
        await site.upload(site.head(9))
    assert early.value.code is ErrorCode.LOST and "berlin" not in site.wire.hub.attested
    site.hello(site.head(5))
    await site.upload(site.head(9))
    assert site.newest == site.head(9)


async def test_a_site_whose_journal_went_back_is_one_fault_however_often_it_connects(federation, enrolled) -> None:  # type: ignore[no-untyped-def]
    site = Site(federation, enrolled)
    for number in (9, 5, 5, 6, 8):
        site.hello(site.head(number))
    await site.upload(site.head(7))
    assert len(faults(federation)) == 1 and site.newest == site.head(9)
    (fault,) = journal_heads.faults(federation.database)
    assert fault.site == "berlin" and "line 9 existed" in str(fault) and "line 5 was the last" in str(fault)
    site.hello(site.head(4))
    assert len(faults(federation)) == 2
    site.hello(site.head(12))
    assert site.newest == site.head(12) and len(faults(federation)) == 2


async def test_the_journal_of_another_identity_begins_anew(federation, enrolled) -> None:  # type: ignore[no-untyped-def]
    Site(federation, enrolled).hello(Site(federation, enrolled).head(900))
    federation.registry.remove_site("berlin", by=OLGA)
    again = Applicant("berlin")
    token = federation.enrolment.create_token("berlin", by=OLGA)
    federation.enrolment.enrol(again.request(token), datetime.now(UTC))
    site = Site(federation, again)
    site.hello(site.head(3))
    assert faults(federation) == [] and site.newest == site.head(3)


class Heard:
    """A stream to site berlin, and what it was told on it."""

    def __init__(self, site: Site) -> None:
        self.site, self.said = site, []  # type: ignore[var-annotated]
        self.stream = Stream(Peer("berlin", "1"), self._hear)

    async def _hear(self, message) -> None:  # type: ignore[no-untyped-def]
        self.said.append(message)

    async def take(self, message) -> Any:  # type: ignore[no-untyped-def]
        await self.site.wire._take(self.stream, message)
        return self.said[-1] if self.said else None


def kept(federation: ServerContext) -> list[int]:
    with federation.database.read() as connection:
        return list(connection.scalars(select(schema.site_journal_heads.c.number)))


async def test_a_heartbeat_brings_a_head_and_takes_a_receipt_and_the_servers_head_when_there_is_news(
    federation, enrolled
) -> None:  # type: ignore[no-untyped-def]
    site = Site(federation, enrolled)
    site.hello(site.head(5))
    line = Heard(site)
    head = site.head(9)
    answer = await line.take(Heartbeat(head=head.model_dump(mode="json")))
    receipt, own = JournalHead.model_validate(answer.attested), JournalHead.model_validate(answer.head)
    key = federation.identity.public
    assert receipt.number == 9 and receipt.owner == "berlin" and receipt.is_signed_by(key)
    assert own.owner == "server" and own.is_signed_by(key)
    assert own.number == federation.registry.journal_head("server").number
    assert kept(federation) == [9] and site.newest == head
    assert await line.take(Heartbeat()) == Heartbeat()
    federation.enrolment.create_token("rome", by=OLGA)
    assert (await line.take(Heartbeat())).head["number"] == own.number + 1
    assert await line.take(Heartbeat()) == Heartbeat()


async def test_heads_that_overtake_each_other_are_no_fault_and_the_newest_stays(federation, enrolled) -> None:  # type: ignore[no-untyped-def]
    site = Site(federation, enrolled)
    site.hello(site.head(5))
    line = Heard(site)
    await site.upload(site.head(9))
    answer = await line.take(Heartbeat(head=site.head(7).model_dump(mode="json")))
    assert answer.attested["number"] == 9 and faults(federation) == []
    await line.take(Heartbeat(head=site.head(12).model_dump(mode="json")))
    with federation.database.write() as connection:
        journal_heads.take(connection, "berlin", site.wire.hub.journal_heads["berlin"], in_order=False)
    assert kept(federation) == [12] and faults(federation) == []
    await line.take(Heartbeat(head=site.head(12, "2").model_dump(mode="json")))
    assert len(faults(federation)) == 1 and site.newest == site.head(12)


async def test_the_servers_head_never_goes_back_on_a_stream(federation, enrolled) -> None:  # type: ignore[no-untyped-def]
    site = Site(federation, enrolled)
    site.hello(site.head(5))
    line, hub = Heard(site), site.wire.hub
    closed = RoundClosed(
        experiment="heart", round=1, attempt=1, job_hash="sha256:" + "0" * 64, committed=False, contributors=()
    )
    before = hub.head()
    federation.enrolment.create_token("rome", by=OLGA)
    await line.stream.send((await site.wire._missed("berlin"))[0])
    await line.stream.send(hub.signed_result(closed, sign_closed(federation.identity, closed), "berlin", before))
    assert [message.head["number"] for message in line.said] == [before.number + 1] * 2
    assert all(JournalHead.model_validate(one.head).is_signed_by(federation.identity.public) for one in line.said)


def hello(site: Site, head: JournalHead | None) -> bool | None:
    """What the server says of a head of its own journal that a site names."""
    said = Hello(
        site="berlin", version="0", time="", head=site.head(1).model_dump(mode="json"),
        attested=head.model_dump(mode="json") if head else None,
    )  # fmt: skip
    return site.wire._note_hello(Peer("berlin", "1"), said)


async def test_a_server_whose_own_journal_lost_what_a_site_was_shown_says_so_once(federation, enrolled) -> None:  # type: ignore[no-untyped-def]
    site = Site(federation, enrolled)
    before = site.wire.hub.head()
    for name in ("rome", "oslo", "bern"):
        federation.enrolment.create_token(name, by=OLGA)
    shown = site.wire.hub.head()
    assert [hello(site, head) for head in (None, before, shown)] == [None, True, True]
    stranger = sign_head(IdentityKey.generate(), shown)
    assert hello(site, stranger) is None and journal_heads.own_faults(federation.database) == []
    with federation.database.write() as connection:
        connection.exec_driver_sql(f"DELETE FROM journal WHERE number > {before.number}")
    assert [hello(site, head) for head in (before, shown, shown)] == [True, False, False]
    (fault,) = journal_heads.own_faults(federation.database)
    assert fault.kept == shown and fault.shown.number == before.number
    # Longer than it was, and yet another journal.
    for name in ("rome", "oslo", "bern", "lima"):
        federation.enrolment.create_token(name, by=OLGA)
    assert hello(site, shown) is False and len(journal_heads.own_faults(federation.database)) == 1
    later = site.wire.hub.head()
    with federation.database.write() as connection:
        connection.exec_driver_sql(f"DELETE FROM journal WHERE number > {later.number - 2}")
    assert hello(site, later) is False and len(journal_heads.own_faults(federation.database)) == 2
    assert (await site.wire._missed("berlin", False))[0].contains is False


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
        stream = Stream(Peer("berlin", "1"), send)
        if is_closed:
            stream.closed.set()
        await site.wire._listen(stream, nothing(), 5.0)
    listening = asyncio.create_task(site.wire._listen(Stream(Peer("berlin", "1"), send), EndsWhenCancelled(), 60.0))
    await asyncio.sleep(0.01)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert listening.cancelled()
    gc.collect()
    await asyncio.sleep(0)
    assert unread == []
