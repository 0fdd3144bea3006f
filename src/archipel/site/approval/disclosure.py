"""What this site discloses about its datasets to the server and to researchers, and the journal's entry of it.

A name, a kind, how many subjects (``<5`` where they are fewer than the policy's smallest cell), its modalities by the
field's own words, the type of its arrays, and of all else in the data only what a person here wrote for others to
read: in the dataset's mapping or its data dictionary. A label that no sample has is not disclosed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import structlog
from pydantic import ValidationError
from sqlalchemy import select

from archipel.data import FORMATS, LABEL
from archipel.data.cohorts import known_values
from archipel.data.tables import ColumnRule, Dictionary
from archipel.site.audit import DatasetsDisclosed, add_entry
from archipel.site.datasets import catalog
from archipel.site.state import SiteJournalKind, StateFolder, schema
from archipel.site.withdrawals import withdrawals
from archipel.storage import Database
from archipel.transport import DatasetSummary, DisclosedColumn
from archipel.transport.messages import MAX_DISCLOSED_BYTES, MOST_DATASETS, disclosed_bytes
from archipel.vocabulary import ARRAY, InputValues

_log = structlog.get_logger("archipel.site")
_WORDS = frozenset(
    (
        *(
            "image",
            "mr",
            "mri",
            "ct",
            "cta",
            "cbct",
            "ldct",
            "pet",
            "pt",
            "spect",
            "us",
            "xray",
            "cr",
            "dx",
            "mg",
            "oct",
        ),
        *("t1", "t1w", "t1c", "t1ce", "t1n", "t1gd", "t1post", "t1km", "t1map", "t1rho", "mprage", "inplanet1"),
        *("t2", "t2w", "t2f", "t2map", "t2star", "t2starw", "t2tse", "inplanet2", "flair", "pd", "pdw", "pdt2"),
        *("dwi", "adc", "fa", "md", "dti", "dce", "dsc", "swi", "tof", "angio", "asl", "cbf", "cbv", "mtt", "tmax"),
        *("bold", "cine", "lge", "hbv", "bval", "unit1", "uni", "stir", "dixon", "water", "fat", "inphase", "outphase"),
    )
)
"""The field's words for modalities, without separators and capital letters, and Archipel's own ``image``: a name that
is one of them says nothing of a patient or a ward."""
_LONGEST = 200


def count(subjects: int, smallest_cell: int) -> int | str:
    """A number of subjects as it is disclosed.

    >>> count(7, 5), count(4, 5), count(0, 5)
    (7, '<5', '<5')
    """
    return subjects if subjects >= smallest_cell else f"<{smallest_cell}"


def summaries(site: StateFolder) -> tuple[DatasetSummary, ...]:
    """Every dataset of a format known here as it may be disclosed now, without those who opted out."""
    withdrawals.take_opt_outs(site)
    smallest = site.settings.policy.minimum_cell
    known = (entry for entry in catalog.datasets(site.database) if entry.format in FORMATS)
    return within_bounds([summary(entry, smallest) for entry in known])


def within_bounds(every: Iterable[DatasetSummary]) -> tuple[DatasetSummary, ...]:
    """As many datasets as fit into one message; those whose texts do not fit have name and count only.

    Space for every dataset's name and count is reserved first.
    """
    whole = list(every)[:MOST_DATASETS]
    bare = [_bare(full) for full in whole]
    room = MAX_DISCLOSED_BYTES - sum(map(disclosed_bytes, bare))
    disclosed = []
    for full, short in zip(whole, bare, strict=True):
        words = disclosed_bytes(full) - disclosed_bytes(short)
        disclosed.append(full if words <= room else short)
        room -= words if words <= room else 0
    return tuple(disclosed)


def _bare(one: DatasetSummary) -> DatasetSummary:
    return DatasetSummary(name=one.name, kind=one.kind, subjects=one.subjects)


def summary(entry: catalog.Dataset, smallest_cell: int) -> DatasetSummary:
    """What may be disclosed about one dataset."""
    mapping = entry.mapping
    known = {name for name in entry.summary.modalities if name != LABEL}
    modalities = {name for name in known if _is_a_modality(name)}
    modalities |= {asked for asked, stored in mapping.modalities.items() if stored in known}
    held = {str(mapping.label_value(int(stored))) for stored in entry.summary.label_values} | {"0"}
    # The values of arrays are not counted.
    is_free = entry.kind != "volumes"
    bare = DatasetSummary(name=entry.name, kind=entry.kind, subjects=count(entry.subjects, smallest_cell))
    try:
        return DatasetSummary(
            name=bare.name,
            kind=bare.kind,
            subjects=bare.subjects,
            labels={value: label for value, label in mapping.label_names.items() if value in held or is_free},
            modalities=tuple(sorted(modalities)),
            columns=tuple(_columns(entry)),
            values=_values(entry, modalities),
        )
    except ValidationError as error:
        _log.warning("more text than can be disclosed about a dataset", dataset=entry.name, faults=error.error_count())
        return bare


def _values(entry: catalog.Dataset, modalities: Iterable[str]) -> dict[str, InputValues]:
    """Of what is disclosed by name, the type and the scale that a person declared."""
    known = known_values(entry.summary, entry.mapping)
    return {name: known[name] for name in (ARRAY, *sorted(modalities)) if name in known}


def _is_a_modality(name: str) -> bool:
    """Whether a stored name is a word of the field, which is disclosed though no person here wrote it for others."""
    return (
        re.sub(r"[\W_]+", "", name.casefold()) in _WORDS and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name) is not None
    )


def _columns(entry: catalog.Dataset) -> Iterable[DisclosedColumn]:
    """The columns that the dictionary describes, and those the mapping makes of others, by name."""
    columns: dict[str, DisclosedColumn] = {}
    rules = _dictionary(entry).column
    present = entry.summary.columns
    for name, rule in rules.items():
        if name in present and rule.type != "text":
            columns[name] = DisclosedColumn(name=name[:_LONGEST], unit=rule.unit, categories=_meanings(rule))
    for name, mapped in entry.mapping.columns.items():
        source = entry.mapping.stored_column(name)
        if source not in present:
            continue
        described = rules.get(source)
        converted = (mapped.scale, mapped.offset) != (1.0, 0.0)
        meanings = _meanings(described) if described else ()
        columns[name] = DisclosedColumn(
            name=name,
            unit=described.unit if described and not converted else "",
            categories=tuple(
                dict.fromkeys(mapped.values.get(one, one)[:_LONGEST] for one in meanings or mapped.values)
            ),
        )
    return [columns[name] for name in sorted(columns)]


def _meanings(rule: ColumnRule) -> tuple[str, ...]:
    return tuple((meaning or code)[:_LONGEST] for code, meaning in rule.categories.items())


def _dictionary(entry: catalog.Dataset) -> Dictionary:
    text = entry.options.get("dictionary", "")
    return Dictionary.model_validate_json(text) if text.startswith("{") else Dictionary()


def note(database: Database, disclosed: Iterable[DatasetSummary]) -> None:
    """Journal what is about to be disclosed, unless it is the same as last time."""
    body = DatasetsDisclosed(datasets=tuple(disclosed))
    table = schema.journal
    last = (
        select(table.c.body)
        .where(table.c.kind == SiteJournalKind.DATASETS_DISCLOSED)
        .order_by(table.c.number.desc())
        .limit(1)
    )
    with database.write() as connection:
        before = connection.scalar(last)
        if before is None or json.loads(before) != body.document():
            add_entry(connection, SiteJournalKind.DATASETS_DISCLOSED, body)
