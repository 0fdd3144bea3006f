"""Datasets as programs read them: a row of the catalog, one dataset in full, and what another mapping changes."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue, field_serializer

from archipel.data import Answer, DataMapping, DataSchema, changes, unmatched_names
from archipel.site.approval import Offer, disclosure, offers, suitability
from archipel.site.cohorts import cohort_versions
from archipel.site.datasets import catalog, exclusions
from archipel.site.state import OfferState, StateFolder
from archipel.transport import DatasetSummary
from archipel.vocabulary import Actor, DataKind, Record


class DatasetRow(Record):
    """A dataset of the catalog in a row. The JSON of ``summary`` leaves out what is at its default."""

    name: str
    format: str
    kind: DataKind
    subjects: int
    labels: dict[str, str]
    summary: DataSchema

    @field_serializer("summary")
    def _short_summary(self, summary: DataSchema) -> dict[str, JsonValue]:
        return summary.model_dump(mode="json", exclude_defaults=True)


class ListedDataset(DatasetRow):
    """A row of the list of datasets, with the dataset's folder and the time of its last scan."""

    root: str
    scanned_at: str


class DatasetDocument(DatasetRow):
    """One dataset in full. The JSON of ``mapping`` leaves out what is at its default.

    ``disclosed`` is all that is disclosed to server and researchers; ``needs`` has, for each experiment that runs on
    this dataset or would, whether the dataset has what its plan needs.
    """

    root: str
    options: dict[str, str]
    mapping: DataMapping
    leave_out_faulty: bool
    excluded: tuple[str, ...]
    disclosed: DatasetSummary
    needs: dict[str, tuple[Answer, ...]]
    scanned_at: str
    counts_are_from_before_a_withdrawal: bool

    @field_serializer("mapping")
    def _short_mapping(self, mapping: DataMapping) -> dict[str, JsonValue]:
        return mapping.model_dump(mode="json", exclude_defaults=True)


class MappingChange(Record):
    """What another mapping changed: in words, in the answers to each experiment's needs, and which names match nothing.

    ``answers`` has only what is answered otherwise than before. Without ``changed`` the mapping was this one already.
    """

    changed: tuple[str, ...]
    answers: dict[str, tuple[Answer, ...]] = {}
    unmatched: tuple[str, ...] = ()


def rows(site: StateFolder) -> tuple[DatasetRow, ...]:
    """Every dataset of the catalog, by name."""
    return tuple(row(entry) for entry in catalog.datasets(site.database))


def row(entry: catalog.Dataset) -> DatasetRow:
    """One entry of the catalog."""
    return DatasetRow(
        name=entry.name,
        format=entry.format,
        kind=entry.kind,
        subjects=entry.subjects,
        labels=entry.mapping.label_names,
        summary=entry.summary,
    )


def listed(site: StateFolder) -> tuple[ListedDataset, ...]:
    """Every dataset of the catalog, by name, with its folder."""
    return tuple(
        ListedDataset(**dict(row(entry)), root=entry.root, scanned_at=entry.scanned_at)
        for entry in catalog.datasets(site.database)
    )


def document(site: StateFolder, name: str) -> DatasetDocument:
    """One dataset in full. Raises NotFound."""
    entry = catalog.dataset(site.database, name)
    return DatasetDocument(
        **dict(row(entry)),
        root=entry.root,
        options=entry.options,
        mapping=entry.mapping,
        leave_out_faulty=entry.leave_out_faulty,
        excluded=tuple(exclusions.excluded(site.database, name)),
        disclosed=disclosure.summary(entry, site.settings.policy.minimum_cell),
        needs={offer.experiment: suitability.needs_met(offer.job, entry) for offer in asking(site, name)},
        scanned_at=entry.scanned_at,
        counts_are_from_before_a_withdrawal=catalog.is_behind(site.database, entry),
    )


def asking(site: StateFolder, name: str) -> list[Offer]:
    """The experiments that run on this dataset or would; one that names a dataset unknown here may run on any."""
    versions = cohort_versions.hashes(site.database, name)
    others = {entry.name for entry in catalog.datasets(site.database)} - {name}
    return [
        offer
        for offer in offers.all_offers(site.database)
        if (offer.state == OfferState.OFFERED and offer.job.entry(site.name).dataset not in others)
        or (offer.state == OfferState.APPROVED and offer.cohort_hash in versions)
    ]


def change_mapping(
    site: StateFolder, name: str, mapping: DataMapping | None, label_names: Mapping[str, str], *, by: Actor
) -> MappingChange:
    """Give a dataset another mapping; None keeps the one it has, with ``label_names`` put over its own.

    Raises NotFound.
    """
    before = catalog.dataset(site.database, name)
    kept = before.mapping if mapping is None else mapping
    asked = kept.model_copy(update={"label_names": {**kept.label_names, **label_names}})
    changed = tuple(changes(before.mapping, asked))
    if not changed:
        return MappingChange(changed=())
    after = catalog.remap(site.database, site.cohort_key, name, asked, by=by)
    answers: dict[str, tuple[Answer, ...]] = {}
    for offer in asking(site, name):
        old = suitability.needs_met(offer.job, before)
        differing = tuple(answer for answer in suitability.needs_met(offer.job, after) if answer not in old)
        if differing:
            answers[offer.experiment] = differing
    return MappingChange(changed=changed, answers=answers, unmatched=unmatched_names(after.mapping, after.summary))
