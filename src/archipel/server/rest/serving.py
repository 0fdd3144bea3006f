"""Serving the REST application over TLS on a socket that is bound before anything else starts.

Every machine that reaches the port may open connections, so their number and their silent time are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import socket
from collections.abc import Generator
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from archipel.server.state import ServerLimits, ServerState
from archipel.vocabulary import ArchipelError, ErrorCode, Thing


def listen(host: str, port: int, key: str) -> socket.socket:
    """A listening socket; ``key`` is the setting to change when the port is taken.

    Raises ArchipelError (code port-in-use) that names the port, or (code configuration) a wrong address.
    """
    thing = Thing.worded(f"{host}:{port}", host=host, port=port)
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

    def __init__(self, app: FastAPI, state: ServerState, bound: socket.socket, limits: ServerLimits) -> None:
        config = uvicorn.Config(
            app,
            http=H11Protocol,
            ssl_keyfile=str(state.tls_key),
            ssl_certfile=str(state.tls_certificate),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
        self._server = _Embedded(config, bound, limits)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to answer."""
        self._task = asyncio.create_task(self._server.serve(sockets=[]), name="rest")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task
            raise ArchipelError("REST interface", "ended while starting", "see the log above")

    async def stop(self) -> None:
        """Answer the open requests, then end; open event streams are closed."""
        self._server.end()
        if self._task is not None:
            await self._task


class _Impatient(H11Protocol):
    """One connection; it is closed when there are too many, or when a request does not come or does not end in time."""

    def __init__(self, limits: ServerLimits, *of_uvicorn: Any) -> None:
        super().__init__(*of_uvicorn)
        self._limits = limits
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            silent = [one for one in self.connections if isinstance(one, _Impatient) and one._timer is not None]
            oldest = min(silent, key=_Impatient._until, default=self)
            oldest._forgive()
            oldest.transport.abort()
            if oldest is self:
                return
        self._timer = self.loop.call_later(self._limits.request_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forgive()
        elif self._timer is None:
            # The beginning of a further request; between two requests uvicorn checks the time itself.
            self._timer = self.loop.call_later(self._limits.request_s, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forgive()
        super().connection_lost(exc)

    def _until(self) -> float:
        return self._timer.when() if self._timer is not None else math.inf

    def _forgive(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Embedded(uvicorn.Server):
    """Says when it answers, and leaves signals to the process it is part of."""

    def __init__(self, config: uvicorn.Config, bound: socket.socket, limits: ServerLimits) -> None:
        super().__init__(config)
        self._limits = limits
        self.ready = asyncio.Event()
        self._ending = asyncio.Event()
        self._bound = bound

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        # Listened to here and not by uvicorn, which has no setting for the time that TLS may take.
        server = await asyncio.get_running_loop().create_server(
            lambda: _Impatient(self._limits, self.config, self.server_state, self.lifespan.state),
            sock=self._bound,
            ssl=self.config.ssl,
            ssl_handshake_timeout=self._limits.handshake_s,
            backlog=self.config.backlog,
        )
        self.servers.append(server)
        self.ready.set()

    def end(self) -> None:
        """Answer no further request, and return from ``serve`` when the open ones are answered."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        """What uvicorn does once per second, until the end; it would wake ten times per second to look for that."""
        tenths = 0
        while not await self.on_tick(tenths):
            tenths += 10
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does it, which looks only ten times per second whether the last connection is closed."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(20):
            if not (self.server_state.connections or self.server_state.tasks):
                break
            await asyncio.sleep(0.005)
        else:
            await super().shutdown(sockets)
        for server in self.servers:
            await server.wait_closed()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
