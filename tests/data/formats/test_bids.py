from __future__ import annotations

import re
import shutil
import sys

import nibabel
import numpy as np
import pytest
from conformance import SUBJECTS, Conformance, Expected, opens_under
from made_volumes import AFFINE, intensities, nifti, segmentation

from archipel.data import format_named, scan
from archipel.data.files import Folder
from archipel.data.formats import bids_validation, detect
from archipel.data.formats.covariates import read_covariates
from archipel.data.formats.found_volumes import FoundVolumes
from archipel.vocabulary import BadInput
from real_data import real_data

pytest.importorskip("bids")

OPTIONS = {"suffix": "T1w,T2w", "label": "desc-manual_dseg", "validate": "no"}


def image(root, subject, session, suffix, seed, *, run=""):
    inside = f"{subject}/{f'{session}/' if session else ''}anat"
    stem = "_".join(part for part in (subject, session, run) if part)
    nifti(root / inside / f"{stem}_{suffix}.nii.gz", intensities(seed))
    (root / inside / f"{stem}_{suffix}.json").write_text('{"EchoTime": 0.003}')
    return f"{inside}/{stem}_{suffix}.nii.gz"


def drawn(root, subject, session, seed):
    inside = f"derivatives/hand/{subject}/{f'{session}/' if session else ''}anat"
    stem = "_".join(part for part in (subject, session) if part)
    nifti(root / inside / f"{stem}_desc-manual_dseg.nii.gz", segmentation(seed))


class TestBids(Conformance):
    format = "bids"
    options = OPTIONS
    free_ids = False
    fragile = "*.nii.gz"

    def write(self, root, subjects=SUBJECTS):
        (root / "dataset_description.json").write_text('{"Name": "Made", "BIDSVersion": "1.10.0"}')
        (root / "README").write_text("Made for a test.\n")
        expected = {}
        rows = ["participant_id\tage\tsex"]
        for number, subject in enumerate(subjects):
            rows.append(f"{subject}\t{40 + number}\t{'MFM'[number]}")
            for visit, session in enumerate(("ses-pre", "ses-post") if number == 0 else ("",)):
                seed = 10 * number + visit
                images = {"T1w": intensities(seed)}
                image(root, subject, session, "T1w", seed)
                if number < 2:
                    image(root, subject, session, "T2w", seed + 5)
                    images["T2w"] = intensities(seed + 5)
                drawn(root, subject, session, seed)
                values = {"age": 40 + number, "sex": "MFM"[number]}
                expected[subject, session] = Expected(images, segmentation(seed), AFFINE, values=values)
        (root / "participants.tsv").write_text("\n".join(rows) + "\n")
        return expected

    def change(self, root):
        image(root, "sub-02", "", "T1w", 77)
        return "sub-02/anat/sub-02_T1w.nii.gz"

    def remove(self, root):
        (root / "derivatives/hand/sub-01/ses-pre/anat/sub-01_ses-pre_desc-manual_dseg.nii.gz").unlink()
        return "sub-01_ses-pre_desc-manual_dseg.nii.gz"

    def repeat(self, root):
        image(root, "sub-03", "", "T1w", 30, run="run-2")
        return "sub-03: has 2 T1w images (sub-03_T1w.nii.gz, sub-03_run-2_T1w.nii.gz)"

    def test_a_second_scan_opens_only_what_changed(self, root):
        # A sidecar is not a part of a sample: rewritten with the image, it is not read again.
        self.write(root)
        json_file = root / "sub-02/anat/sub-02_T1w.json"
        before = json_file.stat()
        original, self.change = self.change, lambda root: nifti(root / "sub-02/anat/sub-02_T1w.nii.gz", intensities(77))
        try:
            super().test_a_second_scan_opens_only_what_changed(root)
        finally:
            self.change = original
        assert before.st_size == json_file.stat().st_size


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    TestBids().write(root)
    return root


def sentences(found):
    return [str(one) for one in found.problems]


@pytest.mark.processes
def test_the_validator_finds_nothing_in_a_sound_tree(tree):
    found = scan("bids", tree, {**OPTIONS, "validate": "yes"})
    assert sentences(found) == []


