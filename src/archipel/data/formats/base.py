"""What a format is: it finds samples under a root, reads them, and says when they are no longer what they were.

A format knows one layout on disk and nothing of plans or mappings. It never stops at the first problem of a dataset:
a scan collects them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from archipel.data import volumes
from archipel.data.files import FileFacts, Folder, content_hash, data_changed, file_hash
from archipel.data.reading import Reading
from archipel.data.samples import LABEL, DataSchema, Problem, Sample, Scan, problem_of
from archipel.vocabulary import BadInput, DataKind, Value

Options = Mapping[str, str]
"""What a person said about the layout when adding the dataset, by the names in ``Format.options``."""


class Format(Protocol):
    """One layout on disk. ``options`` says what may be asked of it, each with a line of help."""

    name: ClassVar[str]
    kind: ClassVar[DataKind]
    title: ClassVar[str]
    options: ClassVar[Mapping[str, str]]

    def fits(self, folder: Folder) -> str:
        """What makes the folder look like this format, for people to read; "" when nothing does. Looks at names, and
        at small files that describe a dataset, only."""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Every sample and every problem. Raises BadInput only for options that make no sense."""

    def read(self, root: Path, samples: Sequence[Sample], options: Options) -> Iterator[Reading]:
        """The samples' content, one after the other. Raises BadInput as the scan would."""

    def verify(self, root: Path, samples: Sequence[Sample], options: Options) -> None:
        """Raise BadInput (code ``data-changed``) naming the first file or row that is not what was scanned."""


class VolumeFormat:
    """Base of formats that keep each sample's volumes in files of its own; a subclass finds the files."""

    name: ClassVar[str]
    kind: ClassVar[DataKind] = "volumes"
    title: ClassVar[str]
    options: ClassVar[Mapping[str, str]] = {}

    def read(self, root: Path, samples: Sequence[Sample], options: Options) -> Iterator[Reading]:
        """Images and label of each sample on one grid."""
        for sample in samples:
            yield read_volumes(root, sample)

    def verify(self, root: Path, samples: Sequence[Sample], options: Options) -> None:
        """Hash every file again."""
        for sample in samples:
            verify_files(root, sample)


def read_volumes(root: Path, sample: Sample) -> Reading:
    """The sample's images and label. Raises BadInput when one cannot be read or they lie on different grids."""
    images, label, affine = {}, None, None
    for role, place in sorted(sample.files.items(), key=lambda item: item[0] == LABEL):
        if role == LABEL:
            label, own = volumes.read_label(root / place)
            shape = label.shape
        else:
            images[role], own = volumes.read_image(root / place)
            shape = images[role].shape
        if affine is None:
            affine, first = own, shape
        elif role == LABEL:
            volumes.check_same_grid(sample.name, first, affine, shape, own)
    return Reading(images=images, label=label, affine=affine, values=sample.values)


def verify_files(root: Path, sample: Sample) -> None:
    """Raise BadInput (code ``data-changed``) when a file of the sample is gone or holds other bytes."""
    if content_hash(sample.file_hashes) != sample.hash:
        raise data_changed(sample.name, "its file hashes do not belong to its content hash")
    for role, place in sample.files.items():
        path = root / place
        if not path.is_file():
            raise data_changed(place, "is gone since the cohort was approved")
        if file_hash(path) != sample.file_hashes[role]:
            raise data_changed(place, "has other content than when the cohort was approved")


class FoundVolumes:
    """Collects the samples of a volume format and what is wrong with them; ``scan`` is the result."""

    def __init__(self, folder: Folder, problems: Iterable[Problem] = ()) -> None:
        self._folder = folder
        self.problems = list(problems)
        self._samples: list[Sample] = []
        self._facts: list[dict[str, FileFacts]] = []

    def add(self, subject: str, files: Mapping[str, str], session: str = "", **values: Value) -> bool:
        """Examine a sample's files; whether it is usable. Each image must lie on the label's grid if there is one."""
        if self._folder.leaves_out(subject):
            return False
        facts: dict[str, FileFacts] = {}
        name = f"{subject}_{session}" if session else subject
        sound = True
        for role, place in files.items():
            examine = volumes.examine_label if role == LABEL else volumes.examine_image
            found = self._folder.look(place, volumes.MASK if role == LABEL else volumes.IMAGE, examine)
            if found.problem is not None:
                self.report(found.problem.model_copy(update={"thing": f"{name}: {found.problem.thing}"}), subject)
                sound = False
            facts[role] = found
        if sound and LABEL in facts:
            sound = self._same_grids(name, subject, facts)
        if sound:
            hashes = {role: found.hash for role, found in facts.items()}
            self._samples.append(
                Sample(
                    subject=subject, session=session, files=dict(files), values=values, hash=content_hash(hashes),
                    file_hashes=hashes,
                )
            )  # fmt: skip
            self._facts.append(facts)
        return sound

    def _same_grids(self, name: str, subject: str, facts: Mapping[str, FileFacts]) -> bool:
        label = facts[LABEL].facts
        for role, found in facts.items():
            if role == LABEL:
                continue
            shapes = tuple(found.facts["shape"]), tuple(label["shape"])
            affines = np.array(found.facts["affine"]), np.array(label["affine"])
            try:
                volumes.check_same_grid(name, shapes[0], affines[0], shapes[1], affines[1])
            except BadInput as error:
                self.report(problem_of(error), subject)
                return False
        return True

    def report(self, problem: Problem, subject: str = "") -> None:
        """Something is wrong."""
        self.problems.append(problem.model_copy(update={"subject": subject or problem.subject}))

    def scan(self) -> Scan:
        """All that was found, with samples in order; a sample that is there twice is reported."""
        seen: set[tuple[str, str]] = set()
        kept, facts = [], []
        for sample, found in sorted(zip(self._samples, self._facts, strict=True), key=lambda pair: pair[0].key):
            if sample.key in seen:
                cause = f"is there twice (again in {', '.join(sorted(sample.files.values()))})"
                self.report(Problem(thing=sample.name, cause=cause, remedy="keep one of them"), sample.subject)
                continue
            seen.add(sample.key)
            kept.append(sample)
            facts.append(found)
        return Scan(tuple(kept), tuple(self.problems), _schema(kept, facts))


def _schema(samples: Sequence[Sample], facts: Sequence[Mapping[str, FileFacts]]) -> DataSchema:
    if not samples:
        return DataSchema(kind="volumes")
    modalities: Counter[str] = Counter()
    values: Counter[int] = Counter()
    shapes, spacings = [], []
    for found in facts:
        modalities.update(role for role in found if role != LABEL)
        if LABEL in found:
            values.update(int(value) for value in found[LABEL].facts["label_voxels"])
        first = next(one for role, one in found.items() if role != LABEL or len(found) == 1)
        shapes.append(first.facts["shape"])
        spacings.append(first.facts["spacing"])
    return DataSchema(
        kind="volumes",
        subjects=len({sample.subject for sample in samples}),
        samples=len(samples),
        modalities=dict(sorted(modalities.items())),
        label_values={str(value): count for value, count in sorted(values.items())},
        shape_smallest=tuple(int(size) for size in np.min(shapes, axis=0)),
        shape_largest=tuple(int(size) for size in np.max(shapes, axis=0)),
        spacing_mm_median=tuple(round(float(size), 4) for size in np.median(spacings, axis=0)),
    )
