"""Links between patients: a file under one patient's name that is another patient's is refused.

Otherwise a patient's data is used under two ids, and stays in use under one of them after a withdrawal. A link within
one patient's files, or to a place that is nobody's (as git-annex makes them), is as good as a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from archipel.data.files import Folder
from archipel.data.formats.found_volumes import subject_id
from archipel.data.sample_columns import Samples
from archipel.data.samples import DataIssue, Sample, Scan

_MOST_HOPS = 40
_ENDS = re.compile(r"[_\-. ]")


def refuse_crossing(folder: Folder, found: Scan) -> Scan:
    """The scan without samples that a link gives another patient's file, each with an error that says so."""
    samples = Samples.of(found.samples)
    linked = {place for place in samples.places if _is_linked(folder, place)} if folder.links else set()
    if not linked:
        return found
    owners = dict(folder.unused)
    for sample in samples:
        owners.update(dict.fromkeys(_own(sample), sample.subject))
    crossing = {
        sample.key: place
        for sample in samples
        if (place := _crossing(folder, sample, owners, linked & set(sample.files.values())))
    }
    if not crossing:
        return found
    problems = [
        DataIssue(
            thing=place,
            cause="is a link to a file of another patient",
            remedy="put the patient's own file in its place, or remove the link",
            subject=subject,
        )
        for (subject, _), place in crossing.items()
    ]
    kept = Samples.of(sample for sample in samples if sample.key not in crossing)
    counts = {"subjects": len(kept.subjects), "samples": len(kept)}
    return replace(
        found,
        samples=kept,
        problems=(*found.problems, *problems),
        schema=found.schema.model_copy(update=counts),
    )


def _own(sample: Sample) -> list[str]:
    """The files that are of this patient alone; a table is of all."""
    return [place for role, place in sample.files.items() if role != "table"]


def _is_linked(folder: Folder, place: str) -> bool:
    """Whether a file or one of its folders is a link."""
    return any(str(one) in folder.links for one in (PurePosixPath(place), *PurePosixPath(place).parents))


def _crossing(folder: Folder, sample: Sample, owners: Mapping[str, str], linked: Collection[str]) -> str:
    """The first of a sample's linked files that is another patient's; "" if none is."""
    for place in _own(sample):
        if place not in linked:
            continue
        for hop in _hops(folder.root.resolve(), place):
            owner = owners.get(hop)
            if owner != sample.subject and (owner is not None or _names_left_out(folder, hop)):
                return place
    return ""


def _hops(root: Path, place: str) -> Iterator[str]:
    """The places inside the root by which a link leads to its file, one link after the other."""
    at = root / place
    for _ in range(_MOST_HOPS):
        inside = at.relative_to(root).parts if at.is_relative_to(root) else ()
        steps = (root.joinpath(*inside[: count + 1]) for count in range(len(inside)))
        link = next((step for step in steps if step.is_symlink()), None)
        if link is None:
            break
        rest = at.relative_to(link)
        at = Path(os.path.normpath(link.parent / link.readlink() / rest))
        if at.is_relative_to(root):
            yield at.relative_to(root).as_posix()
    real = (root / place).resolve()
    if real.is_relative_to(root):
        yield real.relative_to(root).as_posix()


def _names_left_out(folder: Folder, place: str) -> bool:
    """Whether a place that is no sample's has the id of a subject who is left out, also at the beginning of a name."""
    *folders, name = place.split("/")
    if any(one.startswith(".") for one in folders):
        return False
    beginnings = [name[: end.start()] for end in _ENDS.finditer(name)]
    return any(folder.leaves_out(subject_id(part)) for part in (*folders, *beginnings, name) if part)
