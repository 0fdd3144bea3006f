"""Datasets as a person adds, checks and reports on them: patients on the opt-out list are withdrawn before each scan.

Long work shows its progress to a ``Watch`` and stops when the watch says so, with nothing half done.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from archipel.data import DataIssue, DataMapping, Scan, unmatched_names
from archipel.data.cohorts import stretched_masks
from archipel.data.quality import QualityReport
from archipel.site.datasets import (
    Dataset,
    DatasetProblems,
    DetectedFormat,
    catalog,
    detected_format,
    exclusions,
    quality_report,
    suggestions,
    too_large,
)
from archipel.site.state import StateFolder
from archipel.site.withdrawals import take_opt_outs
from archipel.site.withdrawn import EVERYWHERE, spellings
from archipel.vocabulary import UNWATCHED, Actor, Record, Watch


class DatasetCheck(Record):
    """What a scan of a dataset found: how many subjects and samples are usable, and everything that is wrong."""

    dataset: str
    subjects: int
    samples: int
    problems: tuple[DataIssue, ...]

    @property
    def errors(self) -> tuple[DataIssue, ...]:
        """The problems that keep data out."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


class AddedDataset(Record):
    """A dataset that was entered in the catalog, and what a person should know about it.

    ``detected`` is None where the caller named the format. ``problems`` are what the scan found beside usable data,
    ``unmatched`` what the mapping names and the dataset does not have, ``same_folder`` the other datasets in
    its folder.
    """

    dataset: Dataset
    detected: DetectedFormat | None
    problems: tuple[DataIssue, ...]
    unmatched: tuple[str, ...]
    same_folder: tuple[str, ...]


class FolderExtent(Record):
    """The size of a folder: its regular files and their bytes."""

    root: str
    files: int
    size_bytes: int


def add(
    site: StateFolder,
    name: str,
    root: Path,
    layout: str | None = None,
    *,
    by: Actor,
    options: Mapping[str, str] | None = None,
    mapping: DataMapping | None = None,
    leave_out_faulty: bool = False,
    watch: Watch = UNWATCHED,
) -> AddedDataset:
    """Scan a folder and enter it in the catalog; its format is detected where ``layout`` names none.

    Raises as ``detected_format.detect``, ``catalog.add`` and ``take_opt_outs`` do.
    """
    detected = None if layout else detected_format.detect(root, options or {})
    try:
        entry, scan = catalog.add(
            site, name, root, detected.format if detected else layout or "", partial(take_opt_outs, site),
            by=by, options=options, mapping=mapping, leave_out_faulty=leave_out_faulty, watch=watch,
        )  # fmt: skip
    except DatasetProblems as error:
        error.detected = detected
        raise
    return AddedDataset(
        dataset=entry,
        detected=detected,
        problems=(
            *scan.problems,
            *stretched_masks(name, entry.mapping, entry.summary),
            *too_large(entry.summary, site.settings),
            *_withdrawn(site, name, scan),
        ),
        unmatched=unmatched_names(entry.mapping, entry.summary),
        same_folder=tuple(
            one.name for one in catalog.datasets(site.database) if one.root == entry.root and one.name != entry.name
        ),
    )


def folder_extent(root: Path) -> FolderExtent:
    """The size of a folder; what cannot be read does not count, and no link is followed."""
    sizes, folders = [], [root]
    # Not os.walk, which calls itself for each folder inside another.
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        sizes.append(entry.stat(follow_symlinks=False).st_size)
    return FolderExtent(root=str(root), files=len(sizes), size_bytes=sum(sizes))


def extent(site: StateFolder, name: str) -> FolderExtent:
    """The regular files of a dataset's folder and their bytes. Raises NotFound."""
    return folder_extent(Path(catalog.dataset(site.database, name).root))


def check(site: StateFolder, name: str, *, watch: Watch = UNWATCHED) -> DatasetCheck:
    """Scan a dataset again; everything that is wrong is in the answer. Raises as ``catalog.check`` does."""
    found = catalog.check(site, name, partial(take_opt_outs, site), watch)
    subjects, samples = len(catalog.subjects_of(found)), len(found.samples)
    entry = catalog.dataset(site.database, name)
    stretched = stretched_masks(name, entry.mapping, found.schema)
    problems = (*found.problems, *stretched, *_withdrawn(site, name, found))
    return DatasetCheck(dataset=name, subjects=subjects, samples=samples, problems=problems)


def _withdrawn(site: StateFolder, name: str, found: Scan) -> tuple[DataIssue, ...]:
    """Who may have withdrawn under another spelling of the id."""
    issue = spellings.of_the_withdrawn(site, name, catalog.subjects_of(found))
    return () if issue is None else (issue,)


def remove(site: StateFolder, name: str, *, by: Actor) -> None:
    """Take a dataset out of the catalog; its files are not touched. Raises as ``catalog.remove`` does."""
    catalog.remove(site.database, name, by=by)


def rescan(site: StateFolder, entry: Dataset, *, watch: Watch = UNWATCHED) -> Scan:
    """What a dataset's folder contains now, of at least one usable subject. Raises as ``catalog.usable_scan`` does."""
    return catalog.usable_scan(site, entry, partial(take_opt_outs, site), watch=watch)


def exclude(site: StateFolder, name: str, subjects: Iterable[str], *, by: Actor, watch: Watch = UNWATCHED) -> Dataset:
    """Leave out subjects whose data is not usable. Raises as ``exclusions.exclude`` does."""
    return exclusions.exclude(site, name, subjects, partial(take_opt_outs, site), watch, by=by)


def make_report(
    site: StateFolder, name: str, folder: Path, class_column: str = "", *, watch: Watch = UNWATCHED
) -> QualityReport:
    """Make a dataset's quality report in ``folder``. Raises as ``quality_report.make_report`` does."""
    return quality_report.make_report(site, name, folder, partial(take_opt_outs, site), class_column, watch)


def subjects_there(site: StateFolder, dataset: str = EVERYWHERE, *, watch: Watch = UNWATCHED) -> set[str]:
    """The subjects of the dataset, or of every dataset, without those who are left out; each dataset is scanned again.

    Raises Cancelled when ``watch`` stops it.
    """
    return suggestions.subjects_there(site, partial(take_opt_outs, site), dataset, watch)
