"""The page: report and pictures as one HTML file that needs nothing beside it, for a screen or on paper.

It holds no script, and its own policy forbids every fetch. What comes from files is text, never markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files

from archipel.data.quality.charts import label_colour, opacity
from archipel.data.quality.markup import Html, element, joined, picture, swatch, table, text
from archipel.data.quality.page_columns import columns_section
from archipel.data.quality.page_tables import labels_section, modalities_section, pictures_section, volumes_section
from archipel.data.quality.pictures import Pictures, VolumePicture, grey, overlay
from archipel.data.quality.records import Finding, LabelSummary, QualityReport, Readiness, Severity
from archipel.data.samples import LABEL
from archipel.data.volumes import PLANES, Slice

NAMED = 12
"""Samples of one finding that the page names; the JSON names all."""
IN_LEGEND = 16
_MASK_ALPHA = 130
_VERDICTS = {
    Readiness.READY: ("ready", "Nothing was found that speaks against freezing a cohort."),
    Readiness.REMARKS: ("remarks", "A cohort can be frozen. Look at the warnings first."),
    Readiness.NOT_READY: ("not-ready", "Fix the errors, or leave the subjects out, before a cohort is frozen."),
}
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(report: QualityReport, pictures: Pictures) -> str:
    """The report as HTML."""
    style = files("archipel.data.quality").joinpath("page.css").read_text("utf-8")
    sections = [
        _head(report),
        _verdict(report),
        _findings(report),
        _counts(report),
        _mosaic(report, pictures),
        _in_full(report, pictures),
        _classes(report, pictures),
        pictures_section(report),
        modalities_section(report),
        labels_section(report),
        columns_section(report),
        volumes_section(report),
        _foot(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Quality report: {text(report.dataset)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n"
    )


def _head(report: QualityReport) -> Html:
    made = report.made_at[:16].replace("T", " ")
    what = f"format {report.format}, kind {report.kind}, made {made} UTC"
    stays = "This report names patients and shows their images. It stays at this site."
    title = element("h1", f"Quality report: {report.dataset}")
    return element("header", title, element("p", what, Html("<br>"), stays, kind="soft"))


def _verdict(report: QualityReport) -> Html:
    kind, words = _VERDICTS[report.verdict]
    counts = [
        f"{number} {severity.value}{'' if number == 1 else 's'}"
        for severity in Severity
        if (number := sum(finding.severity == severity for finding in report.findings))
    ]
    found = f" ({', '.join(counts)})" if counts else ""
    return element("div", element("strong", report.verdict.value.capitalize()), words + found, kind=f"verdict {kind}")


def _findings(report: QualityReport) -> Html:
    if not report.findings:
        return Html("")
    rows = (
        (
            element("span", finding.severity.value, kind=f"badge {finding.severity.value}"),
            finding.what,
            finding.count,
            _named(finding),
            finding.remedy,
        )
        for finding in report.findings
    )
    return joined(
        [element("h2", "Findings"), table(["", "What was found", "How many", "Where", "What to do"], rows, "findings")]
    )


def _named(finding: Finding) -> str:
    more = len(finding.samples) - NAMED
    return ", ".join(finding.samples[:NAMED]) + (f" and {more} more, see report.json" if more > 0 else "")


def _counts(report: QualityReport) -> Html:
    counts = report.counts
    numbers: list[tuple[object, str]] = [(counts.subjects, "subjects"), (counts.samples, "samples")]
    if counts.left_out:
        numbers.append((counts.left_out, "subjects with errors"))
    numbers += [
        (modality.samples, "label volumes" if modality.role == LABEL else f"{modality.role} volumes")
        for modality in report.modalities
    ]
    if report.columns:
        numbers.append((len(report.columns), "columns"))
    tiles = [element("div", element("b", number), words) for number, words in numbers]
    parts = [element("h2", "What there is"), element("div", *tiles, kind="numbers")]
    if any(int(visits) > 1 for visits in counts.sessions):
        rows = ((visits, subjects) for visits, subjects in counts.sessions.items())
        parts += [element("h3", "Sessions"), table(["sessions of a subject", "subjects"], rows)]
    if counts.groups:
        parts += [element("h3", "Groups"), table(["group", "subjects"], counts.groups.items())]
    if counts.classes and report.class_column.lower() != "group":
        parts += [
            element("h3", f"Classes ({report.class_column})"),
            table([report.class_column, "samples"], counts.classes.items()),
        ]
    if report.arrays:
        parts += [element("h3", "Arrays"), table(["array", "type and shape of one sample"], report.arrays.items())]
    return joined(parts)


def _legend(report: QualityReport) -> Html:
    if not report.labels:
        return Html("")
    if len(report.labels) > IN_LEGEND:
        return element("p", "What each colour stands for is in the table of labels below.", kind="soft")
    return element("div", *(swatch(label_colour(int(one.value)), _label(one)) for one in report.labels), kind="legend")


def _label(label: LabelSummary) -> str:
    return f"{label.value} {label.name}".strip()


def _slice(image: Slice | None, mask: Slice | None, alt: str, values: Mapping[str, int]) -> Html:
    base = image or mask
    assert base is not None
    layers = []
    if image is not None:
        layers.append(picture(grey(image), "image", alt))
    if mask is not None:
        colours = []
        for stored in mask.values:
            value = values.get(str(stored), stored)
            colours.append(opacity(label_colour(value), _MASK_ALPHA if value else 0))
        layers.append(picture(overlay(mask, colours), "mask", f"mask of {alt}"))
    shape = "upright" if base.height_mm > base.width_mm else "lying"
    ratio = f"aspect-ratio:{base.width_mm:.4g}/{base.height_mm:.4g}"
    return element("div", element("div", *layers, kind=f"slice {shape}", style=ratio), kind="frame")


def _drawn(
    report: QualityReport, shown: VolumePicture, role: str, plane: str, caption: str, kind: str = "sound"
) -> Html:
    image = shown.images[role].slices[plane] if role in shown.images else None
    mask = shown.label.slices[plane] if shown.label else None
    return element(
        "figure",
        _slice(image, mask, f"{shown.name}, {plane}", report.label_values),
        element("figcaption", caption),
        kind=kind,
    )


def _mosaic(report: QualityReport, pictures: Pictures) -> Html:
    if not pictures.mosaic:
        return Html("")
    named = {name for finding in report.findings for name in finding.samples}
    tiles = [
        _drawn(
            report, shown, next(iter(shown.images), ""), "axial", shown.name,
            "named" if shown.name in named else "sound",
        )
        for shown in pictures.mosaic
    ]  # fmt: skip
    count, of = len(pictures.mosaic), pictures.mosaic_of
    capped = f"{count} of {of} samples, those that findings name first." if count < of else f"All of them: {of}."
    words = (
        f"{capped} One axial slice each, where most of the mask is seen, or through the middle where there is none. "
        "The patient's right is on the left, the front is up."
        + (" Those in a red frame are named by a finding." if named else "")
    )
    return joined([element("h2", "Every sample"), element("p", words, kind="soft"), _legend(report),
                   element("div", *tiles, kind="mosaic")])  # fmt: skip


def _in_full(report: QualityReport, pictures: Pictures) -> Html:
    if not pictures.in_full:
        return Html("")
    sections = []
    for shown in pictures.in_full:
        for role in list(shown.images) or [""]:
            planes = [_drawn(report, shown, role, plane, plane) for plane in PLANES]
            title = f"{shown.name}, {role}" if len(shown.images) > 1 else shown.name
            sections.append(element("section", element("h3", title), element("div", *planes, kind="planes")))
    words = (
        f"{len(pictures.in_full)} of {pictures.mosaic_of} samples, those that findings name first. Axial and coronal: "
        "the patient's right is on the left. Sagittal: the face is to the left."
    )
    return joined([element("h2", "Three planes"), element("p", words, kind="soft"), _legend(report),
                   element("div", *sections, kind="in-full")])  # fmt: skip


def _classes(report: QualityReport, pictures: Pictures) -> Html:
    return joined(_class_parts(report, pictures))


def _class_parts(report: QualityReport, pictures: Pictures) -> Iterator[Html]:
    if not pictures.classes:
        return
    named = {name for finding in report.findings for name in finding.samples}
    yield element("h2", "Images by class")
    words = []
    if len(pictures.classes) < pictures.classes_of:
        words.append(f"{len(pictures.classes)} of {pictures.classes_of} classes are shown.")
    if any(len(group.tiles) < group.total for group in pictures.classes):
        words.append("Of a class with more images than are shown, those that findings name come first.")
    if named:
        words.append("Those in a red frame are named by a finding.")
    if words:
        yield element("p", " ".join(words), kind="soft")
    for group in pictures.classes:
        of = f"{len(group.tiles)} of " if len(group.tiles) < group.total else ""
        yield element("h3", f"{group.name or 'without a class'}: {of}{group.total} images")
        tiles = (
            element(
                "figure",
                element("div", picture(data, "tile", name), kind="frame"),
                element("figcaption", name),
                kind="named" if name in named else "sound",
            )
            for name, data in group.tiles
        )
        yield element("div", *tiles, kind="mosaic small")


def _foot(report: QualityReport) -> Html:
    return element(
        "footer",
        "Outliers are values whose distance from the median is more than ",
        f"{report.threshold:g} robust standard deviations (1.4826 times the median absolute deviation). "
        "The same content, with every sample named, is in report.json.",
    )
