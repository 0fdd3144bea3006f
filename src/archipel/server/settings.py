"""A server's configuration, ``server.toml`` in its state folder: every key known, every default written here."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from archipel.vocabulary import Record

Port = Annotated[int, Field(ge=1, le=65535)]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9:])?$")]
"""A DNS name or an IP address."""


class ServerSettings(Record):
    """What an operator may set.

    ``name`` is the federation's. ``hosts`` are the names and addresses under which sites and researchers reach this
    server: they go into its TLS certificate, and the first one into join tokens. ``rest_host`` and ``grpc_host`` are
    the addresses it listens on. ``public_rest`` (a URL) and ``public_grpc`` (host:port) are given when a router maps
    other ports to it. ``database`` is an SQLAlchemy URL, by default SQLite in the state folder; ``blobs`` a folder,
    relative to the state folder.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}$")]
    hosts: Annotated[tuple[HostName, ...], Field(min_length=1)]
    rest_host: HostName = "127.0.0.1"
    rest_port: Port = 8443
    grpc_host: HostName = "127.0.0.1"
    grpc_port: Port = 8444
    public_rest: str | None = None
    public_grpc: str | None = None
    database: str | None = None
    blobs: str = "blobs"
    blob_limit_mb: Annotated[int, Field(ge=1)] = 16_384
    heartbeat_s: Annotated[float, Field(gt=0)] = 15.0
    clock_skew_s: Annotated[float, Field(gt=0)] = 300.0
    join_token_hours: Annotated[float, Field(gt=0)] = 72.0
    access_token_days: Annotated[float, Field(gt=0)] = 180.0
    certificate_days: Annotated[float, Field(gt=0)] = 90.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"

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
