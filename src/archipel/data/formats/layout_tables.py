"""Layout tables: the table beside the volumes of a layout, whose row of a subject becomes the sample's values."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from archipel.data.files import Folder
from archipel.data.formats.base import Options
from archipel.data.formats.covariates import CovariateTable, compare, read_covariates
from archipel.data.formats.found_volumes import FoundVolumes
from archipel.data.formats.layout_finder import find_layout
from archipel.data.formats.table_cells import TABLES, cells_in
from archipel.data.formats.volume_names import all_volumes
from archipel.data.samples import DataIssue
from archipel.vocabulary.counting import abbreviate


def only_table(folder: Folder) -> dict[str, str]:
    """The option that names the table where there is one only."""
    tables = _tables(folder)
    return {"table": tables[0]} if len(tables) == 1 else {}


def table_of(
    folder: Folder, options: Options, collector: FoundVolumes, subjects: Sequence[str]
) -> CovariateTable | None:
    """The table of values; None, with a warning, when it names none of the subjects."""
    place = options.get("table", "")
    table = read_covariates(folder, place, collector, key=options.get("id_column", "")) if place else None
    if table is None:
        return None
    if table.named.isdisjoint({*subjects, *map(collector.patient, subjects)}):
        cause = f"names no subject of the volumes in its column {table.key}; its values are not used"
        remedy = f"name the column with the ids, which are like {abbreviate(subjects, 1)}: --option id_column=NAME"
        collector.warn(DataIssue(thing=place, cause=cause, remedy=remedy))
        return None
    compare(collector, table, subjects)
    return table


def say_what_is_not_read(folder: Folder, collector: FoundVolumes, subjects: Sequence[str]) -> None:
    """A warning where several tables are beside the volumes: none is read until a person names one."""
    tables = _tables(folder)
    if len(tables) < 2:
        return
    ids = frozenset(one for one in subjects if not folder.leaves_out(one))
    likely = max(tables, key=lambda place: _named(folder, place, ids))
    cause = f"holds {len(tables)} tables beside the volumes ({abbreviate(tables)}), and none of them is read"
    remedy = f"to have the values of one add the dataset with --option table={shlex.quote(likely)}"
    collector.warn(DataIssue(thing=folder.root.name, cause=cause, remedy=remedy))


def say_what_layout_reads(folder: Folder, collector: FoundVolumes, subjects: Sequence[str]) -> None:
    """A warning where a table beside the volumes names their subjects, for a format that reads volumes only."""
    ids = frozenset(one for one in subjects if not folder.leaves_out(one))
    tables = [place for place in _tables(folder) if _named(folder, place, ids)]
    if not tables:
        return
    cause = f"{abbreviate(tables)} beside the volumes {'is' if len(tables) == 1 else 'are'} not read"
    way = "--format layout" if find_layout(all_volumes(folder, [])) else "--image and --mask, which say where both are"
    remedy = f"to have the subjects' values add the dataset with {way}"
    collector.warn(DataIssue(thing=folder.root.name, cause=cause, remedy=remedy))


def _tables(folder: Folder) -> list[str]:
    return [place for place in folder.files("*", []) if place.lower().endswith(TABLES)]


def _named(folder: Folder, place: str, ids: frozenset[str]) -> int:
    """How many subjects a table names, as far as its beginning shows."""
    return len(ids & cells_in(folder.root / place))
