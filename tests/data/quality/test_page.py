from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from archipel.data import DataIssue, DataMapping, MemoryIndex, scan
from archipel.data.quality import Pictures, build, draw_pictures, gather, page
from archipel.data.quality.markup import text
from archipel.data.quality.page_tables import ROWS
from worlds.data_files import write_pairs, write_volume
from worlds.evidence import report_of, sample, sound_rows, sound_volumes, with_scan, with_volume

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&"
VOID = {"img", "br", "meta", "rect", "line"}


class Parsed(HTMLParser):
    """What a browser makes of the page: elements, their attributes and text."""

    def __init__(self, page_text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page_text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.words.append(data)


def drawn(root: Path, mapping: DataMapping | None = None) -> str:
    index = MemoryIndex()
    found = scan("nifti-pairs", root, {}, index)
    evidence = gather(root, "nifti-pairs", {}, found, index)
    report = build("brain", "nifti-pairs", evidence, mapping or DataMapping(), made_at="2026-01-01T00:00:00+00:00")
    return page(report, draw_pictures(root, "nifti-pairs", {}, evidence, report, index))


def is_self_contained(written: str) -> bool:
    parsed = Parsed(written)
    places = [value for _, name, value in parsed.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert all(value.startswith("data:image/png;base64,") for value in places)
    style = written[written.index("<style>") : written.index("</style>")]
    return (
        not {"script", "link", "iframe", "object"} & set(parsed.tags) and "url(" not in style and "@import" not in style
    )


def test_a_page_needs_nothing_beside_it_and_every_element_is_closed(tmp_path: Path) -> None:
    written = drawn(write_pairs(tmp_path, 3))
    assert is_self_contained(written)
    assert Parsed(written).open == []
    assert "default-src 'none'" in written
    assert Parsed(written).tags.count("img") == 2 * 3 * (1 + 3)


def test_names_of_files_are_text_and_never_markup(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "_")
    root = write_pairs(tmp_path, 2)
    for folder in ("images", "labels"):
        (root / folder / "sub-00.nii.gz").rename(root / folder / f"{name}.nii.gz")
    written = drawn(root, DataMapping(label_names={"1": HOSTILE, "2": "b"}))
    parsed = Parsed(written)
    assert "script" not in parsed.tags
    assert not any(attribute.startswith("on") for _, attribute, _ in parsed.attributes)
    assert any(name in words for words in parsed.words)
    assert any(HOSTILE in words for words in parsed.words)


def test_what_a_scan_says_and_what_a_table_holds_is_text_too() -> None:
    problem = DataIssue(thing=HOSTILE, cause=HOSTILE, remedy=HOSTILE, subject=HOSTILE.replace("/", ""))
    rows = sound_rows()
    samples = [
        one.model_copy(update={"values": {**one.values, HOSTILE: HOSTILE, "diagnosis": HOSTILE}})
        for one in rows.scan.samples
    ]
    columns = rows.scan.schema.columns | {HOSTILE: rows.scan.schema.columns["sex"]}
    scanned = replace(rows.scan, schema=rows.scan.schema.model_copy(update={"columns": columns}))
    evidence = with_scan(replace(rows, scan=scanned), samples, (problem,))
    written = page(report_of(evidence), Pictures())
    parsed = Parsed(written)
    assert is_self_contained(written)
    assert parsed.open == []
    assert not any(attribute.startswith("on") for _, attribute, _ in parsed.attributes)
    assert any(HOSTILE in words for words in parsed.words)


def test_characters_that_hide_or_reverse_text_are_written_out() -> None:
    assert text("a" + chr(0x202E) + "gpj.exe" + chr(0)) == "a\\u202egpj.exe\\x00"


def test_the_page_says_what_it_leaves_out(tmp_path: Path) -> None:
    report = report_of(sound_volumes(200))
    assert len(report.volumes) == 400
    written = page(report, Pictures())
    assert f"The first {ROWS} of 400; all are in report.json." in written
    many = report_of(with_scan(sound_volumes(40), [sample(f"sub-{number:02}") for number in range(40)]))
    assert "report.json" in page(many, Pictures())


def test_a_finding_of_many_samples_names_some_and_counts_the_rest() -> None:
    evidence = sound_volumes(40)
    for number in range(15):
        evidence = with_volume(evidence, f"sub-{number:02}", "label", label_voxels={"0": 9})
    written = page(report_of(evidence), Pictures())
    assert "sub-11 and 3 more, see report.json" in written


def test_a_volume_without_a_label_and_a_flat_one_are_drawn(tmp_path: Path) -> None:
    import numpy as np

    root = write_pairs(tmp_path, 2)
    write_volume(root / "images" / "sub-00.nii.gz", np.full((6, 7, 8), 5, np.float32))
    write_volume(root / "labels" / "sub-00.nii.gz", np.zeros((6, 7, 8), np.uint8))
    written = drawn(root)
    assert Parsed(written).open == []
    assert "constant" not in written
    assert "every voxel has the same value" in written
