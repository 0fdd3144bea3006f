"""The plan of ``bench_size.py``: the mean of all numbers, so that a round's time and memory are what Archipel costs."""

from abc import abstractmethod

import numpy as np

from archipel.data import SubjectSet
from archipel.plans import Context, Model, Plan, TrainingResult
from archipel.vocabulary import DataNeeds, MetricSpec, MetricSum

BATCH = 256


class _Mean(Plan):
    metrics = (MetricSpec(name="mean", better="lower"),)

    def initial_model(self, seed: int) -> Model:
        """One number."""
        return {"mean": np.zeros(1, np.float32)}

    def prepare(self, training: SubjectSet, validation: SubjectSet, context: Context) -> None:
        """Remember the samples; what is read of them is the subclass's."""
        self.training = training

    def train(self, model: Model, context: Context) -> TrainingResult:
        """One pass over all training samples."""
        mean = float(np.mean([self.mean(part) for part in self.parts()]))
        model["mean"][:] = mean
        return TrainingResult({"mean": MetricSum(total=mean, weight=1.0)})

    def parts(self) -> list[SubjectSet]:
        """What is in memory at once."""
        return [self.training]

    @abstractmethod
    def mean(self, part: SubjectSet) -> float:
        """The mean of the part's numbers."""


class RowsPlan(_Mean):
    """Reads all rows at once."""

    needs = DataNeeds(kind="arrays", minimum_subjects=1)

    def mean(self, part: SubjectSet) -> float:
        """Of a table."""
        return float(part.table().x.mean())


class VolumesPlan(_Mean):
    """Reads volumes in batches."""

    needs = DataNeeds(kind="volumes", minimum_subjects=1)

    def parts(self) -> list[SubjectSet]:
        """Batches."""
        return [self.training[start : start + BATCH] for start in range(0, len(self.training), BATCH)]

    def mean(self, part: SubjectSet) -> float:
        """Of a batch."""
        return float(np.mean([volume.image.mean() for volume in part.volumes()]))
