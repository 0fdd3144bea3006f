"""Access tokens: what they allow, and when they end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from archipel.server.membership.federation import ServerContext
from archipel.vocabulary import ArchipelError, BadInput, Conflict, ErrorCode, NotFound
from worlds.people import OLGA

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_token_is_known_again_with_its_scopes(federation: ServerContext) -> None:
    text, made = federation.tokens.create("ada", ["research"], DAY, NOW, by=OLGA)
    found = federation.tokens.check(text, NOW)
    assert text.startswith(f"archipel_{made.id}_")
    assert (found.name, found.scopes) == ("ada", ("research",))
    assert found.allows("read")
    assert found.allows("research")
    assert not found.allows("operate")


@pytest.mark.parametrize(
    "spoil", [lambda t: t[:-1] + ("0" if t[-1] != "0" else "1"), lambda t: "archipel_x_y", lambda t: ""]
)
def test_another_secret_is_refused(federation: ServerContext, spoil) -> None:
    text, _ = federation.tokens.create("ada", ["read"], DAY, NOW, by=OLGA)
    with pytest.raises(ArchipelError) as refused:
        federation.tokens.check(spoil(text), NOW)
    assert refused.value.code is ErrorCode.TOKEN


def test_a_token_expires(federation: ServerContext) -> None:
    text, _ = federation.tokens.create("ada", ["read"], DAY, NOW, by=OLGA)
    federation.tokens.check(text, NOW + DAY - timedelta(seconds=1))
    with pytest.raises(ArchipelError, match="expired on"):
        federation.tokens.check(text, NOW + DAY)


def test_a_revoked_token_is_refused_and_revoking_twice_says_so(federation: ServerContext) -> None:
    text, made = federation.tokens.create("ada", ["read"], DAY, NOW, by=OLGA)
    federation.tokens.revoke(made.id, by=OLGA)
    with pytest.raises(ArchipelError, match="was revoked"):
        federation.tokens.check(text, NOW)
    with pytest.raises(Conflict):
        federation.tokens.revoke(made.id, by=OLGA)
    with pytest.raises(NotFound):
        federation.tokens.revoke("nobody", by=OLGA)


def test_use_is_noted_once_a_minute(federation: ServerContext) -> None:
    text, _ = federation.tokens.create("ada", ["read"], DAY, NOW, by=OLGA)
    for seconds in (0, 30, 59):
        federation.tokens.check(text, NOW + timedelta(seconds=seconds))
    assert federation.tokens.all()[0].last_used_at == "2026-11-21T08:00:00.000000+00:00"
    federation.tokens.check(text, NOW + timedelta(seconds=61))
    assert federation.tokens.all()[0].last_used_at == "2026-11-21T08:01:01.000000+00:00"


def test_every_change_is_in_the_journal(federation: ServerContext) -> None:
    _, made = federation.tokens.create("ada", ["operate"], DAY, NOW, by=OLGA)
    federation.tokens.revoke(made.id, by=OLGA)
    kinds = [line.kind for line in federation.registry.journal()]
    assert kinds == ["server-initialised", "access-token-created", "access-token-revoked"]
    assert federation.registry.journal_faults() == []


@pytest.mark.parametrize(
    ("name", "scopes", "lifetime"),
    [("ada", ["admin"], DAY), ("ada", [], DAY), ("", ["read"], DAY), ("ada", ["read"], -DAY)],
)
def test_a_token_that_means_nothing_is_not_made(federation: ServerContext, name, scopes, lifetime) -> None:
    with pytest.raises(BadInput):
        federation.tokens.create(name, scopes, lifetime, NOW, by=OLGA)
