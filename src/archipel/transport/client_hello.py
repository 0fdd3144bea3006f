"""The first message of a TLS connection, read without TLS: which protocols the caller offers (ALPN).

Source of the layout: RFC 8446 (TLS 1.3), sections 4.1.2 and 5.1, and RFC 7301 (ALPN).
"""

from __future__ import annotations

LONGEST_HELLO = 16 << 10
"""Bytes in which a ClientHello must have come, the heads of its records included."""
_HANDSHAKE, _CLIENT_HELLO, _ALPN = 22, 1, 16


class HelloReader:
    """One ClientHello, read as it comes; each of its records is read once, however often one looks."""

    def __init__(self) -> None:
        self._message = bytearray()
        self._position = 0

    def read(self, data: bytes) -> tuple[str, ...] | None:
        """The protocols that it offers, in its order; None while some of it is missing.

        ``data`` is what came from the first byte on, also what was given before. Raises ValueError for what is not a
        ClientHello, or too long a one.
        """
        message = self._message
        while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4]):
            record = data[self._position : self._position + 5]
            if record[:1] not in (b"", bytes([_HANDSHAKE])) or record[1:2] not in (b"", b"\x03"):
                raise ValueError("not the beginning of TLS")
            if message[:1] not in (b"", bytes([_CLIENT_HELLO])) or int.from_bytes(message[1:4]) > LONGEST_HELLO:
                raise ValueError("not a ClientHello")
            length = int.from_bytes(record[3:5])
            if len(record) == 5 and not 0 < length <= LONGEST_HELLO:
                raise ValueError("a record of no possible length")
            end = self._position + 5 + length
            if len(record) < 5 or len(data) < end:
                if len(data) >= LONGEST_HELLO:
                    raise ValueError("a ClientHello that is too long")
                return None
            message += data[self._position + 5 : end]
            self._position = end
        if message[0] != _CLIENT_HELLO:
            raise ValueError("not a ClientHello")
        return _protocols(_Fields(bytes(message[4 : 4 + int.from_bytes(message[1:4])])))


def _protocols(hello: _Fields) -> tuple[str, ...]:
    # The legacy version and the random number, then session id, cipher suites and compression methods.
    hello.take(34)
    for width in (1, 2, 1):
        hello.block(width)
    extensions = hello.block(2)
    while extensions.left:
        kind, content = int.from_bytes(extensions.take(2)), extensions.block(2)
        if kind == _ALPN:
            names, found = content.block(2), []
            while names.left:
                found.append(names.block(1).rest().decode("latin-1"))
            return tuple(found)
    return ()


class _Fields:
    """Bytes that are taken from the front. Raises ValueError where there are fewer than are asked for."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("a ClientHello that ends early")
        self._at += count
        return self._data[self._at - count : self._at]

    def block(self, width: int) -> _Fields:
        """The bytes of a block that begins with its length, in ``width`` bytes."""
        return _Fields(self.take(int.from_bytes(self.take(width))))

    def rest(self) -> bytes:
        return self.take(self.left)
