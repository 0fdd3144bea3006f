"""Enrolment over real HTTPS: what a join token buys, once, and what it does not."""

from __future__ import annotations

import asyncio
import base64
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from archipel.governance import IdentityKey, canonical
from archipel.server.membership.authority import Authority
from archipel.server.membership.federation import ServerContext
from archipel.server.rest.limits import LONGEST_ENROLMENT
from archipel.transport.enrolment import (
    ENROLMENT_HEADER,
    EnrolmentReply,
    JoinToken,
    authority_fingerprint,
    proof_message,
)
from archipel.transport.peers import peer_of_pem
from archipel.vocabulary import ArchipelError, ErrorCode
from worlds.people import OLGA
from worlds.server import Applicant, Served, make_server


async def post(served: Served, request: Any) -> httpx.Response:
    async with served.client() as client:
        return await client.post("/v1/enrolment", json=request.model_dump(mode="json"), headers=named(request.id))


def named(token_id: str) -> dict[str, str]:
    """The header that names a join token."""
    return {ENROLMENT_HEADER: token_id}


async def test_a_site_that_knows_only_the_token_ends_with_a_certificate_of_that_ca(served: Served) -> None:
    token = JoinToken.decode(served.federation.enrolment.create_token("berlin", by=OLGA).encode())
    untrusting = ssl.create_default_context()
    untrusting.check_hostname, untrusting.verify_mode = False, ssl.CERT_NONE
    async with httpx.AsyncClient(verify=untrusting, trust_env=False) as client:
        ca = (await client.get(f"{token.url}/v1/enrolment/authority")).json()["ca"]
    token.check_authority(ca)
    site = Applicant("berlin")
    async with served.client(ca=ca) as client:
        request = site.request(token).model_dump(mode="json")
        answer = await client.post("/v1/enrolment", json=request, headers=named(token.id))
    assert answer.status_code == 200, answer.text
    reply = EnrolmentReply.model_validate(answer.json())
    assert reply.ca == ca
    assert (reply.server_key, reply.federation) == (served.federation.identity.public, "north sea")
    peer = peer_of_pem(reply.certificate.encode())
    assert peer.site == "berlin"
    assert served.federation.registry.site_of_serial(peer.serial) == "berlin"
    assert served.federation.registry.site("berlin").identity_key == site.identity.public
    certificate = x509.load_pem_x509_certificate(reply.certificate.encode())
    assert certificate.public_key() == site.tls.public_key()
    assert served.changes


def test_another_ca_than_the_token_names_is_refused_before_the_secret_is_sent(
    federation: ServerContext, tmp_path: Any
) -> None:
    token = federation.enrolment.create_token("berlin", by=OLGA)
    with (
        make_server(tmp_path / "other") as other,
        pytest.raises(ArchipelError, match="another CA") as refused,
    ):
        token.check_authority(other.authority.pem)
    assert refused.value.code is ErrorCode.TRUST
    token.check_authority(federation.authority.pem)


async def test_a_client_that_pins_another_ca_does_not_connect(served: Served, tmp_path: Any) -> None:
    with make_server(tmp_path / "other") as other:
        async with served.client(ca=other.authority.pem) as client:
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                await client.get("/v1/health")


async def test_a_token_is_good_once(served: Served) -> None:
    token = served.federation.enrolment.create_token("berlin", by=OLGA)
    assert (await post(served, Applicant("berlin").request(token))).status_code == 200
    again = await post(served, Applicant("berlin").request(token))
    assert (again.status_code, again.json()["code"]) == (401, "token")
    assert "was used on" in again.json()["cause"]
    assert again.json()["remedy"]


async def test_of_two_requests_with_one_token_at_once_exactly_one_wins(served: Served) -> None:
    token = served.federation.enrolment.create_token("berlin", by=OLGA)
    requests = [Applicant("berlin").request(token) for _ in range(4)]
    answers = await asyncio.gather(*(post(served, request) for request in requests))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]
    winner = next(r for r, answer in zip(requests, answers, strict=True) if answer.status_code == 200)
    assert served.federation.registry.site("berlin").identity_key == winner.identity_key
    assert len(served.federation.registry.certificates()) == 1


