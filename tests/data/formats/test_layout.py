"""Volumes by path templates: what holds for every format, and what templates, structures and tables add."""

from __future__ import annotations

import re
from math import comb
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conformance import SUBJECTS, Conformance, Expected
from made_volumes import AFFINE, intensities, nifti, segmentation

from archipel.data import Cohort, MemoryIndex, cohort_hash, format_named, scan
from archipel.data.formats import settled
from archipel.data.formats.known_layouts import KNOWN_LAYOUTS
from archipel.data.formats.path_templates import PathTemplate
from archipel.vocabulary import BadInput
from opened_files import opens_under


class TestLayout(Conformance):
    format = "layout"
    options = {
        "image": "{subject}-{session:#}/{subject}-{session:#}-{modality:t1c|t2f}",
        "label": "{subject}-{session:#}/{subject}-{session:#}-seg",
    }

    def write(self, root, subjects=SUBJECTS):
        expected = {}
        for number, (subject, session) in enumerate([(subjects[0], "001"), *((one, "000") for one in subjects)]):
            base = f"{subject}-{session}/{subject}-{session}-"
            images = {name: intensities(10 * number + at) for at, name in enumerate(("t1c", "t2f"))}
            for name, values in images.items():
                nifti(root / f"{base}{name}.nii.gz", values)
            nifti(root / f"{base}seg.nii.gz", segmentation(number))
            expected[subject, session] = Expected(images, segmentation(number), AFFINE)
        return expected

    def change(self, root):
        nifti(root / "sub-02-000/sub-02-000-seg.nii.gz", segmentation(9))
        return "sub-02-000-seg.nii.gz"

    def remove(self, root):
        (root / "sub-03-000/sub-03-000-t1c.nii.gz").unlink()
        return "sub-03-000-t1c.nii.gz"

    def repeat(self, root):
        nifti(root / "sub-02-000/sub-02-000-t1c.nii", intensities(3))
        return "sub-02_000: has 2 files for t1c"


class TestStructures(Conformance):
    format = "layout"
    options = {
        "image": "{subject}/ct",
        "label": "{subject}/segmentations/{structure}",
        "structures": "liver,spleen",
    }

    def write(self, root, subjects=SUBJECTS):
        expected = {}
        for number, subject in enumerate(subjects):
            drawn = segmentation(number)
            nifti(root / subject / "ct.nii.gz", intensities(number))
            for value, name in enumerate(("liver", "spleen"), 1):
                nifti(root / subject / f"segmentations/{name}.nii.gz", (drawn == value).astype(np.uint8))
            expected[subject, ""] = Expected({"image": intensities(number)}, drawn, AFFINE)
        return expected

    def change(self, root):
        nifti(root / "sub-02/segmentations/spleen.nii.gz", np.zeros((5, 6, 7), np.uint8))
        return "sub-02/segmentations/spleen.nii.gz"

    def remove(self, root):
        (root / "sub-03/segmentations/liver.nii.gz").unlink()
        return "sub-03/segmentations/liver.nii.gz"

    def repeat(self, root):
        nifti(root / "sub-02/segmentations/liver.nii", segmentation(0))
        return "sub-02: has 2 files for liver"

    def test_a_second_scan_opens_only_what_changed(self, root):
        """The structures of a sample are one label, which is made again when one of them changed."""
        self.write(root)
        index = MemoryIndex()
        first = self.scanned(root, index)
        with opens_under(root) as opened:
            assert self.scanned(root, index) == first
        assert opened == set()
        self.change(root)
        with opens_under(root) as opened:
            second = self.scanned(root, index)
        assert opened == {f"sub-02/segmentations/{name}.nii.gz" for name in ("liver", "spleen")}
        assert second == self.scanned(root) and second.samples != first.samples


def organs(root, **structures):
    nifti(root / "a/ct.nii.gz", intensities(0))
    for name, values in structures.items():
        nifti(root / f"a/segmentations/{name}.nii.gz", values)
    return scan("layout", root, settled("layout", root, {"layout": "totalsegmentator"}))


def box(*places, value=1):
    drawn = np.zeros((5, 6, 7), np.uint8)
    for place in places:
        drawn[place] = value
    return drawn


