"""The yardstick of ``archipel bench round``: the same bytes between as many processes over plain gRPC, mutual TLS, and
nothing else.

Each client downloads the model into memory and uploads as much; the server writes each upload to a file. No hash, no
journal, no sandbox, no average. One gRPC server with asyncio, chunks of 1 MiB, as fast as we know how to write it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from archipel.lab.ports import HOST, free_port
from archipel.server.membership import Authority
from archipel.server.state import ServerState
from archipel.site.membership import tls_request

CHUNK = 1 << 20
OPTIONS = [("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", 32 << 20)]


async def serve(port: int, size: int, keys: Path, uploads: Path) -> None:
    """The server process: until its standard input ends."""
    model = bytes(range(256)) * (CHUNK // 256)

    async def download(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for start in range(0, size, CHUNK):
            yield model[: min(CHUNK, size - start)]

    async def upload(chunks: AsyncIterator[bytes], context: Any) -> bytes:
        path = uploads / context.peer().replace("/", "_")
        with path.open("wb", buffering=0) as file:
            async for chunk in chunks:
                file.write(chunk)
        path.unlink()
        return b""

    server = grpc.aio.server(options=OPTIONS)
    handlers = {
        "Download": grpc.unary_stream_rpc_method_handler(download),
        "Upload": grpc.stream_unary_rpc_method_handler(upload),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("reference", handlers),))
    authority = (keys / "ca.pem").read_bytes()
    pair = [((keys / "server.key").read_bytes(), (keys / "server.pem").read_bytes())]
    server.add_secure_port(f"{HOST}:{port}", grpc.ssl_server_credentials(pair, authority, require_client_auth=True))
    await server.start()
    _say("ready")
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


async def client(port: int, size: int, keys: Path) -> None:
    """A client process: one download and one upload for each line of its standard input."""
    credentials = grpc.ssl_channel_credentials(
        (keys / "ca.pem").read_bytes(), (keys / "client.key").read_bytes(), (keys / "client.pem").read_bytes()
    )
    async with grpc.aio.secure_channel(f"{HOST}:{port}", credentials, options=OPTIONS) as channel:
        download, upload = channel.unary_stream("/reference/Download"), channel.stream_unary("/reference/Upload")
        await channel.channel_ready()
        _say("ready")
        held = bytearray(size)
        while await asyncio.to_thread(sys.stdin.readline):
            place = 0
            async for chunk in download(b""):
                held[place : place + len(chunk)] = chunk
                place += len(chunk)
            call = upload()
            window = memoryview(held)
            for start in range(0, size, CHUNK):
                await call.write(bytes(window[start : start + CHUNK]))
            await call.done_writing()
            await call
            _say("done")


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


class Reference:
    """One server process and ``sites`` client processes, warm, that exchange ``size`` bytes each way on demand."""

    def __init__(self, folder: Path, sites: int, size: int) -> None:
        folder.mkdir()
        _make_keys(folder)
        port = free_port()
        self._server = self._start("server", port, size, folder)
        self._clients = [self._start("client", port, size, folder) for _ in range(sites)]

    def _start(self, role: str, port: int, size: int, folder: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), role, str(port), str(size), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        _wait(process, "ready")
        return process

    @property
    def pids(self) -> tuple[int, ...]:
        """The server's process and the clients'."""
        return (self._server.pid, *(one.pid for one in self._clients))

    def round(self) -> float:
        """Seconds from the word to all clients until the last one is done."""
        began = time.perf_counter()
        for process in self._clients:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in self._clients:
            _wait(process, "done")
        return time.perf_counter() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in [*self._clients, self._server]:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    if process.stdout.readline().strip() != word:
        raise RuntimeError("a reference process ended early")


def _make_keys(folder: Path) -> None:
    from datetime import UTC, datetime, timedelta

    state = ServerState(folder / "authority")
    state.make_folders()
    now = datetime.now(UTC)
    authority = Authority.create(state, "reference", now)
    authority.ensure_server_certificate(state, (HOST,), now)
    key, request = tls_request("client")
    (folder / "client.key").write_bytes(key)
    (folder / "client.pem").write_text(authority.sign_site("client", request, now, timedelta(days=1)).pem)
    (folder / "ca.pem").write_bytes(state.ca_certificate.read_bytes())
    (folder / "server.key").write_bytes(state.tls_key.read_bytes())
    (folder / "server.pem").write_bytes(state.tls_certificate.read_bytes())


if __name__ == "__main__":
    _role, _port, _size, _folder = sys.argv[1:]
    if _role == "server":
        asyncio.run(serve(int(_port), int(_size), Path(_folder), Path(_folder)))
    else:
        asyncio.run(client(int(_port), int(_size), Path(_folder)))
