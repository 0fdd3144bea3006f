"""The fold: many tensor files become the next model's tensor file, chunk by chunk, in memory that does not grow with
the model.

A ``Rule`` (a strategy is one) says what is made of each chunk; the fold reads, calls the rule in the order of the
tensor file, and writes. With the weighted mean as the rule it forms the same numbers as adding whole parameter
trees in the same order, bit for bit.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from archipel.tensors.hashing import BlobHasher
from archipel.tensors.number_types import bytes_of, is_floating
from archipel.tensors.stacks import Array, ChunkStack, NotFiniteUpdate, fits, in_type, is_finite, read_exactly
from archipel.tensors.tensor_files import leaf_offsets, tensor_file_header
from archipel.tensors.writing import TensorFileWriter
from archipel.vocabulary import TensorSchema, TensorSpec

CHUNK_ELEMENTS = 1 << 17
"""How many numbers of a leaf are in memory at once, per tensor file buffer: small enough to stay in the processor's
cache.
"""
THREADS = 2
"""How many chunks are formed at once; numpy releases the interpreter lock while it adds."""
_HASHED_AT_ONCE = 1 << 20


class Rule(Protocol):
    """What the fold makes of each chunk; called from several threads, so it keeps nothing between calls.

    ``memory`` names the tensor files that ``step`` reads and writes; ``uses_model`` says whether it reads the model
    that the round started from (to read it costs time).
    """

    @property
    def memory(self) -> tuple[str, ...]:
        """The names of what is kept from round to round."""

    @property
    def uses_model(self) -> bool:
        """Whether ``step`` reads the model that the round started from."""

    def combine(self, stack: ChunkStack, weights: Sequence[float]) -> Array:
        """One chunk, float64, out of that of every tensor file."""

    def step(
        self, leaf: TensorSpec, start: int, model: Array, aggregate: Array, memory: Mapping[str, Array]
    ) -> tuple[Array, Mapping[str, Array]]:
        """The chunk of the next model and of each memory, float64."""


class WeightedMean:
    """The rule that makes the weighted mean itself the next model."""

    memory: tuple[str, ...] = ()
    uses_model = False

    def combine(self, stack: ChunkStack, weights: Sequence[float]) -> Array:
        """sum(n * w) / sum(n)."""
        return stack.mean(weights)

    def step(
        self, leaf: TensorSpec, start: int, model: Array, aggregate: Array, memory: Mapping[str, Array]
    ) -> tuple[Array, Mapping[str, Array]]:
        """The mean as it is."""
        return aggregate, {}


class NotFiniteResult(Exception):
    """A rule made ``tensor`` of the next model, or of a memory, NaN or infinite out of finite tensor files."""

    def __init__(self, tensor: str) -> None:
        super().__init__(f"tensor {tensor} of the next model or of the strategy's memory became NaN or infinite")
        self.tensor = tensor


@dataclass(frozen=True)
class Between:
    """What a rule reads and writes besides the tensor files: files of the start model and of its memory, old and new.

    ``memory`` lacks a name before the first round (zeros are read then); ``kept`` has a place for each.
    """

    model: Path | None = None
    memory: Mapping[str, Path] = field(default_factory=dict)
    kept: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightedUpdates:
    """Updates whose tensors were multiplied where they were made: their schema, and the sum of their weights.

    The schema has each of the model's tensors by name, in a type that may be wider, and may have others.
    """

    schema: TensorSchema
    weight: float


@dataclass(frozen=True)
class Folded:
    """The content addresses of what was written: the next model's tensor file, and each memory's."""

    model: str
    memory: Mapping[str, str] = field(default_factory=dict)


def memory_schema(schema: TensorSchema) -> TensorSchema:
    """The tensors of one memory of a model with ``schema``: the same names and shapes, each in float64.

    A moment of a float32 weight or of a whole number loses nothing between two rounds.
    """
    return TensorSchema.of([spec.model_copy(update={"dtype": "float64"}) for spec in schema.tensors])


def fold(
    schema: TensorSchema,
    updates: Sequence[Path],
    weights: Sequence[float],
    out: Path,
    rule: Rule | None = None,
    between: Between | None = None,
    weighted: WeightedUpdates | None = None,
    *,
    chunk: int = CHUNK_ELEMENTS,
    durable: bool = True,
) -> Folded:
    """Write the next model's tensor file to ``out`` from ``updates``, in their given order; without a rule, their mean.

    All tensor files have this schema, or that of ``weighted`` (checked when they were received). With a rule that only
    takes means, memory is a few chunks of ``chunk`` elements, whatever the number and size of the tensor files; the
    size of chunks changes no bit. The caller renames and records what was written; without ``durable`` it is not
    synced.
    Raises NotFiniteUpdate for the first tensor file that holds a NaN or an infinity, or that brings the sum there, and
    NotFiniteResult when the rule makes one.
    """
    if not updates or len(updates) != len(weights) or not sum(weights) > 0:
        raise ValueError("fold needs at least one update and one weight per update, with a positive sum")
    if len(updates) == 1:
        # n * w / n is not w in float64; one site's model must come out bit for bit.
        weights = [1.0]
    with ExitStack() as open_files:
        opened = _Files.opened(schema, updates, rule or WeightedMean(), between or Between(), open_files)
        with out.open("wb", buffering=0) as file:
            writer = TensorFileWriter(file)
            writer.write(tensor_file_header(schema))
            for values, memories in _folded(schema, opened, weights, weighted, chunk):
                writer.write(bytes_of(values))
                for name, (kept, offset) in memories.items():
                    _write_exactly(opened.kept[name], kept, offset)
            model = writer.finish(durable=durable)
        return Folded(model, {name: _hash_of_memory(kept, durable) for name, kept in opened.kept.items()})


@dataclass(frozen=True)
class _Files:
    """Open descriptors of a fold, its rule, and where each tensor begins in a memory's tensor file."""

    updates: Sequence[int]
    model: int | None
    memory: Mapping[str, int]
    kept: Mapping[str, int]
    rule: Rule
    places: Mapping[str, int]

    @classmethod
    def opened(
        cls, schema: TensorSchema, updates: Sequence[Path], rule: Rule, between: Between, open_files: ExitStack
    ) -> _Files:
        def held(path: Path, flags: int = os.O_RDONLY) -> int:
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
            open_files.callback(os.close, descriptor)
            return descriptor

        if (rule.uses_model and between.model is None) or set(rule.memory) - set(between.kept):
            raise ValueError("this rule needs the start model's file, and a place for each of its memories")
        wide = memory_schema(schema)
        kept = {name: held(between.kept[name], os.O_RDWR | os.O_CREAT | os.O_TRUNC) for name in rule.memory}
        header = np.frombuffer(tensor_file_header(wide), np.uint8)
        for descriptor in kept.values():
            _write_exactly(descriptor, header, 0)
        return cls(
            updates=[held(update) for update in updates],
            model=held(between.model) if rule.uses_model and between.model is not None else None,
            memory={name: held(between.memory[name]) for name in rule.memory if name in between.memory},
            kept=kept,
            rule=rule,
            places={spec.name: offset for spec, offset in leaf_offsets(wide)} if rule.memory else {},
        )