def test_structures_keep_their_values_when_others_come_later(tmp_path):
    root = tmp_path / "organs"
    found = organs(root, liver=box(1), spleen=box(2, value=255))
    options = settled("layout", root, {"layout": "totalsegmentator"})
    assert found.problems == () and found.schema.label_names == {"0": "background", "1": "liver", "2": "spleen"}
    nifti(root / "a/segmentations/aorta.nii.gz", box(3))
    later = scan("layout", root, options)
    assert later.samples == found.samples
    assert str(later.problems[0]).startswith("1 structure: is there and not read (aorta)")


def test_structures_that_overlap_are_named_and_never_merged(tmp_path):
    found = organs(tmp_path, liver=box(1, 2), spleen=box(2))
    assert found.samples == ()
    assert "a/segmentations: has structures that overlap: liver and spleen share voxels (42)" in str(found.errors[0])
    alone = scan("layout", tmp_path, settled("layout", tmp_path, {"layout": "totalsegmentator", "structures": "liver"}))
    assert alone.errors == () and alone.schema.label_values == {"0": 1, "1": 1}


def test_a_file_of_several_structures_is_not_taken_for_one(tmp_path):
    found = organs(tmp_path, liver=segmentation(0))
    assert "holds several label values (1 to 2), and is the file of one structure" in str(found.errors[0])


def test_a_structure_on_another_grid_is_named(tmp_path):
    found = organs(tmp_path, liver=box(1), spleen=np.zeros((5, 6, 8), np.uint8))
    assert "the liver.nii.gz has shape [5, 6, 7] and the spleen.nii.gz [5, 6, 8]" in str(found.errors[0])


def test_structures_are_on_one_grid_within_the_tolerance_of_the_site(tmp_path):
    organs(tmp_path, liver=box(1), spleen=box(2))
    moved = AFFINE.copy()
    moved[0, 3] += 0.4
    nifti(tmp_path / "a/segmentations/spleen.nii.gz", box(2), moved)
    options = settled("layout", tmp_path, {"layout": "totalsegmentator"})
    (problem,) = scan("layout", tmp_path, options).errors
    assert "the grids of liver.nii.gz and spleen.nii.gz are up to 0.4 mm apart at their corners" in str(problem)
    wider = {**options, "grid_tolerance": "0.41"}
    found = scan("layout", tmp_path, wider)
    assert found.errors == ()
    (reading,) = format_named("layout").read(tmp_path, found.samples, wider)
    assert np.array_equal(reading.label, box(1) + 2 * box(2))


def test_structures_that_are_the_image_itself_are_refused(tmp_path):
    organs(tmp_path, liver=box(1))
    nifti(tmp_path / "a/ct.nii.gz", box(1).astype(np.float32))
    (problem,) = scan("layout", tmp_path, settled("layout", tmp_path, {"layout": "totalsegmentator"})).errors
    assert "is the image itself: equal to a/ct.nii.gz voxel for voxel" in str(problem)


def test_a_subject_that_lacks_a_structure_is_named(tmp_path):
    nifti(tmp_path / "b/ct.nii.gz", intensities(1))
    nifti(tmp_path / "b/segmentations/liver.nii.gz", box(1))
    found = organs(tmp_path, liver=box(1), spleen=box(2))
    assert [sample.subject for sample in found.samples] == ["a"]
    assert "b: has no file for 1 structure (spleen)" in str(found.errors[0])


def test_named_parts_become_values_and_a_table_adds_more(tmp_path):
    for group, subject in (("hgg", "a"), ("lgg", "b")):
        nifti(tmp_path / f"{group}/{subject}/mri.nii.gz", intensities(ord(subject)))
    (tmp_path / "ages.csv").write_text("patient,age\na,70\nb,61\nc,5\n")
    options = settled("layout", tmp_path, {"image": "T1={group}/{subject}/mri"})
    found = scan("layout", tmp_path, options)
    assert [dict(sample.values) for sample in found.samples] == [
        {"age": 70, "group": "hgg"},
        {"age": 61, "group": "lgg"},
    ]
    assert found.schema.modalities == {"T1": 2}
    assert [str(problem) for problem in found.problems] == [
        "c: has a row in ages.csv and no folder with volumes; add the volumes or remove the row"
    ]


def test_a_table_that_names_nobody_here_is_said_once(tmp_path):
    for subject in ("a", "b"):
        nifti(tmp_path / f"{subject}/mri.nii.gz", intensities(ord(subject)))
    (tmp_path / "sites.csv").write_text("site,city\n1,Rome\n")
    found = scan("layout", tmp_path, settled("layout", tmp_path, {"image": "{subject}/mri"}))
    (said,) = found.problems
    assert "sites.csv: names no subject of the volumes in its column site" in str(said) and "id_column=" in said.remedy


