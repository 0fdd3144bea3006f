"""The vector of secure aggregation a second time: number by number, written from the README of the package alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from fractions import Fraction

from secagg_second import h, said

Numbers = Sequence[float] | Sequence[int]


def largest_bits(n: int, limit: int) -> int:
    b = 0
    while n * 2 ** (b + 1) <= limit:
        b += 1
    return b


def long_names(sizes: Mapping[str, int], buffers: Set[str], integers: Set[str]) -> set[str]:
    """The floating tensors of 64-bit fixed point; ``sizes`` are the numbers of elements of all tensors."""
    floating = {name: size for name, size in sizes.items() if name not in integers}
    every = sum(floating.values())
    chosen, used = set(buffers - integers), 0
    for name in sorted(floating, key=lambda one: (floating[one], one)):
        used += floating[name]
        if 100 * floating[name] < every and 50 * used <= every:
            chosen.add(name)
    return chosen


def vector(
    n: int,
    exponents: Mapping[str, int],
    models: tuple[Mapping[str, Numbers], Mapping[str, Numbers]],
    weights: tuple[int, int],
    buffers: Set[str] = frozenset(),
    integers: Set[str] = frozenset(),
    counts: Sequence[int] = (),
    metrics: Sequence[tuple[float, int]] = (),
) -> bytes:
    """The words of one site: of ``(received, trained)`` in the order of the schema, and ``(n_k, W_max)``.

    ``metrics`` are pairs of the sum and the exponent of its range.
    """
    received, trained = models
    share = weights[0] / weights[1]
    b32, b64 = largest_bits(n, 2**31 - 1), largest_bits(n, 2**63 - 1)
    long = long_names({name: len(one) for name, one in received.items()}, buffers, integers)
    words: dict[str, list[int]] = {}
    limited, beyond = {}, {}
    for name, old in received.items():
        pairs = list(zip(old, trained[name], strict=True))
        if name in integers:
            words[name] = [(int(after) - int(before)) * weights[0] for before, after in pairs]
            assert all(abs(one) <= 2**b64 for one in words[name])
            continue
        b, e = b64 if name in long else b32, exponents[name]
        xs = [Fraction((float(after) - float(before)) * share) for before, after in pairs]
        rounded = [round(x * Fraction(2) ** (b - e)) for x in xs]
        words[name] = [max(-(2**b), min(2**b, one)) for one in rounded]
        limited[name] = sum(abs(one) > 2**b for one in rounded)
        beyond[name] = sum(2 * abs(one) > 2**b for one in rounded)
    in_order = [name for name in limited if name not in long] + [name for name in limited if name in long]
    short = [one for name in received if name not in long | integers for one in words[name]]
    short += [0] * (len(short) % 2)
    tail = [one for name in received if name in long for one in words[name]]
    tail += [one for name in received if name in integers for one in words[name]]
    tail += [*counts, *(round(Fraction(value) * Fraction(2) ** (b64 - e)) for value, e in metrics)]
    tail += [*(limited[name] for name in in_order), *(beyond[name] for name in in_order), weights[0]]
    body = b"".join((one % 2**32).to_bytes(4, "little") for one in short)
    return body + b"".join((one % 2**64).to_bytes(8, "little") for one in tail) + h(said("constant"))[:16]


def first_exponent(magnitude: float, least: float, is_long: bool) -> int:
    e = -1100
    while Fraction(2) ** e < max(Fraction(magnitude), Fraction(least)):
        e += 1
    return inside(e + 8 if is_long else e)


def inside(e: int) -> int:
    return max(-126, min(127, e))


def exponents_after(first: int, rounds: Sequence[tuple[int, int]]) -> list[int]:
    """After each round, of the numbers of coordinates ``(limited, beyond half)`` in it."""
    found, e, quiet = [], first, 0
    for limited, beyond in rounds:
        quiet = 0 if limited or beyond else quiet + 1
        if limited:
            e = inside(e + 1)
        elif quiet == 4:
            e, quiet = inside(e - 1), 0
        found.append(e)
    return found
