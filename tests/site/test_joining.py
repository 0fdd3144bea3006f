from __future__ import annotations

import asyncio
import contextlib
import gzip
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from archipel.governance import IdentityKey
from archipel.lab.ports import free_port
from archipel.server.experiments.service import Experiments
from archipel.server.membership.federation import ServerContext
from archipel.server.rest import RestContext, RestServer, create_app
from archipel.server.sites.servicer import FederationServicer
from archipel.server.state.folder import ServerState
from archipel.server.state.settings import ServerSettings
from archipel.site.audit import journal
from archipel.site.membership import enrolment, renewal
from archipel.site.membership.creation import create_site
from archipel.site.state.folder import StateFolder
from archipel.transport import Peer, RenewRequest
from archipel.transport.enrolment import JoinToken
from archipel.vocabulary import ArchipelError, Conflict, ErrorCode, NotPermitted
from worlds.people import OLGA
from worlds.site import pair


class Clock:
    """The server's clock, which a test may set wrong."""

    ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass(frozen=True)
class Server:
    """A federation's real REST server on a port of its own, in a thread of this process."""

    federation: ServerContext
    clock: Clock

    def token(self, site: str = "charite", **changes: Any) -> str:
        made = self.federation.enrolment.create_token(site, by=OLGA)
        return made.model_copy(update=changes).encode()

    def used(self) -> list[bool]:
        return [row.used_at is not None for row in self.federation.enrolment.tokens()]