def test_volumes_that_no_template_means_are_one_warning(tmp_path):
    for subject in ("a", "b"):
        nifti(tmp_path / f"{subject}/mri.nii.gz", intensities(ord(subject)))
        nifti(tmp_path / f"{subject}/other.nii.gz", intensities(1))
    found = scan("layout", tmp_path, {"image": "{subject}/mri"})
    (said,) = found.problems
    assert str(said).startswith("2 volumes: are meant by no template (a/other.nii.gz, b/other.nii.gz)")
    assert scan("layout", tmp_path, {"image": "{subject}/mri", "unused": "*/other*"}).problems == ()


@pytest.mark.parametrize(
    ("text", "place", "parts"),
    [
        ("{subject}/{subject}_{modality}", "p_1/p_1_t1.nii.gz", {"subject": "p_1", "modality": "t1"}),
        ("{subject}/{subject}_{modality}", "p_1/p_2_t1.nii.gz", None),
        ("{subject}.seg.nrrd", "a.seg.NRRD", {"subject": "a"}),
        ("{subject}.seg.nrrd", "a.nrrd", None),
        ("img/{subject}", "IMG/a.mha", {"subject": "a"}),
        ("img/{subject}", "img/a.txt", None),
        ("{subject}/{session:ses-*|bl}", "a/ses-2.nii", {"subject": "a", "session": "ses-2"}),
        ("{subject}/{session:ses-*|bl}", "a/fu.nii", None),
        ("{:a|b}/{*}/{subject:#}", "b/x y/007.nii", {"subject": "007"}),
    ],
)
def test_a_template_finds_the_parts_of_a_place(text, place, parts):
    assert PathTemplate(text).parts_of(place) == parts


MANY = "has too many parts, choices or * among which a name may be divided"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("images/a.nii.gz", "has no part {subject}"),
        ("{subject}{session}", "has nothing between {subject} and {session}"),
        ("../{subject}", "is not a path inside the dataset's folder"),
        ("/{subject}", "is not a path inside the dataset's folder"),
        ("{subject}/*", "has { } * or ? outside a part"),
        ("{Subject}", "has a part {Subject} that is not a name in small letters"),
        ("{subject}_{a}_{b}_{c}_{d}", MANY),
        ("{subject}_{a}_{b}/{c}_{d}_{e}", MANY),
        ("{subject:a*b*c*d*e*f*g}", MANY),
        ("{subject}/{:*|*a}_{:*|*b}_{:*|*c}_{:*|*d}", MANY),
        ("{subject" + "x" * 400, "is longer than 400 letters"),
        ("{subject", "has { } * or ? outside a part"),
        (".nii.gz", "names no file"),
    ],
)
def test_a_template_that_is_not_clear_is_refused(text, said):
    with pytest.raises(BadInput) as refused:
        PathTemplate(text)
    assert refused.value.cause == said


def tried(template: str, name: str) -> int:
    """How many texts a matcher that goes back and tries again gives to the parts of a template without choices."""
    literals = re.split(r"\{[^{}]*\}", template)
    count = 0

    def rest_fits(at: int, part: int) -> bool:
        nonlocal count
        if not name.startswith(literals[part], at):
            return False
        at += len(literals[part])
        if part == len(literals) - 1:
            return at == len(name)
        for end in range(len(name), at, -1):
            count += 1
            if rest_fits(end, part + 1):
                return True
        return False

    rest_fits(0, 0)
    return count


@pytest.mark.parametrize("template", ["{subject}x", "{subject}_{a}x", "{subject}_{a}_{b}x", "{subject}_{a}_{b}_{c}x"])
def test_matching_tries_no_more_than_the_template_says_for_the_longest_name(template):
    """The worst name: all of it fits but the last letter. A template of many more ways is refused."""
    ways, parts = PathTemplate(template).ways, template.count("{")
    assert ways == comb(255, parts - 1) < 3_000_000
    for letters in (20, 40):
        assert tried(template, "_" * letters) <= letters * comb(letters, parts - 1)
    assert PathTemplate(template).parts_of("_" * 250 + ".nii") is None


def test_the_known_layouts_are_far_from_the_limit():
    texts = [text for layout in KNOWN_LAYOUTS for text in (*layout.image, *layout.label)]
    assert max(PathTemplate(text).ways for text in texts) < 10_000


