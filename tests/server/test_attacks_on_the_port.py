"""Whoever reaches the sites' port, with a certificate or without one, neither stops the server nor ends what others do.

Each of these attacks succeeded once, or was tried and held.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import stat
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from archipel.server.membership.federation import ServerContext
from archipel.tensors import blob_hash
from archipel.transport import UploadStart, bulk_service, loop_tls, relay, service
from archipel.transport.bulk_requests import upload_head
from archipel.vocabulary import ArchipelError, ErrorCode, TaskKey, Update
from worlds.sites_port import Attacked, Keys, Scripted, answer, closing_all, fetched, listening

DATA = bytes(range(256)) * 100
BLOB = blob_hash(DATA)
START = UploadStart(
    update=Update(
        key=TaskKey(experiment="first", round=1),
        site="berlin",
        task_hash="sha256:" + "0" * 64,
        model="blake3:" + "0" * 64,
        model_bytes=1 << 20,
        samples=1,
    )
)


@pytest.fixture
async def attacked(federation: ServerContext) -> AsyncIterator[Attacked]:
    async with listening(federation, Scripted(DATA)) as found, asyncio.timeout(60):
        yield found


def only_hello(keys: Keys, protocol: str) -> bytes:
    """A ClientHello, which may be sent as often as one likes."""
    context, going = keys.tls, ssl.MemoryBIO()
    context.set_alpn_protocols([protocol])
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), going, server_hostname="127.0.0.1").do_handshake()
    return going.read()


async def test_hellos_without_a_certificate_end_no_connection_of_a_site_at_their_address(
    federation: ServerContext,
) -> None:
    async with listening(federation, most=30) as attacked, asyncio.timeout(60):
        control = attacked.channel().stream_stream(f"/{service.SERVICE}/Control")()
        await control.wait_for_connection()
        await asyncio.sleep(0.05)
        hello, held = only_hello(attacked.keys, "h2"), []
        with closing_all(held):
            for _ in range(60):
                held.append(await asyncio.to_thread(attacked.plain))
                held[-1].sendall(hello)
                # Each is relayed before the next one comes.
                await asyncio.sleep(0.002)
            assert attacked.port.open <= 30 and not control.done()
        control.cancel()


async def test_a_relayed_caller_that_shows_no_certificate_is_ended_although_it_keeps_its_end_open(
    federation: ServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "HANDSHAKE_MS", 300)
    monkeypatch.setattr(relay, "LAST_S", 0.3)
    async with listening(federation) as attacked, asyncio.timeout(60):
        with attacked.plain() as connection:
            connection.sendall(only_hello(attacked.keys, "h2"))
            while not attacked.port.open:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            while attacked.port.open:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def in_records_of_a_byte(attacked: Attacked, head: bytes, count: int) -> tuple[socket.socket, bytes]:
    """A bulk connection that has sent a head, and ``count`` encrypted records of one byte for it."""
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = attacked.keys.tls.wrap_bio(coming, going, server_hostname="127.0.0.1")
    connection = attacked.plain()
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            connection.sendall(going.read())
            coming.write(connection.recv(1 << 16))
    tls.write(head)
    connection.sendall(going.read())
    for _ in range(count):
        tls.write(b" ")
    return connection, going.read()


async def test_a_record_of_single_bytes_holds_nobody_up(attacked: Attacked) -> None:
    head = upload_head("server", 512 << 10, 10, waits=False)
    connection, data = await asyncio.to_thread(in_records_of_a_byte, attacked, head, 60_000)
    longest = 0.0
    with connection:
        sending = asyncio.create_task(asyncio.to_thread(connection.sendall, data))
        while not sending.done():
            before = time.thread_time()
            await asyncio.sleep(0)
            # Seconds of this thread's own work: those in which it waits for a processor are not the attack's.
            longest = max(longest, time.thread_time() - before)
        await sending
        assert longest < 0.2
        assert await fetched(attacked.client(attacked.other), BLOB) == DATA


async def test_an_answer_that_is_not_read_is_no_error_of_the_server(
    attacked: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_tls, "DRAIN_S", 0.2)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        tls = loop_tls.LoopTls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ours)

        async def never(_: object) -> int:
            await asyncio.sleep(60)
            return 0

        monkeypatch.setattr(tls, "_done", never)
        with pytest.raises(ConnectionError, match="not read"):
            await tls.send(b"answer")
        tls.close()


async def test_nobody_else_of_this_machine_enters_the_folder_of_the_socket(federation: ServerContext) -> None:
    folder = Path(federation.state.root) / "port"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    async with listening(federation) as attacked, asyncio.timeout(60):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert await attacked.still_answers()


async def test_a_link_in_place_of_the_folder_is_not_followed(federation: ServerContext, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (Path(federation.state.root) / "port").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="port"):
        async with listening(federation):
            pytest.fail("the socket is in a folder of somebody else")
    assert not list((tmp_path / "elsewhere").iterdir())


GET, POST = f"GET /blobs/{BLOB} HTTP/1.1\r\nHost: a\r\n".encode(), b"POST /updates HTTP/1.1\r\nHost: a\r\n"
REFUSED = {
    "a length of 5,000 digits": POST + b"Content-Length: " + b"9" * 5000 + b"\r\nArchipel-Start: 5\r\n\r\n",
    "two lengths": POST + b"Content-Length: 10\r\nContent-Length: 20\r\nArchipel-Start: 5\r\n\r\n" + bytes(20),
    "length and chunks": POST + b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\nArchipel-Start: 5\r\n\r\n",
    "another encoding": POST + b"Transfer-Encoding: identity\r\nContent-Length: 10\r\nArchipel-Start: 5\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\nArchipel-Start: 5\r\n\r\n",
    "a length that is no digit": POST + b"Content-Length: \xb2\r\nArchipel-Start: 1\r\n\r\n",
    "a blank before the colon": POST + b"Content-Length : 10\r\nArchipel-Start: 5\r\n\r\n" + bytes(10),
    "two starts": POST + b"Content-Length: 10\r\nArchipel-Start: 5\r\nArchipel-Start: 10\r\n\r\n{}        ",
    "a folded line": GET + b"Range: bytes=0-\r\n Range: x\r\n\r\n",
    "two ranges": GET + b"Range: bytes=0-,5-\r\n\r\n",
    "the last bytes": GET + b"Range: bytes=-5\r\n\r\n",
    "a range beyond all": GET + b"Range: bytes=" + b"9" * 18 + b"-\r\n\r\n",
    "a range of 19 digits": GET + b"Range: bytes=" + b"9" * 19 + b"-\r\n\r\n",
    "a request in a body": GET + b"Content-Length: 40\r\n\r\n" + GET + b"\r\n",
    "an encoded path": b"GET /blobs/blake3%3a" + BLOB[7:].encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a path of this machine": b"GET /blobs//etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": GET.replace(b"Host: a\r\n", b"") + b"\r\n",
    "another method": b"HEAD" + GET[3:] + b"\r\n",
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=list(REFUSED))
async def test_a_request_with_two_meanings_has_none(attacked: Attacked, request_: bytes) -> None:
    def ask() -> tuple[int, ArchipelError | None]:
        with attacked.bulk() as connection:
            connection.settimeout(20)
            connection.sendall(request_)
            return answer(connection)

    status, error = await asyncio.to_thread(ask)
    assert status == 409 and error is not None and error.code is ErrorCode.BAD_INPUT
    assert not attacked.service.starts and not attacked.service.uploaded


async def test_of_two_requests_in_one_segment_the_second_is_not_answered_as_one(attacked: Attacked) -> None:
    def ask() -> list[int]:
        with attacked.bulk() as connection:
            connection.settimeout(20)
            body = b"Content-Length: 2\r\nArchipel-Start: 2\r\n\r\n{}"
            connection.sendall(POST + body + GET + b"\r\n")
            statuses, got = [], b""
            while more := connection.recv(1 << 16):
                got += more
            statuses += [int(line[9:12]) for line in got.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
            return statuses

    assert await asyncio.to_thread(ask) == [409]


async def test_while_all_threads_wait_for_a_site_messages_go_on_and_the_server_stops(
    federation: ServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_service, "MOST_THREADS", 1)
    record = START.model_dump_json().encode()
    async with asyncio.timeout(30):
        async with listening(federation, Scripted(DATA)) as attacked:
            slow = await asyncio.to_thread(attacked.bulk)
            slow.sendall(upload_head("server", len(record), 1 << 20, waits=False) + record + b"x")
            while not attacked.service.starts:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            waiting = asyncio.ensure_future(fetched(attacked.client(attacked.other), BLOB))
            assert await attacked.still_answers()
            assert not waiting.done()
        with closing_all([slow]), pytest.raises(ArchipelError) as lost:
            await waiting
    assert lost.value.code is ErrorCode.LOST


def self_signed(name: str, authority: bytes) -> Keys:
    """A certificate that claims to be a site's, signed by nobody."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Keys(secret, certificate.public_bytes(Encoding.PEM), authority)


async def test_a_certificate_that_the_federation_did_not_sign_is_nobodys(attacked: Attacked) -> None:
    forged = self_signed("berlin", attacked.keys.authority)
    with pytest.raises(ArchipelError) as lost:
        await fetched(attacked.client(forged), BLOB)
    assert lost.value.code is ErrorCode.LOST
    renew = attacked.channel(forged).unary_unary(f"/{service.SERVICE}/Renew")
    with pytest.raises(grpc.aio.AioRpcError):
        await renew(b"{}", timeout=5)
    assert await attacked.still_answers()


async def test_tls_before_1_3_carries_no_models(attacked: Attacked) -> None:
    context = attacked.keys.tls
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2

    def call() -> None:
        with attacked.plain() as connection, pytest.raises(OSError):
            context.wrap_socket(connection, server_hostname="127.0.0.1")

    await asyncio.to_thread(call)
