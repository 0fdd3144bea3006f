"""How long a server waits, and how much it takes at a time: one value, which a test replaces by its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerLimits:
    """Limits that no operator needs to change; names that end in ``_s`` are seconds."""

    connections: int = 500
    """REST connections at a time; for a further one, the caller with the most gives up one."""
    handshake_s: float = 10.0
    """How long a REST connection may go without TLS."""
    request_s: float = 10.0
    """How long a REST connection may go without a whole request, its body aside."""
    body_s: float = 120.0
    """How long a request's body may take: a slow line carries the longest job in that."""
    keep_alive_s: float = 15.0
    """After this time without an event a watcher gets a comment, and the access token is checked again."""
    unused_blob_s: float = 86_400.0
    """How long a blob stays that no experiment names: a slow line brings a large job's other blobs in that."""
    message_s: float = 120.0
    """How long a site may leave a message untaken: the rounds of all other sites wait behind it."""
    upload_s: float = 60.0
    """How long a piece of a transfer may take before it is given up; of an update, what arrived stays for the next
    try."""
    retry_s: float = 10.0
    """How long an experiment that was interrupted (by a full disk, say) waits before it continues."""
    revoked_retry_s: float = 5.0
    """How long the server waits after it could not check for revoked certificates."""
    presence_s: float = 1.0
    """How often the server checks which sites are connected."""
    last_seen_s: float = 60.0
    """How often it writes down when the connected sites were last seen."""
