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

from archipel.data.samples import Sample

SPLIT, TRAINING, VALIDATION = "split", "training", "validation"
"""The value of a sample that says whether it trains or validates, in a dataset with a split of its own."""


def draw(subject_id: str) -> float:
    """The subject's number in [0, 1), the same at every site and forever."""
    digest = hashlib.sha256(b"archipel-split/1\0" + subject_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def predefined_split(samples: Iterable[Sample]) -> dict[str, bool]:
    """The subjects whose side the dataset itself gives, and whether it is validation."""
    return {one.subject: one.values[SPLIT] == VALIDATION for one in samples if SPLIT in one.values}


def validation_ids(ids: Iterable[str], fraction: float, before: Mapping[str, bool] | None = None) -> frozenset[str]:
    """The ids that validate; all others train.

    ``before``: subjects that are assigned already, and whether they validate; they stay. At least one subject
    trains, and with ``fraction`` > 0 at least one of two or more validates, as far as a new subject can be moved for
    it. Raises ValueError for a fraction outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"a validation fraction is in [0, 1), not {fraction}")
    settled = before or {}
    ordered = sorted(set(ids), key=lambda subject_id: (draw(subject_id), subject_id))
    chosen = {subject_id for subject_id in ordered if settled.get(subject_id, draw(subject_id) < fraction)}
    free = [subject_id for subject_id in ordered if subject_id not in settled]
    if fraction > 0 and not chosen and len(ordered) >= 2:
        chosen.update(free[:1])
    if len(chosen) == len(ordered):
        chosen.difference_update(free[-1:])
    return frozenset(chosen)
