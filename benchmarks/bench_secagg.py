"""Secure aggregation: masking beside the bare keystream and addition, and what it takes to open a sum.

Run from a checkout: ``archipel bench secagg --params 5000000 --sites 4,10,30,100 --json``.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from statistics import median

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pydantic import JsonValue

from archipel.privacy.secure_aggregation.aggregator import Aggregator
from archipel.privacy.secure_aggregation.attempts import Attempt
from archipel.privacy.secure_aggregation.masks import CHUNK_BYTES, Mask, Masks
from archipel.privacy.secure_aggregation.ratchet import Chains
from archipel.privacy.secure_aggregation.roster import Roster
from archipel.privacy.secure_aggregation.site import Site
from archipel.privacy.secure_aggregation.terms import Terms

_CONTEXT = bytes(32)
_WORDS = CHUNK_BYTES // 4


class Memory:
    """The records of a site that is gone when the benchmark ends."""

    def __init__(self) -> None:
        self._entries: list[bytes] = []
        self._files: dict[str, bytearray] = {}

    def entries(self) -> list[bytes]:
        """All entries."""
        return list(self._entries)

    def append(self, entry: bytes) -> None:
        """One more."""
        self._entries.append(entry)

    def keep(self, name: str, body: bytes | bytearray) -> None:
        """Bytes under a name."""
        self._files[name] = bytearray(body)

    def kept(self, name: str) -> bytearray | None:
        """What is there."""
        return self._files.get(name)

    def destroy(self, name: str) -> None:
        """Nothing is there any more."""
        self._files.pop(name, None)


def bench_secagg(params: int, sites: Sequence[int], pairs: int = 5) -> dict[str, JsonValue]:
    """All figures; times are of the processor, on one core. ``sites`` are the sizes of federations."""
    figures: dict[str, JsonValue] = {"params": params, "sites": list(sites)}
    # First, because the peak of a process never falls: what the attempts below need would hide a growth.
    figures["peak_memory_growth_mb"] = _growth(params, max(sites))
    masked = {str(n): _masking(params, n - 1, pairs) for n in sites}
    for name in ("ns_per_parameter_and_peer", "bare_ns", "over_bare"):
        figures[name] = {n: found[name] for n, found in masked.items()}
    opened = {str(n): {"none": _opening(params, n, 0), "third": _opening(params, n, n // 3)} for n in sites}
    figures["sites_missing"] = {n: found["third"]["missing"] for n, found in opened.items()}
    for name in ("upload_bytes", "site_s"):
        figures[name] = {n: found["none"][name] for n, found in opened.items()}
    for missing in ("none", "third"):
        for name in ("masks", "unmask_s", "shares_s"):
            figures[f"{name}_{missing}_missing"] = {n: found[missing][name] for n, found in opened.items()}
    return figures


def _masking(params: int, peers: int, pairs: int) -> dict[str, float]:
    """Medians of alternating turns: all masks of a vector, and the same work with nothing around it."""
    ours, bare = [], []
    for _ in range(pairs):
        ours.append(_seconds_of_masks(params, peers))
        bare.append(_bare_seconds(params, peers))
    count = params * peers
    ratio = median(one / other for one, other in zip(ours, bare, strict=True))
    return {
        "ns_per_parameter_and_peer": round(median(ours) / count * 1e9, 3),
        "bare_ns": round(median(bare) / count * 1e9, 3),
        "over_bare": round(ratio, 3),
    }


def _seconds_of_masks(params: int, peers: int) -> float:
    vector = np.ones(_WORDS, "<u4")
    start = time.process_time()
    masks = Masks([Mask(os.urandom(32), 1 if index % 2 else -1) for index in range(peers)], _CONTEXT)
    for done in range(0, params, _WORDS):
        masks.apply(vector[: min(_WORDS, params - done)])
    return time.process_time() - start


def _bare_seconds(params: int, peers: int) -> float:
    """A keystream of AES-256-CTR into one buffer, and its addition to a vector of uint32."""
    vector, zeros = np.ones(_WORDS, "<u4"), bytes(CHUNK_BYTES)
    stream = np.empty(CHUNK_BYTES + 16, np.uint8)
    words, room = stream[:CHUNK_BYTES].view("<u4"), stream.data
    start = time.process_time()
    for _ in range(peers):
        encryptor = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
        for done in range(0, params, _WORDS):
            size = min(_WORDS, params - done)
            encryptor.update_into(memoryview(zeros)[: 4 * size], room)
            np.add(vector[:size], words[:size], out=vector[:size])
    return time.process_time() - start


def _opening(params: int, n: int, missing: int) -> dict[str, float]:
    """A real attempt with vectors of a few bytes; the masks that it opens are then removed from a sum of ``params``.

    ``missing`` sites never upload; where the quorum needs one of them, so many fewer.
    """
    keys = {f"site-{number:03}": Ed25519PrivateKey.generate() for number in range(n)}
    roster = Roster.of([(name, key.public_key().public_bytes_raw()) for name, key in keys.items()])
    terms = Terms.of(n)
    missing = min(missing, n - terms.quorum(n))
    attempt = Attempt.over(roster, roster.names, job="j", round=0, attempt=0, model="m", arguments="a")
    server = Aggregator(attempt, roster, terms, 16)
    sites, spent = {}, []
    for name in roster.names[: n - missing]:
        peers = {peer: bytearray(b"".join(sorted((name.encode(), peer.encode())))[:32]) for peer in roster.names}
        site = sites[name] = Site(name, keys[name], "j", roster, terms, Memory(), dict(roster.keys))
        site.install(Chains(0, {peer: key for peer, key in peers.items() if peer != name}))
        start = time.process_time()
        masking = site.begin(attempt)
        masking.apply(np.zeros(4, "<u4"))
        upload = site.complete(masking)
        spent.append(time.process_time() - start)
        server.receive(upload)
    if not server.close():
        for name in server.members or ():
            server.receive_signature(sites[name].sign(attempt.context, server.members or ()))
    requests = server.requests()
    answers = [sites[name].answer(request) for name, request in requests.items()]
    start = time.process_time()
    for answer in answers:
        server.receive_answer(answer)
    masks = server.unmasking()
    opened = time.process_time()
    total = np.ones(_WORDS, "<u4")
    for done in range(0, params, _WORDS):
        masks.apply(total[: min(_WORDS, params - done)])
    return {
        "missing": missing,
        "masks": (n - missing) * (1 + missing),
        "unmask_s": round(time.process_time() - start, 3),
        "shares_s": round(opened - start, 3),
        "upload_bytes": len(upload.encoded()),
        "site_s": round(median(spent), 4),
    }


def _growth(params: int, peers: int) -> float:
    """By how much the peak of this process grows from masking one chunk to masking a whole vector."""
    _seconds_of_masks(min(params, _WORDS), peers)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _seconds_of_masks(params, peers)
    return round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1)