def test_a_layout_file_that_is_wrong_is_named(tmp_path):
    nifti(tmp_path / "a.nii.gz", intensities(0))
    file = tmp_path / "own.toml"
    for text, said in (
        ("image = 3", "layout own.toml: image"),
        ('images = "{subject}"', "layout own.toml: image"),
        ('image = "{subject}"\nmask = "x"', "layout own.toml: mask: is not a known key"),
        ("image = [", "layout own.toml: is not TOML"),
    ):
        file.write_text(text)
        with pytest.raises(BadInput) as refused:
            settled("layout", tmp_path, {"layout": "own.toml"})
        assert str(refused.value).startswith(said), refused.value
    with pytest.raises(BadInput, match=r"layout nowhere\.toml: cannot be read"):
        settled("layout", tmp_path, {"layout": "nowhere.toml"})
    with pytest.raises(BadInput, match=r"layout brots: is unknown; name a \.toml file, or one of brats"):
        settled("layout", tmp_path, {"layout": "brots"})


def test_a_cohort_reads_without_the_known_layouts(tmp_path):
    """What is kept are templates: a record that changes later does not change a dataset."""
    nifti(tmp_path / "a/imaging.nii.gz", intensities(0))
    nifti(tmp_path / "a/segmentation.nii.gz", segmentation(0))
    options = settled("layout", tmp_path, {"layout": "kits"})
    assert options["image"] == "{subject}/imaging" and "layout" not in options
    samples = scan("layout", tmp_path, options).samples
    with opens_under(tmp_path) as opened:
        (reading,) = format_named("layout").read(tmp_path, samples, options)
    assert opened == {"a/imaging.nii.gz", "a/segmentation.nii.gz"} and np.array_equal(reading.label, segmentation(0))


def test_a_withdrawn_patients_row_is_not_kept_where_a_pattern_finds_patients_in_names(tmp_path: Path) -> None:
    for name in ("P01_20200101", "P02_20200101"):
        (tmp_path / name).mkdir()
        nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)).to_filename(tmp_path / name / "T1.nii.gz")
    (tmp_path / "info.csv").write_text("id,diagnosis\nP01,rare\nP02,common\n")
    index = MemoryIndex()
    options = {"image": "{subject}/{modality}", "table": "info.csv", "id_column": "id", "subject": r"^(.+)_\d{8}$"}
    scan("layout", tmp_path, options, index, "P01".__eq__)
    kept = repr(index._known)
    assert "common" in kept and "rare" not in kept


def test_structures_that_overlap_are_decided_by_name_and_counted(tmp_path):
    found = organs(tmp_path, liver=box(1, 2), spleen=box(2, 3), tumour=box(2))
    (problem,) = found.errors
    assert "liver and spleen share voxels (42), " in problem.cause
    proposed = re.search(r"on_top=(\S+),? ", problem.remedy)[1].rstrip(",")
    base = {"layout": "totalsegmentator"}
    for order in (proposed, "tumour,spleen", "spleen"):
        options = settled("layout", tmp_path, {**base, "on_top": order})
        decided = scan("layout", tmp_path, options)
        assert decided.errors == () and len(decided.samples) == 1
        top = order.split(",")[0]
        assert any(f"{top} keeps 42 voxels that both have" in one.cause for one in decided.problems)
        reading = next(format_named("layout").read(tmp_path, decided.samples, options))
        value = {"liver": 1, "spleen": 2, "tumour": 3}[top]
        assert (reading.label[2] == value).all() and (reading.label[1] == 1).all()


def test_which_structure_keeps_voxels_is_in_the_hash_of_a_cohort(tmp_path):
    organs(tmp_path, liver=box(1, 2), spleen=box(2))
    hashes = set()
    for top in ("liver", "spleen"):
        options = settled("layout", tmp_path, {"layout": "totalsegmentator", "on_top": top})
        samples = scan("layout", tmp_path, options).samples
        hashes.add(cohort_hash(Cohort(dataset="d", format="layout", options=options, samples=samples), b"k" * 16))
    assert len(hashes) == 2


