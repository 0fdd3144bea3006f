"""What a site shares with each peer, from round to round: a key goes forward and cannot be turned back."""

from __future__ import annotations

from collections.abc import Mapping

from archipel.privacy.secure_aggregation.packing import derive, destroy, packed, unpacked
from archipel.vocabulary import BadInput, ErrorCode, Refused
from archipel.vocabulary.things import Thing

MOST_STEPS = 100_000
"""Rounds that can be left out at once; a job has fewer."""


class Chains:
    """The chain values of a site for one round, a bytearray of 32 bytes for each peer."""

    def __init__(self, round: int, keys: Mapping[str, bytearray]) -> None:  # noqa: A002
        self.round = round
        self._keys = dict(keys)

    @property
    def peers(self) -> frozenset[str]:
        """With whom a secret was agreed."""
        return frozenset(self._keys)

    def round_key(self, peer: str) -> bytearray:
        """The key of this round and peer, to be destroyed after use. Raises Refused where nothing was agreed."""
        if peer not in self._keys:
            raise Refused(
                Thing("site", peer), "has agreed no secret with this site yet", "start the round when its keys arrived"
            )
        return derive(self._keys[peer], "round", self.round)

    def check(self, round: int) -> None:  # noqa: A002
        """Raises Refused for an earlier round than this one, and BadInput for one that is too far ahead."""
        if round < self.round:
            raise Refused(
                f"round {round}", "is closed here, and its keys are destroyed", "open a new round",
                code=ErrorCode.ROUND_CLOSED,
            )  # fmt: skip
        if round - self.round > MOST_STEPS:
            raise BadInput(f"round {round}", f"is far behind round {self.round}", "count rounds one by one")

    def advance(self, round: int) -> None:  # noqa: A002
        """Go to a later round; the chain values before it are overwritten. Raises as ``check`` does."""
        self.check(round)
        while self.round < round:
            for peer, old in self._keys.items():
                self._keys[peer] = derive(old, "next", self.round)
                destroy(old)
            self.round += 1

    def encoded(self) -> bytearray:
        """All of it as bytes, to be kept where it can be replaced."""
        pairs = [packed(peer, bytes(key)) for peer, key in self._keys.items()]
        return bytearray(packed(self.round, *pairs))

    @classmethod
    def decoded(cls, body: bytearray) -> Chains:
        """What ``encoded`` wrote."""
        first, *pairs = unpacked(bytes(body))
        keys = {peer.decode(): bytearray(key) for peer, key in map(unpacked, pairs)}
        return cls(int.from_bytes(first, "big"), keys)