@pytest.mark.processes
def test_what_the_validator_finds_is_a_warning_a_kind_of_fault(tree):
    (tree / "dataset_description.json").write_text('{"Name": "Made"}')
    for number in range(5):
        (tree / f"sub-01/ses-pre/anat/sub-01_ses-pre_note{number}.txt").write_text("a note")
    found = scan("bids", tree, {**OPTIONS, "validate": "yes"})
    assert found.errors == () and len(found.samples) == 4
    lines = sentences(found)
    assert any("BIDSVersion" in line and line.startswith("dataset_description.json: is not BIDS") for line in lines)
    assert any("and 2 more: is not BIDS" in line for line in lines)


@pytest.mark.processes
def test_the_validator_says_nothing_of_subjects_who_are_left_out(tree):
    for subject in ("sub-02", "sub-03"):
        (tree / f"{subject}/anat/{subject}_note.txt").write_text("a note")
        (tree / f"derivatives/hand/{subject}/anat/{subject}_desc-manual_dseg.json").write_text("no JSON")
    whole = "\n".join(sentences(scan("bids", tree, {**OPTIONS, "validate": "yes"})))
    assert "sub-02/anat/sub-02_note.txt, sub-03/anat/sub-03_note.txt: is not BIDS" in whole
    found = scan("bids", tree, {**OPTIONS, "validate": "yes"}, leaves_out="sub-02".__eq__)
    assert "sub-02" not in "\n".join(sentences(found))
    assert any(line.startswith("sub-03/anat/sub-03_note.txt: is not BIDS") for line in sentences(found))
    (tree / "sub-02/away").symlink_to(tree.parent)
    (warning,) = bids_validation.validate(tree, leaves_out="sub-02".__eq__)
    assert "symbolic links to folders or to files outside it; replace" in str(warning)


def test_the_sessions_of_a_subject_who_is_left_out_are_not_read(tree):
    rows = "session_id\tweight\nses-pre\t70\nses-pre\t71\n"
    for subject in ("sub-01", "sub-02"):
        (tree / subject / f"{subject}_sessions.tsv").write_text(rows)
    (one, two) = scan("bids", tree, OPTIONS).problems
    assert (one.subject, two.subject) == ("sub-01", "sub-02") and "ses-pre has 2 rows" in one.cause
    with opens_under(tree) as opened:
        found = scan("bids", tree, OPTIONS, leaves_out="sub-01".__eq__)
    assert [problem.subject for problem in found.problems] == ["sub-02"]
    assert "sub-02/sub-02_sessions.tsv" in opened and "sub-01/sub-01_sessions.tsv" not in opened


@pytest.mark.processes
def test_a_validator_that_is_not_there_hangs_or_fails_is_said(tree, monkeypatch):
    def said(command):
        monkeypatch.setattr(bids_validation, "_command", lambda: command)
        (problem,) = bids_validation.validate(tree, patience=1)
        assert problem.severity == "warning"
        return str(problem)

    assert "the BIDS validator is not installed; pip install archipel[bids]" in said(None)
    assert "took longer than 1 seconds" in said([sys.executable, "-c", "import time; time.sleep(60)"])
    assert "the BIDS validator failed (JSONDecodeError)" in said([sys.executable, "-c", "print('no JSON')"])
    assert "the BIDS validator failed (FileNotFoundError)" in said(["/nowhere/deno"])
    assert "the BIDS validator failed (ValidationError)" in said([sys.executable, "-c", "print('[]')"])


@pytest.mark.processes
def test_the_validator_reads_the_tree_and_nothing_else(tree, tmp_path):
    rights = [one for one in bids_validation._command() if one.startswith(("--allow", "-A"))]
    assert rights == ["--allow-env", "--allow-read=."]
    awkward = tmp_path / "ein, Baum"
    shutil.copytree(tree, awkward)
    assert bids_validation.validate(awkward) == []


