"""The formats Archipel reads, each a layout on disk; one conformance suite holds for all of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from archipel.data.files import FileIndex, Folder, LeavesOut
from archipel.data.formats.base import VOLUME_OPTIONS, Format, Options, VolumeFormat
from archipel.data.formats.bids import BidsTree
from archipel.data.formats.class_folders import ClassFolders
from archipel.data.formats.crossing_links import refuse_crossing
from archipel.data.formats.delimited import TABLE_SUFFIXES, Tables
from archipel.data.formats.found_volumes import subject_id
from archipel.data.formats.layout import Layout
from archipel.data.formats.medical_folder import MedicalFolder
from archipel.data.formats.msd import MsdTask
from archipel.data.formats.name_patterns import NamePatterns, PatientNames
from archipel.data.formats.nifti_groups import NiftiGroups
from archipel.data.formats.nifti_pairs import NiftiPairs
from archipel.data.formats.nnunet import NnunetRaw
from archipel.data.formats.npz import NpzTable
from archipel.data.formats.nrrd import NrrdPairs
from archipel.data.formats.patients import finds_in_names, patterns_in, shared_by, unclear
from archipel.data.formats.picture_table import PictureTable
from archipel.data.formats.unread_files import unread_beside
from archipel.data.formats.volume_names import is_of
from archipel.data.limits import DATA_LIMITS, DataLimits
from archipel.data.sample_columns import Samples
from archipel.data.samples import DataIssue, Scan
from archipel.lazy import lazy_names
from archipel.vocabulary import BadInput, Thing
from archipel.vocabulary.remedies import GrantAccess

if TYPE_CHECKING:
    from archipel.data.formats.detection import guessed
else:
    # Detection reads FORMATS of this module, which must be defined first.
    __getattr__, __dir__ = lazy_names(__name__, {"detection": ["guessed"]})

_LAYOUT = Layout()
_KNOWN: tuple[Format, ...] = (
    BidsTree(),
    MsdTask(),
    NnunetRaw(),
    MedicalFolder(),
    NiftiGroups(),
    NiftiPairs(),
    NrrdPairs(),
    _LAYOUT,
    NpzTable(),
    PictureTable(),
    ClassFolders(),
    Tables(),
)
"""Specific layouts come before general ones."""
FORMATS: dict[str, Format] = {one.name: one for one in _KNOWN}


def format_named(name: str) -> Format:
    """The format of this name. Raises BadInput."""
    if name not in FORMATS:
        raise BadInput(
            Thing.worded(f"dataset format {name}", format=name),
            "is unknown",
            f"choose one of {', '.join(sorted(FORMATS))}",
        )
    return FORMATS[name]


class Fit(NamedTuple):
    """A format that a folder looks like, and the reason."""

    format: str
    reason: str


def detect(root: Path, among: Collection[str] = (), folder: Folder | None = None) -> tuple[Fit, ...]:
    """The formats that a folder looks like, the most specific layout first; none if it looks like none.

    Only those ``among`` some are tried where these are named; a ``folder`` whose files are listed already is not listed
    again. Raises BadInput when ``root`` is not a folder.
    """
    folder = folder or Folder(checked_root(root), once=True)
    asked = [one for name, one in FORMATS.items() if name in among or not among]
    fits = [Fit(one.name, reason) for one in asked if one is not _LAYOUT and (reason := one.fits(folder))]
    volumes = [fit for fit in fits if FORMATS[fit.format].kind == "volumes"]
    if _LAYOUT in asked and not any(explains(fit, folder) for fit in volumes):
        # What explains all of a folder comes before what explains a part of it.
        reason = _LAYOUT.fits(folder)
        volumes = [*([Fit(_LAYOUT.name, reason)] if reason else []), *volumes]
    if volumes:
        # A table beside volumes describes them; it is not the data.
        return (*volumes, *(fit for fit in fits if FORMATS[fit.format].kind == "arrays"))
    return tuple(fits)


def explains(fit: Fit, folder: Folder) -> bool:
    """Whether the format, which the folder looks like, reads every volume in it."""
    one = FORMATS[fit.format]
    return isinstance(one, VolumeFormat) and one.explains(folder)


def checked_root(root: Path) -> Path:
    """The folder. Raises BadInput when it is not a folder, or cannot be reached."""
    remedy = "name the folder that holds the dataset"
    try:
        if root.is_dir():
            return root
    except OSError as error:
        raise BadInput(
            Thing.folder(root), f"cannot be read ({error.strerror})", remedy, command=GrantAccess(path=str(root))
        ) from error
    raise BadInput(Thing.folder(root), "is not a folder", remedy)


def settled(name: str, root: Path, options: Options) -> dict[str, str]:
    """The options as they are kept with a dataset, with the content of the files that they name, so that a worker needs
    no file beside its samples' own. Raises BadInput."""
    settle = getattr(format_named(name), "settled", None)
    return dict(options) if settle is None else dict(settle(root, options))


def scan(
    name: str,
    root: Path,
    options: Options | None = None,
    index: FileIndex | None = None,
    leaves_out: LeavesOut | None = None,
    limits: DataLimits = DATA_LIMITS,
    withdrawn: str = "",
) -> Scan:
    """Every sample under ``root`` and every problem with it; files that ``index`` knows are not opened again.

    Subjects of whom ``leaves_out`` is true, and their problems, are left out. ``withdrawn`` is as ``Folder`` has it.
    Raises BadInput when ``root`` is not a folder, or the format or an option is unknown.
    """
    layout = format_named(name)
    for option in options or {}:
        if option not in layout.options:
            known = ", ".join(sorted(layout.options)) or "none"
            raise BadInput(
                Thing.worded(f"option {option} of format {name}", option=option, format=name),
                "is unknown",
                f"the format has: {known}",
            )
    patterns = patterns_in(layout, options or {})
    with NamePatterns(patterns, limits.pattern_s) as names:
        patient_of = PatientNames(names, has_session="session" in patterns) if patterns else None
        folder = Folder(checked_root(root), index, leaves_out, limits, options, patient_of, withdrawn)
        whole = refuse_crossing(folder, layout.scan(folder, options or {}))
        found = whole if leaves_out is None else _without(whole, leaves_out, folder.leaves_out)
        beside = unread_beside(folder) if layout.kind == "volumes" else None
    said = (*found.problems, *unclear(root.name, layout, found))
    return replace(found, problems=said if beside is None else (*said, beside))


def _without(found: Scan, leaves_out: LeavesOut, is_name_out: LeavesOut) -> Scan:
    """What is left of a scan, even if a format read a subject who is left out."""
    samples = Samples.of(found.samples)
    out = frozenset(subject for subject in samples.subjects if leaves_out(subject))
    samples = samples.of_subjects(out, inside=False)
    problems = tuple(one for one in found.problems if not _is_about(one, leaves_out, is_name_out))
    counts = {"subjects": len(samples.subjects), "samples": len(samples)}
    return Scan(samples, problems, found.schema.model_copy(update=counts))


def _is_about(problem: DataIssue, leaves_out: LeavesOut, is_name_out: LeavesOut) -> bool:
    """Whether a problem concerns a subject who is left out: a file's problem is known before its subject is."""
    return leaves_out(problem.subject) if problem.subject else is_of(problem.thing, is_name_out)


__all__ = [
    "FORMATS",
    "TABLE_SUFFIXES",
    "VOLUME_OPTIONS",
    "Format",
    "Options",
    "checked_root",
    "detect",
    "finds_in_names",
    "format_named",
    "guessed",
    "scan",
    "settled",
    "shared_by",
    "subject_id",
]
