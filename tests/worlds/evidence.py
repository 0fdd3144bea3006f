"""Evidence made by hand: a sound set of volumes or rows, in which a test plants one fault."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from archipel.data import ColumnSummary, DataIssue, DataMapping, DataSchema, Sample, Scan
from archipel.data.quality import ArrayFacts, Evidence, QualityReport, VolumeFacts, build
from archipel.tensors import blob_hash

NAMES = DataMapping(label_names={"1": "anterior", "2": "posterior"})


def sample(subject: str, session: str = "", roles=("image", "label"), **values: object) -> Sample:
    files = {role: f"{role}/{subject}{session}.nii.gz" for role in roles}
    hashes = {role: blob_hash(f"{subject}{session}{role}".encode()) for role in roles}
    return Sample(
        subject=subject,
        session=session,
        files=files,
        values=values,
        hash=blob_hash(f"{subject}{session}".encode()),
        file_hashes=hashes,
    )


def image(number: int) -> VolumeFacts:
    numbers = np.random.default_rng(number)
    level = 100 + numbers.normal(0, 4)
    return VolumeFacts(
        shape=(40 + int(numbers.integers(-2, 3)), 50, 36),
        spacing=(1.0, 1.0, 1.0),
        orientation="RAS",
        voxels=blob_hash(f"image {number}".encode()),
        minimum=0.0,
        maximum=3 * level,
        mean=level,
        spread=level / 5 + numbers.normal(0, 0.5),
        percentiles=(0.1 * level, level, 2.2 * level),
    )


def mask(number: int) -> VolumeFacts:
    numbers = np.random.default_rng(1000 + number)
    counts = {"0": 60_000, "1": int(numbers.normal(1500, 150)), "2": int(numbers.normal(1400, 140))}
    return replace(
        image(number),
        voxels=blob_hash(f"mask {number}".encode()),
        minimum=0.0, maximum=0.0, mean=0.0, spread=0.0, percentiles=(),
        label_voxels=counts,
    )  # fmt: skip


def sound_volumes(count: int = 20) -> Evidence:
    samples = tuple(sample(f"sub-{number:02}") for number in range(count))
    known = {one.key: {"image": image(number), "label": mask(number)} for number, one in enumerate(samples)}
    return Evidence("volumes", Scan(samples, (), DataSchema(kind="volumes")), volumes=known)


def with_volume(evidence: Evidence, subject: str, role: str = "image", **changes: object) -> Evidence:
    """The evidence after one volume's facts changed."""
    key = (subject, "")
    changed = evidence.volumes[key] | {role: replace(evidence.volumes[key][role], **changes)}
    return replace(evidence, volumes=dict(evidence.volumes) | {key: changed})


def with_scan(evidence: Evidence, samples=None, problems: tuple[DataIssue, ...] = ()) -> Evidence:
    found = evidence.scan
    samples = found.samples if samples is None else tuple(samples)
    return replace(evidence, scan=Scan(samples, (*found.problems, *problems), found.schema))


def sound_rows(count: int = 40) -> Evidence:
    numbers = np.random.default_rng(1)
    samples = tuple(
        sample(
            f"p-{number:02}",
            roles=("table",),
            age=float(numbers.normal(60, 9)),
            pressure=float(numbers.normal(130, 12)),
            cholesterol=float(numbers.normal(200, 30)),
            sex="f" if number % 2 else "m",
            diagnosis="ill" if number % 3 else "well",
        )
        for number in range(count)
    )
    columns = {name: ColumnSummary(type="number") for name in ("age", "pressure", "cholesterol")}
    columns |= {name: ColumnSummary(type="category") for name in ("sex", "diagnosis")}
    return Evidence("table", Scan(samples, (), DataSchema(kind="table", columns=columns)))


def sound_pictures(count: int = 30) -> Evidence:
    samples = tuple(sample(f"x-{number:02}", roles=("image",)) for number in range(count))
    known = {
        one.key: ArrayFacts(blob_hash(one.subject.encode()), 0.0, 255.0, 100.0 + number, (28, 28), str(number % 2))
        for number, one in enumerate(samples)
    }
    return Evidence("arrays", Scan(samples, (), DataSchema(kind="arrays")), arrays=known)


def report_of(evidence: Evidence, mapping: DataMapping = NAMES, **asked: object) -> QualityReport:
    mapping = mapping if evidence.kind == "volumes" else DataMapping()
    return build("brain", "nifti-pairs", evidence, mapping, made_at="2026-01-01T00:00:00+00:00", **asked)


def codes(report: QualityReport) -> list[str]:
    return [finding.code for finding in report.findings]