async def test_an_expired_token_says_when(served: Served) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    token = served.federation.enrolment.create_token("berlin", timedelta(hours=1), yesterday, by=OLGA)
    answer = await post(served, Applicant("berlin").request(token))
    assert (answer.status_code, answer.json()["code"]) == (401, "token")
    assert "expired on" in answer.json()["cause"]


@pytest.mark.parametrize(
    ("change", "cause"),
    [({"secret": "0" * 64}, "not known"), ({"id": "nobody"}, "not known"), ({"site": "paris"}, "is for site berlin")],
)
async def test_a_token_that_does_not_fit_is_refused_and_stays_good(
    served: Served, change: dict[str, str], cause: str
) -> None:
    token = served.federation.enrolment.create_token("berlin", by=OLGA)
    site = Applicant("berlin")
    answer = await post(served, site.request(token, **change))
    assert (answer.status_code, answer.json()["code"]) == (401, "token")
    assert cause in answer.json()["cause"]
    assert (await post(served, site.request(token))).status_code == 200


async def test_a_revoked_token_is_refused(served: Served) -> None:
    token = served.federation.enrolment.create_token("berlin", by=OLGA)
    served.federation.enrolment.revoke_token(token.id, by=OLGA)
    assert "was revoked" in (await post(served, Applicant("berlin").request(token))).json()["cause"]


@pytest.mark.parametrize(("seconds", "words"), [(3600, "ahead of"), (-3600, "behind")])
async def test_a_clock_that_is_off_is_named_with_its_difference(served: Served, seconds: int, words: str) -> None:
    token = served.federation.enrolment.create_token("berlin", by=OLGA)
    site = Applicant("berlin")
    answer = await post(served, site.request(token, datetime.now(UTC) + timedelta(seconds=seconds)))
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (400, "clock")
    assert words in problem["cause"]
    assert any(f"{value} s" in problem["cause"] for value in range(3590, 3611))
    assert (await post(served, site.request(token))).status_code == 200


async def test_a_proof_by_another_key_is_refused_and_the_token_stays_good(served: Served) -> None:
    token = served.federation.enrolment.create_token("berlin", by=OLGA)
    site, thief = Applicant("berlin"), IdentityKey.generate()
    answer = await post(served, site.request(token, identity_key=thief.public))
    assert (answer.status_code, answer.json()["code"]) == (403, "trust")
    assert (await post(served, site.request(token))).status_code == 200


async def test_a_proof_does_not_cover_another_certificate_request(served: Served) -> None:
    token = served.federation.enrolment.create_token("berlin", by=OLGA)
    answer = await post(served, Applicant("berlin").request(token, csr=Applicant("berlin").csr()))
    assert answer.json()["code"] == "trust"


