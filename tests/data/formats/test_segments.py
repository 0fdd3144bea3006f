"""Segmentations as 3D Slicer writes them: structures by name, in layers, and cut to where they are."""

from __future__ import annotations

import gzip
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data import MemoryIndex, format_named, scan
from archipel.data.cohorts import DataMapping
from archipel.data.files import Folder
from archipel.data.formats import found_labels
from archipel.data.quality import build, draw_pictures, gather
from archipel.data.volumes import SEGMENT_OPTIONS, overlaps, segment_volumes, segments
from archipel.data.volumes.segment_volumes import one_volume
from archipel.data.volumes.segments import (
    AS_STORED,
    Segment,
    SegmentRules,
    as_option,
    names_in,
    plain_name,
    segments_of,
)
from archipel.data.volumes.volumes import read_label
from archipel.vocabulary import BadInput

SHAPE = (20, 24, 18)
LIVER = np.zeros(SHAPE, np.uint8)
LIVER[5:15, 5:15, 2:10] = 1
TUMOUR = np.zeros(SHAPE, np.uint8)
TUMOUR[8:12, 8:12, 4:6] = 1
SPLEEN = np.zeros(SHAPE, np.uint8)
SPLEEN[16:19, 2:9, 11:17] = 1
GRID = "(1,0,0) (0,1,0) (0,0,2)"


def keys(*segments):
    """Keys of a header, of (name, value, layer)."""
    lines = [
        f"Segment{at}_ID:=Segment_{at + 1}\nSegment{at}_Name:={name}\nSegment{at}_LabelValue:={value}\n"
        f"Segment{at}_Layer:={layer}\n"
        for at, (name, value, layer) in enumerate(segments)
    ]
    return "".join(lines) + "Segmentation_MasterRepresentation:=Binary labelmap\n"


