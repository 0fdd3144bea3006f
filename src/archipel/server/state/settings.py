"""A server's configuration, ``server.toml`` in its state folder: every key known, every default written here."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from archipel.vocabulary import Record

Port = Annotated[int, Field(ge=1, le=65535)]
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# A name whose last part is a number is an address with a mistake in it (RFC 1123, section 2.1).
_DNS_NAME = re.compile(rf"(?=.{{1,253}}$)({_LABEL}\.)*(?!\d+$){_LABEL}")


def listening_address(hosts: Iterable[str]) -> str:
    """Where a server listens that is reached under these names: on loopback when all are, else on every address.

    >>> listening_address(["127.0.0.1", "localhost"]), listening_address(["localhost", "fl.example.org"])
    ('127.0.0.1', '0.0.0.0')
    """
    return "127.0.0.1" if all(map(_is_loopback, hosts)) else "0.0.0.0"  # noqa: S104


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host(text: str) -> str:
    try:
        # Other machines cannot use an address of one network card (fe80::1%eth0) to reach this one.
        known = ipaddress.ip_address(text) is not None and "%" not in text
    except ValueError:
        known = _DNS_NAME.fullmatch(text) is not None
    if not known:
        raise PydanticCustomError("host", "is not a DNS name or IP address")
    return text


def _sqlite(address: str) -> str:
    if not address.startswith("sqlite:///"):
        raise PydanticCustomError("database", "is not an SQLite address, and no other database is supported")
    return address


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise PydanticCustomError("network", "is not an IP address or network (10.0.0.5, 10.0.0.0/24)") from None


ProxyNetwork = Annotated[str, AfterValidator(_network)]
"""An IP address, or a network whose other bits are 0."""

HostName = Annotated[str, AfterValidator(_host)]
"""A DNS name or an IP address."""


class ServerSettings(Record):
    """What an operator may set.

    ``name`` is the federation's. ``hosts`` are the names and addresses under which sites and researchers reach this
    server: they go into its TLS certificate, and the first one into join tokens. ``rest_host`` and ``grpc_host`` are
    the addresses it listens on. ``public_rest`` (a URL) and ``public_grpc`` (host:port) are given when a router maps
    other ports to it. ``database`` is an SQLite URL, by default a file in the state folder; ``blobs`` a folder,
    relative to the state folder. ``trusted_proxies`` are the addresses or networks of reverse proxies in front of the
    REST port: only from them ``X-Forwarded-For`` says where a request comes from. ``unused_blobs_mb`` is how much of
    blobs that no experiment names one access token may have.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}$")]
    hosts: Annotated[tuple[HostName, ...], Field(min_length=1)]
    rest_host: HostName = "127.0.0.1"
    rest_port: Port = 8443
    grpc_host: HostName = "127.0.0.1"
    grpc_port: Annotated[Port, Field(validate_default=True)] = 8444
    public_rest: str | None = None
    public_grpc: str | None = None
    database: Annotated[str, AfterValidator(_sqlite)] | None = None
    blobs: str = "blobs"
    trusted_proxies: tuple[ProxyNetwork, ...] = ()
    blob_limit_mb: Annotated[int, Field(ge=1)] = 16_384
    unused_blobs_mb: Annotated[int, Field(ge=1)] = 32_768
    heartbeat_s: Annotated[float, Field(ge=0.1, le=3600)] = 15.0
    clock_skew_s: Annotated[float, Field(gt=0)] = 300.0
    join_token_hours: Annotated[float, Field(gt=0)] = 72.0
    access_token_days: Annotated[float, Field(gt=0)] = 180.0
    certificate_days: Annotated[float, Field(gt=0)] = 90.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("grpc_port")
    @classmethod
    def _a_port_of_its_own(cls, port: int, known: ValidationInfo) -> int:
        places = {known.data.get("rest_host"), known.data.get("grpc_host")}
        if port == known.data.get("rest_port") and (len(places) == 1 or places & {"0.0.0.0", "::"}):  # noqa: S104
            raise PydanticCustomError("port_twice", "is also rest_port, and the two must be different")
        return port

    @property
    def rest_url(self) -> str:
        """Where people and enrolling sites reach the REST interface."""
        return self.public_rest or f"https://{_in_address(self.hosts[0])}:{self.rest_port}"

    @property
    def grpc_address(self) -> str:
        """Where sites reach the control stream."""
        return self.public_grpc or f"{_in_address(self.hosts[0])}:{self.grpc_port}"

    def as_toml(self) -> str:
        """The settings as the text of ``server.toml``."""
        values = self.model_dump(mode="json", exclude_none=True)
        return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
