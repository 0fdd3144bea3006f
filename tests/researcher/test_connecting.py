"""Whom a researcher's client trusts, and how it says what is wrong."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import archipel
from archipel.server.membership.federation import ServerContext
from archipel.server.state.folder import ServerState
from archipel.server.state.settings import ServerSettings
from archipel.vocabulary import BadInput, ErrorCode, NotFound, NotPermitted
from worlds.people import OLGA
from worlds.research import TINY_PLAN, World


@pytest.mark.processes
def test_importing_archipel_loads_no_heavy_module() -> None:
    code = "import archipel, sys; print([m for m in ('numpy', 'torch', 'pandas', 'httpx', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_public_name_can_be_loaded() -> None:
    assert all(getattr(archipel, name) is not None for name in archipel.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = archipel.nonsense


def test_a_ca_file_or_its_fingerprint_opens_the_connection(world: World) -> None:
    for ca in (world.ca, world.federation.authority.fingerprint):
        with archipel.connect(world.url, token=world.token(), ca=ca) as found:
            assert found.name == "north sea"
            assert found.server_key == world.federation.identity.public


def test_what_is_not_given_comes_from_the_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIPEL_SERVER", world.url)
    monkeypatch.setenv("ARCHIPEL_TOKEN", world.token())
    with pytest.raises(BadInput, match="connect: ca: is missing; give it or set ARCHIPEL_CA"):
        archipel.connect()
    monkeypatch.setenv("ARCHIPEL_CA", str(world.ca))
    with archipel.connect() as found:
        assert found.name == "north sea"


def test_another_federations_ca_is_not_trusted(world: World, tmp_path: Path) -> None:
    with ServerContext.create(
        ServerState(tmp_path / "other"), ServerSettings(name="other", hosts=("127.0.0.1",)), by=OLGA
    ) as other:
        (tmp_path / "other.pem").write_text(other.authority.pem)
        for ca in (tmp_path / "other.pem", other.authority.fingerprint):
            with pytest.raises(archipel.ArchipelError) as caught:
                archipel.connect(world.url, token=world.token(), ca=ca)
            assert caught.value.code is ErrorCode.TRUST


def test_a_token_that_is_wrong_or_may_not_is_refused_in_words(world: World) -> None:
    with pytest.raises(NotPermitted) as caught:
        archipel.connect(world.url, token="archipel_x_y", ca=world.ca)
    assert caught.value.code is ErrorCode.TOKEN
    assert "check ARCHIPEL_TOKEN (or token=), or ask the server's operator" in str(caught.value)
    reader = archipel.connect(world.url, token=world.token("read"), ca=world.ca)
    with reader, pytest.raises(NotPermitted, match="lacks scope research"):
        reader.create(TINY_PLAN).submit()


def test_a_server_that_is_not_there_is_named() -> None:
    ca = Path(__file__)
    with pytest.raises(BadInput, match="is not a PEM certificate"):
        archipel.connect("https://127.0.0.1:1", token="t", ca=ca)
    with pytest.raises(archipel.ArchipelError, match=r"server https://127\.0\.0\.1:1: cannot be reached") as caught:
        archipel.connect("https://127.0.0.1:1", token="t", ca="sha256:" + "0" * 64)
    assert caught.value.code is ErrorCode.LOST
    # Sixty lines of a connection's insides would hide the sentence.
    assert caught.value.__suppress_context__ and caught.value.__cause__ is None
    with pytest.raises(BadInput, match="is not an https address"):
        archipel.connect("http://127.0.0.1:1", token="t", ca=ca)


def test_the_sites_port_is_told_from_a_closed_one() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")]), datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(secret, pem)], pem, True))
    server.start()
    try:
        with pytest.raises(archipel.ArchipelError, match="check the port: researchers use the REST port"):
            archipel.connect(f"https://127.0.0.1:{port}", token="t", ca="sha256:" + "0" * 64)
    finally:
        server.stop(None)


def test_an_unknown_experiment_is_not_found(federation: archipel.Federation) -> None:
    with pytest.raises(NotFound, match="experiment nobody: is not at this server"):
        federation.experiment("nobody")
