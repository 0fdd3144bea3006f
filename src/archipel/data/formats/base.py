"""What a format is: it finds samples under a root, reads them, and says when they are no longer what they were.

A format knows one layout on disk and nothing of plans or mappings. It never stops at the first problem of a dataset:
a scan collects them all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from archipel.data.files import Folder, content_hash, data_changed, file_hash
from archipel.data.formats.name_patterns import NAME_OPTIONS
from archipel.data.sample_data import SampleData
from archipel.data.samples import LABEL, Sample, Scan
from archipel.data.volumes import (
    SEGMENT_OPTIONS,
    TOLERANCE_OPTION,
    GridRule,
    Placed,
    StructureRules,
    check_one_grid,
    read_structures,
    roles_of,
    segment_rules,
    structures_of,
    volumes,
)
from archipel.vocabulary import DataKind

Options = Mapping[str, str]
"""What a person said about the layout when adding the dataset, by the names in ``Format.options``."""
VOLUME_OPTIONS: Mapping[str, str] = {
    TOLERANCE_OPTION: "how far image and label may be apart at their corners, in millimetres (a tenth of a voxel)",
    **SEGMENT_OPTIONS,
}
"""Options of every format of volumes."""


class Format(Protocol):
    """One layout on disk.

    A class that is a format must define the four class attributes (``options``: each option's name with a line of
    help) and the four methods. ``scan`` collects every problem of a dataset and does not stop at the first. ``read``
    must give the samples in the order asked for and change no file. ``verify`` must notice every change of a file or
    row that ``read`` would use. A format of volumes that are files of their own inherits ``VolumeFormat`` and defines
    ``fits`` and ``scan`` only. Every format passes the suite ``tests/data/formats/conformance.py``.
    """

    name: ClassVar[str]
    kind: ClassVar[DataKind]
    title: ClassVar[str]
    options: ClassVar[Mapping[str, str]]

    def fits(self, folder: Folder) -> str:
        """Why the folder looks like this format, for people to read; "" if it does not. Reads only names, and
        small files that describe a dataset."""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Every sample and every problem. Raises BadInput only for invalid options."""

    def read(self, root: Path, samples: Sequence[Sample], options: Options) -> Iterator[SampleData]:
        """The samples' content, one after the other. Raises BadInput as the scan would."""

    def verify(self, root: Path, samples: Sequence[Sample], options: Options) -> None:
        """Raise BadInput (code ``data-changed``) naming the first file or row that is not what was scanned."""


class VolumeFormat:
    """Base of formats that keep each sample's volumes in files of its own; a subclass finds the files.

    A subclass that has no option ``subject`` of its own gets ``subject`` and ``session``: patterns that find the
    patient and the visit in the names that it takes for subjects.
    """

    name: ClassVar[str]
    kind: ClassVar[DataKind] = "volumes"
    title: ClassVar[str]
    options: ClassVar[Mapping[str, str]] = NAME_OPTIONS

    def __init_subclass__(cls, **given: Any) -> None:
        """A site may say of every format of volumes whose visits its names are, and how grids and segments are read."""
        super().__init_subclass__(**given)
        names = {} if "subject" in cls.options else NAME_OPTIONS
        cls.options = {**cls.options, **names, **VOLUME_OPTIONS}

    def explains(self, folder: Folder) -> bool:
        """Whether the format, which the folder looks like, reads every volume in it. Reads only names."""
        return True

    def read(self, root: Path, samples: Sequence[Sample], options: Options) -> Iterator[SampleData]:
        """Images and label of each sample on one grid."""
        for sample in samples:
            yield read_volumes(root, sample, options)

    def verify(self, root: Path, samples: Sequence[Sample], options: Options) -> None:
        """Hash every file again."""
        for sample in samples:
            verify_files(root, sample)


def read_volumes(root: Path, sample: Sample, options: Options) -> SampleData:
    """The sample's images and label. Raises BadInput when one cannot be read or their grids differ."""
    images, label = {}, None
    grids: dict[str, Placed] = {}
    structures = structures_of(sample.files)
    for role in sorted(roles_of(sample.files), key=lambda role: role == LABEL):
        if role == LABEL and structures:
            whole = read_structures(root, structures, StructureRules.of(options)).whole
            label = whole.values
            grids[role] = Placed(role, label.shape, whole.affine)
        elif role != LABEL:
            images[role], affine = volumes.read_image(root / sample.files[role], sample.channels.get(role))
            grids[role] = Placed(role, images[role].shape, affine)
        elif not grids:
            label, affine = volumes.read_label(root / sample.files[role], segment_rules(options))
            grids[role] = Placed(role, label.shape, affine)
        else:
            label, grids[role] = volumes.read_label_on(root / sample.files[role], grids[base_role(grids)], options)
    if not grids:
        return SampleData(values=sample.values)
    base = grids.pop(base_role(grids))
    for _, own in sorted(grids.items()):
        check_one_grid(sample.name, base, own, GridRule.of(options))
    return SampleData(images=images, label=label, affine=base.affine, values=sample.values)


def base_role(roles: Collection[str]) -> str:
    """The role of the volume with which a sample's other volumes are compared: its first image by name."""
    return min(roles, key=lambda role: (role == LABEL, role))


def verify_files(root: Path, sample: Sample) -> None:
    """Raise BadInput (code ``data-changed``) when a file of the sample is missing or has other bytes."""
    if content_of(sample.file_hashes, sample.channels) != sample.hash:
        raise data_changed(sample.name, "its file hashes do not belong to its content hash")
    for role, place in sample.files.items():
        path = root / place
        if not path.is_file():
            raise data_changed(place, "is missing, and was there when the cohort was approved")
        if file_hash(path) != sample.file_hashes[role]:
            raise data_changed(place, "has other content than when the cohort was approved")


def content_of(hashes: Mapping[str, str], channels: Mapping[str, int]) -> str:
    """The hash of a sample's content: of each file, and which channel of it a modality is."""
    return content_hash({f"{role}#{channels[role]}" if role in channels else role: hashes[role] for role in hashes})