_Chunk = tuple[Array, Mapping[str, tuple[Array, int]]]
"""A chunk of the next model in its own type, and by memory name a chunk of it and where its bytes go."""


def _folded(
    schema: TensorSchema, files: _Files, weights: Sequence[float], weighted: WeightedUpdates | None, chunk: int
) -> Iterator[_Chunk]:
    """The chunks of the next model in order, each of ``chunk`` elements, a few of them formed at the same time."""
    sent = {spec.name: (spec, at) for spec, at in leaf_offsets(weighted.schema if weighted else schema)}
    divisor = weighted.weight if weighted else None
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[_Chunk]] = deque()
        try:
            for leaf, offset in leaf_offsets(schema):
                for start in range(0, leaf.elements, chunk):
                    if len(waiting) == 2 * THREADS:
                        yield waiting.popleft().result()
                    count = min(chunk, leaf.elements - start)
                    stack = ChunkStack(*sent[leaf.name], start, count, files.updates, divisor)
                    waiting.append(pool.submit(_next_chunk, leaf, offset, stack, files, weights))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()


def _next_chunk(leaf: TensorSpec, offset: int, stack: ChunkStack, files: _Files, weights: Sequence[float]) -> _Chunk:
    rule = files.rule
    aggregate = rule.combine(stack, weights)
    # A mean is within the range of its numbers. A sum in a wider type, divided by what sites report, may not be.
    if stack.divisor is not None and not fits(aggregate, leaf.dtype):
        raise NotFiniteUpdate(0, leaf.name)
    model = np.empty(0)
    if files.model is not None:
        values = np.empty(stack.count, leaf.dtype)
        read_exactly(files.model, values, offset + stack.start * values.itemsize)
        model = values.astype(np.float64)
    place = files.places[leaf.name] + stack.start * 8 if rule.memory else 0
    memory = {}
    for name in rule.memory:
        memory[name] = np.zeros(stack.count)
        if name in files.memory:
            read_exactly(files.memory[name], memory[name], place)
    with np.errstate(over="ignore", invalid="ignore"):
        stepped, kept = rule.step(leaf, stack.start, model, aggregate, memory)
        result = in_type(stepped, leaf.dtype)
    made = [stepped, result, *kept.values()]
    if stepped is not aggregate and not all(is_finite(array) for array in made if is_floating(array.dtype)):
        raise NotFiniteResult(leaf.name)
    if set(kept) != set(rule.memory) or any(array.shape != (stack.count,) for array in (stepped, *kept.values())):
        raise ValueError(f"the strategy's step must return {stack.count} numbers and its memories {rule.memory}")
    return result, {name: (np.ascontiguousarray(kept[name], np.float64), place) for name in rule.memory}


def sum_of_numbers(schema: TensorSchema, updates: Sequence[Path], names: Sequence[str]) -> dict[str, float]:
    """The sum over tensor files of this schema of each tensor named, one float64 number each, in the order given.

    A sum that is not finite is returned as it is.
    """
    places = {spec.name: offset for spec, offset in leaf_offsets(schema)}
    totals = dict.fromkeys(names, 0.0)
    for update in updates:
        with update.open("rb", buffering=0) as file:
            for name in names:
                number = np.empty(1)
                read_exactly(file.fileno(), number, places[name])
                totals[name] += float(number[0])
    return totals


def _write_exactly(descriptor: int, values: Array, offset: int) -> None:
    window = bytes_of(values)
    done = 0
    while done < window.nbytes:
        done += os.pwrite(descriptor, window[done:], offset + done)


def _hash_of_memory(descriptor: int, durable: bool) -> str:
    """Make a memory durable and name it by its content: it was not written in the order of its bytes."""
    if durable:
        os.fsync(descriptor)
    hasher, position = BlobHasher(), 0
    while chunk := os.pread(descriptor, _HASHED_AT_ONCE, position):
        hasher.update(chunk)
        position += len(chunk)
    return hasher.digest()
