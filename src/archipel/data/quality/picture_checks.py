"""Checks of pictures: constant, saturated and clipped ones, those unlike the others, and ranges that differ by class.

A range that differs by class is the worst of these: a model learns from which machine or export a picture comes, and
its metrics look excellent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from archipel.data.quality.cohort_checks import named
from archipel.data.quality.evidence import ArrayFacts, Evidence, Key
from archipel.data.quality.figures import number
from archipel.data.quality.outliers import THRESHOLD, outliers
from archipel.data.quality.records import Finding, Severity
from archipel.data.samples import Sample

PicturesHeld = Sequence[tuple[Sample, ArrayFacts]]

SATURATED = 0.2
"""The share of pixels with the greatest value from which a picture is saturated."""
CLIPPED, EACH_END = 0.6, 0.1
"""The shares of pixels with the least or the greatest value, together and each, from which a picture is clipped."""
RANGE_RATIO = 4.0
"""How many times as wide the values of one class may be as those of another: from 8 to 12 bits it is 16 times."""
FEWEST = 3
"""Pictures that a class must have to be compared."""
_FLOOR = 0.02
"""A share of the usual range by which pictures differ normally; it takes six times as much to be an outlier."""


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape is one picture: ``[height, width]`` with no, one or three channels."""
    one_or_three = len(shape) == 3 and (shape[2] in (1, 3) or shape[0] == 1)
    return (len(shape) == 2 or one_or_three) and min(shape) > 0


def pictures_by_class(evidence: Evidence, classes: Mapping[Key, str]) -> dict[str, PicturesHeld]:
    """The pictures of each class, "" for those without one, in the order of the classes' names."""
    found: dict[str, list[tuple[Sample, ArrayFacts]]] = defaultdict(list)
    for sample in evidence.scan.samples:
        facts = evidence.arrays.get(sample.key)
        if facts is not None and is_picture(facts.shape):
            found[classes.get(sample.key, "")].append((sample, facts))
    return {name: found[name] for name in sorted(found)}


def picture_findings(evidence: Evidence, classes: Mapping[Key, str]) -> Iterator[Finding]:
    """All that is found in pictures. ``classes``: the class of each sample that has one."""
    by_class = pictures_by_class(evidence, classes)
    held = [one for group in by_class.values() for one in group]
    if not held:
        return
    yield from _constant(held)
    varied = [(sample, facts) for sample, facts in held if facts.minimum < facts.maximum]
    clipped = [
        (sample, facts)
        for sample, facts in varied
        if min(facts.at_minimum, facts.at_maximum) >= EACH_END and facts.at_minimum + facts.at_maximum >= CLIPPED
    ]
    yield from _clipped(clipped, len(held))
    gone = {sample.key for sample, _ in clipped}
    rest = [(sample, facts) for sample, facts in varied if sample.key not in gone]
    yield from _saturated(rest, len(held))
    yield from _outliers(rest)
    yield from _ranges({name: group for name, group in by_class.items() if name})


def _constant(held: PicturesHeld) -> Iterator[Finding]:
    blank = [sample for sample, facts in held if facts.minimum == facts.maximum]
    if blank:
        yield Finding(
            code="constant-image",
            severity=Severity.ERROR,
            what="pictures in which every pixel has the same value",
            count=len(blank),
            samples=named(blank),
            remedy="export the picture again or leave the subject out",
        )


def _clipped(clipped: PicturesHeld, total: int) -> Iterator[Finding]:
    if clipped:
        worst, facts = max(clipped, key=lambda one: one[1].at_minimum + one[1].at_maximum)
        yield Finding(
            code="clipped-image",
            severity=Severity.WARNING,
            what=f"{len(clipped)} of {total} pictures are clipped: {facts.at_minimum + facts.at_maximum:.0%} of the "
            f"pixels of {worst.name} are {number(facts.minimum)} or {number(facts.maximum)}, and few are between",
            count=len(clipped),
            samples=named([sample for sample, _ in clipped]),
            remedy="export them with a wider window (or widen the option window); if they are masks, they are not the "
            "pictures of a class",
        )


def _saturated(held: PicturesHeld, total: int) -> Iterator[Finding]:
    white = [(sample, facts) for sample, facts in held if facts.at_maximum > SATURATED]
    if white:
        worst, facts = max(white, key=lambda one: one[1].at_maximum)
        usual = len(white) * 2 > total
        yield Finding(
            code="saturated-image",
            severity=Severity.NOTE if usual else Severity.WARNING,
            what=f"{len(white)} of {total} pictures have their greatest value in more than {SATURATED:.0%} of the "
            f"pixels ({worst.name}: {number(facts.maximum)} in {facts.at_maximum:.0%})",
            count=len(white),
            samples=named([sample for sample, _ in white]),
            remedy="nothing to fix if the background is white; else they are overexposed, or were exported with a "
            "window that is too narrow: export them again or leave them out",
        )


def _outliers(held: PicturesHeld) -> Iterator[Finding]:
    """Pictures far from the others in mean or standard deviation."""
    if not held:
        return
    floor = _FLOOR * float(np.median([facts.high - facts.minimum for _, facts in held]))
    concerned: dict[str, list[str]] = defaultdict(list)
    measures = {"mean": [facts.mean for _, facts in held], "standard deviation": [facts.spread for _, facts in held]}
    for what, values in measures.items():
        usual = number(sorted(values)[len(values) // 2])
        for place in outliers(values, floor):
            concerned[held[place][0].name].append(f"{what} {number(values[place])}, usual {usual}")
    if concerned:
        words = [f"{name} ({'; '.join(said)})" for name, said in sorted(concerned.items())[:5]]
        more = f" and {len(concerned) - 5} more" if len(concerned) > 5 else ""
        yield Finding(
            code="intensity-outlier",
            severity=Severity.WARNING,
            what=f"pictures far from the others (robust z-score above {THRESHOLD:g}): {', '.join(words)}{more}",
            count=len(concerned),
            samples=tuple(sorted(concerned)),
            remedy="look at the picture: another machine, another depth or a damaged file; leave the subject out if it "
            "is not what the dataset says",
        )


def _ranges(by_class: Mapping[str, PicturesHeld]) -> Iterator[Finding]:
    """Classes whose pictures have another range of values than those of another class."""
    ranges = {}
    for name, held in by_class.items():
        if len(held) >= FEWEST:
            low = float(np.median([facts.minimum for _, facts in held]))
            ranges[name] = low, float(np.median([facts.high for _, facts in held]))
    if len(ranges) < 2:
        return
    widths = {name: high - low for name, (low, high) in ranges.items()}
    widest, narrowest = max(widths.values()), min(widths.values())
    lows = [low for low, _ in ranges.values()]
    if widest > 0 and (widest >= RANGE_RATIO * narrowest or max(lows) - min(lows) > widest / 2):
        words = ", ".join(f"{name} {number(low)} to {number(high)}" for name, (low, high) in list(ranges.items())[:12])
        yield Finding(
            code="class-range",
            severity=Severity.WARNING,
            what=f"the classes have different ranges of values: {words} (usual least value to 99th percentile)",
            count=len(ranges),
            remedy="find out whether the classes were exported in different ways; export them alike, because a model "
            "would learn the export and not the disease",
        )
