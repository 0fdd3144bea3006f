"""The page Labels and geometry: each sentence of its table is one that a scan says, with the severity that it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from made_volumes import AFFINE, intensities, nifti
from test_grids import headed, moved_pair
from test_label_values import SHAPE, blocks, pair
from test_layout import box, organs
from test_segments import LIVER, SPLEEN, TUMOUR, cropped, keys, subject, two_numberings

from archipel.data import scan

PAGE = Path(__file__).parents[3] / "docs/labels-and-geometry.md"
ROWS = re.findall(r"^\| `(.+?)` \| (error|warning) \|", PAGE.read_text(), re.MULTILINE)


def nifti_pair(root, **fields):
    headed(root / "images/a.nii", intensities(0, SHAPE), **fields)
    nifti(root / "labels/a.nii", blocks())
    return scan("nifti-pairs", root)


def segmented(root, values, extra="", options=None, **how):
    subject(root, "a", values, extra, **how)
    return scan("nrrd", root, options or {})


def swapped_forms(root):
    image = nibabel.Nifti1Image(intensities(0, SHAPE), AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(np.eye(4), 1)
    (root / "images").mkdir()
    image.to_filename(root / "images/a.nii")
    nifti(root / "labels/a.nii", blocks())
    return scan("nifti-pairs", root)


def numbered(root):
    two_numberings(root)
    return scan("nrrd", root)


def partly_named(root):
    subject(root, "b", LIVER, keys(("liver", 1, 0)))
    return segmented(root, LIVER)


def cut(root):
    cropped(root, shift=0.3)
    return scan("nrrd", root)


def one_channel_more(root):
    nifti(root / "imagesTr/a.nii.gz", intensities(0, (*SHAPE, 3)))
    nifti(root / "labelsTr/a.nii.gz", blocks())
    described = {"modality": {"0": "T1", "1": "T2"}, "labels": {"0": "background", "1": "a", "2": "b"}}
    (root / "dataset.json").write_text(json.dumps(described))
    return scan("msd", root)


def unplaced(root):
    nifti(root / "images/a.nii", intensities(0, SHAPE))
    headed(root / "labels/a.nii", blocks(), sform_code=0, qform_code=0)
    return scan("nifti-pairs", root)


def nowhere(root):
    headed(root / "images/a.nii", intensities(0, SHAPE), sform_code=0, qform_code=0)
    headed(root / "labels/a.nii", blocks(), sform_code=0, qform_code=0)
    return scan("nifti-pairs", root)


def tiny(root):
    nifti(root / "images/a.nii", intensities(0, SHAPE), np.diag([0.001, 0.001, 0.001, 1]))
    nifti(root / "labels/a.nii", blocks(), np.diag([0.001, 0.001, 0.001, 1]))
    return scan("nifti-pairs", root)


POSITIVE = np.clip(intensities(0, SHAPE), 0, 4000).astype(np.int16)
BOTH = keys(("liver", 1, 0), ("tumour", 1, 1))
CASES = {
    "is the image itself": lambda root: pair(root, POSITIVE, POSITIVE),
    "holds a mask that was scaled": lambda root: pair(root, blocks() * np.float32(0.9999)),
    "holds a mask that was interpolated": lambda root: pair(root, blocks() * np.float32(0.3)),
    "holds negative values": lambda root: pair(root, blocks().astype(np.int16) - 1),
    "holds values above 32767": lambda root: pair(root, blocks().astype(np.int32) * 40_000),
    "NaN or infinite": lambda root: pair(root, np.where(blocks() > 0, 1, np.nan)),
    "values of two names are not merged": numbered,
    "which the option segments does not name": lambda root: segmented(
        root, LIVER, keys(("liver", 1, 0)), {"segments": "spleen"}
    ),
    "does not name its segments": lambda root: segmented(root, LIVER, "", {"segments": "liver"}),
    "has segments that overlap": lambda root: segmented(root, np.stack([LIVER, TUMOUR]), BOTH, layers_at=0),
    "has structures that overlap": lambda root: organs(root, liver=box(1, 2), spleen=box(2)),
    "voxels that both have": lambda root: segmented(
        root, np.stack([LIVER, TUMOUR]), BOTH, {"on_top": "tumour"}, layers_at=0
    ),
    "is not a part of the grid of the": cut,
    "mm apart at their corners": lambda root: moved_pair(root, 0.5),
    "has no geometry": unplaced,
    "channels, and the description names": one_channel_more,
    "image and label may be swapped": lambda root: pair(root, POSITIVE),
    "its label has values that": lambda root: segmented(root, LIVER + 2 * SPLEEN, keys(("liver", 1, 0))),
    "without names of segments": partly_named,
    "does not state its orientation in the patient": nowhere,
    "sform and qform are": swapped_forms,
    "a qform that is not a rotation": lambda root: nifti_pair(root, sform_code=1, qform_code=1, quatern_b=3.0),
    "its unit of length is": lambda root: nifti_pair(root, xyzt_units=3),
    "has voxels of": tiny,
}


def test_the_page_has_a_row_for_each_case():
    assert [next(case for case in CASES if phrase.startswith(case)) for phrase, _ in ROWS] == list(CASES)


@pytest.mark.parametrize(("phrase", "severity"), ROWS)
def test_a_sentence_of_the_page_is_what_a_scan_says(tmp_path, phrase, severity):
    make = next(made for case, made in CASES.items() if phrase.startswith(case))
    said = [problem for problem in make(tmp_path).problems if phrase in str(problem)]
    assert said and {problem.severity for problem in said} == {severity}
