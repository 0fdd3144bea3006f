"""Two federations on one machine, with a site of the same name in each: nothing of one is anything in the other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archipel.server.experiments.service import Experiments
from archipel.server.membership.federation import ServerContext
from archipel.server.sites.servicer import FederationServicer
from archipel.transport import Peer
from archipel.vocabulary import ArchipelError, ErrorCode, NotPermitted
from worlds.people import OLGA
from worlds.server import Applicant, make_server


@pytest.fixture
def south(tmp_path: Path) -> Iterator[ServerContext]:
    """The other federation, which has a site berlin of its own too."""
    with make_server(tmp_path / "south", name="south") as founded:
        Applicant("berlin").enrol(founded)
        yield founded


def test_keys_and_fingerprints_are_each_ones_own(federation: ServerContext, south: ServerContext) -> None:
    assert federation.identity.public != south.identity.public
    assert federation.authority.fingerprint != south.authority.fingerprint


def test_a_join_token_is_refused_and_stays_good_at_home(federation: ServerContext, south: ServerContext) -> None:
    token = federation.enrolment.create_token("rome", by=OLGA)
    with pytest.raises(ArchipelError) as refused:
        south.enrolment.enrol(Applicant("rome").request(token), datetime.now(UTC))
    assert refused.value.code is ErrorCode.TOKEN
    federation.enrolment.enrol(Applicant("rome").request(token), datetime.now(UTC))


def test_an_access_token_is_refused(federation: ServerContext, south: ServerContext) -> None:
    text, _ = federation.tokens.create("ada", ["operate"], timedelta(days=1), datetime.now(UTC), by=OLGA)
    assert federation.tokens.check(text, datetime.now(UTC)).name == "ada"
    with pytest.raises(ArchipelError, match="is not known here") as refused:
        south.tokens.check(text, datetime.now(UTC))
    assert refused.value.code is ErrorCode.TOKEN


def test_a_certificate_under_the_same_name_is_not_admitted(
    federation: ServerContext, south: ServerContext, enrolled: Applicant
) -> None:
    (certificate,) = federation.registry.certificates()
    peer = Peer("berlin", certificate.serial)
    FederationServicer(Experiments(federation)).admit(peer)
    with pytest.raises(NotPermitted, match=f"certificate {certificate.serial} of berlin"):
        FederationServicer(Experiments(south)).admit(peer)


def test_revoking_in_one_leaves_the_other_alone(
    federation: ServerContext, south: ServerContext, enrolled: Applicant
) -> None:
    federation.registry.remove_site("berlin", by=OLGA)
    assert not federation.registry.sites()
    assert [site.site for site in south.registry.sites()] == ["berlin"]
    (theirs,) = south.registry.certificates()
    assert south.registry.site_of_serial(theirs.serial)


def test_a_blob_is_in_its_own_store_only(federation: ServerContext, south: ServerContext) -> None:
    held = federation.blobs.put(b"a model")
    assert federation.blobs.has(held) and not south.blobs.has(held)
