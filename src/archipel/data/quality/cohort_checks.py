"""Checks of the dataset as a list of patients: what the scan found, how many there are, who is there twice."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence

from archipel.data.quality.contents import contents
from archipel.data.quality.evidence import Evidence, Key
from archipel.data.quality.records import Finding, Severity
from archipel.data.samples import CLASS, LABEL, DataIssue, Sample, Scan
from archipel.data.volumes import roles_of

FEW_SUBJECTS = 10
IMBALANCE = 10
"""How many times as many samples the largest class may have as the smallest."""


def named(samples: Sequence[Sample]) -> tuple[str, ...]:
    """The samples' names, in order, each once."""
    return tuple(sorted({sample.name for sample in samples}))


def scan_findings(scan: Scan, leave_out_faulty: bool) -> Iterator[Finding]:
    """What the scan reported, problems of the same kind together."""
    alike: dict[tuple[str, str, str], list[DataIssue]] = defaultdict(list)
    for problem in scan.problems:
        kind = re.sub(r"\(.*?\)|\[.*?\]|\d+([.,]\d+)*", "#", problem.cause)
        alike[problem.severity, kind, problem.remedy].append(problem)
    for (severity, _, remedy), problems in alike.items():
        first = problems[0]
        what = f"{first.thing}: {first.cause}"
        if len(problems) > 1:
            what += f"; and {len(problems) - 1} more of this kind"
        left_out = severity == "error" and leave_out_faulty
        yield Finding(
            code="left-out" if left_out else "scan",
            severity=Severity.ERROR if severity == "error" and not left_out else Severity.WARNING,
            what=f"left out: {what}" if left_out else what,
            count=len(problems),
            samples=tuple(sorted({problem.subject or problem.thing for problem in problems})),
            remedy=remedy,
        )


def size_findings(scan: Scan) -> Iterator[Finding]:
    """Too few subjects to train on, or to validate on."""
    if not scan.samples:
        yield Finding(
            code="no-sample",
            severity=Severity.ERROR,
            what="no usable sample",
            count=0,
            remedy="fix what is listed above, or name the folder and format that hold the data",
        )
    elif scan.subjects < FEW_SUBJECTS:
        yield Finding(
            code="few-subjects",
            severity=Severity.NOTE,
            what=f"few subjects ({scan.subjects}); a validation set of them says little",
            count=scan.subjects,
            remedy="add subjects, or take part with what there is and look at the federation's metrics",
        )


def label_findings(scan: Scan) -> Iterator[Finding]:
    """Samples without a label or a modality that others have."""
    roles = sorted({role for sample in scan.samples for role in roles_of(sample.files)})
    for role in roles:
        without = [sample for sample in scan.samples if role not in roles_of(sample.files)]
        if not without:
            continue
        what = "no label" if role == LABEL else f"no {role} image"
        yield Finding(
            code="no-label" if role == LABEL else "no-modality",
            severity=Severity.WARNING,
            what=f"{len(without)} of {len(scan.samples)} samples have {what}",
            count=len(without),
            samples=named(without),
            remedy="add the files, or leave these subjects out of cohorts for plans that need them",
        )


def duplicate_images(evidence: Evidence) -> Iterator[Finding]:
    """The same image under two names: byte for byte, or the same voxels in another file."""
    if evidence.kind == "table":
        return
    holders: dict[Hashable, list[tuple[Sample, str]]] = defaultdict(list)
    for sample in evidence.scan.samples:
        for content, role in contents(evidence, sample):
            holders[content].append((sample, role))
    shared = [held for held in holders.values() if len(held) > 1]
    apart = [held for held in shared if len({sample.subject for sample, _ in held}) > 1]
    same = [held for held in shared if len({sample.subject for sample, _ in held}) == 1]
    if apart:
        yield Finding(
            code="duplicate-across-subjects",
            severity=Severity.ERROR,
            what=f"the same image under several subject ids: {_groups(apart)}",
            count=len(apart),
            samples=named([sample for held in apart for sample, _ in held]),
            remedy="find out whose image it is and keep it under one id, or leave the others out (archipel site "
            "dataset exclude): otherwise training and validation may share a patient",
        )
    if same:
        yield Finding(
            code="duplicate-within-subject",
            severity=Severity.WARNING,
            what=f"the same image several times in one subject: {_groups(same)}",
            count=len(same),
            samples=named([sample for held in same for sample, _ in held]),
            remedy="keep one of them, or put the right file in its place",
        )
    yield from _conflicting_classes(evidence, shared)


