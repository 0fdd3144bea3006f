"""From a trained model to the words of a vector, chunk by chunk: what is added is the weighted difference."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from archipel.privacy.secure_aggregation.layout import Form, Layout, Part
from archipel.privacy.secure_aggregation.masks import Words
from archipel.privacy.secure_aggregation.packing import statement
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode
from archipel.vocabulary.things import Thing

CONSTANT = np.frombuffer(hashlib.sha256(statement("constant")).digest()[:16], "<u8")
"""The two words at the end of each vector: a sum that was not unmasked rightly does not end in their multiple."""
CHUNK = 1 << 18
"""Numbers that are encoded at once."""


class Models(Protocol):
    """The two models of a site: what it received and what it trained."""

    def read(self, name: str, start: int, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """``(received, trained)``: ``count`` numbers of a tensor from ``start`` on, in the tensor's own type."""


@dataclass(frozen=True)
class Own:
    """What a site adds beside its tensors: its weight n_k (at most ``most_weight``), counts and metric sums."""

    weight: int
    most_weight: int
    counts: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.weight <= self.most_weight < 2**53:
            raise BadInput(
                f"a weight of {self.weight}",
                f"is not from 1 to the job's most, {self.most_weight}",
                "make a smaller cohort, or a job with a larger bound",
            )


def encoded(layout: Layout, models: Models, own: Own, chunk: int = CHUNK) -> Iterator[Words]:
    """The words of a vector in order, in arrays of at most ``chunk`` words that the caller may change.

    Raises ArchipelError (``not-finite``) for a NaN or an infinity, and BadInput for an integer out of range.
    """
    limited: dict[str, int] = {}
    beyond_half: dict[str, int] = {}
    short = 0
    behind = False
    for part in layout.tensors:
        if part.form is not Form.SHORT and not behind:
            behind = True
            yield from _padding(short)
        short += part.elements
        limited[part.name] = beyond_half[part.name] = 0
        for start in range(0, part.elements, chunk):
            received, trained = models.read(part.name, start, min(chunk, part.elements - start))
            if part.form is Form.WHOLE:
                yield _whole(layout, part, received, trained, own.weight)
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                x = trained.astype(np.float64) - received.astype(np.float64)
            x *= own.weight / own.most_weight
            words, over, half = fixed_point(x, part, layout.bits(part.form))
            limited[part.name] += over
            beyond_half[part.name] += half
            yield words
    if not behind:
        yield from _padding(short)
    yield _numbers(layout, own, limited, beyond_half)


def fixed_point(x: NDArray[np.float64], part: Part, size: int) -> tuple[Words, int, int]:
    """Words of numbers (which are overwritten), and how many were limited, and how many are beyond half the range.

    >>> fixed_point(np.array([0.5, -3.0]), Part("w", Form.SHORT, 2, exponent=1), 4)
    (array([         4, 4294967280], dtype=uint32), 1, 1)
    """
    if not np.isfinite(x).all():
        raise ArchipelError(
            Thing("tensor", part.name),
            "has a NaN or an infinity, which a sum with masks would hide",
            "lower the learning rate, or look at this site's data",
            code=ErrorCode.NOT_FINITE,
        )
    np.ldexp(x, size - part.exponent, out=x)
    np.rint(x, out=x)
    most = float(2**size)
    magnitude = np.abs(x)
    half = int(np.count_nonzero(magnitude > most / 2))
    over = int(np.count_nonzero(magnitude > most)) if half else 0
    if over:
        np.clip(x, -most, most, out=x)
    whole = x.astype("<i8").view("<u8")
    return (whole.astype("<u4") if part.form is Form.SHORT else whole), over, half


def _whole(layout: Layout, part: Part, received: NDArray[Any], trained: NDArray[Any], weight: int) -> Words:
    # Python's integers: a difference of two int64, times a weight, may not fit one.
    found = [(new - old) * weight for old, new in zip(received.tolist(), trained.tolist(), strict=True)]
    return np.array([_word(layout, part.name, value) for value in found], "<u8")


def _numbers(layout: Layout, own: Own, limited: Mapping[str, int], beyond_half: Mapping[str, int]) -> Words:
    given: dict[str, int | float] = {f"count:{name}": value for name, value in own.counts.items()}
    given |= {f"metric:{name}": value for name, value in own.metrics.items()}
    given |= {f"limited:{part.name}": limited[part.name] for part in layout.fixed}
    given |= {f"beyond-half:{part.name}": beyond_half[part.name] for part in layout.fixed}
    given["weight"] = own.weight
    names = {part.name for part in layout.numbers}
    if names != set(given):
        wrong = sorted(names ^ set(given))
        raise BadInput(", ".join(wrong), "are not what this job asks for", "give each count and metric of the job")
    words = []
    for part in layout.numbers:
        if part.form is Form.WHOLE:
            words.append(_word(layout, part.name, given[part.name]))
            continue
        value, over, _ = fixed_point(np.array([float(given[part.name])]), part, layout.bits(part.form))
        if over:
            raise BadInput(part.name, f"is beyond 2^{part.exponent}", "make a job with a larger range for it")
        words.append(int(value[0]))
    return np.concatenate([np.array(words, "<u8"), CONSTANT])


def _word(layout: Layout, name: str, value: float) -> int:
    most = 2 ** layout.bits(Form.WHOLE)
    if not isinstance(value, int) or abs(value) > most:
        raise BadInput(name, f"is {value}, not an integer of at most {most}", "leave it out of the sum")
    return value % 2**64


def _padding(short: int) -> Iterator[Words]:
    if short % 2:
        yield np.zeros(1, "<u4")
