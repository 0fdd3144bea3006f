"""Simulated sites: folders of the researcher, each read and mapped as a hospital would read and map it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from archipel.data import Cohort, DataMapping, Source, Verdict, check_needs, read_mapping, scan
from archipel.data.cohorts import known_values, predefined_split
from archipel.data.formats import settled
from archipel.vocabulary import BadInput, DataNeeds, ErrorCode, InputValues, Record, Thing
from archipel.vocabulary.wrong_values import wrong_value

_DEFAULT_FORMATS = {"volumes": "nifti-pairs", "arrays": "npz", "table": "table"}


@dataclass(frozen=True)
class SimulatedSite:
    """A site's name, the cohort it trains on, the folder of its dataset or another source of its samples, and what is
    known of the numbers that plans read."""

    name: str
    data: Path | Source
    cohort: Cohort
    values: Mapping[str, InputValues] = field(default_factory=dict)


def scanned_site(
    name: str,
    root: Path,
    needs: DataNeeds,
    *,
    layout: str | None = None,
    options: Mapping[str, str] | None = None,
    mapping: DataMapping | None = None,
) -> SimulatedSite:
    """A site from a folder of data, by default in the usual format of the kind that is needed.

    Raises BadInput naming the first of the folder's problems, or the first need that is not met.
    """
    layout = layout or _DEFAULT_FORMATS[needs.kind]
    mapping = mapping or DataMapping()
    kept = settled(layout, root, options or {}) if root.is_dir() else dict(options or {})
    scanned = scan(layout, root, kept)
    if scanned.errors:
        more = f" (and {len(scanned.errors) - 1} more)" if len(scanned.errors) > 1 else ""
        raise BadInput(Thing.folder(root), f"{scanned.errors[0]}{more}", "fix the data", code=ErrorCode.BAD_DATA)
    for answer in check_needs(needs, scanned.schema, mapping):
        if answer.verdict is Verdict.NOT_MET:
            raise BadInput(Thing("site", name), str(answer), "give a mapping, or other data", code=ErrorCode.BAD_DATA)
    sides = predefined_split(scanned.samples)
    held_out = tuple(sorted(subject for subject, validates in sides.items() if validates)) if sides else None
    cohort = Cohort(
        dataset="data", format=layout, options=kept, mapping=mapping, samples=scanned.samples, validation=held_out
    )
    return SimulatedSite(name, root, cohort, known_values(scanned.schema, mapping))


class SiteDescription(Record):
    """One site in a file of sites: the same words as in ``archipel site dataset add``.

    ``path`` is in the folder of data; ``mapping``, and the option ``dictionary``, beside the file of sites.
    """

    path: str = "."
    format: str | None = None
    options: dict[str, str] = {}
    mapping: str | None = None


def found_sites(
    data: Path,
    needs: DataNeeds,
    *,
    layout: str | None = None,
    options: Mapping[str, str] | None = None,
    mapping: DataMapping | None = None,
) -> list[SimulatedSite]:
    """A site for each folder in a folder, called like it. Raises BadInput as ``scanned_site`` does, and for a folder
    without folders.
    """
    folders = sorted(path for path in data.iterdir() if path.is_dir()) if data.is_dir() else []
    if not folders:
        cause = "contains no folder of a site"
        raise BadInput(Thing.folder(data), cause, "name a folder with one folder of data for each site")
    return [
        scanned_site(path.name.lower(), path, needs, layout=layout, options=options, mapping=mapping)
        for path in folders
    ]


def read_sites(file: Path, data: Path, needs: DataNeeds) -> list[SimulatedSite]:
    """The sites that a TOML file describes, a table each. Raises BadInput naming the site and key that is wrong."""
    sites = []
    for name, described in _toml(file).items():
        try:
            site = SiteDescription.model_validate(described)
        except ValidationError as error:
            raise _wrong(file, name, error) from error
        options = dict(site.options)
        if "dictionary" in options:
            options["dictionary"] = str(file.parent / options["dictionary"])
        mapping = read_mapping(file.parent / site.mapping) if site.mapping else None
        sites.append(scanned_site(name, data / site.path, needs, layout=site.format, options=options, mapping=mapping))
    if not sites:
        raise BadInput(Thing("sites", file), "names no site", "give a table for each, for example [charite]")
    return sites


def _toml(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(Thing.file(file), f"cannot be read: {error}", "name a TOML file") from error


def _wrong(file: Path, name: str, error: ValidationError) -> BadInput:
    wrong = wrong_value(error, SiteDescription)
    where = f"{name}.{wrong.place}"
    return BadInput(Thing.worded(f"{file}: {where}", file=file, key=where), wrong.cause, wrong.remedy)
