"""The heads of bulk transfers: HTTP/1.1 (RFC 9112) by h11, of which models and updates use little.

A model comes down by ``GET /blobs/<hash>``, from a byte on with ``Range: bytes=<offset>-``. An update goes up by ``POST
/updates``: its body is the update's record, as long as the header ``Archipel-Start`` says, and then the rest of its
tensor file. A refusal is a JSON document with code, thing, cause and remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import h11

from archipel.transport.messages import FetchStart
from archipel.transport.reading import LONGEST_START
from archipel.transport.status import described, http_status
from archipel.vocabulary import ArchipelError, BadInput

LONGEST_HEAD = 16 << 10
"""Bytes of a head."""
UPDATES = "/updates"
BLOBS = "/blobs/"
START = "archipel-start"


@dataclass(frozen=True)
class Fetching:
    """A request for a blob from a byte on."""

    start: FetchStart


@dataclass(frozen=True)
class Uploading:
    """A request that brings an update: the lengths of its record and of what follows, and what came of both already.

    ``waits`` says that the caller sends what follows only when it is asked to.
    """

    record: int
    tensors: int
    came: bytes
    waits: bool


Request = Fetching | Uploading


class HeadReader:
    """One request's head, fed with bytes as they come."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)

    def read(self, data: bytes) -> Request | None:
        """Add bytes; the request once its head is whole. Raises BadInput for what is not a request of this protocol."""
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise _not_of_this(str(error)) from error
        if event is h11.NEED_DATA:
            return None
        if not isinstance(event, h11.Request):
            raise _not_of_this("a request that ended early")
        return self._request(event)

    def _request(self, request: h11.Request) -> Request:
        method, target = request.method.decode(), request.target.decode("latin-1")
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        if "transfer-encoding" in headers:
            raise _not_of_this("a body without a length")
        length = int(headers.get("content-length", "0"))
        if method == "GET" and target.startswith(BLOBS) and not length:
            return Fetching(FetchStart(hash=target.removeprefix(BLOBS), offset=_offset(headers.get("range"))))
        if method == "POST" and target == UPDATES:
            record = headers.get(START, "")
            if not re.fullmatch("[0-9]{1,7}", record) or not 0 < int(record) <= min(length, LONGEST_START):
                raise _not_of_this(f"a record of {record[:20] or 'no'} bytes")
            came = self._http.trailing_data[0]
            return Uploading(int(record), length - int(record), came, self._http.they_are_waiting_for_100_continue)
        raise _not_of_this(f"{method[:20]} {target[:100]}")


def _offset(asked: str | None) -> int:
    if asked is None:
        return 0
    found = re.fullmatch(r"bytes=([0-9]{1,18})-", asked)
    if found is None:
        raise _not_of_this(f"range {asked[:100]}")
    return int(found[1])


def _not_of_this(what: str) -> BadInput:
    return BadInput("request", f"is not one of this protocol ({what[:200]})", "update Archipel")


GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


def blob_head(offset: int, size: int) -> bytes:
    """The head before the bytes of a blob of ``size`` bytes from ``offset`` on."""
    lines = [f"Content-Length: {size - offset}"]
    if offset:
        lines.append(f"Content-Range: bytes {offset}-{size - 1}/{size}")
    return _head("206 Partial Content" if offset else "200 OK", lines)


def refusal(error: ArchipelError) -> bytes:
    """The whole answer that carries an error; the connection ends with it."""
    body = described(error).encode()
    lines = ["Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close"]
    return _head(f"{http_status(error)} {error.code}", lines) + body


def _head(status: str, lines: list[str]) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def fetch_head(host: str, start: FetchStart) -> bytes:
    """The head of a request for a blob."""
    headers = [("Host", host)]
    if start.offset:
        headers.append(("Range", f"bytes={start.offset}-"))
    return _sent(h11.Request(method="GET", target=f"{BLOBS}{start.hash}", headers=headers))


def upload_head(host: str, record: int, tensors: int, *, waits: bool) -> bytes:
    """The head of a request that brings an update."""
    headers = [("Host", host), ("Content-Length", str(record + tensors)), (START, str(record))]
    if waits:
        headers.append(("Expect", "100-continue"))
    return _sent(h11.Request(method="POST", target=UPDATES, headers=headers))


def _sent(request: h11.Request) -> bytes:
    return h11.Connection(h11.CLIENT).send(request) or b""


@dataclass(frozen=True)
class Answer:
    """The head of an answer, and what came of its body already. ``last`` says that the connection ends with it."""

    status: int
    length: int
    came: bytes
    last: bool


def read_answer(receive: Callable[[], bytes]) -> Answer:
    """The next answer; one with status 100 has nothing behind it. ``receive`` gives further bytes, none at the end.

    Raises ConnectionError when the connection ends before, or brings something else.
    """
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
    http.send(h11.Request(method="GET", target="/", headers=[("Host", "-")]))
    http.send(h11.EndOfMessage())
    try:
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(receive())
    except h11.RemoteProtocolError as error:
        raise ConnectionError(f"the server's answer is not one of this protocol ({error})"[:200]) from error
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise ConnectionError("closed before the answer")
    headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
    length = int(headers.get("content-length", "0"))
    return Answer(event.status_code, length, http.trailing_data[0], headers.get("connection", "") == "close")
