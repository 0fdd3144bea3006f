"""The server's log tells of members, tokens and experiments, whichever process changed them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from structlog.testing import capture_logs

from archipel.server.membership.federation import ServerContext
from archipel.server.sites import announcing
from worlds.people import OLGA
from worlds.server import Applicant


def test_each_new_line_is_told_once_with_whom_it_is_about(federation: ServerContext) -> None:
    after = announcing.newest(federation.database)
    berlin = Applicant("berlin")
    federation.enrolment.enrol(berlin.request(federation.enrolment.create_token("berlin", by=OLGA)), datetime.now(UTC))
    (row,) = federation.registry.certificates()
    federation.registry.revoke_certificate(row.serial, "laptop stolen", by=OLGA)
    federation.tokens.create("Ada", ["research"], timedelta(days=1), datetime.now(UTC), by=OLGA)
    with capture_logs() as told:
        after = announcing.announce(federation.database, after)
        assert announcing.announce(federation.database, after) == after
    kinds = ["join-token-created", "site-enrolled", "certificate-revoked", "access-token-created"]
    assert [line["event"] for line in told] == kinds
    assert (told[1]["site"], told[1]["serial"]) == ("berlin", row.serial)
    assert (told[2]["reason"], told[3]["name"]) == ("laptop stolen", "Ada")


def test_a_damaged_line_does_not_end_the_log(federation: ServerContext) -> None:
    after = announcing.newest(federation.database)
    federation.enrolment.create_token("berlin", by=OLGA)
    federation.enrolment.create_token("rome", by=OLGA)
    with federation.database.write() as connection:
        connection.execute(text("UPDATE journal SET body = '{ half' WHERE number = :n"), {"n": after + 1})
    with capture_logs() as told:
        announcing.announce(federation.database, after)
    assert [line.get("site") for line in told] == [None, "rome"]
