"""Masks: AES-256-CTR keystreams, added to a vector chunk by chunk in buffers that are used again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from archipel.privacy.secure_aggregation.packing import derive, destroy

CHUNK_BYTES = 1 << 18
"""Bytes of one pass over all keystreams: a chunk of the vector stays in the processor's cache meanwhile."""
_BLOCK = 16

Words = NDArray[np.uint32] | NDArray[np.uint64]
"""A part of a vector: its sums are mod 2^32 or mod 2^64."""


@dataclass(frozen=True)
class Mask:
    """A seed whose keystream is added to a vector (``sign`` 1) or subtracted from it (-1)."""

    seed: bytes | bytearray
    sign: int


class Masks:
    """All masks of one vector, which is given in order, in chunks of any length; memory does not grow with it."""

    def __init__(self, masks: Iterable[Mask], context: bytes) -> None:
        self._streams = [(_keystream(mask.seed, context), mask.sign) for mask in masks]
        self._zeros = bytes(CHUNK_BYTES)
        # update_into asks for room for one more block.
        self._stream = np.empty(CHUNK_BYTES + _BLOCK, np.uint8)
        self._finished = False

    def apply(self, words: Words) -> None:
        """Add the masks to the next words, little-endian and one after another in memory, in place.

        Raises RuntimeError after ``finish``: the words would stay as they are, unmasked.
        """
        if self._finished:
            raise RuntimeError("these masks were destroyed")
        size = CHUNK_BYTES // words.itemsize
        room = self._stream.data
        for start in range(0, len(words), size):
            chunk = words[start : start + size]
            zeros = memoryview(self._zeros)[: chunk.nbytes]
            stream = self._stream[: chunk.nbytes].view(chunk.dtype)
            for encryptor, sign in self._streams:
                encryptor.update_into(zeros, room)
                (np.add if sign > 0 else np.subtract)(chunk, stream, out=chunk)

    def finish(self) -> None:
        """Forget the keys and overwrite the last keystream."""
        self._finished = True
        self._streams.clear()
        self._stream.fill(0)


def _keystream(seed: bytes | bytearray, context: bytes) -> CipherContext:
    key = derive(seed, "mask", context)
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(_BLOCK))).encryptor()
    destroy(key)
    return encryptor
