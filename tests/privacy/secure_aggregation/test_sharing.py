"""Shares open a seed with the threshold, and with one fewer they fit every seed."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.privacy.secure_aggregation.sharing import LIMBS, PRIME, combine, deal


def seeds(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(os.urandom(32 * count), np.uint8).reshape(count, 32)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 8), st.data())
def test_any_threshold_of_shares_opens_all_seeds(holders: int, count: int, data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, holders))
    points = data.draw(st.lists(st.integers(1, 100), min_size=holders, max_size=holders, unique=True))
    secret = seeds(count)
    shares = deal(secret, points, threshold)
    chosen = data.draw(st.permutations(range(holders)))[:threshold]
    assert (combine(shares[chosen], [points[index] for index in chosen]) == secret).all()


@pytest.mark.parametrize("seed", [bytes(32), b"\xff" * 32, bytes(31) + b"\x80"])
def test_the_smallest_and_the_largest_seed(seed: bytes) -> None:
    shares = deal(np.frombuffer(seed, np.uint8).reshape(1, 32), [1, 2, 3], 2)
    assert combine(shares[1:], [2, 3]).tobytes() == seed


def test_shares_are_the_polynomial_of_the_protocol() -> None:
    """With numbers of Python: the limbs of the seed are the values at 0."""
    secret = seeds(1)
    shares = deal(secret, [1, 2], 2).astype(object)
    whole = int.from_bytes(secret.tobytes(), "little")
    limbs = [(2 * int(one) - int(two)) % PRIME for one, two in zip(shares[0, 0], shares[1, 0], strict=True)]
    assert sum(limb << 30 * index for index, limb in enumerate(limbs)) == whole and len(limbs) == LIMBS


def test_one_share_fewer_fits_every_seed() -> None:
    """For each value that a limb may have there is a share that completes to it: what is held says nothing."""
    shares = deal(seeds(1), [1, 2, 3], 3)
    found = set()
    for last in range(50):
        shares[2, 0, 0] = last
        whole = sum(
            int(shares[k, 0, 0]) * weight for k, weight in enumerate((3, -3, 1))
        )  # Lagrange at 0 for the points 1, 2 and 3
        found.add(whole % PRIME)
    assert len(found) == 50


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="threshold"):
        deal(seeds(1), [1, 2], 3)
    with pytest.raises(ValueError, match="differ"):
        deal(seeds(1), [1, 1], 2)
    shares = deal(seeds(1), [1, 2], 2)
    shares[0, 0, 0] = PRIME
    with pytest.raises(ValueError, match="out of range"):
        combine(shares, [1, 2])
