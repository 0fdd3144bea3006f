"""Serving the REST application over TLS on a socket that is bound before anything else starts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Generator

import uvicorn
from fastapi import FastAPI

from archipel.server.state import ServerState
from archipel.vocabulary import ArchipelError, ErrorCode


def listen(host: str, port: int, key: str) -> socket.socket:
    """A listening socket; ``key`` is the setting to change when the port is taken.

    Raises ArchipelError (code port-in-use) that names the port, or (code configuration) a wrong address.
    """
    thing = f"{host}:{port}"
    try:
        bound = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ArchipelError(
                thing,
                "the port is in use by another process",
                f"stop that process (`ss -ltnp sport = :{port}` names it) or change {key} in server.toml",
                code=ErrorCode.PORT_IN_USE,
            ) from error
        raise ArchipelError(
            thing,
            f"cannot be listened on ({error.strerror or error})",
            f"change {key.replace('port', 'host')} or {key}",
            code=ErrorCode.CONFIGURATION,
        ) from error
    # asyncio does this only for sockets whose protocol number is stated, which an accepted one's is not; without it
    # every answer waits some 40 ms for the other side's delayed acknowledgement.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


class RestServer:
    """The application on a socket, in the running event loop; ``start`` returns when it answers."""

    def __init__(self, app: FastAPI, state: ServerState, bound: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            ssl_keyfile=str(state.tls_key),
            ssl_certfile=str(state.tls_certificate),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
        self._server = _Embedded(config)
        self._bound = bound
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to answer."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._bound]), name="rest")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task
            raise ArchipelError("REST interface", "ended while starting", "see the log above")

    async def stop(self) -> None:
        """Answer what was asked, then end; open event streams are closed."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Embedded(uvicorn.Server):
    """Says when it answers, and leaves signals to the process it is part of."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
