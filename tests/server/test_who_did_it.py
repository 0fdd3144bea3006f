"""Each act of an operator or a researcher stands in the server's journal with the person who did it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from test_rest import job
from test_server_command_line import archipel
from test_who_may_steer import as_person

from archipel.rounds import ExperimentVerb
from archipel.server.membership.federation import ServerContext
from archipel.server.state import schema
from archipel.vocabulary import Actor, BadInput
from worlds.people import OLGA
from worlds.server import Applicant, Served, records_of, running_job, sql_store_of

DAY, NOW = timedelta(days=1), datetime(2026, 1, 1, tzinfo=UTC)


def persons(federation: ServerContext, after: int = 0) -> list[tuple[str, Any]]:
    """The kinds of the journal's lines that have a person, and who it is; "nobody" where the field is missing."""
    return [(line.kind, line.body.get("by", "nobody")) for line in federation.registry.journal(after)]


def test_every_act_on_members_and_tokens_names_who_did_it(federation: ServerContext) -> None:
    berlin = Applicant("berlin").enrol(federation)
    spare = federation.enrolment.create_token("rome", by=OLGA)
    federation.enrolment.revoke_token(spare.id, by=OLGA)
    _, ada = federation.tokens.create("ada", ["read"], DAY, NOW, by=OLGA)
    federation.tokens.revoke(ada.id, by=OLGA)
    (certificate,) = federation.registry.certificates()
    federation.registry.revoke_certificate(certificate.serial, "lost", by=OLGA)
    berlin.enrol(federation)
    running_job(federation, berlin)
    federation.registry.remove_site("berlin", by=Actor(name="ada", authentication="token"))
    assert persons(federation) == [
        ("server-initialised", "olga"),
        ("join-token-created", "olga"),
        ("site-enrolled", "nobody"),
        ("join-token-created", "olga"),
        ("join-token-revoked", "olga"),
        ("access-token-created", "olga"),
        ("access-token-revoked", "olga"),
        ("certificate-revoked", "olga"),
        ("join-token-created", "olga"),
        ("site-enrolled", "nobody"),
        ("experiment-submitted", "nobody"),
        ("site-removed", "token:ada"),
        ("certificate-revoked", "token:ada"),
        ("site-revoked", "token:ada"),
    ]


def test_a_certificate_that_ends_because_its_site_joined_again_names_nobody(federation: ServerContext) -> None:
    berlin = Applicant("berlin").enrol(federation)
    before = federation.registry.journal_head("x").number
    berlin.enrol(federation)
    assert ("certificate-revoked", None) in persons(federation, before)


def test_who_steers_an_experiment_is_named_and_what_ends_by_itself_names_nobody(
    federation: ServerContext, enrolled: Applicant
) -> None:
    kept = running_job(federation, enrolled)
    before = federation.registry.journal_head("x").number
    records, store = records_of(federation), sql_store_of(federation, kept, "")
    records.steer(kept, ExperimentVerb.PAUSE, by=OLGA)
    records.steer(kept, ExperimentVerb.RESUME, by=OLGA)
    store.stall("no site is there")
    records.keep_arguments("first", {}, by=OLGA)
    with federation.database.write() as connection:
        connection.execute(update(schema.experiments).values(state="running"))
    store.finish()
    assert persons(federation, before) == [
        ("experiment-paused", "olga"),
        ("experiment-running", "olga"),
        ("experiment-paused", None),
        ("arguments-changed", "olga"),
        ("experiment-finished", None),
    ]


async def test_over_https_it_is_who_sends_the_access_token(served: Served, enrolled: Applicant) -> None:
    olga, anna = as_person(served, "olga", "operate"), as_person(served, "anna", "research")
    federation = served.federation
    before = federation.registry.journal_head("x").number
    async with served.client() as client:
        order = await client.post("/v1/join-tokens", json={"site": "rome"}, headers=olga)
        await client.delete(f"/v1/join-tokens/{order.json()['id']}", headers=olga)
        (certificate,) = federation.registry.certificates()
        await client.post(f"/v1/certificates/{certificate.serial}/revoke", json={"reason": "lost"}, headers=olga)
        await client.delete("/v1/sites/berlin", headers=olga)
        assert persons(federation, before) == [
            (kind, "token:olga")
            for kind in ("join-token-created", "join-token-revoked", "certificate-revoked", "site-removed")
        ]
        submission = {"job": job(federation, enrolled)}
        assert (await client.post("/v1/experiments", json=submission, headers=anna)).status_code == 201
        await client.post("/v1/experiments/first/pause", headers=olga)
        await client.patch("/v1/experiments/first/arguments", json={"arguments": {"rate": 0.5}}, headers=anna)
        assert [by.journal_name for by in served.experiments.steered_by] == ["token:olga", "token:anna"]


def test_a_command_is_the_operating_systems_users(federation: ServerContext) -> None:
    state = federation.state.root
    before = federation.registry.journal_head("x").number
    account = Actor.of_terminal().journal_name
    assert archipel("server", "join-token", "create", "rome", state=state).returncode == 0
    (spare,) = federation.enrolment.tokens()
    assert archipel("server", "join-token", "revoke", spare.id, state=state).returncode == 0
    made = archipel("server", "token", "create", "ada", "--json", state=state)
    assert archipel("server", "token", "revoke", json.loads(made.stdout)["id"], state=state).returncode == 0
    berlin = Applicant("berlin").enrol(federation)
    (certificate,) = federation.registry.certificates()
    assert archipel("server", "certificate", "revoke", certificate.serial, state=state).returncode == 0
    assert archipel("server", "site", "remove", berlin.site, "--yes", state=state).returncode == 0
    lines = [line for line in persons(federation, before) if line not in {("join-token-created", "olga")}]
    assert lines == [
        ("join-token-created", account),
        ("join-token-revoked", account),
        ("access-token-created", account),
        ("access-token-revoked", account),
        ("site-enrolled", "nobody"),
        ("certificate-revoked", account),
        ("site-removed", account),
    ]


@pytest.mark.parametrize("name", ["ada\u202e", " ada", "ada\n", "a\x00"])
def test_an_access_token_is_named_so_that_the_journal_can_name_its_person(federation: ServerContext, name: str) -> None:
    with pytest.raises(BadInput, match="has hidden characters, or a space at an end"):
        federation.tokens.create(name, ["read"], DAY, NOW, by=OLGA)
