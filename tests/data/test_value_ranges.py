"""What numbers an input holds: the scale for which a plan is written, and the one that a site has."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from archipel.data import Cohort, DataMapping, DataSchema, Verdict, check_needs, scan, unmatched_names
from archipel.data.cohorts import cohort_hash, range_faults
from archipel.data.samples import FoundValues
from archipel.data.synthetic.dummy import Dummies
from archipel.simulation import scanned_site
from archipel.vocabulary import DataNeeds, InputValues, ValueRange, differing_values

EIGHT_BITS = DataNeeds(kind="arrays", values={"x": InputValues(type="uint8", minimum=0, maximum=255)})
HOUNSFIELD = DataNeeds(kind="volumes", values={"image": InputValues(minimum=-1024, maximum=3071, unit="HU")})


def arrays(kind, *ends):
    found = {"x": FoundValues(minimum=ends[0], maximum=ends[1])} if ends else {}
    return DataSchema(kind="arrays", subjects=9, samples=9, arrays={"x": f"{kind} [4, 4]"}, values=found)


def volumes(low, high, narrowest=None):
    found = FoundValues(minimum=low, maximum=high, narrowest=narrowest)
    return DataSchema(kind="volumes", subjects=9, samples=9, modalities={"image": 9}, values={"image": found})


def answer(needs, schema, **declared):
    mapping = DataMapping(values={name: ValueRange(**scale) for name, scale in declared.items()})
    (one,) = [one for one in check_needs(needs, schema, mapping) if one.need.startswith("values of")]
    return one.verdict, one.why


def test_numbers_on_the_scale_of_the_plan_fit():
    assert answer(EIGHT_BITS, arrays("uint8", 0, 255)) == (Verdict.MET, "")
    assert answer(HOUNSFIELD, volumes(-1024, 3071)) == (Verdict.MET, "the dataset does not say its unit")
    assert answer(HOUNSFIELD, volumes(-1000, 2000), image={"unit": "HU"}) == (Verdict.MET, "")


def test_another_depth_another_scale_and_numbers_beyond_it_do_not_fit():
    assert answer(EIGHT_BITS, arrays("uint16", 0, 4095)) == (
        Verdict.NOT_MET,
        "x is uint16 here; store it as uint8; for pictures, add the dataset with --option window=LOW,HIGH",
    )
    verdict, why = answer(HOUNSFIELD, volumes(0, 255))
    assert verdict is Verdict.NOT_MET and "those of image are only 0 to 255, which looks like another scale" in why
    verdict, why = answer(HOUNSFIELD, volumes(-2048, 3071))
    assert (verdict, why) == (Verdict.NOT_MET, "those of image are -2048 to 3071; store them on the plan's scale")
    assert answer(HOUNSFIELD, volumes(-1000, 2000), image={"unit": "g/ml"})[0] is Verdict.NOT_MET
    assert answer(EIGHT_BITS, arrays("uint8"))[1].startswith("the values of x were not measured yet")


def test_a_scale_that_a_person_wrote_settles_what_numbers_leave_open():
    dark = volumes(0, 200)
    assert answer(HOUNSFIELD, dark)[0] is Verdict.NOT_MET
    here = {"minimum": -1024, "maximum": 3071, "unit": "HU"}
    assert answer(HOUNSFIELD, dark, image=here) == (Verdict.MAPPED, "as the mapping declares")
    verdict, why = answer(HOUNSFIELD, dark, image={"minimum": 0, "maximum": 255})
    assert verdict is Verdict.NOT_MET and why.startswith("image is 0 to 255 by the mapping (values.image); correct it")


def test_an_end_that_only_one_of_both_says_contradicts_nothing():
    uptake = DataNeeds(kind="volumes", values={"image": InputValues(minimum=0, unit="SUV")})
    assert answer(uptake, volumes(0, 14), image={"minimum": 0, "maximum": 40, "unit": "SUV"}) == (Verdict.MET, "")
    assert answer(uptake, volumes(-3, 14))[0] is Verdict.NOT_MET
    assert answer(uptake, volumes(0, 14), image={"minimum": 1, "unit": "SUV"})[0] is Verdict.NOT_MET


def test_one_sample_on_another_scale_is_pointed_out_among_others():
    said = answer(HOUNSFIELD, volumes(-1024, 3071, (0, 1)), image={"unit": "HU"})
    assert said == (Verdict.MET, "a sample has only 0 to 1; look at it")


def test_a_declared_scale_on_which_the_numbers_are_not_is_a_fault():
    mapping = DataMapping(values={"image": ValueRange(minimum=0, maximum=255), "PET": ValueRange(unit="SUV")})
    (fault,) = range_faults(mapping, volumes(-1000, 200))
    assert str(fault).startswith("values of image: are 0 to 255 by the mapping, and are -1000 to 200; write the scale")
    assert not list(range_faults(mapping, volumes(0, 200)))
    assert unmatched_names(mapping, volumes(0, 200)) == ("values.PET: the dataset has no PET (there: image)",)


def test_what_a_plan_cannot_ask_is_refused():
    for wrong in (
        {"kind": "arrays", "values": {"y": {"minimum": 0}}},
        {"kind": "volumes", "values": {"T1": {"minimum": 0}}},
        {"kind": "volumes", "values": {"image": {"type": "uint8"}}},
        {"kind": "arrays", "values": {"x": {"minimum": 1, "maximum": 1}}},
        {"kind": "arrays", "values": {"x": {"type": "string"}}},
    ):
        with pytest.raises(ValidationError):
            DataNeeds.model_validate(wrong)


def test_a_scan_measures_what_plans_get(tmp_path):
    rows = tmp_path / "rows"
    rows.mkdir()
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    x[2, 0] = np.nan
    np.savez(rows / "d.npz", x=x, y=np.zeros(3), subject=["a", "b", "c"])
    assert scan("npz", rows).schema.values == {"x": FoundValues(minimum=0, maximum=7)}, "not of a row that is left out"
    for name, value in (("ill", 300), ("well", 4000)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        picture = np.array([[100, value]], np.uint16)
        Image.fromarray(picture).save(tmp_path / "pictures" / name / f"{name}.png")
    found = scan("class-folders", tmp_path / "pictures").schema.values
    assert found == {"x": FoundValues(minimum=100, maximum=4000, narrowest=(100, 300))}
    windowed = scan("class-folders", tmp_path / "pictures", {"window": "0,510"}).schema
    assert windowed.arrays == {"x": "uint8 [1, 2]"}
    assert windowed.values == {"x": FoundValues(minimum=50, maximum=255, narrowest=(50, 150))}
    for subject, top in (("a", 7.0), ("b", 9.0)):
        for part, values in (("images", np.linspace(-3, top, 64)), ("labels", np.arange(64) % 2)):
            path = tmp_path / "brains" / part / f"{subject}.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(values.reshape(4, 4, 4).astype(np.float32), np.eye(4)).to_filename(path)
    found = scan("nifti-pairs", tmp_path / "brains").schema.values
    assert found == {"image": FoundValues(minimum=-3, maximum=9, narrowest=(-3, 7))}


def test_dummy_samples_are_on_the_scale_of_the_plan():
    readings = list(Dummies(EIGHT_BITS, arrays("uint8", 0, 1), DataMapping(), "npz").readings())
    x = np.stack([one.arrays["x"] for one in readings])
    assert x.dtype == np.uint8 and x.min() < 30 and x.max() > 220
    schema = volumes(0, 1).model_copy(update={"shape_smallest": (8, 8, 8), "shape_largest": (8, 8, 8)})
    image = next(Dummies(HOUNSFIELD, schema, DataMapping(), "nifti-pairs").readings()).images["image"]
    assert -1024 <= image.min() < -900 and 2900 < image.max() <= 3071


def test_a_declared_scale_is_in_the_hash_of_a_cohort():
    key = b"k" * 16
    bare, declared = (
        Cohort(dataset="d", format="npz", samples=(), mapping=DataMapping(values=values))
        for values in ({}, {"x": ValueRange(unit="HU")})
    )
    assert cohort_hash(bare, key) != cohort_hash(declared, key)


def test_sites_of_a_simulation_whose_numbers_differ_are_named(tmp_path):
    for site, kind in (("north", np.uint8), ("south", np.uint16), ("west", np.uint8)):
        for name in ("ill", "well"):
            (tmp_path / site / name).mkdir(parents=True)
            Image.fromarray(np.full((2, 2), len(site + name), kind)).save(tmp_path / site / name / f"{name}.png")
    needs = DataNeeds(kind="arrays")
    sites = [scanned_site(path.name, path, needs, layout="class-folders") for path in sorted(tmp_path.iterdir())]
    (said,) = differing_values({one.name: one.values for one in sites})
    assert "the values of x are not the same everywhere: uint8 at north, west; uint16 at south; say in" in said
