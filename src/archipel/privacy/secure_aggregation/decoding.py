"""From the words of a sum over sites back to numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archipel.privacy.secure_aggregation.encoding import CONSTANT
from archipel.privacy.secure_aggregation.layout import Form, Layout, Part
from archipel.privacy.secure_aggregation.masks import Words
from archipel.vocabulary import ArchipelError, ErrorCode

MOST_LIMITED = 0.001
"""The share of limited coordinates above which people are told."""


@dataclass(frozen=True)
class Totals:
    """The sums over sites of what is beside the tensors, by name."""

    weight: int
    counts: dict[str, int]
    metrics: dict[str, float]
    limited: dict[str, int]
    beyond_half: dict[str, int]


def totals(layout: Layout, words: Words, sites: int) -> Totals:
    """The numbers behind the tensors, of the last words (uint64) of a sum over ``sites`` sites.

    Raises ArchipelError (``bad-update``) where the sum does not end in the constant: it was not unmasked, and nothing
    in it may be used.
    """
    tail = words[len(words) - len(layout.numbers) - 2 :]
    if not np.array_equal(tail[-2:], CONSTANT * np.uint64(sites)):
        raise ArchipelError(
            "the sum",
            f"did not unmask: its end is not that of {sites} vectors",
            "start a new attempt; the sites' records of this one show who sent what",
            code=ErrorCode.BAD_UPDATE,
        )
    whole: dict[str, dict[str, int]] = {"count": {}, "limited": {}, "beyond-half": {}, "weight": {}}
    metrics: dict[str, float] = {}
    for part, value in zip(layout.numbers, tail[:-2].astype("<u8").view("<i8").tolist(), strict=True):
        kind, _, name = part.name.partition(":")
        if part.form is Form.WHOLE:
            whole[kind][name] = value
        else:
            metrics[name] = float(np.ldexp(float(value), part.exponent - layout.bits(part.form)))
    return Totals(whole["weight"][""], whole["count"], metrics, whole["limited"], whole["beyond-half"])


def mean_difference(layout: Layout, part: Part, words: Words, weight: int, most_weight: int) -> NDArray[np.float64]:
    """The weighted mean of what sites trained minus what they received, float64, for words of a sum of one tensor."""
    if part.form is Form.WHOLE:
        return words.view("<i8").astype(np.float64) / weight
    whole = words.view("<i4" if part.form is Form.SHORT else "<i8").astype(np.float64)
    return np.ldexp(whole, part.exponent - layout.bits(part.form)) * (most_weight / weight)


def limited_share(layout: Layout, found: Totals, sites: int) -> float:
    """Which share of all coordinates of all sites was limited."""
    return sum(found.limited.values()) / max(1, sites * sum(part.elements for part in layout.fixed))
