"""Sites and certificates: renewal, revocation, removal, each one journaled and seen at once by every process."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from archipel.server.membership.federation import ServerContext
from archipel.server.membership.registry import DatasetSummary
from archipel.transport.peers import Peer, peer_of_pem
from archipel.vocabulary import ArchipelError, BadInput, Conflict, NotFound, StorageFull
from worlds.people import OLGA
from worlds.server import Applicant, make_server


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A TLS handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    done: set[ssl.SSLObject] = set()
    for _ in range(10):
        for end in (theirs, ours):
            if end not in done:
                try:
                    end.do_handshake()
                    done.add(end)
                except ssl.SSLWantReadError:
                    pass
    assert done == {ours, theirs}
    return ours, theirs


def test_a_sites_certificate_and_the_servers_make_a_mutual_tls_connection(
    federation: ServerContext, enrolled: Applicant, tmp_path: Path
) -> None:
    renewed = federation.registry.renew("berlin", enrolled.csr())
    (tmp_path / "tls.pem").write_text(renewed.pem)
    (tmp_path / "tls.key").write_bytes(enrolled.tls_pem())
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=federation.authority.pem)
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    server.load_cert_chain(federation.state.tls_certificate, federation.state.tls_key)
    client = ssl.create_default_context(cadata=federation.authority.pem)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(tmp_path / "tls.pem", tmp_path / "tls.key")
    ours, _ = handshake(server, client)
    shown = ssl.DER_cert_to_PEM_cert(ours.getpeercert(binary_form=True)).encode()
    assert peer_of_pem(shown) == Peer("berlin", renewed.serial)


def test_a_certificate_of_another_federation_does_not_connect(
    federation: ServerContext, enrolled: Applicant, tmp_path: Path
) -> None:
    (tmp_path / "tls.pem").write_text(federation.registry.renew("berlin", enrolled.csr()).pem)
    (tmp_path / "tls.key").write_bytes(enrolled.tls_pem())
    with make_server(tmp_path / "other") as other:
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=other.authority.pem)
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_cert_chain(other.state.tls_certificate, other.state.tls_key)
        client = ssl.create_default_context(cadata=other.authority.pem)
        client.load_cert_chain(tmp_path / "tls.pem", tmp_path / "tls.key")
        with pytest.raises(ssl.SSLError, match="certificate verify failed"):
            handshake(server, client)
        token = federation.enrolment.create_token("berlin", by=OLGA)
        with pytest.raises(ArchipelError, match="is not known here"):
            other.enrolment.enrol(enrolled.request(token), datetime.now(UTC))


def test_the_servers_own_certificate_is_no_sites(federation: ServerContext) -> None:
    serial = peer_of_pem(federation.state.tls_certificate.read_bytes()).serial
    assert federation.registry.site_of_serial(serial) is None


def test_a_renewed_certificate_keeps_the_identity_and_the_old_one_lasts(
    federation: ServerContext, enrolled: Applicant
) -> None:
    (old,) = federation.registry.certificates()
    renewed = federation.registry.renew("berlin", Applicant("berlin").csr())
    assert federation.registry.site("berlin").identity_key == enrolled.identity.public
    assert federation.registry.site_of_serial(old.serial)
    assert federation.registry.site_of_serial(renewed.serial)


def test_a_revoked_certificate_is_invalid_at_once_for_a_process_that_had_it_in_memory(
    federation: ServerContext, enrolled: Applicant
) -> None:
    (row,) = federation.registry.certificates()
    with ServerContext.open(federation.state) as command_line:
        assert federation.registry.site_of_serial(row.serial)
        command_line.registry.revoke_certificate(row.serial, "laptop stolen", by=OLGA)
        assert not federation.registry.site_of_serial(row.serial)
        assert not command_line.registry.site_of_serial(row.serial)
    (row,) = federation.registry.certificates()
    assert (row.reason, row.revoked_at is None) == ("laptop stolen", False)
    with pytest.raises(Conflict):
        federation.registry.revoke_certificate(row.serial, "again", by=OLGA)
    with pytest.raises(NotFound):
        federation.registry.revoke_certificate("abc", "unknown", by=OLGA)


def test_a_certificate_ends_by_itself(federation: ServerContext, enrolled: Applicant) -> None:
    signed = federation.registry.renew("berlin", enrolled.csr(), datetime.now(UTC) - timedelta(days=91))
    assert not federation.registry.site_of_serial(signed.serial)


def test_a_removed_site_is_out_and_can_come_back_with_a_new_identity(
    federation: ServerContext, enrolled: Applicant
) -> None:
    (row,) = federation.registry.certificates()
    federation.registry.remove_site("berlin", by=OLGA)
    assert not federation.registry.site_of_serial(row.serial)
    assert federation.registry.sites() == []
    assert [site.state for site in federation.registry.sites(removed=True)] == ["removed"]
    with pytest.raises(ArchipelError, match="was removed"):
        federation.registry.renew("berlin", enrolled.csr())
    again = Applicant("berlin")
    token = federation.enrolment.create_token("berlin", by=OLGA)
    federation.enrolment.enrol(again.request(token), datetime.now(UTC))
    assert federation.registry.site("berlin").identity_key == again.identity.public


def test_names_come_from_the_registry_and_never_from_the_request(
    federation: ServerContext, enrolled: Applicant
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    hostile = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "paris")]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("archipel:site:paris")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    signed = federation.registry.renew("berlin", hostile.public_bytes(serialization.Encoding.PEM).decode())
    certificate = x509.load_pem_x509_certificate(signed.pem.encode())
    assert peer_of_pem(signed.pem.encode()).site == "berlin"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_key_that_grpc_cannot_use_is_refused(federation: ServerContext, enrolled: Applicant) -> None:
    key = rsa.generate_private_key(65537, 2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(BadInput, match="not ECDSA on P-256"):
        federation.registry.renew("berlin", request.public_bytes(serialization.Encoding.PEM).decode())


def test_the_servers_certificate_is_made_anew_only_when_it_must(federation: ServerContext) -> None:
    state, hosts = federation.state, federation.settings.hosts
    now = datetime.now(UTC)
    assert not federation.authority.ensure_server_certificate(state, hosts, now)
    assert federation.authority.ensure_server_certificate(state, (*hosts, "server.example"), now)
    assert federation.authority.ensure_server_certificate(state, (*hosts, "server.example"), now + timedelta(days=600))


def test_a_site_announces_counts_and_schema(federation: ServerContext, enrolled: Applicant) -> None:
    summary = DatasetSummary(name="hippocampus", kind="volumes", subjects=40, labels={"1": "anterior"})
    federation.registry.set_datasets("berlin", [summary])
    found = federation.registry.site("berlin")
    assert found.datasets == (summary,)
    assert found.last_seen is not None


def test_every_change_of_membership_is_in_the_journal(federation: ServerContext, enrolled: Applicant) -> None:
    federation.registry.renew("berlin", enrolled.csr())
    federation.registry.remove_site("berlin", by=OLGA)
    kinds = [line.kind for line in federation.registry.journal()]
    assert kinds == [
        "server-initialised",
        "join-token-created",
        "site-enrolled",
        "certificate-renewed",
        "site-removed",
        "certificate-revoked",
        "certificate-revoked",
    ]
    assert federation.registry.journal_faults() == []


@pytest.mark.parametrize(
    "change", ["body = 'no json'", "hash = 'x'", "body = '{}'", "kind = 'other'", "previous = 'sha256:0'"]
)
def test_a_journal_line_changed_in_the_database_is_named(
    federation: ServerContext, enrolled: Applicant, change: str
) -> None:
    with federation.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE journal SET {change} WHERE number = 2")
    assert federation.registry.journal_faults()[0].startswith("line 2 ")


def test_a_revocation_that_could_not_be_read_is_read_at_the_next_look(
    federation: ServerContext, enrolled: Applicant, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = federation.registry.certificates()
    assert federation.registry.site_of_serial(row.serial)
    federation.registry.revoke_certificate(row.serial, "laptop stolen", by=OLGA)

    def full() -> None:
        raise StorageFull("server.db", "the disk is full", "free space there")

    with monkeypatch.context() as broken:
        broken.setattr(federation.registry, "_read_valid", full)
        with pytest.raises(StorageFull):
            federation.registry.site_of_serial(row.serial)
    assert not federation.registry.site_of_serial(row.serial)
