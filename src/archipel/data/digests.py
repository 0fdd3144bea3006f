"""Digests of content in one array, without the scheme that a content address has before them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Digests = NDArray[np.bytes_]
"""Hashes without their scheme, 32 bytes each, as numpy's S32: equal and ordered as their hex digits are."""
_AT_ONCE = 4096


def digests_of(hashes: Iterable[str]) -> Digests:
    """The digests of content addresses, in one array."""
    found = b"".join(bytes.fromhex(one.partition(":")[2]) for one in hashes)
    return np.frombuffer(found, "S32")


def hex_of(digests: Digests) -> Iterator[str]:
    """The hex digits of each digest. (numpy itself leaves out the last bytes of a text where they are zero.)"""
    for first in range(0, len(digests), _AT_ONCE):
        digits = digests[first : first + _AT_ONCE].tobytes().hex()
        for start in range(0, len(digits), 64):
            yield digits[start : start + 64]
