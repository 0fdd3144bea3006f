"""The results of a demonstration, as values: every model's scores on the same held-out subjects, and how they were
made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray


class ModelKind(StrEnum):
    """The models that a demonstration compares, in the order in which it shows them."""

    FEDERATED = "federated"
    POOLED = "pooled"
    ENSEMBLE = "ensemble"
    LOCAL = "local"


@dataclass(frozen=True)
class SiteFacts:
    """One hospital: how many subjects trained, how many were held out; ``seconds`` of one local round (median)."""

    name: str
    training: int
    held_out: int
    seconds: float | None = None


@dataclass(frozen=True)
class ModelScore:
    """One model on the held-out subjects of every site.

    ``dice`` is the mean over all of them (whole structure), ``per_site`` the means at each site, ``per_structure``
    the means of each label. ``name`` is the site's name for a local model and the kind for the others.
    """

    kind: ModelKind
    name: str
    dice: float
    per_site: Mapping[str, float] = field(default_factory=dict)
    per_structure: Mapping[str, float] = field(default_factory=dict)


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
class DemoResult:
    """Everything that goes into ``demo-results/``.

    ``curves`` are validation Dice after each round by model name (``federated``, ``pooled``), ``losses`` training
    losses of each round by site. ``deployed`` says whether the sites were processes of their own that used mutual
    TLS and trained in a sandbox, or simulated in one process. ``seconds`` needs ``total``. ``model`` names the file
    of the federated model, of the last round.
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

    def score(self, kind: ModelKind) -> ModelScore | None:
        """The model of this kind, or None when it was not trained; of local models the best."""
        found = [score for score in self.scores if score.kind == kind]
        return max(found, key=lambda score: score.dice) if found else None

    @property
    def held_out(self) -> int:
        """How many subjects the scores are means over."""
        return sum(site.held_out for site in self.sites)

    @property
    def ratio(self) -> float | None:
        """Federated over pooled Dice."""
        federated, pooled = self.score(ModelKind.FEDERATED), self.score(ModelKind.POOLED)
        return federated.dice / pooled.dice if federated and pooled and pooled.dice else None

    def summary(self) -> Summary:
        """The numbers of ``summary.json``."""
        dice: dict[str, float | dict[str, float]] = {}
        alone = {score.name: score.dice for score in self.scores if score.kind is ModelKind.LOCAL}
        for score in self.scores:
            dice[score.kind] = alone if score.kind is ModelKind.LOCAL else score.dice
        return {
            "title": self.title,
            "data": self.data,
            "deployed": self.deployed,
            "dice": dice,
            "ratio": self.ratio,
            "rounds": self.rounds,
            "epochs_per_round": self.epochs_per_round,
            "seed": self.seed,
            "sites": {site.name: {"training": site.training, "held_out": site.held_out} for site in self.sites},
            "held_out": self.held_out,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "job_hash": self.job_hash,
            "plan_hash": self.plan_hash,
            "models": {
                f"{score.kind}:{score.name}" if score.kind is ModelKind.LOCAL else score.kind: {
                    "dice": score.dice,
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
