"""Which subjects validate: a function of each subject's id alone, so that no subject moves when others come or go.

A subject's draw is ``SHA-256("archipel-split/1" 0x00 id)``, its first 8 bytes read as a number in [0, 1). It
validates when the draw is below the fraction. The order of a dataset, a restart, a new patient or a withdrawal changes
nobody else's side. Two exceptions keep small cohorts usable, each moving the same one subject every time: a cohort of
two or more with nobody on the validation side sends its lowest draw there, and a cohort with nobody left to train on
takes its highest draw back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from archipel.data.samples import Sample

SPLIT, TRAINING, VALIDATION = "split", "training", "validation"
"""The value of a sample by which a dataset that comes with a split of its own says on which side it is."""


def draw(subject_id: str) -> float:
    """The subject's number in [0, 1), the same at every site and forever."""
    digest = hashlib.sha256(b"archipel-split/1\0" + subject_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def predefined_split(samples: Iterable[Sample]) -> dict[str, bool]:
    """Who has a side in the dataset itself, and whether it is validation."""
    return {one.subject: one.values[SPLIT] == VALIDATION for one in samples if SPLIT in one.values}


def validation_ids(ids: Iterable[str], fraction: float, before: Mapping[str, bool] | None = None) -> frozenset[str]:
    """The ids that validate; all others train.

    ``before``: who had a side already, and whether it was validation; they stay where they were. At least one subject
    trains, and with ``fraction`` > 0 at least one of two or more validates, as far as somebody new can be moved for
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