def nrrd(path, values, extra="", origin=(0, 0, 0), layers_at=None):
    """A NRRD of ``[X, Y, Z]``, or of layers along the axis ``layers_at``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds, directions = ["domain"] * 3, GRID.split()
    if layers_at is not None:
        kinds.insert(layers_at, "list")
        directions.insert(layers_at, "none")
    kind = {"uint8": "uchar", "int16": "short"}[values.dtype.name]
    header = (
        f"NRRD0004\ntype: {kind}\ndimension: {values.ndim}\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, values.shape))}\nspace directions: {' '.join(directions)}\n"
        f"kinds: {' '.join(kinds)}\nendian: little\nencoding: gzip\n"
        f"space origin: ({','.join(map(str, origin))})\n{extra}\n"
    )
    path.write_bytes(header.encode() + gzip.compress(values.tobytes(order="F"), 1))
    return path


def many(count):
    """Keys of so many segments, in one layer."""
    lines = keys(*((f"s{at}", at + 1, 0) for at in range(count))).splitlines()
    return dict(line.split(":=") for line in lines)


@pytest.mark.parametrize(("segments", "layers"), [(5, 1), (2, 5)])
def test_more_segments_or_layers_than_are_allowed_are_refused(segments, layers):
    with pytest.raises(BadInput) as refused:
        segments_of(Path("a.seg.nrrd"), many(segments), layers, most=4)
    assert refused.value.cause == f"has {segments} segments in {layers} layers; at most 4 are allowed of each"
    assert len(segments_of(Path("a.seg.nrrd"), many(4), 4, most=4)) == 4


def test_a_header_of_thousands_of_segments_is_refused(tmp_path):
    path = nrrd(tmp_path / "a.seg.nrrd", LIVER, keys(*((f"s{at}", at + 1, 0) for at in range(5000))))
    with pytest.raises(BadInput, match="has 5000 segments in 1 layers; at most 4096 are allowed of each"):
        read_label(path)


def test_names_are_compared_once_each_however_many_there_are(monkeypatch):
    """Counted: twice as many segments take twice as many comparisons, where each was compared with each before."""
    calls = 0

    def counted(name):
        nonlocal calls
        calls += 1
        return plain_name(name)

    for module in (segments, segment_volumes, overlaps, found_labels):
        monkeypatch.setattr(module, "plain_name", counted)
    taken = []
    for count in (50, 100):
        calls = 0
        known = segments_of(Path("a.seg.nrrd"), many(count), 1)
        rules = SegmentRules(on_top=("s1", "s0"))
        one_volume(Path("a.seg.nrrd"), np.arange(count, dtype=np.uint8).reshape(1, 1, -1, 1), known, rules)
        labels = found_labels.FoundLabels(Folder(Path()), {})
        for place in ("a", "b"):
            labels._check_names("p", place, {one.value: one.name for one in known})
        taken.append(calls)
    assert taken[1] < 2.1 * taken[0]


def subject(root, name, values, extra="", **how):
    image = np.random.default_rng(len(name)).normal(100, 10, SHAPE).astype(np.int16)
    nrrd(root / f"{name}_image.nrrd", image)
    nrrd(root / f"{name}_label.nrrd", values, extra, **how)


def labels_of(root, **options):
    found = scan("nrrd", root, options)
    assert found.errors == (), found.errors
    return [reading.label for reading in format_named("nrrd").read(root, found.samples, options)]


def test_names_in_a_header_are_the_names_of_the_dataset(tmp_path):
    subject(tmp_path, "a", LIVER + TUMOUR, keys(("liver", 1, 0), ("Tumour, solid", 2, 0)))
    found = scan("nrrd", tmp_path)
    assert found.problems == ()
    assert found.schema.label_names == {"1": "liver", "2": "Tumour, solid"}
    (label,) = labels_of(tmp_path)
    assert np.array_equal(label, LIVER + TUMOUR)


def two_numberings(root, names=("liver", "tumour")):
    liver, tumour = names
    subject(root, "a", LIVER + TUMOUR, keys((liver, 1, 0), (tumour, 2, 0)))
    subject(root, "b", np.where(TUMOUR, 1, LIVER * 2).astype(np.uint8), keys((tumour, 1, 0), (liver, 2, 0)))


def test_one_structure_with_two_numbers_is_refused_and_never_merged_by_number(tmp_path):
    two_numberings(tmp_path)
    found = scan("nrrd", tmp_path)
    assert [sample.subject for sample in found.samples] == ["a"]
    (problem,) = found.errors
    assert problem.subject == "b" and str(problem).startswith(
        "b: b_label.nrrd: calls value 1 tumour, and a_label.nrrd calls value 2 tumour; values of two names are not "
        "merged; have them read by name, as the values 1, 2, ...: add the dataset with --option segments=liver,tumour;"
    )


@pytest.mark.parametrize("names", [("liver", "tumour"), ("the liver", "Tumour's edge"), ("liver, left", "tumour")])
def test_the_option_that_the_remedy_names_reads_by_name(tmp_path, names):
    two_numberings(tmp_path, names)
    (problem,) = scan("nrrd", tmp_path).errors
    words = problem.remedy.partition("--option ")[2].partition("; or give")[0]
    name, _, value = shlex.split(words)[0].partition("=")
    first, second = labels_of(tmp_path, **{name: value})
    assert np.array_equal(first, LIVER + TUMOUR) and np.array_equal(second, LIVER + TUMOUR)
    assert scan("nrrd", tmp_path, {name: value}).schema.label_names == {"1": names[0], "2": names[1]}


def test_the_site_chooses_the_numbers(tmp_path):
    two_numberings(tmp_path)
    for label in labels_of(tmp_path, segments="tumour,liver"):
        assert np.array_equal(label, np.where(TUMOUR, 1, LIVER * 2))


def test_names_that_differ_in_case_and_separators_are_one_structure(tmp_path):
    subject(tmp_path, "a", LIVER, keys(("White matter", 1, 0)))
    subject(tmp_path, "b", LIVER, keys(("white_Matter", 1, 0)))
    found = scan("nrrd", tmp_path)
    assert found.problems == () and found.schema.label_names == {"1": "White matter"}


def test_another_name_for_a_number_is_refused(tmp_path):
    subject(tmp_path, "a", LIVER, keys(("liver", 1, 0)))
    subject(tmp_path, "b", SPLEEN, keys(("spleen", 1, 0)))
    (problem,) = scan("nrrd", tmp_path).errors
    assert "calls value 1 spleen, and a_label.nrrd calls value 1 liver" in str(problem)
    first, second = labels_of(tmp_path, segments="liver,spleen")
    assert np.array_equal(first, LIVER) and np.array_equal(second, SPLEEN * 2)


def test_a_segment_that_the_option_does_not_name_is_refused_with_the_option_that_does(tmp_path):
    subject(tmp_path, "a", LIVER + 2 * SPLEEN, keys(("liver", 1, 0), ("spleen", 2, 0)))
    (problem,) = scan("nrrd", tmp_path, {"segments": "spleen"}).errors
    assert "has the segment liver, which the option segments does not name" in str(problem)
    (label,) = labels_of(tmp_path, segments="spleen,liver")
    assert "--option segments=spleen,liver," in problem.remedy and np.array_equal(label, 2 * LIVER + SPLEEN)


def test_a_label_volume_without_names_is_pointed_out_beside_others_with_names(tmp_path):
    subject(tmp_path, "a", LIVER)
    subject(tmp_path, "b", LIVER, keys(("liver", 1, 0)))
    (problem,) = scan("nrrd", tmp_path).problems
    assert problem.severity == "warning"
    assert "holds 1 label volume without names of segments, such as a_label.nrrd; the others call 1 liver" in str(
        problem
    )
    (refused,) = scan("nrrd", tmp_path, {"segments": "liver"}).errors
    assert "a_label.nrrd: does not name its segments, and this dataset's are read by name" in str(refused)


@pytest.mark.parametrize("axis", [0, 3])
def test_layers_that_do_not_overlap_become_one_volume(tmp_path, axis):
    subject(
        tmp_path, "a", np.stack([LIVER, SPLEEN], axis=axis), keys(("liver", 1, 0), ("spleen", 1, 1)), layers_at=axis
    )
    found = scan("nrrd", tmp_path)
    assert found.problems == () and found.schema.label_names == {"1": "liver", "2": "spleen"}
    (label,) = labels_of(tmp_path)
    assert np.array_equal(label, LIVER + 2 * SPLEEN) and label.dtype == np.int16


def test_layers_that_overlap_are_asked_about_and_both_answers_work(tmp_path):
    subject(tmp_path, "a", np.stack([LIVER, TUMOUR]), keys(("liver", 1, 0), ("tumour", 1, 1)), layers_at=0)
    (problem,) = scan("nrrd", tmp_path).errors
    assert problem.cause == "has segments that overlap: liver and tumour share voxels (32)"
    assert problem.remedy == (
        "say which one keeps them: add the dataset with --option on_top=tumour or with --option on_top=liver"
    )
    (label,) = labels_of(tmp_path, on_top="tumour")
    assert np.array_equal(label, np.where(TUMOUR, 2, LIVER))
    (label,) = labels_of(tmp_path, on_top="liver")
    assert np.array_equal(label, np.where(LIVER, 1, 2 * TUMOUR))
    (label,) = labels_of(tmp_path, on_top="Tumour", segments="tumour,liver")
    assert np.array_equal(label, np.where(TUMOUR, 1, 2 * LIVER))


def test_one_layer_of_four_dimensions_is_a_label_volume(tmp_path):
    subject(tmp_path, "a", (LIVER + TUMOUR)[None], keys(("liver", 1, 0), ("tumour", 2, 0)), layers_at=0)
    (label,) = labels_of(tmp_path)
    assert np.array_equal(label, LIVER + TUMOUR)


def test_segments_of_older_versions_have_a_layer_each(tmp_path):
    """They write neither values nor layers."""
    old = "Segment0_ID:=Segment_1\nSegment0_Name:=liver\nSegment1_ID:=Segment_2\nSegment1_Name:=spleen\n"
    subject(tmp_path, "a", np.stack([LIVER, SPLEEN]), old, layers_at=0)
    (label,) = labels_of(tmp_path)
    assert np.array_equal(label, LIVER + 2 * SPLEEN)


def cropped(root, name="a", *, shift=0.0, size=None, key=True):
    """A label that is cut to where it is: 5, 5, 2 voxels from the image's corner, whose voxels are 1 x 1 x 2 mm."""
    part = np.ascontiguousarray((LIVER + TUMOUR)[5:15, 5:15, 2:10]) if size is None else np.ones(size, np.uint8)
    extent = "Segmentation_ReferenceImageExtentOffset:=5 5 2\n" if key else ""
    extra = keys(("liver", 1, 0), ("tumour", 2, 0)) + extent
    subject(root, name, part, extra, origin=(5 + shift, 5, 4))


