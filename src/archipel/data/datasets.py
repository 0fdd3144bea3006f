"""One door to every kind of dataset: scan it, load subjects from it, verify that it is still what was approved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from archipel.data import nifti_pairs, tables
from archipel.data.cohorts import Cohort, Scan, Subject
from archipel.data.nifti_pairs import Affine, FloatVolume, LabelVolume
from archipel.data.splits import validation_ids
from archipel.data.tables import Table
from archipel.vocabulary import BadInput, ErrorCode

_SCANS = {"nifti-pairs": nifti_pairs.scan, "npz": tables.scan}


def scan(kind: str, root: Path) -> Scan:
    """Every subject under ``root`` and every problem with it.

    Raises BadInput when ``root`` is not a folder or the kind is unknown.
    """
    if kind not in _SCANS:
        raise BadInput(f"dataset kind {kind}", "is unknown", f"choose one of {', '.join(sorted(_SCANS))}")
    if not root.is_dir():
        raise BadInput(str(root), "is not a folder", "name the folder that holds the dataset")
    return _SCANS[kind](root)


def load_pair(root: Path, subject: Subject) -> tuple[FloatVolume, LabelVolume | None, Affine]:
    """A subject's image (float32 ``[X, Y, Z]``), its label (int16, the same grid, or None) and the affine.

    Raises BadInput as the scan would.
    """
    image, affine = nifti_pairs.read_image(root / subject.files["image"])
    if "label" not in subject.files:
        return image, None, affine
    label, label_affine = nifti_pairs.read_label(root / subject.files["label"])
    nifti_pairs.check_same_grid(subject.id, image.shape, affine, label.shape, label_affine)
    return image, label, affine


def load_table(root: Path, subjects: tuple[Subject, ...]) -> Table:
    """The rows of these subjects, in their order; they may lie in several tables of the same columns."""
    if not subjects:
        return Table(np.empty((0,)), np.empty((0,)), ())
    whole = _tables(root, subjects)
    rows = [whole[subject.files["table"]].rows([_row(whole[subject.files["table"]], subject)]) for subject in subjects]
    return Table(
        np.concatenate([row.x for row in rows]),
        np.concatenate([row.y for row in rows]),
        tuple(subject.id for subject in subjects),
    )


def _tables(root: Path, subjects: tuple[Subject, ...]) -> dict[str, Table]:
    return {file: tables.read(root / file) for file in sorted({subject.files["table"] for subject in subjects})}


def _row(table: Table, subject: Subject) -> int:
    index = subject.index
    if index is None or index >= len(table.ids) or table.ids[index] != subject.id:
        raise _changed(subject.files["table"], f"no longer holds subject {subject.id} in the row it had")
    return index


def verify(root: Path, cohort: Cohort) -> None:
    """Check that every file of the cohort holds the bytes it had when the cohort was frozen.

    Raises BadInput (code ``data-changed``) naming the first file that is missing or changed.
    """
    if cohort.kind == "npz":
        _verify_rows(root, cohort.subjects)
        return
    for subject in cohort.subjects:
        if nifti_pairs.content_hash(subject.file_hashes) != subject.hash:
            raise _changed(subject.id, "its file hashes do not belong to its content hash")
        for role, file in subject.files.items():
            path = root / file
            if not path.is_file():
                raise _changed(file, "is gone since the cohort was approved")
            if nifti_pairs.file_hash(path) != subject.file_hashes[role]:
                raise _changed(file, "has other content than when the cohort was approved")


def _verify_rows(root: Path, subjects: tuple[Subject, ...]) -> None:
    for file in sorted({subject.files["table"] for subject in subjects}):
        if not (root / file).is_file():
            raise _changed(file, "is gone since the cohort was approved")
    whole = _tables(root, subjects)
    for subject in subjects:
        file = subject.files["table"]
        if tables.row_hash(whole[file], _row(whole[file], subject)) != subject.hash:
            raise _changed(file, f"has another row for subject {subject.id} than when the cohort was approved")


def _changed(thing: str, cause: str) -> BadInput:
    remedy = "restore it, or scan the dataset again and approve the new cohort"
    return BadInput(thing, cause, remedy, code=ErrorCode.DATA_CHANGED)


class Volume(NamedTuple):
    """One subject's image with its label and affine."""

    id: str
    image: FloatVolume
    label: LabelVolume | None
    affine: Affine


@dataclass(frozen=True)
class SubjectSet:
    """One side of a cohort's split, as a plan gets it: the ids and what is behind them, read when asked for."""

    root: Path
    kind: str
    subjects: tuple[Subject, ...]

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def ids(self) -> tuple[str, ...]:
        """The subjects' ids, sorted, the order of everything else here."""
        return tuple(subject.id for subject in self.subjects)

    def volumes(self) -> Iterator[Volume]:
        """Each subject's volumes, one after the other (kind ``nifti-pairs``)."""
        for subject in self.subjects:
            yield Volume(subject.id, *load_pair(self.root, subject))

    def table(self) -> Table:
        """The subjects' rows (kind ``npz``)."""
        return load_table(self.root, self.subjects)


def split(root: Path, cohort: Cohort, fraction: float) -> tuple[SubjectSet, SubjectSet]:
    """The cohort's training and validation side, each ordered by subject id."""
    held_out = validation_ids((subject.id for subject in cohort.subjects), fraction)
    ordered = sorted(cohort.subjects, key=lambda subject: subject.id)
    training = tuple(subject for subject in ordered if subject.id not in held_out)
    validation = tuple(subject for subject in ordered if subject.id in held_out)
    return SubjectSet(root, cohort.kind, training), SubjectSet(root, cohort.kind, validation)
