"""Found labels: what the label volumes of a dataset call their values, and which of them are not labels of it.

A value has one name in a dataset: a file that calls it otherwise is refused, so that no structure is ever merged with
another one because both have the same number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from archipel.data.files import Folder
from archipel.data.samples import LABEL, DataIssue
from archipel.data.volumes import (
    SEGMENTS,
    ImageFacts,
    MaskFacts,
    StructureRules,
    as_option,
    plain_name,
    read_structures,
    same_name,
    segment_rules,
    structures_of,
    volumes,
)
from archipel.vocabulary import BadInput, ErrorCode
from archipel.vocabulary.counting import pluralise

MOST_UNNAMED = 256
"""A label volume with more values than these that nothing names is taken for an image."""
MOST_CHANGES = 0.2
"""So is one whose values change at more than this share of neighbouring voxels."""
LEAST_VOXELS = 16**3
"""In smaller volumes surfaces are a large part, so that the share of changes says nothing."""
_SWAPPED = "put the segmentation in the label's place and the image in its own, or leave the subject out"


class FoundLabels:
    """Collects the names of label values; ``declared`` are those of the dataset's own description."""

    def __init__(self, folder: Folder, declared: Mapping[int, str]) -> None:
        self.names = dict(declared)
        self._values = {plain_name(called): value for value, called in declared.items()}
        self._declared = dict(declared)
        self._folder = folder
        self._rules = segment_rules(folder.options)
        self._named_in = dict.fromkeys(self.names, "the dataset's description")
        self._unnamed, self._first_unnamed = 0, ""
        self._headers = 0
        self._shared: dict[tuple[int, int], tuple[int, int, str]] = {}

    def check(
        self,
        name: str,
        files: Mapping[str, str],
        channels: Mapping[str, int],
        mask: MaskFacts,
        images: Mapping[str, ImageFacts],
    ) -> None:
        """Raise BadInput for a label volume that is the image itself, or that has other names for values than the
        dataset."""
        for role, image in images.items():
            if self._may_be_equal(mask, image) and self._is_equal(files, role, channels):
                cause = f"is the image itself: equal to {files[role]} voxel for voxel"
                remedy = "put the segmentation in its place, or leave the subject out"
                raise BadInput(f"{name}: {files.get(LABEL, LABEL)}", cause, remedy, code=ErrorCode.BAD_DATA)
        if mask.names:
            self._check_names(name, files.get(LABEL, LABEL), {int(value): said for value, said in mask.names.items()})
        elif mask.label_voxels.keys() - {"0"}:
            self._unnamed += 1
            self._first_unnamed = self._first_unnamed or files.get(LABEL, LABEL)

    def _may_be_equal(self, mask: MaskFacts, image: ImageFacts) -> bool:
        """Whether the counts of a mask's values are those of the image's intensities, as far as they are known."""
        stored = [int(value) for value in mask.label_voxels]
        if mask.shape != image.shape or (min(stored), max(stored)) != (image.minimum, image.maximum):
            return False
        values = np.array(stored, np.float64)
        counts = np.array(list(mask.label_voxels.values()), np.float64)
        mean = float((values * counts).sum() / counts.sum())
        spread = math.sqrt(float((np.square(values - mean) * counts).sum() / counts.sum()))
        return math.isclose(mean, image.mean, rel_tol=1e-6) and math.isclose(spread, image.spread, rel_tol=1e-6)

    def _is_equal(self, files: Mapping[str, str], role: str, channels: Mapping[str, int]) -> bool:
        if LABEL in files:
            label, _ = volumes.read_label(self._folder.root / files[LABEL], self._rules)
        else:
            rules = StructureRules.of(self._folder.options)
            label = read_structures(self._folder.root, structures_of(files), rules).whole.values
        image, _ = volumes.read_image(self._folder.root / files[role], channels.get(role))
        return bool(np.array_equal(label, image))

    def _check_names(self, name: str, place: str, own: Mapping[int, str]) -> None:
        for value, said in own.items():
            known, at = self.names.get(value), self._values.get(plain_name(said), value)
            if at != value or (known is not None and not same_name(known, said)):
                cause = (
                    f"calls value {value} {said}, and {self._named_in[at]} calls value {at} {self.names[at]}; values "
                    "of two names are not merged"
                )
                raise BadInput(f"{name}: {place}", cause, self._by_name(own), code=ErrorCode.BAD_DATA)
        self._headers += 1
        for value, said in own.items():
            self.names.setdefault(value, said)
            self._values.setdefault(plain_name(said), value)
            self._named_in.setdefault(value, place)

    def _by_name(self, own: Mapping[int, str]) -> str:
        known = [self.names[value] for value in sorted(self.names) if value != 0]
        names = {plain_name(said): said for said in (*own.values(), *known)}
        in_order = [names[key] for key in dict.fromkeys(map(plain_name, (*known, *own.values())))]
        return (
            f"have them read by name, as the values 1, 2, ...: add the dataset with --option {SEGMENTS}="
            f"{as_option(in_order)}; or give all files the same numbers"
        )

    def remarks(self, name: str, place: str, mask: MaskFacts, images: Mapping[str, ImageFacts]) -> Iterator[DataIssue]:
        """What a person should look at in one label volume and the ``images`` beside it, which are given by place."""
        like_masks = {
            at: f"holds whole numbers from {one.minimum:g} to {one.maximum:g} only"
            for at, one in images.items()
            if one.changes is not None and one.changes <= MOST_CHANGES and math.prod(one.shape) >= LEAST_VOXELS
        }
        for pair in mask.shared:
            voxels, volumes_there, first = self._shared.get((pair.keeps, pair.loses), (0, 0, name))
            self._shared[pair.keeps, pair.loses] = voxels + pair.voxels, volumes_there + 1, first
        named = {str(value) for value in self._declared} | mask.names.keys()
        strange = [value for value in mask.label_voxels if value not in named and value != "0"]
        image = ""
        if len(strange) > MOST_UNNAMED:
            image = f"has {len(strange)} values that nothing names"
        elif mask.changes > MOST_CHANGES and math.prod(mask.shape) >= LEAST_VOXELS:
            image = f"changes its value at {mask.changes:.0%} of neighbouring voxels"
        if image:
            also = "".join(f", and {at} {what}" for at, what in like_masks.items())
            cause = f"{image}, as an image does and a segmentation does not{also}; image and label may be swapped"
            yield DataIssue(thing=f"{name}: {place}", cause=cause, remedy=_SWAPPED)
            return
        for at, what in like_masks.items():
            cause = f"{what}, as a segmentation does and an image does not; image and label may be swapped"
            yield DataIssue(thing=f"{name}: {at}", cause=cause, remedy=_SWAPPED)
        if named and strange:
            by_whom = "the description does" if self._declared else "its header does"
            values = tuple(map(int, strange))
            cause = f"its label has values that {by_whom} not name ({', '.join(map(str, values))})"
            remedy = f"name them (--label {values[0]}=NAME), or map or drop them under [labels] in the mapping"
            yield DataIssue(thing=name, cause=cause, remedy=remedy, label_values=values)

    def remarks_of_all(self) -> Iterator[DataIssue]:
        """What a person should look at in the dataset as a whole."""
        for (keeps, loses), (voxels, count, first) in sorted(self._shared.items()):
            one, other = (self.names.get(value, f"value {value}") for value in (keeps, loses))
            where = f"in {pluralise(count, 'label volume')}, first in {first}"
            cause = f"{one} and {other} overlap: {one} keeps {pluralise(voxels, 'voxel')} that both have ({where})"
            remedy = "no action is needed if that is right; else add the dataset with another --option on_top"
            yield DataIssue(thing=self._folder.root.name, cause=cause, remedy=remedy)
        if self._headers and self._unnamed:
            called = ", ".join(f"{value} {name}" for value, name in sorted(self.names.items()) if value)
            cause = (
                f"holds {pluralise(self._unnamed, 'label volume')} without names of segments, such as "
                f"{self._first_unnamed}; the others call {called}"
            )
            remedy = "make sure that the values mean the same in them, or save them with names in 3D Slicer"
            yield DataIssue(thing=self._folder.root.name, cause=cause, remedy=remedy)