def test_a_label_that_was_cropped_is_put_where_it_was_cut(tmp_path):
    cropped(tmp_path)
    found = scan("nrrd", tmp_path)
    assert found.problems == () and found.schema.label_values == {"0": 1, "1": 1, "2": 1}
    (label,) = labels_of(tmp_path)
    assert np.array_equal(label, LIVER + TUMOUR)


@pytest.mark.parametrize("wrong", [{"shift": 0.3}, {"size": (18, 10, 8)}])
def test_a_part_that_is_not_on_the_images_grid_is_refused(tmp_path, wrong):
    cropped(tmp_path, **wrong)
    (problem,) = scan("nrrd", tmp_path).errors
    assert "the label is not a part of the grid of the image (shapes [" in str(problem)
    assert "and [20, 24, 18]); export the segmentation with the image as its reference volume" in str(problem)


def test_a_smaller_label_that_does_not_say_that_it_is_a_part_is_refused(tmp_path):
    cropped(tmp_path, key=False)
    (problem,) = scan("nrrd", tmp_path).errors
    assert "the image has shape [20, 24, 18] and the label [10, 10, 8]" in str(problem)


def test_a_cropped_label_is_drawn_on_its_image(tmp_path):
    cropped(tmp_path / "part")
    subject(tmp_path / "whole", "a", LIVER + TUMOUR, keys(("liver", 1, 0), ("tumour", 2, 0)))
    pictures = []
    for root in (tmp_path / "part", tmp_path / "whole"):
        index = MemoryIndex()
        found = scan("nrrd", root, {}, index)
        evidence = gather(root, "nrrd", {}, found, index)
        report = build("a", "nrrd", evidence, DataMapping(), made_at="now")
        (picture,) = draw_pictures(root, "nrrd", {}, evidence, report, index).in_full
        pictures.append(picture)
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (keys(("liver", 1, 0), ("tumour", 1, 0)), "its header names value 1 of layer 0 twice"),
        (keys(("liver", 1, 0), ("Liver", 2, 0)), "has two segments called Liver; rename or join them"),
        (keys(("liver", 1, 0)) + "Segment0_Name:=spleen\n", "its header has Segment0_Name twice"),
        (keys(("liver", 0, 0)), "gives segment liver the value 0"),
        (keys(("liver", 99999, 0)), "gives segment liver the value 99999"),
        (keys(("liver", -1, 0)), "its header has Segment0_LabelValue '-1'"),
        (keys(("liver", "9" * 5000, 0)), "its header has Segment0_LabelValue '99999999999999999999'"),
        (keys(("liver", 1, "x")), "its header has Segment0_Layer 'x'"),
        (keys(("x" * 5000, 1, 0)), "has a name of segment 0 that cannot be used"),
        (keys(("li\x1b[31mver", 1, 0)), "has a name of segment 0 that cannot be used"),
    ],
)
def test_a_header_whose_segments_are_not_clear_is_named(tmp_path, extra, words):
    subject(tmp_path, "a", LIVER, extra)
    (problem,) = scan("nrrd", tmp_path).errors
    assert words in str(problem)


