"""Overlaps: voxels that two structures of one label have, of which each gets one value, by the option ``on_top``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archipel.data.sample_data import LabelVolume
from archipel.data.volumes.segments import as_option, plain_name
from archipel.data.volumes.volume_facts import Shared
from archipel.vocabulary.counting import abbreviate


class Overlaps:
    """Paints structures into one label, one after the other, and counts what each pair shares.

    ``names`` are those of the label values; ``on_top`` the names that keep what they share, the first before the
    second. Where three structures share a voxel, it counts for the one that had it and the one that comes.
    """

    def __init__(self, shape: tuple[int, ...], names: Mapping[int, str], on_top: Sequence[str]) -> None:
        self.label: LabelVolume = np.zeros(shape, np.int16, order="F")
        self._names = dict(names)
        self._ranks = np.zeros(max(names, default=0) + 1, np.int16)
        wanted = {plain_name(top): len(on_top) - at for at, top in enumerate(on_top)}
        for value, name in names.items():
            self._ranks[value] = wanted.get(plain_name(name), 0)
        self._counts: Counter[tuple[int, int]] = Counter()

    def paint(self, drawn: NDArray[Any]) -> None:
        """Add values ``[X, Y, Z]`` int16, 0 where there is nothing."""
        inside = drawn != 0
        comes, there = drawn[inside], self.label[inside]
        is_shared = there != 0
        if is_shared.any():
            for pair, count in _counted(there[is_shared], comes[is_shared]):
                self._counts[pair] += count
            comes = np.where(~is_shared | (self._ranks[comes] > self._ranks[there]), comes, there)
        self.label[inside] = comes

    def open_pairs(self) -> str:
        """The pairs of which no name in ``on_top`` says which keeps the voxels, each with their number; "" if none."""
        return abbreviate(
            f"{self._names[one]} and {self._names[other]} share voxels ({count})" for one, other, count in self._open()
        )

    def remedy(self) -> str:
        """Which options decide the open pairs."""
        involved = {self._names[value]: None for one, other, _ in self._open() for value in (other, one)}
        names = list(involved)
        option = "add the dataset with --option on_top="
        if len(names) == 2:
            one, other = (as_option([name]) for name in names)
            return f"say which one keeps them: {option}{one} or with --option on_top={other}"
        return (
            f"say which ones keep them, the first before the second: {option}{as_option(names)}, or with another order"
        )

    @property
    def shared(self) -> tuple[Shared, ...]:
        """What was decided, by pair."""
        found: Counter[tuple[int, int]] = Counter()
        for (there, comes), count in self._counts.items():
            keeps = comes if self._ranks[comes] > self._ranks[there] else there
            found[keeps, comes if keeps == there else there] += count
        return tuple(Shared(keeps=one, loses=other, voxels=count) for (one, other), count in sorted(found.items()))

    def _open(self) -> list[tuple[int, int, int]]:
        return [
            (one, other, count)
            for (one, other), count in sorted(self._counts.items())
            if self._ranks[one] == self._ranks[other] == 0
        ]


def _counted(there: NDArray[Any], comes: NDArray[Any]) -> list[tuple[tuple[int, int], int]]:
    """How often each pair of values is there."""
    codes, counts = np.unique((there.astype(np.int64) << 16) | comes, return_counts=True)
    return [((code >> 16, code & 0xFFFF), count) for code, count in zip(codes.tolist(), counts.tolist(), strict=True)]