@pytest.mark.processes
def test_the_validator_follows_no_link_out_wherever_it_lies(tree, tmp_path):
    """It would list the names in a folder that is none of the dataset's."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/Anna Muster.txt").write_text("a name")
    why = "was not validated because it contains symbolic links to folders or to files outside it"
    for place in ("sourcedata/raw", "sub-01/ses-pre/func", "code/a/b"):
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        (tree / place).symlink_to(tmp_path / "elsewhere")
        (warning,) = bids_validation.validate(tree)
        assert warning.severity == "warning"
        assert f"{why} ({place})" in str(warning)
        (tree / place).unlink()
    assert bids_validation.validate(tree) == []


@pytest.mark.processes
def test_the_validator_does_not_run_in_circles(tree):
    (tree / "sourcedata").mkdir()
    for name in ("again", "and_again"):
        (tree / "sourcedata" / name).symlink_to("..")
    (tree / "sourcedata/itself").symlink_to("itself")
    assert "(sourcedata/again, sourcedata/and_again)" in str(bids_validation.validate(tree)[0])


@pytest.mark.processes
def test_links_to_files_of_the_tree_itself_are_validated(tree):
    """As git-annex has them."""
    (tree / ".git/annex").mkdir(parents=True)
    kept = (tree / "README").rename(tree / ".git/annex/key")
    (tree / "README").symlink_to(kept.relative_to(tree))
    assert bids_validation.validate(tree) == []


@pytest.mark.parametrize("value", ["*", "an?t", "[a]nat", "..", ".", "", "../tree/sub-01", "anat/"])
@pytest.mark.parametrize("option", ["datatype", "derivatives"])
def test_an_option_that_is_no_name_of_a_folder_is_refused(tree, option, value):
    with pytest.raises(BadInput, match=re.escape(f"option {option}={value}: is not a name of a folder")):
        scan("bids", tree, {**OPTIONS, option: value})


def test_no_name_in_the_tree_is_taken_for_a_pattern(tree):
    (tree / "derivatives/hand").rename(tree / "derivatives/[x]*")
    assert len(scan("bids", tree, OPTIONS).samples) == 4
    (tree / "derivatives/x1").mkdir()
    assert "has 2 folders in derivatives/ ([x]*, x1)" in sentences(scan("bids", tree, OPTIONS))[0]
    (tree / "sub-[0]").mkdir()
    (tree / "sub-0").mkdir()
    (tree / "sub-0/sub-0_sessions.tsv").write_text("session_id\tscore\nses-pre\t3\n")
    found = FoundVolumes(Folder(tree))
    assert read_covariates(Folder(tree), "sub-[0]/sub-[0]_sessions.tsv", found) is None
    assert read_covariates(Folder(tree), "sub-*/sub-0_sessions.tsv", found) is None
    assert read_covariates(Folder(tree), "sub-0/sub-0_sessions.tsv", found) is not None


def test_segmentations_that_nobody_asked_for_are_pointed_out(tree):
    found = scan("bids", tree, {"suffix": "T1w", "validate": "no"})
    assert [str(one) for one in found.problems] == [
        "derivatives/hand: holds 4 segmentations *_desc-manual_dseg.nii.gz, and none is taken; add the dataset with "
        "--option label=desc-manual_dseg to have them as labels"
    ]
    assert found.errors == () and len(found.samples) == 4
    (tree / "derivatives/other/sub-01/anat").mkdir(parents=True)
    nifti(tree / "derivatives/other/sub-01/anat/sub-01_ses-pre_T1w_label.nii.gz", segmentation(1))
    nifti(tree / "derivatives/other/sub-01/anat/sub-01_ses-pre_T1w.nii.gz", intensities(1))
    nifti(tree / "derivatives/other/sub-01/anat/sub-01_ses-pre_space-T1w_desc-brain_mask.nii.gz", segmentation(1))
    nifti(tree / "derivatives/other/sub-01/anat/sub-01_ses-pre_label-GM_mask.nii.gz", segmentation(1))
    one, two = scan("bids", tree, {"suffix": "T1w", "validate": "no"}).problems
    assert one.remedy.startswith("add the dataset with --option label=desc-manual_dseg --option derivatives=hand to")
    assert "holds 3 segmentations *_desc-brain_mask.nii.gz, *_label.nii.gz, *_label-GM_mask.nii.gz" in str(two)
    assert two.remedy.startswith("add the dataset with --option label=desc-brain_mask --option derivatives=other to")
    said = {"label": "desc-brain_mask", "derivatives": "other", "suffix": "T1w", "validate": "no"}
    assert any("label" in sample.files for sample in scan("bids", tree, said).samples)
    (tree / "derivatives/hand").rename(tree / "hand")
    (tree / "derivatives/other").rename(tree / "other")
    assert scan("bids", tree, {"suffix": "T1w", "validate": "no"}).problems == ()


def test_a_tree_that_is_not_bids_is_named(tmp_path):
    nifti(tmp_path / "patient 1/T1.nii.gz", intensities(0))
    lines = sentences(scan("bids", tmp_path, OPTIONS))
    assert any("has no dataset_description.json" in line for line in lines)
    assert any("has no image (looked in sub-*/[ses-*/]anat/)" in line for line in lines)


def test_a_name_that_bids_does_not_know_is_named_and_the_others_are_used(tree):
    nifti(tree / "sub-02/anat/brain.nii.gz", intensities(1))
    nifti(tree / "sub-02/anat/sub-03_T1w.nii.gz", intensities(1))
    found = scan("bids", tree, OPTIONS)
    assert len(found.samples) == 4
    assert [one.thing for one in found.problems] == ["sub-02/anat/brain.nii.gz", "sub-02/anat/sub-03_T1w.nii.gz"]


def test_a_missing_sidecar_is_a_warning_unless_it_is_inherited(tree):
    (tree / "sub-03/anat/sub-03_T1w.json").unlink()
    found = scan("bids", tree, OPTIONS)
    assert [(one.severity, one.subject) for one in found.problems] == [("warning", "sub-03")]
    assert "has no sidecar (looked for sub-03_T1w.json)" in sentences(found)[0]
    (tree / "T1w.json").write_text("{}")
    assert scan("bids", tree, OPTIONS).problems == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("subject\tage\nsub-01\t3\n", "has no column participant_id (it has subject, age)"),
        ("participant_id\tage\nsub-01\t1\t9\nsub-02\t2\nsub-03\t3\n", "line 2 has 3 fields, the header 2"),
        ("participant_id\tage\nsub-01\t1\nsub-01\t2\nsub-02\t2\nsub-03\t3\n", "sub-01 has 2 rows; none is used"),
        ("participant_id\tage\nsub-01\t1\nsub-02\t2\nsub-03\t3\nsub-04\t3\n", "sub-04: has a row in participants.tsv"),
        ("participant_id\tage\nsub-01\t1\nsub-02\t2\n", "sub-03: has no row in participants.tsv"),
        ("participant_id,age\nsub-01,1\n", "has no column participant_id (it has participant_id,age)"),
        ("", "participants.tsv"),
        (b"\xff\xfe\0\0\xd8", "participants.tsv"),
    ],
)
def test_a_bad_participants_file_is_named_line_by_line_and_costs_no_volume(tree, text, words):
    (tree / "participants.tsv").write_bytes(text if isinstance(text, bytes) else text.encode())
    found = scan("bids", tree, OPTIONS)
    assert found.errors == () and len(found.samples) == 4
    assert words in " ".join(sentences(found))


def test_participants_may_be_a_list_of_ids(tree):
    (tree / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\nsub-03\n")
    found = scan("bids", tree, OPTIONS)
    assert found.errors == () and len(found.samples) == 4


def test_values_of_a_session_are_its_own(tree):
    (tree / "sub-01/sub-01_sessions.tsv").write_text("session_id\tscore\nses-pre\t3\nses-post\t5\n")
    found = scan("bids", tree, OPTIONS)
    assert [(one.session, one.values.get("score")) for one in found.samples[:2]] == [("ses-post", 5), ("ses-pre", 3)]


def test_runs_are_chosen_by_their_part_of_the_name(tree):
    image(tree, "sub-03", "", "T1w", 31, run="run-2")
    image(tree, "sub-03", "", "T1w", 32, run="run-1")
    found = scan("bids", tree, {"suffix": "T1w", "entities": "run-2", "validate": "no"})
    assert found.samples[-1].files["image"] == "sub-03/anat/sub-03_run-2_T1w.nii.gz"
    assert {sample.subject for sample in found.samples} == {"sub-01", "sub-02", "sub-03"}, "one image needs no number"
    image(tree, "sub-02", "", "T1w", 33, run="run-9")
    (tree / "sub-02/anat/sub-02_T1w.nii.gz").unlink()
    other = scan("bids", tree, {"suffix": "T1w", "entities": "run-2", "validate": "no"})
    assert "sub-02" not in {sample.subject for sample in other.samples}, "another run is not the one that was chosen"


def test_the_option_that_an_error_proposes_works(tree):
    image(tree, "sub-03", "", "T1w", 31, run="run-2")
    image(tree, "sub-03", "", "T1w", 32, run="run-1")
    options = {"suffix": "T1w", "validate": "no"}
    (said,) = scan("bids", tree, options).errors
    assert "has 3 T1w images" in said.cause
    name, value = said.remedy.rpartition("--option ")[2].split("=")
    found = scan("bids", tree, {**options, name: value})
    assert found.errors == () and {sample.subject for sample in found.samples} >= {"sub-01", "sub-02", "sub-03"}


def test_a_tree_without_its_description_is_bids_and_says_what_to_write(tree):
    (tree / "dataset_description.json").unlink()
    assert [fit.format for fit in detect(tree)] == ["bids"]
    (said,) = scan("bids", tree, {"suffix": "T1w", "validate": "no"}).errors
    assert "has no dataset_description.json" in said.cause
    (tree / "dataset_description.json").write_text(said.remedy.partition("write the file there: ")[2])
    assert scan("bids", tree, {"suffix": "T1w", "validate": "no"}).errors == ()


def test_the_folder_of_derivatives_is_said_when_there_are_several(tree):
    (tree / "derivatives/other/sub-01").mkdir(parents=True)
    assert "has 2 folders in derivatives/ (hand, other); name one" in " ".join(sentences(scan("bids", tree, OPTIONS)))
    assert scan("bids", tree, {**OPTIONS, "derivatives": "hand"}).problems == ()
    wrong = scan("bids", tree, {**OPTIONS, "derivatives": "other"})
    assert "derivatives/other: holds no segmentation" in " ".join(sentences(wrong)) and wrong.samples == ()


def test_a_file_of_git_annex_that_was_not_fetched_is_named(tree):
    place = tree / "sub-03/anat/sub-03_T1w.nii.gz"
    place.unlink()
    place.symlink_to("../../.git/annex/objects/xx/yy.nii.gz")
    found = scan("bids", tree, OPTIONS)
    assert (
        "sub-03/anat/sub-03_T1w.nii.gz: is a link to a file that does not exist; fetch the file" in sentences(found)[0]
    )


@pytest.mark.processes
def test_the_spine_subject_with_its_derivatives():
    root = real_data("bids_spine")
    found = scan("bids", root, {"suffix": "T2w", "label": "seg-manual"})
    assert found.errors == ()
    (sample,) = found.samples
    assert sample.files == {
        "image": "sub-unf01/anat/sub-unf01_T2w.nii.gz",
        "label": "derivatives/labels/sub-unf01/anat/sub-unf01_T2w_seg-manual.nii.gz",
    }
    (reading,) = format_named("bids").read(root, found.samples, {})
    label = nibabel.load(root / sample.files["label"])
    assert np.array_equal(reading.label, np.asarray(label.dataobj)) and reading.label.any()
    lines = " ".join(sentences(found))
    assert "sub-unf02: has a row in participants.tsv and no folder" in lines
    assert "TSV_VALUE_INCORRECT_TYPE age" in lines
    assert "may name a person (first_name, last_name, date_of_birth)" in lines


def test_the_spine_subjects_contrasts_are_modalities_and_their_segmentations_are_told_apart():
    root = real_data("bids_spine")
    found = scan("bids", root, {"validate": "no"})
    assert found.errors == () and found.schema.modalities == {"T1w": 1, "T2star": 1, "T2w": 1}
    for suffix in ("T1w", "T2star", "T2w"):
        one = scan("bids", root, {"suffix": suffix, "label": "seg-manual", "validate": "no"})
        assert one.samples[0].files["label"].endswith(f"sub-unf01_{suffix}_seg-manual.nii.gz")
    both = scan("bids", root, {"suffix": "T1w,T2w", "label": "seg-manual", "validate": "no"})
    assert "sub-unf01: has 2 segmentations" in str(both.errors[0])
    moved = scan("bids", root, {"suffix": "T2w", "label": "lesion-manual", "validate": "no"})
    assert "sub-unf01: the grids of image and label are up to 0.5852 mm apart at their corners" in str(moved.errors[0])
    chosen = scan("bids", root, {"suffix": "T1w,T2w", "label": "T2w_seg-manual", "validate": "no"})
    assert chosen.errors == () and set(chosen.samples[0].files) == {"T1w", "T2w", "label"}


@pytest.mark.parametrize("content", ["[]", "", "{", "null"])
def test_a_description_that_is_no_json_object_is_named(tree, content):
    (tree / "dataset_description.json").write_text(content)
    assert "dataset_description.json: cannot be read as JSON" in str(scan("bids", tree, OPTIONS).errors[0])


def test_rows_of_sessions_and_ids_without_their_prefix_are_understood(tree):
    rows = ["participant_id\tsession_id\tage", "01\tses-pre\t40", "01\tpost\t41", "02\tn/a\t50", "sub-03\t\t60"]
    (tree / "participants.tsv").write_text("\n".join(rows) + "\n")
    found = scan("bids", tree, {"suffix": "T1w", "validate": "no"})
    assert not [str(problem) for problem in found.problems if "participants.tsv" in str(problem)]
    ages = {sample.key: sample.values.get("age") for sample in found.samples}
    assert ages[("sub-01", "ses-pre")] == 40 and ages[("sub-01", "ses-post")] == 41
    assert ages[("sub-02", "")] == 50 and ages[("sub-03", "")] == 60
    (tree / "participants.tsv").write_text("\n".join([*rows, "01\tses-pre\t42"]) + "\n")
    said = " ".join(map(str, scan("bids", tree, {"suffix": "T1w", "validate": "no"}).problems))
    assert "sub-01_ses-pre has 2 rows; none is used" in said


def test_images_on_two_grids_may_be_read_alone(tree):
    nifti(tree / "sub-02/anat/sub-02_T2w.nii.gz", intensities(1, (3, 4, 5)))
    options = {"suffix": "T1w,T2w", "validate": "no"}
    (said,) = scan("bids", tree, options).errors
    name, value = said.remedy.rpartition("--option ")[2].split("=")
    assert said.subject == "sub-02" and scan("bids", tree, {**options, name: value}).errors == ()


def two_pipelines(tree):
    nifti(tree / "derivatives/other/sub-01/ses-pre/anat/sub-01_ses-pre_desc-brain_mask.nii.gz", segmentation(1))
    return {"label": "desc-manual_dseg"}


def another_ending(tree):
    return {"label": "seg"}


def an_ending_of_two(tree):
    for subject, inside in (("sub-01", "ses-pre/"), ("sub-01", "ses-post/"), ("sub-02", ""), ("sub-03", "")):
        stem = f"{subject}_{inside.strip('/')}_" if inside else f"{subject}_"
        nifti(tree / f"derivatives/hand/{subject}/{inside}anat/{stem}desc-auto_dseg.nii.gz", segmentation(4))
    return {"label": "dseg"}


def labels_that_nobody_asked_for(tree):
    return {}


@pytest.mark.parametrize("made", [two_pipelines, another_ending, an_ending_of_two, labels_that_nobody_asked_for])
def test_the_options_that_a_sentence_proposes_end_it(tree, made):
    options = {"suffix": "T1w", "validate": "no", **made(tree)}
    said = next(one for one in scan("bids", tree, options).problems if "--option " in one.remedy)
    proposed = dict(re.findall(r"--option (\w+)=([\w.-]+)", said.remedy))
    found = scan("bids", tree, options | proposed)
    assert proposed and said not in found.problems and found.errors == ()
    assert all("label" in sample.files for sample in found.samples) and len(found.samples) == 4