def serving(folder: Path, name: str, clock: Clock) -> Iterator[Server]:
    bound = socket.create_server(("127.0.0.1", free_port()))
    settings = ServerSettings(name=name, hosts=("127.0.0.1", "localhost"), rest_port=bound.getsockname()[1])
    with ServerContext.create(ServerState(folder), settings, by=OLGA) as federation:
        context = RestContext(federation=federation, experiments=None, connected=tuple, changed=lambda: None, now=clock)
        loop, started = asyncio.new_event_loop(), threading.Event()
        rest = RestServer(create_app(context), federation.state, bound, federation.limits)

        def serve() -> None:
            loop.run_until_complete(rest.start())
            started.set()
            loop.run_forever()

        thread = threading.Thread(target=serve)
        thread.start()
        assert started.wait(30)
        yield Server(federation, clock)
        asyncio.run_coroutine_threadsafe(rest.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    yield from serving(tmp_path / "server", "North", Clock())


@pytest.fixture
def other_server(tmp_path: Path) -> Iterator[Server]:
    yield from serving(tmp_path / "other", "South", Clock())


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[StateFolder]:
    site = create_site(tmp_path / "site", "charite")
    yield site
    site.close()


def refused(site: StateFolder, token: str, code: ErrorCode, words: str, proxy: str | None = None) -> None:
    with pytest.raises(ArchipelError, match=words) as caught:
        enrolment.join(site, token, proxy)
    assert caught.value.code is code
    assert site.federation() is None
    assert not (site.keys / "tls.key").exists()


def test_a_site_joins_with_keys_made_here(server: Server, newcomer: StateFolder) -> None:
    joined = enrolment.join(newcomer, server.token())
    assert joined == newcomer.joined()
    assert (joined.name, joined.server_key) == ("North", server.federation.identity.public)
    certificate = x509.load_pem_x509_certificate((newcomer.keys / "tls.pem").read_bytes())
    key = load_pem_private_key((newcomer.keys / "tls.key").read_bytes(), None)
    assert certificate.public_key() == key.public_key()
    authority = x509.load_pem_x509_certificate((newcomer.keys / "ca.pem").read_bytes())
    certificate.verify_directly_issued_by(authority)
    assert [site.identity_key for site in server.federation.registry.sites()] == [newcomer.identity.public]
    assert journal.lines(newcomer.database)[-1].kind == "joined"
    assert journal.verify(newcomer).whole


def test_joining_again_keeps_the_identity_and_makes_a_new_tls_key(server: Server, newcomer: StateFolder) -> None:
    enrolment.join(newcomer, server.token())
    identity, tls = newcomer.identity.public, (newcomer.keys / "tls.key").read_bytes()
    enrolment.join(newcomer, server.token())
    assert StateFolder.open(newcomer.folder).identity.public == identity
    assert (newcomer.keys / "tls.key").read_bytes() != tls
    assert [site.identity_key for site in server.federation.registry.sites()] == [identity]


class Line:
    """A link to the server's own way of renewing, without the wire."""

    def __init__(self, server: Server) -> None:
        self.wire = FederationServicer(Experiments(server.federation))

    async def renew(self, request: RenewRequest) -> str:
        return await self.wire.renew(Peer("charite", "0"), request)


async def test_a_renewal_keeps_the_identity_and_makes_a_new_tls_key(server: Server, newcomer: StateFolder) -> None:
    enrolment.join(newcomer, server.token())
    identity, tls = newcomer.identity.public, (newcomer.keys / "tls.key").read_bytes()
    await renewal.renew(newcomer, Line(server))
    assert (newcomer.keys / "tls.key").read_bytes() != tls
    assert StateFolder.open(newcomer.folder).identity.public == identity
    old, new = sorted(server.federation.registry.certificates(), key=lambda one: one.issued_at)
    assert x509.load_pem_x509_certificate((newcomer.keys / "tls.pem").read_bytes()).serial_number == int(new.serial, 16)
    assert server.federation.registry.site_of_serial(old.serial), "calls under way are not cut"
    assert journal.lines(newcomer.database)[-1].kind == "certificate-renewed"


async def test_a_renewal_needs_the_identity_keys_word(server: Server, newcomer: StateFolder, tmp_path: Path) -> None:
    enrolment.join(newcomer, server.token())
    before = (newcomer.keys / "tls.pem").read_bytes()
    newcomer.identity = IdentityKey.generate()
    with pytest.raises(NotPermitted, match="renewal for charite: is not signed by its identity key"):
        await renewal.renew(newcomer, Line(server))
    assert (newcomer.keys / "tls.pem").read_bytes() == before


def test_a_certificate_is_renewed_in_the_last_third_of_its_life(server: Server, newcomer: StateFolder) -> None:
    enrolment.join(newcomer, server.token())
    pem = (newcomer.keys / "tls.pem").read_bytes()
    certificate = x509.load_pem_x509_certificate(pem)
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert not renewal.is_due(pem, certificate.not_valid_before_utc + life * 0.6)
    assert renewal.is_due(pem, certificate.not_valid_before_utc + life * 0.7)


def test_a_token_is_good_once(server: Server, newcomer: StateFolder, tmp_path: Path) -> None:
    token = server.token()
    enrolment.join(newcomer, token)
    thief = create_site(tmp_path / "thief", "charite")
    refused(thief, token, ErrorCode.TOKEN, r"join token: was used on .*; ask the server's operator for a new one")
    with pytest.raises(ArchipelError, match="was used on"):
        enrolment.join(newcomer, token)
    assert newcomer.joined().name == "North"


def test_an_expired_token_is_named(server: Server, newcomer: StateFolder) -> None:
    past = datetime.now(UTC) - timedelta(hours=3)
    token = server.federation.enrolment.create_token("charite", timedelta(hours=1), past, by=OLGA).encode()
    refused(newcomer, token, ErrorCode.TOKEN, "join token: expired on")


@pytest.mark.parametrize("token", ["", "archipel1.", "archipel1.e30", "hello", "archipel2.e30"])
def test_something_else_than_a_token_is_named(newcomer: StateFolder, token: str) -> None:
    refused(newcomer, token, ErrorCode.TOKEN, "is damaged or not a join token")


def test_another_sites_token_is_refused_without_asking_the_server(server: Server, newcomer: StateFolder) -> None:
    refused(newcomer, server.token("mayo"), ErrorCode.TOKEN, "is for site mayo; this is site charite")


def test_a_wrong_ca_is_refused_and_the_secret_is_not_sent(
    server: Server, newcomer: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = enrolment._ask

    def listening(ticket: JoinToken, proxy: str, trust: ssl.SSLContext, path: str, body: Any = None) -> Any:
        asked.append(path)
        return ask(ticket, proxy, trust, path, body)

    monkeypatch.setattr(enrolment, "_ask", listening)
    token = server.token(ca="sha256:" + "0" * 64)
    refused(newcomer, token, ErrorCode.TRUST, "shows another CA than the join token names")
    assert asked == ["/v1/enrolment/authority"]
    assert server.used() == [False]


def test_a_server_that_shows_the_right_ca_but_has_not_its_certificate_gets_no_secret(
    server: Server, other_server: Server, newcomer: StateFolder
) -> None:
    """The impostor hands out the true CA certificate, as anybody can, on its own TLS certificate."""
    impostor = other_server.federation
    object.__setattr__(impostor, "authority", server.federation.authority)
    token = server.token(url=impostor.settings.rest_url)
    refused(newcomer, token, ErrorCode.TRUST, "shows a certificate that is not")
    assert server.used() == [False]
    assert other_server.used() == []


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_a_clock_that_is_off_is_named_and_the_token_stays_good(
    server: Server, newcomer: StateFolder, ahead: float
) -> None:
    token = server.token()
    server.clock.ahead = timedelta(seconds=ahead)
    words = "seconds behind the server's" if ahead > 0 else "seconds ahead of the server's"
    refused(newcomer, token, ErrorCode.CLOCK, words)
    server.clock.ahead = timedelta(0)
    enrolment.join(newcomer, token)


def test_a_site_does_not_change_its_federation(server: Server, other_server: Server, newcomer: StateFolder) -> None:
    enrolment.join(newcomer, server.token())
    with pytest.raises(Conflict, match="belongs to federation North already"):
        enrolment.join(newcomer, other_server.token())
    assert other_server.used() == [False]
    assert newcomer.joined().name == "North"


def test_a_server_that_is_not_there_is_named(server: Server, newcomer: StateFolder) -> None:
    url = f"https://127.0.0.1:{free_port()}"
    refused(newcomer, server.token(url=url), ErrorCode.LOST, f"server {url}: cannot be reached; check the address")


def test_a_port_that_speaks_something_else_is_named(server: Server, newcomer: StateFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hello() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"220 mail.clinic ESMTP\r\n")

        thread = threading.Thread(target=hello)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        refused(newcomer, server.token(url=url), ErrorCode.LOST, f"server {url}: ")
        thread.join()


class Flooding:
    """A server that answers everybody with these headers and then bytes without end; it counts what was taken."""

    def __init__(self, folder: Path, headers: bytes, chunk: bytes) -> None:
        key, certificate = pair()
        (folder / "pair.pem").write_bytes(key + certificate.encode())
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "pair.pem")
        self.headers, self.chunk, self.taken = headers, chunk, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}"

    def answer(self) -> None:
        with self.listener, self.context.wrap_socket(self.listener.accept()[0], server_side=True) as connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + self.headers + b"\r\n")
            with contextlib.suppress(OSError):
                while True:
                    connection.sendall(self.chunk)
                    self.taken += len(self.chunk)


