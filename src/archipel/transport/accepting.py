"""Accepting connections of a port that every machine may reach: each is counted before anything is read from it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine

import structlog

from archipel.transport.connections import Connection, Connections, address_caller

_log = structlog.get_logger("archipel.ports")
_AGAIN_S = 1.0

Serve = Callable[[socket.socket, Connection, Connections], Coroutine[object, object, None]]
"""Serves a connection that was accepted. It counts it no more when it has ended, or leaves that to who does."""


async def accept(bound: socket.socket, most: int, serve: Serve, serving: set[asyncio.Task[None]]) -> None:
    """Accept connections of a bound, non-blocking socket, at most ``most`` at a time, until this is cancelled.

    Each is served by a task of its own, which is in ``serving`` until it has ended.
    """
    loop = asyncio.get_running_loop()
    connections = Connections(most, loop.time)
    while True:
        try:
            accepted, address = await loop.sock_accept(bound)
        except OSError as error:
            _log.error("no connection can be accepted", error=str(error))
            await asyncio.sleep(_AGAIN_S)
            continue
        counted = Connection(address_caller(address[0]), loop.time())
        if connections.add(counted):
            task = loop.create_task(serve(accepted, counted, connections))
            counted.close = task.cancel
            serving.add(task)
            task.add_done_callback(serving.discard)
        else:
            accepted.close()
        # A connection that is there already is accepted without waiting: a flood of them must let others work.
        await asyncio.sleep(0)
