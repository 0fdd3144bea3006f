"""Serving the REST application over TLS on a socket that is bound before anything else starts.

Every machine that reaches the port may open connections, so their number and their silent time are bounded; each is
counted from the moment it is accepted, before it has begun TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from archipel.server.state import ServerLimits, ServerState
from archipel.transport.accepting import accept
from archipel.transport.connections import Connection, Connections
from archipel.vocabulary import ArchipelError

_log = structlog.get_logger("archipel.rest")


class RestServer:
    """The application on a socket, in the running event loop; ``start`` returns when it answers."""

    def __init__(self, app: FastAPI, state: ServerState, bound: socket.socket, limits: ServerLimits) -> None:
        config = uvicorn.Config(
            app,
            http=H11Protocol,
            # A connection that became a web socket would leave the protocol that counts it.
            ws="none",
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
    """A connection that has begun TLS; it is closed when a request does not come or does not end in time."""

    def __init__(self, counted: Connection, connections: Connections, request_s: float, *of_uvicorn: Any) -> None:
        super().__init__(*of_uvicorn)
        self._counted, self._all, self._request_s = counted, connections, request_s
        # Endpoints say through it for whom the connection counts.
        self.app_state = {**self.app_state, "connection": counted}
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._counted.close = transport.abort
        self._timer = self.loop.call_later(self._request_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._note()
        if self._counted.busy:
            self._forgive()
        elif self._timer is None:
            # The beginning of a further request; between two requests uvicorn checks the time itself.
            self._timer = self.loop.call_later(self._request_s, self.transport.abort)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._note()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forgive()
        self._all.remove(self._counted)
        super().connection_lost(exc)

    def _note(self) -> None:
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy != self._counted.busy:
            self._counted.busy, self._counted.since = busy, self.loop.time()

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
        self._beginning: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        # Accepted here and not by uvicorn or asyncio, which know nothing of a connection until it has ended its
        # handshake: a thousand that never begin it would have to be refused a file each.
        self._bound.setblocking(False)
        self._accepting = asyncio.create_task(
            accept(self._bound, self._limits.connections, self._begin, self._beginning), name="rest-accept"
        )
        self.ready.set()

    async def _begin(self, accepted: socket.socket, counted: Connection, connections: Connections) -> None:
        """Take a connection through the TLS handshake; from then on it looks after itself."""
        begun = False
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: _Impatient(
                    counted, connections, self._limits.request_s, self.config, self.server_state, self.lifespan.state
                ),
                accepted,
                ssl=self.config.ssl,
                ssl_handshake_timeout=self._limits.handshake_s,
            )
            begun = True
        except OSError as error:
            _log.debug("a connection did not begin TLS", caller=counted.caller, error=str(error))
        finally:
            if not begun:
                connections.remove(counted)

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
        for task in (self._accepting, *self._beginning):
            task.cancel()
        await asyncio.gather(self._accepting, *self._beginning, return_exceptions=True)
        self._bound.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(20):
            if not (self.server_state.connections or self.server_state.tasks):
                break
            await asyncio.sleep(0.005)
        else:
            await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
