"""The roster of a job: which dataset of which site fits a plan, and why a site is left out, by what sites disclose.

A site that does not take part is returned with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from archipel.transport.messages import DatasetSummary
from archipel.transport.rest import SiteView
from archipel.vocabulary import ARRAY, BadInput, DataNeeds, RosterEntry, Thing, differing_values
from archipel.vocabulary.visible import quote_name

Wanted = Sequence[str] | Mapping[str, str | None] | None
"""Names of sites, or site to dataset (None: the one that fits); None alone: every site with one that fits."""


class Chosen(NamedTuple):
    """The roster in site order, the sites that are not in it (name to reason), and a sentence for each input whose
    numbers are not the same at the sites that disclose them."""

    roster: tuple[RosterEntry, ...]
    left_out: Mapping[str, str]
    differing: tuple[str, ...]


def choose(sites: Sequence[SiteView], needs: DataNeeds, wanted: Wanted) -> Chosen:
    """The dataset of each site. Raises BadInput for a site or dataset that does not fit, and when none is left."""
    known = {site.site: site for site in sites}
    left_out: dict[str, str] = {}
    if wanted is None:
        chosen = {}
        for name, site in sorted(known.items()):
            fitting = _fitting(site, needs)
            if len(fitting) == 1:
                chosen[name] = fitting[0]
            else:
                left_out[name] = _why_left_out(site, fitting, needs)
    else:
        chosen = _asked_for(known, needs, wanted)
    if not chosen:
        reasons = ". ".join(f"{name}: {reason}" for name, reason in left_out.items()) or "the federation has no sites"
        raise BadInput("sites", f"none can take part ({reasons})", "choose sites and datasets that fit the plan")
    entries = (
        RosterEntry(site=name, identity_key=known[name].identity_key, dataset=dataset)
        for name, dataset in sorted(chosen.items())
    )
    return Chosen(tuple(entries), left_out, tuple(_differing(known, chosen, needs)))


def _differing(known: Mapping[str, SiteView], chosen: Mapping[str, str], needs: DataNeeds) -> Iterator[str]:
    """Where the chosen datasets hold other numbers for what the plan reads."""
    read = (*needs.images, *((ARRAY,) if needs.kind == "arrays" else ()))
    values = {}
    for site, name in chosen.items():
        disclosed = next(one.values for one in known[site].datasets if one.name == name)
        values[site] = {what: disclosed[what] for what in read if what in disclosed}
    return differing_values(values)


def _asked_for(
    known: Mapping[str, SiteView], needs: DataNeeds, wanted: Sequence[str] | Mapping[str, str | None]
) -> dict[str, str]:
    pairs: list[tuple[str, str | None]] = []
    pairs += wanted.items() if isinstance(wanted, Mapping) else [(name, None) for name in wanted]
    if not pairs:
        raise BadInput("sites", "none is named", "name at least one, or give no sites at all for every one that fits")
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise BadInput(
            Thing("site", twice[0]), "is named twice", "name each site once; a job asks for one dataset of it"
        )
    for name, _ in pairs:
        if name not in known:
            raise BadInput(Thing("site", name), "is not in this federation", f"choose from {_listed(known)}")
    for name, dataset in pairs:
        if dataset is not None:
            _check_dataset(known[name], dataset, needs)
    return {name: dataset or _only_dataset(known[name], needs) for name, dataset in pairs}


def _why_left_out(site: SiteView, fitting: Sequence[str], needs: DataNeeds) -> str:
    if fitting:
        choice = f"{site.site}={fitting[0]}"
        return f"{len(fitting)} datasets fit: {', '.join(fitting)}; choose with --site {choice}"
    found = [f"{one.name} {_objection(one, needs) or _lacks(one, needs)}" for one in site.datasets]
    return "; ".join(found) or "discloses no datasets"


def _fitting(site: SiteView, needs: DataNeeds) -> list[str]:
    """The datasets that disclose all that the plan needs; where there is none, those that may still fit."""
    found = [one for one in site.datasets if not _objection(one, needs) and not _lacks(one, needs)]
    return [one.name for one in found if _tells_all(one, needs)] or [one.name for one in found]


def _objection(dataset: DatasetSummary, needs: DataNeeds) -> str:
    """Why a dataset cannot be asked for, or nothing."""
    if dataset.kind != needs.kind:
        return f"is of kind {quote_name(dataset.kind)}, the plan needs {needs.kind}"
    if _most(dataset.subjects) < needs.minimum_subjects:
        return f"has {dataset.subjects} subjects, the plan needs {needs.minimum_subjects}"
    # A site that named no labels is judged by its own policy and by the worker.
    labels = dataset.labels
    differing = [value for value in needs.labels if labels and labels.get(value) != needs.labels[value]]
    if differing:
        return f"has labels {_labels(labels)}, the plan needs {_labels(needs.labels)}"
    for name, asked in needs.values.items():
        disclosed = dataset.values.get(name)
        if disclosed is None:
            continue
        is_other_type = disclosed.type and asked.type and disclosed.type != asked.type
        if is_other_type or disclosed.contradicts(asked):
            return f"has values of {name} {disclosed}, the plan needs {asked}"
    return ""


def _lacks(dataset: DatasetSummary, needs: DataNeeds) -> str:
    """The images and columns that a dataset does not disclose, though it discloses others; a mapping at the site may
    have them.
    """
    told = {"image": set(dataset.modalities), "column": _told_columns(dataset)}
    asked = {"image": needs.images, "column": [one.name for one in needs.all_columns]}
    lacking = {what: [name for name in names if name not in told[what]] for what, names in asked.items() if told[what]}
    parts = [f"{what} {', '.join(names)}" for what, names in lacking.items() if names]
    return f"does not disclose {' and '.join(parts)}" if parts else ""


def _tells_all(dataset: DatasetSummary, needs: DataNeeds) -> bool:
    columns = {one.name for one in needs.all_columns} <= _told_columns(dataset)
    images = set(needs.images) <= set(dataset.modalities)
    return columns and images and (bool(dataset.labels) or not needs.labels)


def _told_columns(dataset: DatasetSummary) -> set[str]:
    return {column.name for column in dataset.columns}


def _most(told: int | str) -> int:
    """The largest number that a disclosed count may mean: ``<5`` is at most 4."""
    return told if isinstance(told, int) else int(told[1:]) - 1


def _only_dataset(site: SiteView, needs: DataNeeds) -> str:
    """The dataset of a site that was named without one; columns that a site does not disclose do not exclude it."""
    names = [dataset.name for dataset in site.datasets]
    fitting = _fitting(site, needs) or [dataset.name for dataset in site.datasets if not _objection(dataset, needs)]
    if len(fitting) == 1:
        return fitting[0]
    if len(names) == 1:
        _check_dataset(site, names[0], needs)
    name = site.site
    if fitting:
        remedy = f'choose one: --site {name}={fitting[0]}, in Python sites={{"{name}": "{fitting[0]}"}}'
        raise BadInput(
            Thing("site", name),
            f"has {len(fitting)} datasets that fit ({', '.join(fitting)})",
            remedy,
            values={"datasets": ", ".join(fitting)},
        )
    raise BadInput(
        Thing("site", name),
        "has no dataset that fits",
        f"its datasets are: {_listed(names)}",
        values={"datasets": ", ".join(names)},
    )


def _check_dataset(site: SiteView, name: str, needs: DataNeeds) -> None:
    for dataset in site.datasets:
        if dataset.name == name:
            objection = _objection(dataset, needs)
            if objection:
                raise BadInput(
                    Thing.worded(f"dataset {name} of {site.site}", dataset=name, site=site.site),
                    objection,
                    "choose another one or leave it out",
                )
            return
    names = [dataset.name for dataset in site.datasets]
    raise BadInput(
        Thing("dataset", name),
        f"is not at {site.site}",
        f"its datasets are: {_listed(names)}",
        values={"site": site.site},
    )


def _labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{quote_name(value)} {quote_name(name)}" for value, name in labels.items())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