async def test_a_damaged_certificate_request_is_bad_input(served: Served) -> None:
    token = served.federation.enrolment.create_token("berlin", by=OLGA)
    site = Applicant("berlin")
    unsigned = site.request(token, csr="-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
    signed = unsigned.model_copy(update={"proof": site.identity.sign(proof_message(canonical(unsigned.statement())))})
    answer = await post(served, signed)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-input")
    assert "certificate request" in answer.json()["thing"]


async def test_many_failures_with_one_join_token_must_wait(served: Served) -> None:
    token = served.federation.enrolment.create_token("berlin", by=OLGA)
    site = Applicant("berlin")
    wrong = site.request(token, secret="0" * 64)
    codes = [(await post(served, wrong)).status_code for _ in range(21)]
    assert codes == [401] * 20 + [429]


async def test_failures_of_one_address_do_not_keep_an_invited_site_behind_it_out(served: Served) -> None:
    token = served.federation.enrolment.create_token("berlin", by=OLGA)
    async with served.client() as client:
        strangers = [await client.post("/v1/enrolment", headers=named("f00d")) for _ in range(21)]
    assert [answer.status_code for answer in strangers] == [401] * 20 + [429]
    assert (await post(served, Applicant("berlin").request(token))).status_code == 200


async def test_what_is_no_enrolment_counts_as_a_failed_one(served: Served) -> None:
    flood = b"{" + b",".join(b'"k%d":0' % number for number in range(5000)) + b"}"
    assert len(flood) < LONGEST_ENROLMENT
    name = named(served.federation.enrolment.create_token("berlin", by=OLGA).id)
    async with served.client() as client:
        codes = [(await client.post("/v1/enrolment", content=flood, headers=name)).status_code for _ in range(21)]
    assert codes == [400] * 20 + [429]


async def test_the_header_and_the_body_name_one_token(served: Served) -> None:
    own, other = (served.federation.enrolment.create_token(site, by=OLGA) for site in ("berlin", "paris"))
    async with served.client() as client:
        request = Applicant("paris").request(other).model_dump(mode="json")
        answer = await client.post("/v1/enrolment", json=request, headers=named(own.id))
    assert (answer.status_code, answer.json()["cause"]) == (400, "names another join token than the header")


async def test_a_long_body_is_refused_before_it_is_read(served: Served) -> None:
    async def endless() -> Any:
        for _ in range(1000):
            yield b" " * 4096

    name = named(served.federation.enrolment.create_token("berlin", by=OLGA).id)
    async with served.client() as client:
        stated = await client.post("/v1/enrolment", content=b" " * (LONGEST_ENROLMENT + 1), headers=name)
        chunked = await client.post("/v1/enrolment", content=endless(), headers=name)
    assert (stated.status_code, chunked.status_code) == (413, 413)


async def test_an_enrolled_name_cannot_be_taken_by_another_identity(served: Served, enrolled: Applicant) -> None:
    token = served.federation.enrolment.create_token("berlin", by=OLGA)
    answer = await post(served, Applicant("berlin").request(token))
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert served.federation.registry.site("berlin").identity_key == enrolled.identity.public
    assert (await post(served, enrolled.request(token))).status_code == 200


def test_enrolling_again_with_the_same_identity_ends_the_older_certificate(
    federation: ServerContext, enrolled: Applicant
) -> None:
    (old,) = federation.registry.certificates()
    token = federation.enrolment.create_token("berlin", by=OLGA)
    federation.enrolment.enrol(enrolled.request(token), datetime.now(UTC))
    valid = {row.serial: federation.registry.site_of_serial(row.serial) for row in federation.registry.certificates()}
    assert valid.pop(old.serial) is None
    assert list(valid.values()) == ["berlin"]


def test_a_server_that_dies_before_it_has_recorded_the_certificate_leaves_the_token_good(
    federation: ServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    token, site = federation.enrolment.create_token("berlin", by=OLGA), Applicant("berlin")
    monkeypatch.setattr("archipel.server.membership.registry._certificate_row", dies)
    with pytest.raises(KeyboardInterrupt):
        federation.enrolment.enrol(site.request(token), datetime.now(UTC))
    monkeypatch.undo()
    assert federation.registry.sites() == []
    federation.enrolment.enrol(site.request(token), datetime.now(UTC))
    assert [line.kind for line in federation.registry.journal()][-1] == "site-enrolled"
    assert federation.registry.journal_faults() == []


def test_a_bad_site_name_gets_no_token(federation: ServerContext) -> None:
    with pytest.raises(ArchipelError, match="is not a site name"):
        federation.enrolment.create_token("Berlin Charité", by=OLGA)


def test_secrets_are_not_in_the_database(federation: ServerContext, enrolled: Applicant) -> None:
    join = federation.enrolment.create_token("paris", by=OLGA)
    access, _ = federation.tokens.create("me", ["research"], timedelta(days=1), datetime.now(UTC), by=OLGA)
    files = [path.read_bytes() for path in federation.state.root.glob("server.db*")]
    for secret in (join.secret, access.rsplit("_", 1)[1]):
        assert not any(secret.encode() in content for content in files)


@given(st.text(max_size=80))
def test_a_damaged_token_string_is_one_clear_error(text: str) -> None:
    with pytest.raises(ArchipelError) as refused:
        JoinToken.decode(text)
    assert refused.value.code is ErrorCode.TOKEN


def test_a_token_that_is_nested_without_end_is_one_clear_error() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 99_999).decode()
    with pytest.raises(ArchipelError, match="is damaged or not a join token"):
        JoinToken.decode(f"archipel1.{deep}")


def test_a_fingerprint_is_of_der_bytes(federation: ServerContext) -> None:
    assert authority_fingerprint(federation.authority.pem) == federation.authority.fingerprint
    again = Authority.load(federation.state)
    assert again.fingerprint == federation.authority.fingerprint
