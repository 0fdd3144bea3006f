"""The connection to a server: HTTPS that trusts one federation's CA only, and errors as they were raised there."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from archipel.transport.enrolment import AuthorityReply, authority_fingerprint
from archipel.transport.rest import ErrorBody, Event
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    Conflict,
    ErrorCode,
    NotFound,
    NotPermitted,
    Record,
    Refused,
    StorageFull,
    Thing,
)

R = TypeVar("R", bound=Record)
_TIMEOUT = httpx.Timeout(60.0, connect=10.0, write=None)
_RAISED: dict[ErrorCode, type[ArchipelError]] = {
    ErrorCode.BAD_INPUT: BadInput,
    ErrorCode.BAD_PLAN: BadInput,
    ErrorCode.CONFLICT: Conflict,
    ErrorCode.DISK_FULL: StorageFull,
    ErrorCode.NOT_APPROVED: Refused,
    ErrorCode.NOT_FOUND: NotFound,
    ErrorCode.NOT_PERMITTED: NotPermitted,
    ErrorCode.POLICY: Refused,
    ErrorCode.REVOKED: NotPermitted,
    ErrorCode.TOKEN: NotPermitted,
}


class Unreachable(ArchipelError):
    """The server did not answer; experiments there continue, and asking again is safe."""

    code = ErrorCode.LOST


class Connection:
    """One server, one access token.

    ``ca`` is a path to the federation's CA certificate (PEM) or its fingerprint ``sha256:...``; with a fingerprint
    the certificate is fetched and compared before anything is trusted. ``proxy`` is ``http://host:port``.
    """

    def __init__(self, url: str, token: str, ca: str | Path, proxy: str | None = None) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith("https://"):
            raise BadInput(Thing("server", url), "is not an https address", "give https://host:port")
        self._client = httpx.Client(
            base_url=self.url,
            verify=_trust(self.url, ca, proxy),
            headers={"Authorization": f"Bearer {token}"},
            proxy=proxy,
            # Variables of the environment must not send an access token through a proxy that was not asked for.
            trust_env=False,
            timeout=_TIMEOUT,
        )

    def ask(self, kind: type[R], method: str, path: str, body: Record | None = None) -> R:
        """The answer, a record of this kind. Raises the ArchipelError that the server answered with, or Unreachable."""
        answer = self._asked(method, path, body)
        try:
            return kind.model_validate_json(answer)
        except ValidationError as error:
            raise self._strange(path, error) from None

    def ask_all(self, kind: type[R], path: str) -> list[R]:
        """The same for a list."""
        answer = self._asked("GET", path, None)
        try:
            return TypeAdapter(list[kind]).validate_json(answer)  # type: ignore[valid-type]
        except ValidationError as error:
            raise self._strange(path, error) from None

    def _asked(self, method: str, path: str, body: Record | None) -> bytes:
        sent = None if body is None else body.model_dump(mode="json", by_alias=True)
        try:
            response = self._client.request(method, path, json=sent)
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from None
        _check(response)
        return response.content

    def _strange(self, path: str, error: ValidationError) -> ArchipelError:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"])) or "the whole answer"
        return ArchipelError(
            Thing("server", self.url),
            f"answered {path} with a document that this version cannot read ({where}: {fault['msg']})",
            "install the version of Archipel that the server has (federation.version)",
        )

    def store(self, blob: str, data: bytes) -> None:
        """Store a blob under its hash, unless the server has it already."""
        try:
            held = self._client.head(f"/v1/blobs/{blob}")
            if held.status_code == httpx.codes.NOT_FOUND:
                _check(self._client.put(f"/v1/blobs/{blob}", content=data))
            else:
                _check(held)
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from None

    def download(self, path: str) -> bytes:
        """The bytes at a path."""
        try:
            response = self._client.get(path)
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from None
        _check(response)
        return response.content

    def events(self, path: str, after: int) -> Iterator[Event]:
        """Server-sent events after a number, as they happen, until the server ends them."""
        # The server sends a comment at least every 15 s; silence means that the connection is broken.
        timeout = httpx.Timeout(45.0, connect=10.0)
        try:
            with self._client.stream("GET", path, params={"after": after}, timeout=timeout) as response:
                if response.is_error:
                    response.read()
                _check(response)
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        yield self._event(path, line.removeprefix("data:"))
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise _unreachable(self.url, error) from None

    def _event(self, path: str, text: str) -> Event:
        try:
            return Event.model_validate_json(text)
        except ValidationError as error:
            raise self._strange(path, error) from None

    def close(self) -> None:
        """End the connection; nothing at the server ends with it."""
        self._client.close()


def _trust(url: str, ca: str | Path, proxy: str | None) -> ssl.SSLContext:
    if isinstance(ca, str) and ca.startswith("sha256:"):
        pem = _fetched_authority(url, ca, proxy)
    else:
        try:
            pem = Path(ca).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(
                Thing.worded(f"CA certificate {ca}", ca=ca),
                "cannot be read",
                "give the federation's CA file or its sha256: fingerprint",
            ) from error
    try:
        return ssl.create_default_context(cadata=pem)
    except ssl.SSLError as error:
        raise BadInput(
            Thing.worded(f"CA certificate {ca}", ca=ca), "is not a PEM certificate", "ask the server's operator for it"
        ) from error


def _fetched_authority(url: str, fingerprint: str, proxy: str | None) -> str:
    """The CA certificate, fetched without trust and compared with the fingerprint that a person received."""
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    try:
        with httpx.Client(verify=blind, proxy=proxy, trust_env=False, timeout=_TIMEOUT) as client:
            response = client.get(f"{url}/v1/enrolment/authority")
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from None
    _check(response)
    pem = AuthorityReply.model_validate_json(response.content).ca
    if authority_fingerprint(pem) != fingerprint:
        raise ArchipelError(
            Thing("server", url),
            "shows another CA than the fingerprint names",
            "do not continue: check the address and ask the server's operator",
            code=ErrorCode.TRUST,
        )
    return pem


def _check(response: httpx.Response) -> None:
    """Raise the error that the server answered with."""
    if not response.is_error:
        return
    try:
        problem = ErrorBody.model_validate_json(response.content)
        code = ErrorCode(problem.code)
        words = problem.thing, problem.cause, problem.remedy
    except ValueError:
        words = str(response.url.path), f"answered {response.status_code}", "check that the address is a server's REST"
        code = ErrorCode.NOT_FOUND if response.status_code == httpx.codes.NOT_FOUND else ErrorCode.INTERNAL
    if code is ErrorCode.TOKEN:
        thing, cause, _ = words
        words = thing, cause, "check ARCHIPEL_TOKEN (or token=), or ask the server's operator for another one"
    raise _RAISED.get(code, ArchipelError)(*words, code=code)


def _unreachable(url: str, error: Exception) -> ArchipelError:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return ArchipelError(
            Thing("server", url),
            f"is not certified by the federation's CA ({error})",
            "check the address and ca= with the server's operator",
            code=ErrorCode.TRUST,
        )
    cause = str(error) or type(error).__name__
    if isinstance(error, httpx.RemoteProtocolError):
        remedy = "check the port: researchers use the REST port, not the sites' one; experiments there continue"
        return Unreachable(Thing("server", url), f"did not answer as a server's REST does ({cause})", remedy)
    return Unreachable(
        Thing("server", url), f"cannot be reached ({cause})", "check the network; experiments there continue"
    )
