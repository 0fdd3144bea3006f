"""What every strategy must do: inherited by the test class of each, with a numpy oracle of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from archipel.strategies import SiteStats, Strategy
from archipel.tensors import Array, Between, WeightedUpdates, decode, encode, fold, schema_of
from archipel.vocabulary import Release

Tree = dict[str, Array]


class StrategyConformance(ABC):
    """A subclass names its strategy and computes a round by whole parameter trees."""

    strategy: ClassVar[Strategy]

    @abstractmethod
    def oracle(self, model: Tree, trees: list[Tree], samples: list[int], memory: dict[str, Tree]) -> Tree:
        """The next model in float64; ``memory`` (zeros at first) is replaced in place."""

    def trees(self, count: int, seed: int = 0) -> list[Tree]:
        draw = np.random.default_rng(seed)
        return [
            {"w": draw.normal(size=(3, 5)).astype("float32"), "b": draw.normal(size=4), "n": np.array(7 * one, "int32")}
            for one in range(count)
        ]

    def rounds(self, folder: Path, sites: int, count: int, **terms: int) -> tuple[list[bytes], list[Tree]]:
        """The model's bytes after each of some rounds, and what the oracle says of them; ``terms`` are of ``fold``."""
        folder.mkdir()
        start = self.trees(1, seed=99)[0]
        schema, model, memory = schema_of(start), folder / "model-0", dict[str, Path]()
        model.write_bytes(encode(start))
        known = {name: {leaf: np.zeros(value.shape) for leaf, value in start.items()} for name in self.strategy.memory}
        found, expected = [], []
        samples = [one + 1 for one in range(sites)]
        for number in range(1, count + 1):
            trees, tensor_files = self.trees(sites, seed=number), []
            for index, tree in enumerate(trees):
                tensor_files.append(folder / f"{number}-{index}")
                tensor_files[-1].write_bytes(encode(tree))
            before = decode(model.read_bytes())
            expected.append(self.oracle(before, trees, samples, known))
            weights = self.strategy.weights([SiteStats(str(one), n) for one, n in enumerate(samples)])
            kept = {name: folder / f"{name}-{number}" for name in self.strategy.memory}
            out = folder / f"model-{number}"
            fold(schema, tensor_files, weights, out, self.strategy, Between(model, memory, kept), **terms)
            model, memory = out, kept
            found.append(out.read_bytes())
        return found, expected

    def test_three_rounds_are_the_oracles(self, tmp_path: Path) -> None:
        found, expected = self.rounds(tmp_path / "r", 4, 3)
        for made, oracle in zip(found, expected, strict=True):
            for name, values in decode(made).items():
                wanted = oracle[name] if values.dtype.kind == "f" else np.rint(oracle[name])
                np.testing.assert_allclose(values, wanted.astype(values.dtype), rtol=1e-6, atol=1e-12)

    @pytest.mark.parametrize("chunk", [1, 4])
    def test_the_size_of_chunks_changes_no_bit(self, tmp_path: Path, chunk: int) -> None:
        whole, _ = self.rounds(tmp_path / "whole", 3, 2)
        assert self.rounds(tmp_path / "parts", 3, 2, chunk=chunk)[0] == whole

    def test_weights_are_one_per_site_and_have_a_sum(self) -> None:
        weights = self.strategy.weights([SiteStats("a", 1), SiteStats("b", 3)])
        assert len(weights) == 2 and min(weights) >= 0 and sum(weights) > 0

    def test_it_says_what_must_leave_a_site(self) -> None:
        assert self.strategy.needs in Release

    def test_sums_of_weighted_updates_give_the_same_model_where_sums_are_enough(self, tmp_path: Path) -> None:
        if self.strategy.needs is Release.INDIVIDUALLY:
            with pytest.raises(ValueError, match="only the sum of these updates may be read"):
                self.of_sums(tmp_path)
            return
        apart, summed = self.of_sums(tmp_path)
        for name, values in apart.items():
            np.testing.assert_allclose(summed[name], values, rtol=1e-6, atol=1e-12)

    def of_sums(self, folder: Path) -> tuple[Tree, Tree]:
        """The next model from updates as they are, and from updates that each site multiplied by its own weight."""
        trees, samples = self.trees(3, seed=1), [SiteStats("a", 2), SiteStats("b", 3), SiteStats("c", 7)]
        alone = [self.strategy.weights([one])[0] for one in samples]
        weighted = [
            {name: value.astype(float) * weight for name, value in tree.items()}
            for tree, weight in zip(trees, alone, strict=True)
        ]
        (folder / "start").write_bytes(encode(self.trees(1, seed=0)[0]))
        made = []
        for number, (parts, weights) in enumerate([(trees, self.strategy.weights(samples)), (weighted, [1.0] * 3)]):
            files = [folder / f"{number}-{index}" for index in range(3)]
            for file, part in zip(files, parts, strict=True):
                file.write_bytes(encode(part))
            kept = {name: folder / f"{number}-{name}" for name in self.strategy.memory}
            between, out = Between(folder / "start", {}, kept), folder / f"model-{number}"
            sent = WeightedUpdates(schema_of(weighted[0]), sum(alone)) if number else None
            fold(schema_of(trees[0]), files, weights, out, self.strategy, between, sent)
            made.append(decode(out.read_bytes()))
        return made[0], made[1]
