"""A connection to the server for bulk bytes, through a web proxy where there is one."""

from __future__ import annotations

import base64
import socket
import ssl
from urllib.parse import unquote, urlsplit

import h11

DIAL_S = 10.0
"""How long each step of connecting may take."""


def dial(address: str, proxy: str, tls: ssl.SSLContext) -> ssl.SSLSocket:
    """Connect to ``host:port`` and complete the handshake.

    ``proxy`` is ``http://host:port`` (``http://user:password@host:port``) of a proxy that speaks CONNECT, or empty.
    Raises OSError; of it ssl.SSLCertVerificationError for a server that shows another certificate than it should.
    """
    host, port = split_address(address)
    way = urlsplit(proxy)
    to = (way.hostname or "", way.port or 80) if proxy else (host, port)
    plain = socket.create_connection(to, DIAL_S)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if proxy:
            _connect(plain, address, way.username, way.password)
        return tls.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def split_address(address: str) -> tuple[str, int]:
    """Host and port.

    >>> split_address("server.example:443"), split_address("[2001:db8::1]:443")
    (('server.example', 443), ('2001:db8::1', 443))
    """
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _connect(plain: socket.socket, address: str, user: str | None, password: str | None) -> None:
    """Have the proxy connect. Its answer is read byte for byte as far as it goes: behind it begins TLS."""
    http = h11.Connection(h11.CLIENT)
    headers = [("Host", address)]
    if user is not None:
        secret = f"{unquote(user)}:{unquote(password or '')}".encode()
        headers.append(("Proxy-Authorization", f"Basic {base64.b64encode(secret).decode()}"))
    plain.sendall(http.send(h11.Request(method="CONNECT", target=address, headers=headers)) or b"")
    http.send(h11.EndOfMessage())
    try:
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(plain.recv(1))
    except h11.RemoteProtocolError as error:
        raise ConnectionError(f"the web proxy's answer is not HTTP ({error})"[:200]) from error
    if not isinstance(event, h11.Response) or not 200 <= event.status_code < 300:
        status = event.status_code if isinstance(event, h11.Response) else "no status"
        raise ConnectionError(f"the web proxy answers CONNECT with {status}")