def test_a_value_that_no_segment_has_is_pointed_out_and_refused_where_names_count(tmp_path):
    subject(tmp_path, "a", LIVER + TUMOUR, keys(("liver", 1, 0)))
    (problem,) = scan("nrrd", tmp_path).problems
    assert problem.severity == "warning" and "its label has values that its header does not name (2)" in str(problem)
    (refused,) = scan("nrrd", tmp_path, {"segments": "liver"}).errors
    assert "has voxels of value 2 in layer 0, which no segment of its header names" in str(refused)


def test_layers_of_an_image_are_not_one_image(tmp_path):
    nrrd(tmp_path / "a_image.nrrd", np.stack([LIVER, SPLEEN]), keys(("liver", 1, 0)), layers_at=0)
    nrrd(tmp_path / "a_label.nrrd", LIVER)
    assert "a_image.nrrd: has 4 dimensions [20, 24, 18, 2]" in str(scan("nrrd", tmp_path).errors[0])
    nrrd(tmp_path / "b_label.nrrd", np.stack([LIVER, SPLEEN]), layers_at=0)
    with pytest.raises(BadInput, match=r"has 4 dimensions \[20, 24, 18, 2\]"):
        read_label(tmp_path / "b_label.nrrd")


def test_an_option_that_names_a_segment_twice_is_refused(tmp_path):
    subject(tmp_path, "a", LIVER)
    for option in SEGMENT_OPTIONS:
        with pytest.raises(BadInput, match=f"option {option}: names Liver twice; name each segment once"):
            scan("nrrd", tmp_path, {option: "liver, spleen, Liver"})


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters=";"), min_size=1)


@given(st.lists(WORDS, min_size=1))
def test_names_are_the_same_after_a_shell(names):
    (value,) = shlex.split(as_option(names))
    assert names_in(value) == tuple(names)


@given(st.integers(0, 2**31), st.integers(1, 4), st.permutations(range(4)))
def test_layers_are_painted_as_voxel_by_voxel(seed, layers, order):
    numbers = np.random.default_rng(seed)
    shape = (2, 3, 2)
    volume = numbers.integers(0, 3, (*shape, layers)).astype(np.int16)
    places = [(layer, value) for layer in range(layers) for value in (1, 2)]
    segments = [Segment(name=f"s{layer}{value}", value=value, layer=layer) for layer, value in places]
    on_top = [one.name for at in order for one in segments if one.layer == at]
    rules = SegmentRules(tuple(one.name for one in segments), tuple(on_top))
    found, names, shared = one_volume(Path("x/a.nrrd"), volume, segments, rules)
    for place in np.ndindex(*shape):
        held = [one.name for one in segments if volume[place][one.layer] == one.value]
        expected = min(held, key=on_top.index) if held else None
        assert names.get(int(found[place])) == expected
    both = np.count_nonzero((volume != 0).sum(axis=-1) > 1)
    assert (sum(one.voxels for one in shared) >= both) and bool(shared) == bool(both)
    assert AS_STORED.request == "" and rules.request != ""
