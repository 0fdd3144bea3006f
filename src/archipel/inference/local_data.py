"""A folder of one's own as the only site: read in any format and with any mapping that a site may have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from archipel.data import Cohort, DataMapping, RawSource, Sample, SampleData, Source, read_mapping
from archipel.data.formats import FORMATS, format_named, guessed
from archipel.simulation import SimulatedSite, pooled_site, scanned_site
from archipel.vocabulary import BadInput, DataKind, DataNeeds, ErrorCode, Thing, Value

_Key = tuple[str, str]


def local_site(
    name: str,
    data: Path,
    needs: DataNeeds,
    *,
    layout: str | None = None,
    options: Mapping[str, str] | None = None,
    mapping: DataMapping | Path | None = None,
) -> SimulatedSite:
    """The dataset in a folder, or the table in a file, as a site would read it; folders with ``images/`` and
    ``labels/`` each, which are several sites' volumes, are read together.

    Raises BadInput for data of another kind than the plan needs, the first of its problems and the first need that it
    does not meet. How many subjects there are does not matter.
    """
    # A plan's least number of subjects is for training.
    needs = needs.model_copy(update={"minimum_subjects": 1})
    rules = mapping if isinstance(mapping, DataMapping | None) else read_mapping(mapping)
    chosen = dict(options or {})
    if data.is_file():
        layout = layout or _format_of_file(data, needs.kind)
        chosen |= {"file": data.name} if "file" in format_named(layout).options else {}
        data = data.parent
    folders = [data]
    if needs.kind == "volumes" and layout in (None, "nifti-pairs") and not (data / "images").is_dir():
        folders = sorted(path.parent for path in data.glob("*/images")) or folders
    several = len(folders) > 1 or folders != [data]
    sites = []
    for folder in folders:
        found = layout or _detected(folder, needs.kind, chosen)
        called = folder.name if several else name
        sites.append(scanned_site(called, folder, needs, layout=found, options=chosen, mapping=rules))
    return pooled_site(sites, needs, 0.0, name) if several else sites[0]


def source_of(site: SimulatedSite, cohort: Cohort) -> Source:
    """Where the samples of this site's cohort are read."""
    return RawSource(site.data, cohort) if isinstance(site.data, Path) else site.data


def _format_of_file(file: Path, kind: DataKind) -> str:
    found = [name for name, one in FORMATS.items() if one.kind == kind and "file" in one.options]
    if kind == "arrays" and list(file.parent.glob("*.npz")) == [file]:
        return "npz"
    if not found:
        raise BadInput(Thing.file(file), f"is a file, and the plan needs {kind}", "name the folder that holds it")
    return found[0]


def _detected(folder: Path, kind: DataKind, options: Mapping[str, str]) -> str:
    if kind == "volumes" and (folder / "images").is_dir():
        return "nifti-pairs"
    fits = guessed(folder, options)
    for fit in fits:
        if FORMATS[fit.format].kind == kind:
            return fit.format
    first = fits[0].format
    raise BadInput(
        Thing.folder(folder),
        f"holds data of kind {FORMATS[first].kind} (format {first})",
        f"the plan needs {kind}; name such a folder, or its format (--format, in Python layout=...)",
        code=ErrorCode.BAD_DATA,
        values={"kind": FORMATS[first].kind, "needed": kind},
    )


@dataclass(frozen=True)
class Held:
    """Samples that are read once and kept in memory."""

    readings: Mapping[_Key, SampleData]

    @classmethod
    def of(cls, source: Source, samples: Sequence[Sample]) -> Held:
        """These samples, read now."""
        return cls({sample.key: one for sample, one in zip(samples, source.read(samples), strict=True)})

    def read(self, samples: Sequence[Sample]) -> Iterator[SampleData]:
        """The samples in this order, each as often as it is named."""
        yield from (self.readings[sample.key] for sample in samples)


@dataclass(frozen=True)
class WithoutTruth:
    """Samples in the plan's own names, whether their truth is known or not.

    A plan makes inputs and targets together, so what is not known has a stand-in, which no prediction reads: the first
    category or 0 for the target, 0 for ``y``, background for a label. ``truths`` are the targets that are known, by
    subject and session: categories by name, and numbers.
    """

    source: Source
    needs: DataNeeds
    mapping: DataMapping
    truths: dict[_Key, Value] = field(default_factory=dict)

    def read(self, samples: Sequence[Sample]) -> Iterator[SampleData]:
        """The samples in order."""
        for sample, reading in zip(samples, self.source.read(samples), strict=True):
            yield self._filled(sample.key, reading)

    def _filled(self, key: _Key, reading: SampleData) -> SampleData:
        import numpy as np

        needs, rule, target = self.needs, self.mapping, self.needs.target
        values = {one.name: rule.value(one.name, reading.values) for one in needs.all_columns}
        arrays, label = dict(reading.arrays), reading.label
        if target is not None:
            truth = values[target.name]
            if truth is None:
                values[target.name] = target.categories[0] if target.is_category else 0.0
            else:
                self.truths[key] = f"{truth:g}" if target.is_category and isinstance(truth, float) else truth
        elif needs.kind == "arrays" and "y" not in arrays:
            arrays["y"] = np.zeros((), np.float32)
        elif needs.kind == "arrays" and np.ndim(arrays["y"]) == 0:
            self.truths[key] = np.asarray(arrays["y"]).item()
        images = {asked: reading.images.get(rule.stored_modality(asked)) for asked in needs.images}
        held = {asked: image for asked, image in images.items() if image is not None}
        if needs.labels and label is None and held:
            label = np.zeros(next(iter(held.values())).shape, np.int16)
        return SampleData(
            images=held or reading.images,
            label=label,
            affine=reading.affine,
            arrays=arrays,
            values={name: value for name, value in values.items() if value is not None},
        )
