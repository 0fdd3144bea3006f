"""SegmentationPlan: label every voxel of 3-D images, trained on whole volumes of a common shape.

The researcher declares the labels, the shape and the network; reading, orientation, normalisation, validation in each
subject's original grid and prediction follow from that. The ``whole`` structure is the union of all labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from archipel.data import Affine, FloatVolume, LabelVolume, Orientation, SubjectSet, Volume
from archipel.plans.base import Array, Context
from archipel.plans.torch import Tensor, TorchPlan
from archipel.plans.volumes import Levels, Shape, Window, check_spacing, normalised
from archipel.vocabulary import BadInput, DataNeeds, ErrorCode, MetricSpec, MetricSum, Selection, Thing


class SegmentationPlan(TorchPlan):
    """Base of segmentation plans on volumes.

    Declare ``needs`` with labels, for example ``{"1": "anterior", "2": "posterior"}``; the network's output channels
    are the background and then the labels in rising order, its input channels the modalities in the order of ``needs``,
    one where it names none. ``shape`` is what a training volume is cut or padded to;
    ``divisor`` what the network's input sizes must be multiples of. Validation metrics follow from the labels:
    ``dice`` of the whole structure and ``dice_<label>`` of each. With ``spread`` True sites with enough patients also
    report how much these differ between samples.

    >>> class HippocampusPlan(SegmentationPlan):
    ...     needs = DataNeeds(kind="volumes", labels={"1": "anterior", "2": "posterior"})
    ...     shape = (40, 56, 40)
    >>> [metric.name for metric in HippocampusPlan.validation]
    ['dice', 'dice_anterior', 'dice_posterior']
    """

    needs: ClassVar[DataNeeds]
    shape: ClassVar[Shape]
    spacing: ClassVar[tuple[float, float, float]] = (1.0, 1.0, 1.0)
    spacing_tolerance: ClassVar[float] = 0.2
    divisor: ClassVar[int] = 8
    spread: ClassVar[bool] = False
    selection: ClassVar[Selection | None] = Selection(metric="dice", better="higher")

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        if "needs" in cls.__dict__ and "validation" not in cls.__dict__ and isinstance(cls.needs, DataNeeds):
            names = ["dice", *(f"dice_{name}" for name in cls.label_names().values())]
            cls.validation = tuple(MetricSpec(name=name, better="higher", spread=cls.spread) for name in names)

    @classmethod
    def label_names(cls) -> dict[int, str]:
        """Label values in rising order, each with its name."""
        return {int(value): name for value, name in sorted(cls.needs.labels.items(), key=lambda item: int(item[0]))}

    def examples(self, subjects: SubjectSet) -> tuple[Tensor, Tensor]:
        """Images float32 ``[N, C, *shape]``, a channel per modality in the order of ``needs``, and channel numbers
        int64 ``[N, 1, *shape]`` of all subjects."""
        images = np.zeros((len(subjects), len(self.needs.images), *self.shape), dtype=np.float32)
        labels = np.zeros((len(subjects), *self.shape), dtype=np.int64)
        for place, volume in enumerate(subjects.volumes()):
            image = self._network_input(volume.id, volume.images, volume.affine, self._levels_of(volume))
            window = Window.centred(image.shape[1:], self.shape)
            label = Orientation.of(volume.affine).apply(self._channels(volume))
            images[place][:, *window.common] = image[:, *window.volume]
            labels[place][window.common] = label[window.volume]
        return torch.from_numpy(images), torch.from_numpy(labels)[:, None]

    def _levels_of(self, volume: Volume) -> Mapping[str, Levels]:
        """Of each modality, measured once per subject, because examples may be made in every epoch."""
        known: dict[str, Mapping[str, Levels]] = self.__dict__.setdefault("_levels", {})
        if volume.id not in known:
            known[volume.id] = {name: Levels.of(image) for name, image in volume.images.items()}
        return known[volume.id]

    def prepare(self, training: SubjectSet, validation: SubjectSet, context: Context) -> None:
        """Read training volumes as tensors and validation volumes as they are, once or whenever they are needed."""
        super().prepare(training, validation.empty(), context)
        self._validation_volumes = tuple(validation.volumes()) if self.in_memory else None
        self._validation = validation

    def activate(self, outputs: Tensor) -> Tensor:
        """Probabilities of each channel."""
        return outputs.softmax(1)

    def undo_activation(self, averaged: Tensor) -> Tensor:
        """Logarithms of probabilities; one that is 0 counts as the smallest that float32 has."""
        return averaged.clamp_min(torch.finfo(averaged.dtype).tiny).log()

    def evaluate(self, models: Sequence[Mapping[str, Array]], context: Context) -> dict[str, MetricSum]:
        """Sums over the validation subjects of each Dice, measured in each subject's original grid."""
        computing = self._computing_in(context)
        batches = (
            (inputs, (window, volume.affine, volume.label))
            for volume in self._validation_volumes or self._validation.volumes()
            if volume.label is not None
            for inputs, window in [self._one_input(volume.id, volume.images, volume.affine, self._levels_of(volume))]
        )
        with torch.inference_mode(), computing.algorithms():
            rows = [
                dice_scores(self._labels(outputs, window, affine), label, self.label_names())
                for outputs, (window, affine, label) in self.averaged(models, batches)
            ]
        if not rows:
            return {}
        return {
            "dice" if name == "whole" else f"dice_{name}": MetricSum.of(row[name] for row in rows) for name in rows[0]
        }

    def segment(
        self,
        networks: Sequence[torch.nn.Module],
        subject_id: str,
        images: Mapping[str, FloatVolume],
        affine: Affine,
        levels: Mapping[str, Levels] | None = None,
    ) -> LabelVolume:
        """Label values int16 on the images' own grid, from one network or from an ensemble's mean probabilities.

        ``images`` are float32 ``[X, Y, Z]`` by modality. The volume is padded, never cut: a fully convolutional network
        takes any size that ``divisor`` divides.
        """
        inputs, window = self._one_input(subject_id, images, affine, levels)
        with torch.inference_mode():
            return self._labels(self.ensemble(networks, inputs), window, affine)

    def _one_input(
        self,
        subject_id: str,
        images: Mapping[str, FloatVolume],
        affine: Affine,
        levels: Mapping[str, Levels] | None,
    ) -> tuple[Tensor, Window]:
        """A batch of one, float32 ``[1, C, X, Y, Z]``, and where the volume is in it."""
        turned = self._network_input(subject_id, images, affine, levels)
        padded = [max(own, common) for own, common in zip(turned.shape[1:], self.shape, strict=True)]
        window = Window.centred(turned.shape[1:], [-(-size // self.divisor) * self.divisor for size in padded])
        return torch.from_numpy(np.stack([window.fit(channel) for channel in turned]))[None], window

    def _labels(self, outputs: Tensor, window: Window, affine: Affine) -> LabelVolume:
        # The index of the largest channel; argmax takes ten times as long where channels are not the last axis.
        channels = window.undo(outputs.max(1).indices[0].cpu().numpy())
        values = np.asarray([0, *self.label_names()], dtype=np.int16)
        return np.asarray(Orientation.of(affine).undo(values[channels]))

    def _network_input(
        self,
        subject_id: str,
        images: Mapping[str, FloatVolume],
        affine: Affine,
        levels: Mapping[str, Levels] | None = None,
    ) -> FloatVolume:
        """The modalities of ``needs``, each normalised by itself, float32 ``[C, X, Y, Z]`` in RAS."""
        lacking = [name for name in self.needs.images if name not in images]
        if lacking:
            raise BadInput(
                Thing.worded(subject_id, sample=subject_id),
                f"has no {' and no '.join(lacking)} (given: {', '.join(images) or 'no image'})",
                f"give each image that the plan reads: {', '.join(self.needs.images)}",
                code=ErrorCode.BAD_DATA,
            )
        check_spacing(subject_id, affine, self.spacing, self.spacing_tolerance)
        turn, known = Orientation.of(affine), levels or {}
        return np.stack([turn.apply(normalised(images[name], known.get(name))) for name in self.needs.images])

    def _channels(self, volume: Volume) -> NDArray[np.int16]:
        if volume.label is None:
            raise BadInput(
                Thing.worded(volume.id, sample=volume.id),
                "has no label",
                "add the label or leave the subject out",
                code=ErrorCode.BAD_DATA,
            )
        values = [0, *self.label_names()]
        # A table of all values that an int16 label can have: a sort of the volume would take ten times as long.
        places = np.full(1 << 15, -1, dtype=np.int16)
        places[values] = np.arange(len(values))
        channels = np.asarray(places[volume.label])
        if channels.min() < 0:
            raise BadInput(
                Thing.worded(volume.id, sample=volume.id),
                f"its label holds the value {int(volume.label[channels < 0].min())}",
                f"the plan knows {values}; map the label to these or leave the subject out",
                code=ErrorCode.BAD_DATA,
                values={"value": int(volume.label[channels < 0].min())},
            )
        return channels


def dice_scores(predicted: LabelVolume, truth: LabelVolume, labels: Mapping[int, str]) -> dict[str, float]:
    """Dice of the union of all labels (``whole``) and of each label by name; 1 where both volumes are empty."""
    known = list(labels)
    scores = {"whole": dice(np.isin(predicted, known), np.isin(truth, known))}
    return scores | {name: dice(predicted == value, truth == value) for value, name in labels.items()}


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Twice the overlap over the sum of the sizes (Dice 1945); 1 when both are empty."""
    sizes = int(one.sum()) + int(other.sum())
    return 1.0 if sizes == 0 else 2.0 * int((one & other).sum()) / sizes
