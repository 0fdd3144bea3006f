"""Which subjects validate: a function of each subject's id alone, so that no subject moves when others come or go.

A subject's draw is ``SHA-256("archipel-split/1" 0x00 id)``, its first 8 bytes read as a number in [0, 1). It validates
when the draw is below the fraction. The order of a dataset, a restart, a new patient or a withdrawal moves no other
subject. Two exceptions keep small cohorts usable, and each moves the same subject every time: if no subject of two or
more validates, the one with the lowest draw does, and if no subject is left to train on, the one with the highest draw
trains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from archipel.data.sample_columns import Samples
from archipel.data.samples import Sample

SPLIT, TRAINING, VALIDATION = "split", "training", "validation"
"""The value of a sample that says whether it trains or validates, in a dataset with a split of its own."""


def draw(subject_id: str) -> float:
    """The subject's number in [0, 1), the same at every site and forever."""
    digest = hashlib.sha256(b"archipel-split/1\0" + subject_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def predefined_split(samples: Iterable[Sample]) -> dict[str, bool]:
    """The subjects whose side the dataset itself gives, and whether it is validation."""
    return {subject: side == VALIDATION for subject, side in Samples.of(samples).values(SPLIT)}


def validation_ids(ids: Iterable[str], fraction: float, before: Mapping[str, bool] | None = None) -> frozenset[str]:
    """The ids that validate; all others train.

    ``before``: subjects that are assigned already, and whether they validate; they stay. At least one subject
    trains, and with ``fraction`` > 0 at least one of two or more validates, as far as a new subject can be moved for
    it. Raises ValueError for a fraction outside [0, 1).
    """
    settled = before or {}
    return validating(((subject, settled.get(subject)) for subject in ids), fraction)


def validating(subjects: Iterable[tuple[str, bool | None]], fraction: float) -> frozenset[str]:
    """As ``validation_ids``, of subjects each with whether it validates already, None for one that is not assigned.

    Nothing is kept of a subject that trains, so that a million of them take little memory.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"a validation fraction is in [0, 1), not {fraction}")
    chosen: set[str] = set()
    first, several, any_trains = "", False, False
    lowest: tuple[float, str] | None = None
    highest: tuple[float, str] | None = None
    for subject, settled in subjects:
        first = first or subject
        several = several or subject != first
        drawn = (draw(subject), subject)
        if settled is None:
            lowest = drawn if lowest is None else min(lowest, drawn)
            highest = drawn if highest is None else max(highest, drawn)
        if drawn[0] < fraction if settled is None else settled:
            chosen.add(subject)
        else:
            any_trains = True
    if not any_trains and highest is not None:
        chosen.discard(highest[1])
    elif fraction > 0 and several and not chosen and lowest is not None:
        chosen.add(lowest[1])
    return frozenset(chosen)
