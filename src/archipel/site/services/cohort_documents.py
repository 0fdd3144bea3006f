"""Frozen versions as people read them: all of them in a list, and one in full.

It says who is in it, on which side, under which pseudonym, and what made it.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import JsonValue, field_serializer

from archipel.data import DataMapping, Preprocessing
from archipel.site.cohorts import Version, cohort_versions
from archipel.site.state import StateFolder
from archipel.vocabulary import Record


class CohortMember(Record):
    """A subject who is not withdrawn, by the dataset's own id. ``pseudonym`` is "" where plans see that id."""

    subject: str
    pseudonym: str
    side: Literal["training", "validation"]
    samples: int


class CohortDocument(Version):
    """A version with its members; it stays here. The JSON of ``mapping`` and ``recipe`` leaves out their defaults."""

    format: str
    options: dict[str, str]
    mapping: DataMapping
    recipe: Preprocessing
    members: tuple[CohortMember, ...]

    @field_serializer("mapping", "recipe")
    def _short(self, value: DataMapping | Preprocessing) -> dict[str, JsonValue]:
        return value.model_dump(mode="json", exclude_defaults=True)


def rows(site: StateFolder, dataset: str | None = None) -> tuple[Version, ...]:
    """Every kept version, by dataset and number; of one dataset where it is named."""
    return tuple(cohort_versions.versions(site.database, site.cohort_key, dataset))


def document(site: StateFolder, dataset: str, number: int | None = None) -> CohortDocument:
    """A version in full, the newest without ``number``. Raises NotFound."""
    cohort = cohort_versions.stored(site.database, site.cohort_key, dataset, number).cohort
    about = cohort_versions.version(site.database, site.cohort_key, dataset, cohort.version)
    left = cohort_versions.as_it_stands(site.database, site.cohort_key, cohort)
    held_out = set(left.validation or ())
    samples = Counter(sample.subject for sample in left.samples)
    return CohortDocument(
        **dict(about),
        format=cohort.format,
        options=cohort.options,
        mapping=cohort.mapping,
        recipe=cohort.recipe,
        members=tuple(
            CohortMember(
                subject=subject,
                pseudonym=left.pseudonyms.get(subject, ""),
                side="validation" if subject in held_out else "training",
                samples=samples[subject],
            )
            for subject in left.subjects
        ),
    )
