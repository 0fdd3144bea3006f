"""Where everything is in a vector, and with how many bits, so that no sum over the sites of a job can wrap."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from archipel.privacy.secure_aggregation.masks import Words
from archipel.privacy.secure_aggregation.terms import MOST_SITES
from archipel.vocabulary import BadInput, TensorSchema, TensorSpec
from archipel.vocabulary.things import Thing

_SMALL = 100
"""A tensor with less than one part in so many of the model's numbers is small."""
_LONG_SHARE = 50
"""All small tensors that travel as 64 bits are at most one part in so many: they cost twice the bytes."""
LEAST_EXPONENT, MOST_EXPONENT = -126, 127
_FLOATS = ("float64", "float32", "float16", "bfloat16")


class Form(StrEnum):
    """How the numbers of a part are written."""

    SHORT = "short"
    """Fixed point in a word of 32 bits."""
    LONG = "long"
    """Fixed point in a word of 64 bits."""
    WHOLE = "whole"
    """An integer in a word of 64 bits, exact."""


@dataclass(frozen=True)
class Part:
    """A tensor, or a number beside the tensors; the range of fixed point is ``2^exponent``."""

    name: str
    form: Form
    elements: int
    exponent: int = 0


def bits(sites: int, width: int) -> int:
    """The largest b for which the sum of ``sites`` integers of at most 2^b fits ``width`` bits with a sign.

    >>> bits(4, 32), bits(100, 32), bits(100, 64)
    (28, 24, 56)
    """
    most = 2 ** (width - 1) - 1
    return int(most // sites).bit_length() - 1


@dataclass(frozen=True)
class Layout:
    """The parts of a vector in order. ``tensors`` are short ones, then long ones, then whole ones."""

    sites: int
    tensors: tuple[Part, ...]
    numbers: tuple[Part, ...]

    @classmethod
    def of(
        cls,
        schema: TensorSchema,
        exponents: Mapping[str, int],
        *,
        sites: int,
        buffers: Collection[str] = (),
        counts: Sequence[str] = (),
        metrics: Mapping[str, int] | None = None,
    ) -> Layout:
        """The layout for a model, with the exponent of each of its floating tensors and of each metric.

        Raises BadInput for a tensor without an exponent or with one out of range.
        """
        if not 2 <= sites <= MOST_SITES:
            raise BadInput(f"{sites} sites", "are too few or too many", f"give 2 to {MOST_SITES}")
        long = long_tensors(schema, buffers)
        found: dict[Form, list[Part]] = {form: [] for form in Form}
        for spec in schema.tensors:
            if spec.dtype not in _FLOATS:
                found[Form.WHOLE].append(Part(spec.name, Form.WHOLE, spec.elements))
                continue
            form = Form.LONG if spec.name in long else Form.SHORT
            found[form].append(Part(spec.name, form, spec.elements, _exponent(spec.name, exponents)))
        fixed = found[Form.SHORT] + found[Form.LONG]
        numbers = [Part(f"count:{name}", Form.WHOLE, 1) for name in counts]
        numbers += [Part(f"metric:{name}", Form.LONG, 1, _exponent(name, metrics or {})) for name in metrics or {}]
        numbers += [Part(f"limited:{part.name}", Form.WHOLE, 1) for part in fixed]
        numbers += [Part(f"beyond-half:{part.name}", Form.WHOLE, 1) for part in fixed]
        numbers.append(Part("weight", Form.WHOLE, 1))
        return cls(sites, tuple(fixed + found[Form.WHOLE]), tuple(numbers))

    @cached_property
    def short_words(self) -> int:
        """Words of 32 bits at the front, an even number of them."""
        short = sum(part.elements for part in self.tensors if part.form is Form.SHORT)
        return short + short % 2

    @cached_property
    def long_words(self) -> int:
        """Words of 64 bits behind them, the two of the constant included."""
        long = sum(part.elements for part in self.tensors if part.form is not Form.SHORT)
        return long + len(self.numbers) + 2

    @property
    def nbytes(self) -> int:
        """Bytes of a vector."""
        return 4 * self.short_words + 8 * self.long_words

    @property
    def fixed(self) -> tuple[Part, ...]:
        """The tensors in fixed point, whose limited coordinates are counted."""
        return tuple(part for part in self.tensors if part.form is not Form.WHOLE)

    def bits(self, form: Form) -> int:
        """Bits of magnitude of a word of this form."""
        return bits(self.sites, 32 if form is Form.SHORT else 64)

    def words(self, body: bytearray | memoryview) -> tuple[Words, Words]:
        """Views of a whole vector's bytes: its words of 32 and of 64 bits. Raises BadInput for another length."""
        if len(body) != self.nbytes:
            raise BadInput("a vector", f"has {len(body)} bytes, not {self.nbytes}", "send the vector of this job")
        front = 4 * self.short_words
        return np.frombuffer(body, "<u4", self.short_words), np.frombuffer(body, "<u8", offset=front)


def long_tensors(schema: TensorSchema, buffers: Collection[str] = ()) -> frozenset[str]:
    """The floating tensors that travel as 64 bits: buffers, and the smallest ones while they are few numbers."""
    floating = [spec for spec in schema.tensors if spec.dtype in _FLOATS]
    total = sum(spec.elements for spec in floating)
    return frozenset(set(buffers) & {spec.name for spec in floating}) | frozenset(_smallest(floating, total))


def _smallest(specs: Sequence[TensorSpec], total: int) -> Iterator[str]:
    used = 0
    for spec in sorted(specs, key=lambda spec: (spec.elements, spec.name)):
        used += spec.elements
        if spec.elements * _SMALL >= total or used * _LONG_SHARE > total:
            return
        yield spec.name


def _exponent(name: str, exponents: Mapping[str, int]) -> int:
    if name not in exponents or not LEAST_EXPONENT <= exponents[name] <= MOST_EXPONENT:
        raise BadInput(
            Thing("range", name),
            f"is {exponents.get(name, 'not given')}",
            f"give its exponent, from {LEAST_EXPONENT} to {MOST_EXPONENT}",
        )
    return exponents[name]