def _groups(shared: Sequence[Sequence[tuple[Sample, str]]], shown: int = 5) -> str:
    words = []
    for held in shared[:shown]:
        bytes_too = len({sample.file_hashes.get(role, sample.name) for sample, role in held}) == 1
        roles = {role for _, role in held}
        names = [sample.name if len(roles) == 1 else f"{sample.name} {role}" for sample, role in held]
        words.append(" = ".join(names) + (" (same file)" if bytes_too else " (same pixels)"))
    more = len(shared) - shown
    return "; ".join(words) + (f"; and {more} more" if more > 0 else "")


def _conflicting_classes(evidence: Evidence, shared: Sequence[Sequence[tuple[Sample, str]]]) -> Iterator[Finding]:
    classes = classes_of(evidence, CLASS)
    conflicts = [held for held in shared if len({classes.get(sample.key, "") for sample, _ in held}) > 1]
    if conflicts:
        yield Finding(
            code="duplicate-with-other-class",
            severity=Severity.ERROR,
            what=f"the same image in several classes: {_groups(conflicts)}",
            count=len(conflicts),
            samples=named([sample for held in conflicts for sample, _ in held]),
            remedy="find out which class is right and remove the other entry",
        )


def duplicate_rows(evidence: Evidence) -> Iterator[Finding]:
    """Rows of a table that are equal in every column, under several ids."""
    if evidence.kind != "table":
        return
    holders: dict[Hashable, list[Sample]] = defaultdict(list)
    for sample in evidence.scan.samples:
        for content, _ in contents(evidence, sample):
            holders[content].append(sample)
    shared = [held for held in holders.values() if len({sample.subject for sample in held}) > 1]
    if shared:
        words = "; ".join(" = ".join(sample.name for sample in held) for held in shared[:5])
        yield Finding(
            code="duplicate-rows",
            severity=Severity.WARNING,
            what=f"rows that are equal in every column, under several ids: {words}",
            count=len(shared),
            samples=named([sample for held in shared for sample in held]),
            remedy="find out whether they are one patient; keep one row of those who are",
        )


def class_findings(classes: Mapping[str, int], column: str) -> Iterator[Finding]:
    """Classes far smaller than the largest. ``classes``: class to number of samples; ``column`` is the column that
    has them.
    """
    if len(classes) < 2:
        if classes:
            only = next(iter(classes))
            yield Finding(
                code="one-class",
                severity=Severity.WARNING,
                what=f"every sample has the same {column}: {only}",
                count=1,
                remedy="a classifier learns nothing here alone; take part where other sites hold the other classes",
            )
        return
    largest = max(classes.values())
    small = {name: count for name, count in classes.items() if count * IMBALANCE < largest}
    if small:
        words = ", ".join(f"{name} ({count})" for name, count in sorted(small.items()))
        yield Finding(
            code="class-imbalance",
            severity=Severity.WARNING,
            what=f"{column}: less than a tenth as many samples as the largest class ({largest}): {words}",
            count=len(small),
            remedy="add samples of these classes, or ask for a plan that weighs classes; accuracy alone misleads here",
        )


def classes_of(evidence: Evidence, column: str) -> dict[Key, str]:
    """Each sample's class: its value in ``column``, or the class that its array carries."""
    found = {}
    for sample in evidence.scan.samples:
        if column in sample.values:
            value = sample.values[column]
            found[sample.key] = f"{value:g}" if isinstance(value, float) else str(value)
        elif column == CLASS and (array := evidence.arrays.get(sample.key)) is not None and array.label:
            found[sample.key] = array.label
    return found


def tally(values: Sequence[str]) -> dict[str, int]:
    """How often each value occurs, by value."""
    return dict(sorted(Counter(values).items()))
