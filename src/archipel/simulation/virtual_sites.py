"""Virtual sites: the patients of one dataset, divided among sites that do not exist, by a seed.

A patient is at one site with all samples. The sizes follow from a Dirichlet distribution as in Hsu et al. 2019 (label
skew) and Li et al. 2022 (quantity skew); the same seed divides the same patients in the same way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archipel.data import Cohort, DataMapping, RawSource, Source, usable
from archipel.plans import derive_seed
from archipel.simulation.sites import SimulatedSite, found_sites, read_sites, scanned_site
from archipel.vocabulary import BadInput, DataNeeds, ErrorCode, Thing, Value
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.wrong_values import Terms

K = TypeVar("K")
Counts = NDArray[np.int64]
_TRIES = 1000
_MOST_CLASSES = 1000
_SITE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Skew(StrEnum):
    """By what patients are divided among virtual sites."""

    SITE_COLUMN = "site-column"
    LABEL = "label"
    QUANTITY = "quantity"
    FEATURE = "feature"


class VirtualSites(Terms):
    """How one dataset is divided among virtual sites.

    ``site-column``: by the values of ``column``, one site for each. ``label``: each class is divided by shares drawn
    from a Dirichlet distribution of ``alpha``; the smaller it is, the fewer sites share a class. ``quantity``: all
    patients are divided by such shares, so that sites differ in size. ``feature``: the patients in the order of
    ``column``, or of the mean of their array, in equal parts. Shares are drawn again until each site has at least
    ``fewest`` patients, by default as many as the plan needs.

    >>> VirtualSites(by="label", sites=10, alpha=0.5).in_words
    '10 virtual sites by label skew, alpha 0.5, seed 0'
    """

    by: Skew
    sites: Annotated[int, Field(strict=True)] | None = None
    alpha: Annotated[float, Field(allow_inf_nan=True)] | None = None
    column: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    fewest: Annotated[int, Field(ge=1)] | None = None

    @property
    def in_words(self) -> str:
        """One line for people."""
        count = "virtual sites" if self.sites is None else pluralise(self.sites, "virtual site")
        if self.by is Skew.SITE_COLUMN:
            return f"{count} by column {self.column}"
        parts = [f"{count} by {self.by} {'shift' if self.by is Skew.FEATURE else 'skew'}"]
        parts += [f"alpha {self.alpha:g}"] if self.alpha is not None else []
        parts += [f"column {self.column}"] if self.column else []
        return ", ".join([*parts, f"seed {self.seed}"])


def simulated_sites(
    data: Path,
    needs: DataNeeds,
    *,
    split: VirtualSites | None = None,
    file: str | Path | None = None,
    layout: str | None = None,
    options: Mapping[str, str] | None = None,
    mapping: DataMapping | None = None,
) -> list[SimulatedSite]:
    """The sites of a simulation: those that a TOML ``file`` describes, or one for each folder in ``data``, or with
    ``split`` those among which the dataset in ``data`` is divided. Raises BadInput for what does not fit together.
    """
    if file is not None:
        if layout or options or mapping or split:
            raise BadInput(
                "the file of sites",
                "cannot be used together with a format, options, a mapping or a division",
                "write the sites' formats, options and mappings into its tables",
            )
        return read_sites(Path(file), data, needs)
    if split is None:
        return found_sites(data, needs, layout=layout, options=options, mapping=mapping)
    return divided(scanned_site("whole", data, needs, layout=layout, options=options, mapping=mapping), split, needs)


def divided(whole: SimulatedSite, how: VirtualSites, needs: DataNeeds) -> list[SimulatedSite]:
    """The sites into which the usable patients of a dataset fall: each patient at one, with all samples.

    A patient whose samples differ in class or column is taken for what most of them are, of several for the first by
    name. Raises BadInput for settings that do not fit together or do not fit the data.
    """
    _check(how)
    cohort = usable(whole.cohort, needs)
    patients = list(cohort.subjects)
    fewest = how.fewest or max(needs.minimum_subjects, 1)
    if how.sites is not None and how.sites * fewest > len(patients):
        least = "" if fewest == 1 else f", and each needs {fewest}"
        raise _bad(f"{how.sites} sites", f"are more than {len(patients)} patients allow{least}", "ask for fewer sites")
    if how.by is Skew.SITE_COLUMN:
        return _by_column(whole, cohort, _known(whole, cohort, needs, how), how)
    places = _places(whole, cohort, patients, how, needs, fewest)
    width = max(2, len(str(how.sites)))
    groups = [[one for one, at in zip(patients, places, strict=True) if at == site] for site in range(how.sites or 0)]
    return [_site(whole, cohort, f"site-{number:0{width}d}", some) for number, some in enumerate(groups, start=1)]


def shares(generator: np.random.Generator, sites: int, alpha: float, count: int) -> Counts:
    """How many of ``count`` patients each site gets, int64 ``[sites]``: drawn shares, rounded so that they add up.

    >>> shares(np.random.default_rng(0), sites=4, alpha=1e6, count=100).tolist()
    [25, 25, 25, 25]
    """
    ends = np.rint(np.cumsum(generator.dirichlet(np.full(sites, alpha))) * count).astype(np.int64)
    ends[-1] = count
    return np.diff(ends, prepend=0)


def _check(how: VirtualSites) -> None:
    drawn, is_column = how.by in (Skew.LABEL, Skew.QUANTITY), how.by is Skew.SITE_COLUMN
    if is_column and (how.sites is not None or not how.column):
        raise _bad(f"division by {how.by}", "takes a column and no number of sites", "name the column: its values say")
    if not is_column and (how.sites is None or how.sites < 1):
        raise _bad(f"division by {how.by}", "needs a number of sites of at least 1", "say how many sites there are")
    if drawn and (how.alpha is None or not how.alpha > 0 or not np.isfinite(how.alpha)):
        raise _bad(f"alpha {how.alpha}", "is not a number above 0", "give one, such as 0.5; smaller is more uneven")
    if not drawn and how.alpha is not None:
        raise _bad(f"alpha {how.alpha:g}", f"has no meaning for division by {how.by}", "leave it out")
    if drawn and how.column:
        raise _bad(f"column {how.column}", f"has no meaning for division by {how.by}", "leave it out")


def _places(
    whole: SimulatedSite,
    cohort: Cohort,
    patients: Sequence[str],
    how: VirtualSites,
    needs: DataNeeds,
    fewest: int,
) -> Counts:
    """The site of each patient, int64 ``[patients]``, counted from 0."""
    sites = how.sites or 0
    if how.by is Skew.FEATURE:
        numbers = _numbers(whole, cohort, needs, how)
        draw = np.random.default_rng(derive_seed(how.seed, "virtual-sites", how.by))
        # Equal values in an order of chance, so that no site gets the first by name.
        order = np.lexsort((draw.random(len(patients)), np.array([numbers[one] for one in patients])))
        places = np.empty(len(patients), np.int64)
        for site, some in enumerate(np.array_split(order, sites)):
            places[some] = site
        return places
    classes = [""] * len(patients)
    if how.by is Skew.LABEL:
        known = _classes(whole, cohort, needs)
        classes = [known[one] for one in patients]
    groups = [np.flatnonzero(np.array(classes) == name) for name in sorted(set(classes))]
    for attempt in range(_TRIES):
        draw = np.random.default_rng(derive_seed(how.seed, "virtual-sites", how.by, attempt))
        places = np.empty(len(patients), np.int64)
        for group in groups:
            counts = shares(draw, sites, how.alpha or 0, len(group))
            places[draw.permutation(group)] = np.repeat(np.arange(sites), counts)
        if np.bincount(places, minlength=sites).min() >= fewest:
            return places
    raise _bad(
        how.in_words,
        f"gave a site fewer than {pluralise(fewest, 'patient')} in each of {_TRIES} draws",
        "ask for fewer sites, or for a larger alpha",
    )


def _by_column(
    whole: SimulatedSite, cohort: Cohort, known: Mapping[str, Value], how: VirtualSites
) -> list[SimulatedSite]:
    named: dict[str, list[str]] = {}
    stored: dict[str, str] = {}
    for patient, value in known.items():
        text = f"{value:g}" if isinstance(value, float) else str(value)
        name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
        name = f"site-{name}" if name.isdigit() else name
        if not _SITE.fullmatch(name) or stored.setdefault(name, text) != text:
            cause = f"{text!r} has no site's name of its own (lower-case letters, digits and hyphens, at most 63)"
            raise _bad(f"column {how.column}", cause, "rename it in a copy of the data, or with a mapping")
        named.setdefault(name, []).append(patient)
    return [_site(whole, cohort, name, some) for name, some in sorted(named.items())]


def _site(whole: SimulatedSite, cohort: Cohort, name: str, patients: Sequence[str]) -> SimulatedSite:
    here = frozenset(patients)
    samples = cohort.samples.of_subjects(here)
    held_out = None if cohort.validation is None else tuple(one for one in cohort.validation if one in here)
    return SimulatedSite(name, whole.data, cohort.model_copy(update={"samples": samples, "validation": held_out}))


def _classes(whole: SimulatedSite, cohort: Cohort, needs: DataNeeds) -> dict[str, str]:
    """The class of each patient. Raises BadInput where there are none."""
    remedy = "divide by quantity or feature, or name a target with categories in the plan's needs"
    found: dict[str, list[str]] = {}
    target = needs.target
    if target is not None and not target.is_category:
        raise _bad(f"target {target.name}", "is a number and no class", remedy)
    for sample, values, arrays in _readings(whole, cohort, needs):
        label = arrays.get("y", values.get("class"))
        if target is not None:
            label = cohort.mapping.value(target.name, values)
        if label is None or np.ndim(label):
            raise _bad("division by label", "finds no class for each patient in the data", remedy)
        if isinstance(label, float | np.ndarray | np.floating) and float(label) % 1:
            raise _bad("division by label", "finds numbers and no classes in the data", remedy)
        found.setdefault(sample, []).append(str(label))
    chosen = {patient: _most_common(labels) for patient, labels in found.items()}
    if len(set(chosen.values())) > _MOST_CLASSES:
        raise _bad(f"dataset of {whole.name}", f"has more than {_MOST_CLASSES} classes", remedy)
    return chosen


def _numbers(whole: SimulatedSite, cohort: Cohort, needs: DataNeeds, how: VirtualSites) -> dict[str, float]:
    """What the patients are ordered by; categories in the order of their names."""
    if how.column:
        known = _known(whole, cohort, needs, how)
        if all(isinstance(value, int | float) for value in known.values()):
            return {patient: float(value) for patient, value in known.items()}
        names = sorted({str(value) for value in known.values()})
        return {patient: float(names.index(str(value))) for patient, value in known.items()}
    if needs.kind != "arrays":
        raise _bad("division by feature", "names no column", "name the column whose values the sites differ in")
    means: dict[str, list[float]] = {}
    for patient, _, arrays in _readings(whole, cohort, needs):
        means.setdefault(patient, []).append(float(np.mean(arrays["x"], dtype=np.float64)))
    return {patient: float(np.mean(numbers)) for patient, numbers in means.items()}


def _known(whole: SimulatedSite, cohort: Cohort, needs: DataNeeds, how: VirtualSites) -> dict[str, Value]:
    """The value of a column for each patient. Raises BadInput for a column that is not there, or not for everybody."""
    found: dict[str, list[Value]] = {}
    seen: set[str] = set()
    lacking = 0
    for patient, values, _ in _readings(whole, cohort, needs):
        seen |= values.keys()
        value = cohort.mapping.value(how.column, values)
        lacking += value is None
        if value is not None:
            found.setdefault(patient, []).append(value)
    if not found:
        names = ", ".join(sorted(seen)) or "none"
        raise _bad(f"column {how.column}", "is not in the data", f"the columns are: {names}")
    if lacking:
        remedy = "fill it with a mapping, or take another column"
        raise _bad(f"column {how.column}", f"has no value in {pluralise(lacking, 'sample')}", remedy)
    return {patient: _most_common(values) for patient, values in found.items()}


def _readings(
    whole: SimulatedSite, cohort: Cohort, needs: DataNeeds
) -> list[tuple[str, Mapping[str, Value], Mapping[str, NDArray[Any]]]]:
    """Each sample's patient, values and arrays. Volumes are not read: what is known beside them is in the cohort."""
    if needs.kind == "volumes":
        return [(sample.subject, sample.values, {}) for sample in cohort.samples]
    source: Source = RawSource(whole.data, cohort) if isinstance(whole.data, Path) else whole.data
    both = zip(cohort.samples, source.read(cohort.samples), strict=True)
    return [(sample.subject, reading.values, reading.arrays) for sample, reading in both]


def _most_common(values: Sequence[K]) -> K:
    counted = Counter(values)
    most = max(counted.values())
    return min((value for value, count in counted.items() if count == most), key=str)


def _bad(thing: str, cause: str, remedy: str) -> BadInput:
    return BadInput(Thing.worded(thing, division=thing), cause, remedy, code=ErrorCode.BAD_INPUT)
