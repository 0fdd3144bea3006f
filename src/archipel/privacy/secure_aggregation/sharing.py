"""Shamir's secret sharing (1979) of many seeds at once, over the integers mod 2^31 - 1.

A seed of 256 bits is nine limbs, eight of 30 bits and one of 16, lowest first; a share of it is nine numbers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PRIME = 2**31 - 1
LIMBS = 9
SEED_BYTES = 32
SHARE_BYTES = 4 * LIMBS
_BITS = 30
_LIMIT = np.array([2**_BITS] * (LIMBS - 1) + [2 ** (8 * SEED_BYTES - _BITS * (LIMBS - 1))], np.uint64)
_POWERS = (1 << np.arange(_BITS, dtype=np.uint64)).astype(np.uint64)

Shares = NDArray[np.uint32]


def deal(seeds: NDArray[np.uint8], points: Sequence[int], threshold: int) -> Shares:
    """Shares of each seed for each point: uint32 [points, seeds, 9] of uint8 [seeds, 32]; ``threshold`` open a seed.

    The coefficients are of the operating system's generator. Raises ValueError for points that are 0 or equal.
    """
    _check(points)
    if not 1 <= threshold <= len(points):
        raise ValueError(f"a threshold of {threshold} does not fit {len(points)} holders")
    limbs = _limbs(seeds)
    coefficients = _uniform((threshold - 1, *limbs.shape))
    at = np.array(points, np.uint64).reshape(-1, 1, 1)
    values = np.zeros((len(points), *limbs.shape), np.uint64)
    # Horner: a product is below 2^31 * 2^31, so that uint64 holds it.
    for power in [*coefficients, limbs]:
        values *= at
        values += power
        values %= PRIME
    coefficients.fill(0)
    limbs.fill(0)
    return values.astype("<u4")


def combine(shares: Shares, points: Sequence[int]) -> NDArray[np.uint8]:
    """The seeds, uint8 [seeds, 32], of shares uint32 [points, seeds, 9].

    Wrong shares give wrong seeds, which their hashes show; raises ValueError where what comes out cannot be a seed.
    """
    _check(points)
    if shares.shape[0] != len(points) or bool((shares >= PRIME).any()):
        raise ValueError("a share is out of range")
    limbs = np.zeros(shares.shape[1:], np.uint64)
    for index, point in enumerate(points):
        limbs += shares[index].astype(np.uint64) * np.uint64(_weight(points, point)) % np.uint64(PRIME)
    limbs %= PRIME
    if bool((limbs >= _LIMIT).any()):
        raise ValueError("these shares are not of one seed")
    bits = (limbs[..., None] >> np.arange(_BITS, dtype=np.uint64)) & np.uint64(1)
    flat = bits.reshape(len(limbs), LIMBS * _BITS)[:, : 8 * SEED_BYTES].astype(np.uint8)
    return np.packbits(flat, axis=1, bitorder="little")


def _limbs(seeds: NDArray[np.uint8]) -> NDArray[np.uint64]:
    bits = np.unpackbits(seeds, axis=1, bitorder="little")
    padded = np.zeros((len(seeds), LIMBS * _BITS), np.uint64)
    padded[:, : bits.shape[1]] = bits
    return padded.reshape(len(seeds), LIMBS, _BITS) @ _POWERS


def _uniform(shape: tuple[int, ...]) -> NDArray[np.uint64]:
    """Numbers that are uniform mod the prime: 31 random bits, drawn again where they are the prime itself."""
    values = np.frombuffer(os.urandom(4 * int(np.prod(shape))), "<u4") & np.uint32(PRIME)
    while (again := values == PRIME).any():
        values[again] = np.frombuffer(os.urandom(4 * int(again.sum())), "<u4") & np.uint32(PRIME)
    return values.reshape(shape).astype(np.uint64)


def _weight(points: Sequence[int], point: int) -> int:
    """Lagrange's weight of a point for the value at 0."""
    top = bottom = 1
    for other in points:
        if other != point:
            top = top * other % PRIME
            bottom = bottom * (other - point) % PRIME
    return top * pow(bottom, -1, PRIME) % PRIME


def _check(points: Sequence[int]) -> None:
    if len(set(points)) != len(points) or not all(0 < point < PRIME for point in points):
        raise ValueError("the points of holders must differ and not be 0")
