"""A listening socket, or one clear error that names the port."""

from __future__ import annotations

import errno
import socket

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
            f"change {key.replace('port', 'host')} or {key} in server.toml",
            code=ErrorCode.CONFIGURATION,
        ) from error
    # asyncio does this only for sockets whose protocol number is stated, which an accepted one's is not; without it
    # every answer waits some 40 ms for the other side's delayed acknowledgement.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound
