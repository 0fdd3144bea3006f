"""One vector on its way to be masked: it is hashed before and after, chunk by chunk, and its seeds are destroyed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from blake3 import blake3

from archipel.privacy.secure_aggregation.attempts import Attempt
from archipel.privacy.secure_aggregation.masks import Mask, Masks, Words
from archipel.privacy.secure_aggregation.packing import destroy


class Masking:
    """The masks of a site in an attempt. Every word of the vector goes through ``apply`` once, in order.

    ``seeds`` are in the order of the members; at the site's own place is its self seed.
    """

    def __init__(self, attempt: Attempt, place: int, seeds: Sequence[bytearray], key: bytearray) -> None:
        self.attempt, self.place, self.seeds = attempt, place, seeds
        self.nbytes = 0
        # Between two members the one that comes first adds and the other subtracts, so that their sum is 0.
        signs = [1 if index >= place else -1 for index in range(len(seeds))]
        self._masks = Masks([Mask(seed, sign) for seed, sign in zip(seeds, signs, strict=True)], attempt.context)
        self._plain, self._masked = blake3(key=bytes(key)), blake3()

    def apply(self, words: Words) -> None:
        """Mask the next words in place. What it leaves must be on the disk before the site completes the attempt."""
        window = words.view(np.uint8).data
        self._plain.update(window)
        self._masks.apply(words)
        self._masked.update(window)
        self.nbytes += window.nbytes

    def vector(self) -> str:
        """The hash of the masked vector, ``blake3:<64 hex digits>``."""
        return f"blake3:{self._masked.hexdigest()}"

    def plain(self) -> str:
        """The keyed hash of the vector before masking; without the key, which stays at the site, it says nothing."""
        return str(self._plain.hexdigest())

    def destroy(self) -> None:
        """Overwrite all seeds; after this nothing can be masked."""
        self._masks.finish()
        destroy(*self.seeds)
