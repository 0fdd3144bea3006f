"""A federation of state machines in one process, with vectors of a few numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archipel.privacy.secure_aggregation.aggregator import Aggregator
from archipel.privacy.secure_aggregation.attempts import Attempt, Stage
from archipel.privacy.secure_aggregation.encoding import CONSTANT
from archipel.privacy.secure_aggregation.messages import SetSignature, ShareAnswer, ShareRequest, Upload
from archipel.privacy.secure_aggregation.ratchet import Chains
from archipel.privacy.secure_aggregation.roster import Roster
from archipel.privacy.secure_aggregation.site import Site
from archipel.privacy.secure_aggregation.terms import Terms

JOB = "sha256:job"
NBYTES = 4 * 4 + 8 * 4
BEFORE_UPLOAD, BEFORE_SIGNATURE, BEFORE_ANSWER, NEVER = range(4)
"""When a site stops."""


class Disk:
    """What survives: entries and what is kept. A call can be the last one before the power fails."""

    def __init__(self) -> None:
        self.journal: list[bytes] = []
        self.files: dict[str, bytearray] = {}
        self.writes_left: int | None = None

    def _write(self) -> None:
        if self.writes_left is not None:
            if self.writes_left == 0:
                raise PowerFailed
            self.writes_left -= 1

    def entries(self) -> list[bytes]:
        return list(self.journal)

    def append(self, entry: bytes) -> None:
        self._write()
        self.journal.append(entry)

    def keep(self, name: str, body: bytes | bytearray) -> None:
        self._write()
        self.files[name] = bytearray(body)

    def kept(self, name: str) -> bytearray | None:
        return bytearray(self.files[name]) if name in self.files else None

    def destroy(self, name: str) -> None:
        self._write()
        self.files.pop(name, None)


class PowerFailed(Exception):
    """The process ended at a write."""


@cache
def identity(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


@cache
def roster(n: int) -> Roster:
    names = [f"site-{number:02}" for number in range(n)]
    return Roster.of([(name, identity(name).public_key().public_bytes_raw()) for name in names])


def chains(name: str, of: Roster) -> Chains:
    """As if the sites had agreed: the same value for both sites of a pair."""
    pairs = {peer: "|".join(sorted((name, peer))).encode() for peer in of.names if peer != name}
    return Chains(0, {peer: bytearray(hashlib.sha256(pair).digest()) for peer, pair in pairs.items()})


class World:
    """``n`` sites with their disks; a site is made again from its disk by ``restart``."""

    def __init__(self, n: int, terms: Terms | None = None) -> None:
        self.roster, self.terms = roster(n), terms or Terms.of(n)
        self.disks = {name: Disk() for name in self.roster.names}
        self.sites: dict[str, Site] = {}
        for name in self.roster.names:
            self.restart(name).install(chains(name, self.roster))

    @property
    def names(self) -> tuple[str, ...]:
        return self.roster.names

    def restart(self, name: str) -> Site:
        disk = self.disks[name]
        self.sites[name] = Site(name, identity(name), JOB, self.roster, self.terms, disk, dict(self.roster.keys))
        return self.sites[name]

    def attempt(self, number: int = 0, members: tuple[str, ...] | None = None, **other: object) -> Attempt:
        given: dict[str, object] = {"round": 1, "model": "blake3:m", "arguments": "sha256:a", "stage": Stage.UPDATES}
        return Attempt.over(self.roster, members or self.names, job=JOB, attempt=number, **{**given, **other})  # type: ignore[arg-type]

    def vector(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(self.roster.position(name))
        short = generator.integers(0, 2**32, 4, dtype=np.uint64).astype("<u4")
        return short, np.concatenate([generator.integers(0, 2**63, 2, dtype=np.uint64), CONSTANT])

    def masked(self, name: str, attempt: Attempt) -> tuple[bytes, Upload]:
        masking = self.sites[name].begin(attempt)
        short, long = self.vector(name)
        masking.apply(short)
        masking.apply(long)
        body = short.tobytes() + long.tobytes()
        return body, self.sites[name].complete(masking)

    def aggregator(self, attempt: Attempt) -> Aggregator:
        return Aggregator(attempt, self.roster, self.terms, NBYTES)

    def plain_sum(self, names: tuple[str, ...]) -> bytes:
        return added([b"".join(part.tobytes() for part in self.vector(name)) for name in names])

    def play(self, attempt: Attempt, stops: Mapping[str, int] | None = None) -> tuple[tuple[str, ...], bytes]:
        """The whole attempt: ``(set, sum)``. All messages go through their bytes."""
        stops = dict.fromkeys(attempt.members, NEVER) | dict(stops or {})
        server, vectors = self.aggregator(attempt), {}
        for name in attempt.members:
            if stops[name] > BEFORE_UPLOAD:
                vectors[name], upload = self.masked(name, attempt)
                server.receive(Upload.decoded(upload.encoded()))
        if not server.close():
            for name in server.members or ():
                if stops[name] > BEFORE_SIGNATURE:
                    signature = self.sites[name].sign(attempt.context, server.members or ())
                    server.receive_signature(SetSignature.decoded(signature.encoded()))
        for name, request in server.requests().items():
            if stops[name] > BEFORE_ANSWER:
                answer = self.sites[name].answer(ShareRequest.decoded(request.encoded()))
                server.receive_answer(ShareAnswer.decoded(answer.encoded()))
        return server.members or (), unmasked(server, vectors)


def added(vectors: list[bytes]) -> bytes:
    """The sum mod 2^32 and mod 2^64 with the integers of Python."""
    short = [sum(int.from_bytes(one[at : at + 4], "little") for one in vectors) % 2**32 for at in range(0, 16, 4)]
    long = [sum(int.from_bytes(one[at : at + 8], "little") for one in vectors) % 2**64 for at in range(16, NBYTES, 8)]
    return b"".join(one.to_bytes(4, "little") for one in short) + b"".join(one.to_bytes(8, "little") for one in long)


def unmasked(server: Aggregator, vectors: Mapping[str, bytes]) -> bytes:
    total = bytearray(added([vectors[name] for name in server.members or ()]))
    masks = server.unmasking()
    masks.apply(np.frombuffer(total, "<u4", 4))
    masks.apply(np.frombuffer(total, "<u8", offset=16))
    return bytes(total)