@pytest.mark.parametrize(
    ("headers", "chunk"),
    [(b"", b" " * 65536), (b"Content-Encoding: gzip\r\n", gzip.compress(bytes(1 << 24)))],
    ids=["plain", "packed"],
)
def test_an_answer_without_end_is_not_read_to_its_end(
    server: Server, newcomer: StateFolder, tmp_path: Path, headers: bytes, chunk: bytes
) -> None:
    flooding = Flooding(tmp_path, headers, chunk)
    thread = threading.Thread(target=flooding.answer)
    thread.start()
    refused(newcomer, server.token(url=flooding.url), ErrorCode.TRUST, "does not answer as an Archipel server")
    thread.join()
    room_on_the_way = 16 << 20
    assert flooding.taken < enrolment.LONGEST_ANSWER + room_on_the_way


@pytest.fixture
def tinyproxy(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Start a real proxy; the function's argument is one more line of its configuration."""
    program = shutil.which("tinyproxy")
    if program is None:
        pytest.skip("the Debian package tinyproxy is not installed")
    started: list[subprocess.Popen[bytes]] = []

    def start(extra: str = "") -> str:
        port = free_port()
        config = tmp_path / "tinyproxy.conf"
        config.write_text(
            f'Port {port}\nListen 127.0.0.1\nTimeout 30\nMaxClients 10\nLogFile "{tmp_path / "proxy.log"}"\n'
            f"LogLevel Connect\nAllow 127.0.0.1\n{extra}\n"
        )
        started.append(subprocess.Popen([program, "-d", "-c", str(config)], stdout=subprocess.DEVNULL))
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}"
            threading.Event().wait(0.05)
        raise AssertionError("tinyproxy did not start")

    yield start
    for process in started:
        process.terminate()
        process.wait()


@pytest.mark.processes
def test_a_site_joins_through_a_real_proxy_and_remembers_it(
    server: Server, newcomer: StateFolder, tinyproxy: Callable[[str], str], tmp_path: Path
) -> None:
    proxy = tinyproxy("")
    enrolment.join(newcomer, server.token(), proxy)
    assert StateFolder.open(newcomer.folder).settings.proxy == proxy
    assert "CONNECT" in (tmp_path / "proxy.log").read_text()


@pytest.mark.processes
def test_a_proxy_that_forbids_the_way_is_named(
    server: Server, newcomer: StateFolder, tinyproxy: Callable[[str], str]
) -> None:
    proxy = tinyproxy("ConnectPort 443")
    refused(newcomer, server.token(), ErrorCode.LOST, f"proxy {proxy}: refused to connect to", proxy)
    assert StateFolder.open(newcomer.folder).settings.proxy == ""


def test_a_proxy_that_is_not_there_is_named(server: Server, newcomer: StateFolder) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    refused(newcomer, server.token(), ErrorCode.LOST, f"cannot be reached through proxy {proxy}", proxy)


def test_an_address_that_is_no_proxy_is_named_before_anything_is_sent(server: Server, newcomer: StateFolder) -> None:
    refused(newcomer, server.token(), ErrorCode.CONFIGURATION, "is not the address of a web proxy", "proxy:3128")
    assert server.used() == [False]
