"""Certificates and tokens are named by how their serial or id begins, where only one begins so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, String, Table, create_engine, insert

from archipel.server.membership.federation import ServerContext
from archipel.server.membership.prefixes import SHORTEST, whole
from archipel.vocabulary import Conflict, NotFound
from archipel.vocabulary.remedies import ListSites
from worlds.people import OLGA
from worlds.server import Applicant

NAMES = st.sets(st.text("0123abc_%", min_size=1, max_size=8), max_size=8)


@given(NAMES, st.text("0123abc_%", max_size=8))
def test_a_beginning_names_the_one_value_that_has_it(names: set[str], text: str) -> None:
    column = Column("id", String(8))
    engine = create_engine("sqlite://")
    table = Table("things", MetaData(), column)
    with engine.begin() as connection:
        table.create(connection)
        if names:
            connection.execute(insert(table), [{"id": name} for name in names])
        fits = [name for name in names if name.startswith(text)] if len(text) >= SHORTEST else []
        if text in fits or len(fits) == 1:
            assert whole(connection, column, text, "thing", ListSites()) == (text if text in fits else fits[0])
        else:
            with pytest.raises(Conflict if fits else NotFound, match="thing"):
                whole(connection, column, text, "thing", ListSites())
    engine.dispose()


def test_a_certificate_is_revoked_by_its_first_characters(federation: ServerContext, enrolled: Applicant) -> None:
    (row,) = federation.registry.certificates()
    with pytest.raises(NotFound, match="the first 4 characters or more name one"):
        federation.registry.revoke_certificate(row.serial[:3], "lost", by=OLGA)
    assert federation.registry.revoke_certificate(row.serial[:6].upper(), "lost", by=OLGA).serial == row.serial
    assert federation.registry.site_of_serial(row.serial) is None
    assert federation.registry.journal()[-1].body["serial"] == row.serial


def test_tokens_of_both_kinds_are_revoked_by_their_first_characters(federation: ServerContext) -> None:
    _, ada = federation.tokens.create("Ada", ["read"], timedelta(days=1), datetime.now(UTC), by=OLGA)
    assert federation.tokens.revoke(ada.id[:8], by=OLGA).id == ada.id
    spare = federation.enrolment.create_token("rome", by=OLGA)
    assert federation.enrolment.revoke_token(spare.id[:8], by=OLGA).id == spare.id
    assert [row.revoked_at is None for row in (*federation.tokens.all(), *federation.enrolment.tokens())] == [False] * 2
