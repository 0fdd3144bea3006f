"""What a plan's worker is shown of a cohort: the columns, images and labels that the plan declares, and no others."""

from __future__ import annotations

from array import array

import numpy as np

from archipel.data.cohorts.cohort import Cohort
from archipel.data.sample_columns import Samples, SamplesBuilder
from archipel.vocabulary import DataNeeds


def with_declared_columns(cohort: Cohort, needs: DataNeeds) -> Cohort:
    """The cohort with the stored columns only that the plan's columns and target are made from.

    Values of other columns are neither prepared nor among a sample's; the mapping keeps the plan's columns, its images
    and the names of its labels.
    """
    asked = {one.name for one in needs.all_columns}
    columns = frozenset(map(cohort.mapping.stored_column, asked))
    mapping = cohort.mapping
    shown = {
        "columns": {name: rule for name, rule in mapping.columns.items() if name in asked},
        "modalities": {name: stored for name, stored in mapping.modalities.items() if name in needs.images},
        # Checked before a cohort is prepared; a plan declares what it needs itself.
        "values": {},
        "label_names": {value: name for value, name in mapping.label_names.items() if value in needs.labels},
    }
    return cohort.model_copy(
        update={
            "samples": _with_columns(cohort.samples, columns),
            "mapping": mapping.model_copy(update=shown),
            "columns": tuple(sorted(columns)),
        }
    )


def _with_columns(samples: Samples, columns: frozenset[str]) -> Samples:
    """The same samples with the values, and the names of missing ones, of these columns only."""
    built, kinds = SamplesBuilder(), array("I")
    for kind in range(len(samples.others)):
        rest = samples.rest(kind)
        scheme = rest.pop("hash").removesuffix(":")
        values = {name: value for name, value in rest.pop("values", {}).items() if name in columns}
        missing = [name for name in rest.pop("missing", ()) if name in columns]
        # In the order in which a record has its fields: the same samples are the same kinds.
        kept = rest | ({"missing": missing} if missing else {}) | ({"values": values} if values else {})
        kinds.append(built.kind(scheme, {name: kept[name] for name in sorted(kept)}))
    of_each = np.array(kinds, np.uint32)[samples.kinds]
    columns_of = samples.subjects_of_rows, samples.sessions, samples.digests, samples.rows
    return Samples(*columns_of, of_each, built.samples().others)
