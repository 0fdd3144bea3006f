"""The result of an experiment, as values: the scores of every model on the same held-out subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from archipel.vocabulary import MetricSpec, PooledAuc, SpreadFigures

DICE = MetricSpec(name="dice", better="higher")


class ModelKind(StrEnum):
    """The models that a report compares, in the order in which it shows them."""

    FEDERATED = "federated"
    POOLED = "pooled"
    ENSEMBLE = "ensemble"
    LOCAL = "local"


@dataclass(frozen=True)
class SiteFacts:
    """One hospital: how many subjects trained, how many were held out; ``seconds`` of one local round (median).

    A count is None where the report's maker does not know it.
    """

    name: str
    training: int | None
    held_out: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class ModelScore:
    """One model on the held-out subjects of every site.

    ``value`` is the mean of the result's metric over all of them, ``per_site`` its means at each site,
    ``per_structure`` the means of the other metrics, for a segmentation those of each label. ``name`` is the site's
    name for a local model and the kind for the others. ``spread`` says how much the metric differs, and
    ``pooled_auc`` is that of the sites' cases together, where they are known.
    """

    kind: ModelKind
    name: str
    value: float
    per_site: Mapping[str, float] = field(default_factory=dict)
    per_structure: Mapping[str, float] = field(default_factory=dict)
    spread: SpreadFigures | None = None
    pooled_auc: PooledAuc | None = None


@dataclass(frozen=True)
class MiddleSlice:
    """One slice of a held-out subject, to be shown.

    ``image`` float ``[A, B]``, ``truth`` and ``predicted`` label values ``[A, B]``, all in RAS with A the axis that
    runs across the page; ``spacing`` their voxel sizes in mm. ``dice`` is that of the whole volume.
    """

    site: str
    subject: str
    image: NDArray[Any]
    truth: NDArray[Any]
    predicted: NDArray[Any]
    spacing: tuple[float, float]
    dice: float


class SiteNumbers(TypedDict):
    """A site in ``summary.json``: its subjects."""

    training: int
    held_out: int


class ModelNumbers(TypedDict):
    """A model in ``summary.json``: its Dice."""

    dice: float
    per_site: dict[str, float]
    per_structure: dict[str, float]


class Summary(TypedDict):
    """The content of ``summary.json``. Programs read it, so its keys stay."""

    title: str
    data: str
    deployed: bool
    dice: dict[str, float | dict[str, float]]
    ratio: float | None
    rounds: int
    epochs_per_round: int
    seed: int
    sites: dict[str, SiteNumbers]
    held_out: int
    seconds: dict[str, float]
    job_hash: str
    plan_hash: str
    models: dict[str, ModelNumbers]
    versions: dict[str, str]


@dataclass(frozen=True)
class ExperimentResult:
    """Everything that a report shows, of a demonstration (``demo-results/``) or of any other experiment.

    ``metric`` is what is compared, for a demonstration Dice. ``curves`` are its values after each round by model name
    (``federated``, ``pooled``), ``losses`` training losses of each round by site; NaN where there is none. ``deployed``
    says whether the sites were processes of their own that used mutual TLS and trained in a sandbox, or simulated in
    one process. ``model`` names the file of the federated model, of the last round. ``subjects`` is how many held-out
    subjects were measured, where the sites' own numbers are not known. ``intervals`` are those of the federated curve,
    by round, counted from 1.
    """

    title: str
    data: str
    deployed: bool
    sites: Sequence[SiteFacts]
    rounds: int
    seed: int
    scores: Sequence[ModelScore]
    curves: Mapping[str, Sequence[float]]
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)
    slices: Sequence[MiddleSlice] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    label_names: Mapping[int, str] = field(default_factory=dict)
    epochs_per_round: int = 1
    plan: str = ""
    plan_hash: str = ""
    job_hash: str = ""
    model: str = "model.safetensors"
    notes: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    metric: MetricSpec = DICE
    is_demonstration: bool = True
    strategy: str = "fedavg"
    subjects: int = 0
    intervals: Mapping[int, SpreadFigures] = field(default_factory=dict)

    @property
    def metric_name(self) -> str:
        """The metric's name as text."""
        return "Dice" if self.metric.name == DICE.name else self.metric.name

    def score(self, kind: ModelKind) -> ModelScore | None:
        """The model of this kind, or None when it was not measured; of local models the best."""
        found = [score for score in self.scores if score.kind == kind]
        if not found:
            return None
        return (max if self.metric.better == "higher" else min)(found, key=lambda score: score.value)

    @property
    def held_out(self) -> int:
        """How many subjects the scores are means over."""
        known = [site.held_out for site in self.sites if site.held_out is not None]
        return sum(known) if len(known) == len(self.sites) else self.subjects

    @property
    def ratio(self) -> float | None:
        """Federated over pooled."""
        federated, pooled = self.score(ModelKind.FEDERATED), self.score(ModelKind.POOLED)
        return federated.value / pooled.value if federated and pooled and pooled.value else None

    def summary(self) -> Summary:
        """The numbers of a demonstration's ``summary.json``."""
        dice: dict[str, float | dict[str, float]] = {}
        alone = {score.name: score.value for score in self.scores if score.kind is ModelKind.LOCAL}
        for score in self.scores:
            dice[score.kind] = alone if score.kind is ModelKind.LOCAL else score.value
        return {
            "title": self.title,
            "data": self.data,
            "deployed": self.deployed,
            "dice": dice,
            "ratio": self.ratio,
            "rounds": self.rounds,
            "epochs_per_round": self.epochs_per_round,
            "seed": self.seed,
            "sites": {
                site.name: {"training": site.training or 0, "held_out": site.held_out or 0} for site in self.sites
            },
            "held_out": self.held_out,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "job_hash": self.job_hash,
            "plan_hash": self.plan_hash,
            "models": {
                f"{score.kind}:{score.name}" if score.kind is ModelKind.LOCAL else score.kind: {
                    "dice": score.value,
                    "per_site": dict(score.per_site),
                    "per_structure": dict(score.per_structure),
                }
                for score in self.scores
            },
            "versions": dict(self.versions),
        }


def middle_slice(
    site: str,
    subject: str,
    image: NDArray[Any],
    truth: NDArray[Any],
    predicted: NDArray[Any],
    affine: NDArray[Any],
    dice: float,
) -> MiddleSlice:
    """The slice to show of a volume ``[X, Y, Z]`` in any orientation: the one that cuts most of the true structure.

    Among the three anatomical planes it takes the sagittal one, which shows front and back part of a hippocampus
    together.
    """
    from archipel.data import Orientation

    turn = Orientation.of(affine)
    volume, true, predicted_mask = turn.apply(image), turn.apply(truth), turn.apply(predicted)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)[list(turn.axes)]
    index = int(np.argmax((true > 0).sum(axis=(1, 2))))
    spacing = float(sizes[1]), float(sizes[2])
    return MiddleSlice(site, subject, volume[index], true[index], predicted_mask[index], spacing, dice)
