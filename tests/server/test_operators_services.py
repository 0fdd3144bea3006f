"""What operators do at a server is functions with typed answers; the command line and REST say the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, update

from archipel.governance import SERVER_JOURNAL
from archipel.server.experiments import journal_heads, own_journal
from archipel.server.membership import members
from archipel.server.membership.federation import ServerContext
from archipel.server.state import schema
from archipel.transport.wakeup import Wakeup
from archipel.vocabulary import NotFound, NotPermitted
from archipel.vocabulary.states import Scope
from worlds.people import OLGA
from worlds.server import Applicant


def test_the_servers_journal_is_proved_as_far_as_a_head_was_kept(
    federation: ServerContext, enrolled: Applicant
) -> None:
    registry = federation.registry
    kept = own_journal.signed_head(registry, federation.identity)
    assert kept.owner == SERVER_JOURNAL and kept.is_signed_by(federation.identity.public)
    federation.tokens.create("ada", [Scope.READ], timedelta(days=1), datetime.now(UTC), by=OLGA)
    found = own_journal.verify(registry, [kept])
    assert (found.whole, found.lines, found.attested, found.problems) == (True, kept.number + 1, kept.number, ())
    assert own_journal.verify(registry).attested == 0
    with federation.database.write() as connection:
        connection.execute(delete(schema.journal).where(schema.journal.c.number >= kept.number))
    assert own_journal.verify(registry).whole
    cut = own_journal.verify(registry, [kept])
    assert (cut.whole, cut.attested) == (False, 0) and "cut off" in cut.problems[0]
    with federation.database.write() as connection:
        connection.execute(update(schema.journal).where(schema.journal.c.number == 1).values(kind="other"))
    assert "line 1 " in own_journal.verify(registry).problems[0]


def test_the_newest_lines_are_the_last_of_those_asked_for(federation: ServerContext, enrolled: Applicant) -> None:
    everything = own_journal.newest(federation.registry)
    assert len(everything) > 2
    assert own_journal.newest(federation.registry, last=2) == everything[-2:]
    assert own_journal.newest(federation.registry, after=1) == everything[1:]
    assert own_journal.newest(federation.registry, after=len(everything) - 1, last=2) == everything[-1:]


def test_ending_a_membership_wakes_the_process_that_serves(federation: ServerContext, enrolled: Applicant) -> None:
    (certificate,) = federation.registry.certificates()
    bell = Wakeup(federation.state.root)
    try:
        assert (
            members.revoke_certificate(federation.registry, federation.state, certificate.serial, "lost", by=OLGA).site
            == "berlin"
        )
        assert bell._socket.recv(16) == b"!"
        members.remove_site(federation.registry, federation.state, "berlin", by=OLGA)
        assert bell._socket.recv(16) == b"!"
        with pytest.raises(NotPermitted, match="was removed from the federation"):
            members.remove_site(federation.registry, federation.state, "berlin", by=OLGA)
    finally:
        bell.close()
    assert members.list_members(federation.registry, None) == []
    (removed,) = members.list_members(federation.registry, None, removed=True)
    assert (removed.site, removed.connected) == ("berlin", None)


def test_a_site_without_a_head_has_none_to_be_shown(federation: ServerContext, enrolled: Applicant) -> None:
    with pytest.raises(NotFound, match="it comes when the site connects"):
        journal_heads.shown_to_operator(federation.database, federation.identity, "berlin")
