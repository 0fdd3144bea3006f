"""The server's log tells of members, tokens and experiments, whichever process changed them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from structlog.testing import capture_logs

from archipel.server.membership.federation import ServerContext
from archipel.server.sites import announcing
from worlds.server import Applicant


def test_each_new_line_is_told_once_with_whom_it_is_about(federation: ServerContext) -> None:
    after = announcing.newest(federation)
    berlin = Applicant("berlin")
    federation.enrolment.enrol(berlin.request(federation.enrolment.create_token("berlin")), datetime.now(UTC))
    (row,) = federation.registry.certificates()
    federation.registry.revoke_certificate(row.serial, "laptop stolen")
    federation.tokens.create("Ada", ["research"], timedelta(days=1), datetime.now(UTC))
    with capture_logs() as told:
        after = announcing.announce(federation, after)
        assert announcing.announce(federation, after) == after
    kinds = ["join-token-created", "site-enrolled", "certificate-revoked", "access-token-created"]
    assert [line["event"] for line in told] == kinds
    assert (told[1]["site"], told[1]["serial"]) == ("berlin", row.serial)
    assert (told[2]["reason"], told[3]["name"]) == ("laptop stolen", "Ada")


def test_a_damaged_line_does_not_end_the_log(federation: ServerContext) -> None:
    after = announcing.newest(federation)
    federation.enrolment.create_token("berlin")
    federation.enrolment.create_token("rome")
    with federation.database.write() as connection:
        connection.execute(text("UPDATE journal SET body = '{ half' WHERE number = :n"), {"n": after + 1})
    with capture_logs() as told:
        announcing.announce(federation, after)
    assert [line.get("site") for line in told] == [None, "rome"]