def test_tables_of_which_none_was_named_are_said(tmp_path):
    nifti(tmp_path / "a/mri.nii.gz", intensities(0))
    (tmp_path / "names.csv").write_text("old,new\nx,y\n")
    (tmp_path / "survival.csv").write_text("id,days\na,70\n")
    options = {"image": "{subject}/mri"}
    (said,) = scan("layout", tmp_path, settled("layout", tmp_path, options)).problems
    assert "holds 2 tables beside the volumes (names.csv, survival.csv), and none of them is read" in str(said)
    assert said.remedy.endswith("--option table=survival.csv")
    found = scan("layout", tmp_path, settled("layout", tmp_path, options | {"table": "survival.csv"}))
    assert found.problems == () and found.samples[0].values == {"days": 70}


def test_a_table_may_name_the_files_of_its_subjects(tmp_path):
    for subject in ("001", "002"):
        nifti(tmp_path / f"images/{subject}.nii.gz", intensities(int(subject)))
    (tmp_path / "labels.csv").write_text("file,diagnosis\n001.nii.gz,AD\n./images/002.nii.gz,CN\n")
    found = scan("layout", tmp_path, settled("layout", tmp_path, {}))
    assert found.problems == ()
    assert [sample.values["diagnosis"] for sample in found.samples] == ["AD", "CN"]


def test_subjects_with_several_rows_are_said_once(tmp_path):
    nifti(tmp_path / "a/mri.nii.gz", intensities(0))
    (tmp_path / "nodules.csv").write_text("series,x\na,1\na,2\n")
    (said,) = scan("layout", tmp_path, settled("layout", tmp_path, {"image": "{subject}/mri"})).problems
    assert str(said).startswith("nodules.csv: a has 2 rows; none is used")


def test_modalities_on_two_grids_can_be_read_one_at_a_time(tmp_path):
    for subject in ("a", "b"):
        nifti(tmp_path / f"imagesTr/{subject}__CT.nii.gz", intensities(1))
        nifti(tmp_path / f"imagesTr/{subject}__PT.nii.gz", intensities(2, (3, 4, 5)))
        nifti(tmp_path / f"labelsTr/{subject}.nii.gz", segmentation(1))
    problems = scan("layout", tmp_path, settled("layout", tmp_path, {"layout": "hecktor"})).errors
    assert all("the CT has shape [5, 6, 7] and the PT [3, 4, 5]" in str(problem) for problem in problems)
    words = problems[0].remedy.partition("read CT alone: ")[2]
    assert words == "--image 'imagesTr/{subject}__{modality:ct}' --mask 'labelsTr/{subject}'"
    found = scan("layout", tmp_path, {"image": "imagesTr/{subject}__{modality:ct}", "label": "labelsTr/{subject}"})
    assert found.errors == () and found.subjects == 2


def test_the_template_with_more_letters_of_its_own_says_what_a_file_is(tmp_path):
    nifti(tmp_path / "a_0000.nii.gz", intensities(0))
    nifti(tmp_path / "a.nii.gz", segmentation(0))
    found = scan("layout", tmp_path, {"image": "{subject}_0000", "label": "{subject}"})
    assert found.problems == () and found.samples[0].files == {"image": "a_0000.nii.gz", "label": "a.nii.gz"}


@pytest.mark.parametrize("subjects", [("p1", "p2"), ("p1",)])
def test_images_that_hold_few_whole_numbers_are_pointed_out(tmp_path, subjects):
    for number, subject in enumerate(subjects):
        nifti(tmp_path / f"{subject}/T1.nii.gz", intensities(number))
        nifti(tmp_path / f"{subject}/kidney.nii.gz", box(1) + 2 * box(2))
    (said,) = scan("layout", tmp_path, {"image": "{subject}/{modality}"}).problems
    assert f"{len(subjects)} of {len(subjects)} image" in said.cause and "called kidney" in said.cause
    found = scan("layout", tmp_path, {"image": "{subject}/T1", "label": "{subject}/kidney"})
    assert found.problems == () and set(found.schema.label_values) == {"0", "1", "2"}


def test_images_that_were_scaled_are_no_drawings(tmp_path):
    scaled = np.clip(intensities(0) - 100, 0, None)
    nifti(tmp_path / "a.nii.gz", scaled / scaled.max())
    assert scan("layout", tmp_path, {"image": "{subject}"}).problems == ()


def test_labels_of_background_only_are_said(tmp_path):
    nifti(tmp_path / "a/ct.nii.gz", intensities(0))
    nifti(tmp_path / "a/seg.nii.gz", box())
    (said,) = scan("layout", tmp_path, {"image": "{subject}/ct", "label": "{subject}/seg"}).problems
    assert "1 label volume and all of them hold background only" in said.cause
