"""The classes of a classification: one list in the plan, by name; ``y`` is the place in it for folders, groups and
categories of tables."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from PIL import Image

from archipel.data import (
    Cohort,
    ColumnMapping,
    ColumnSummary,
    DataMapping,
    DataSchema,
    RawSource,
    Sample,
    SampleData,
    SubjectSet,
    Verdict,
    check_needs,
    scan,
)
from archipel.data.prepared import PreparedCache, PreparedSource
from archipel.data.synthetic import Dummies
from archipel.plans import TorchPlan
from archipel.simulation.pooled import pooled_site
from archipel.simulation.sites import scanned_site
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, ColumnNeed, DataNeeds, ErrorCode

CLASSES = ("normal", "pneumonia", "covid")
TARGET = ColumnNeed(name="class", categories=CLASSES)
PICTURES = DataNeeds(kind="arrays", target=TARGET)


def pictures(root, *classes: str, each: int = 2):
    for name in classes:
        for number in range(each):
            place = root / name / f"{name}{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            draw = np.random.default_rng([*str(place.relative_to(root)).encode()])
            Image.fromarray(draw.integers(0, 256, (6, 5), np.uint8)).save(place)
    return root


def subjects(root, needs: DataNeeds = PICTURES, mapping: DataMapping | None = None, **options: str) -> SubjectSet:
    found = scan("class-folders", root, options)
    mapping = mapping or DataMapping()
    cohort = Cohort(dataset="t", format="class-folders", options=options, samples=found.samples, mapping=mapping)
    return SubjectSet(RawSource(root, cohort), cohort.samples, needs, mapping)


def answer(root, mapping: DataMapping | None = None, needs: DataNeeds = PICTURES, **options: str):
    return check_needs(needs, scan("class-folders", root, options).schema, mapping or DataMapping())[-1]


def test_two_sites_with_different_folders_get_the_same_number_for_a_class(tmp_path) -> None:
    """The first site has no covid and the second no normal: by the order of folders both would begin with 0."""
    first = subjects(pictures(tmp_path / "a", "normal", "pneumonia")).table()
    second = subjects(pictures(tmp_path / "b", "covid", "pneumonia")).table()
    assert dict(zip(first.ids, first.y, strict=True)) == {
        "normal0": 0, "normal1": 0, "pneumonia0": 1, "pneumonia1": 1,
    }  # fmt: skip
    assert dict(zip(second.ids, second.y, strict=True)) == {
        "covid0": 2, "covid1": 2, "pneumonia0": 1, "pneumonia1": 1,
    }  # fmt: skip
    assert first.y.dtype == second.y.dtype == np.int64


def test_a_site_that_lacks_a_class_fits_and_the_answer_says_so(tmp_path) -> None:
    said = answer(pictures(tmp_path, "normal", "pneumonia"))
    assert said.verdict is not Verdict.NOT_MET and said.why == "no sample is covid"


def test_a_folder_outside_of_the_list_is_mapped_or_left_out_by_name(tmp_path) -> None:
    root = pictures(tmp_path, "normal", "pneumonia", "pneumonia viral", "rotated")
    said = answer(root)
    assert said.verdict is Verdict.NOT_MET
    assert "it has pneumonia viral, rotated; the plan knows normal, pneumonia, covid" in said.why
    assert "map the values with columns.class.values" in said.why and "the option classes" in said.why
    with pytest.raises(BadInput, match="the plan knows normal, pneumonia, covid"):
        subjects(root).table()
    mapping = DataMapping(columns={"class": ColumnMapping(values={"pneumonia viral": "pneumonia"})})
    options = {"classes": "normal,pneumonia,pneumonia viral"}
    assert answer(root, mapping, **options).verdict is Verdict.MAPPED
    assert sorted(subjects(root, mapping=mapping, **options).table().y.tolist()) == [0, 0, 1, 1, 1, 1]


def test_a_plan_may_call_the_class_by_another_name(tmp_path) -> None:
    root = pictures(tmp_path, "ill", "well")
    needs = DataNeeds(kind="arrays", target=ColumnNeed(name="diagnosis", categories=("well", "ill")))
    assert "map one of them with columns.diagnosis" in answer(root, needs=needs).why
    mapping = DataMapping(columns={"diagnosis": ColumnMapping(source="class")})
    assert answer(root, mapping, needs).verdict is Verdict.MAPPED
    assert subjects(root, needs, mapping).table().y.tolist() == [1, 1, 0, 0]


def test_a_plan_that_names_no_classes_gets_no_y_from_folders(tmp_path) -> None:
    root, needs = pictures(tmp_path, "normal", "pneumonia"), DataNeeds(kind="arrays")
    table = subjects(root, needs).table()
    assert table.y is None and table.x.shape == (4, 6, 5)
    said = check_needs(needs, scan("class-folders", root).schema, DataMapping())[0]
    assert str(said) == "data of kind arrays: met (the plan names no classes, so it gets x without y)"
    with pytest.raises(BadInput) as caught:
        TorchPlan().examples(subjects(root, needs))
    assert caught.value.code is ErrorCode.BAD_PLAN and "names no classes in its needs" in str(caught.value)
    inputs, targets = TorchPlan().examples(subjects(root))
    assert inputs.shape == (4, 6, 5) and targets.tolist() == [0, 0, 1, 1]


def test_a_group_of_volumes_outside_of_the_list_is_left_out_by_the_option_that_is_named(tmp_path) -> None:
    for place in ("normal/a", "pneumonia/b", "rotated/c"):
        (tmp_path / place).parent.mkdir()
        nibabel.Nifti1Image(np.arange(8.0).reshape(2, 2, 2), np.eye(4)).to_filename(tmp_path / f"{place}.nii.gz")
    needs = DataNeeds(kind="volumes", target=TARGET)
    mapping = DataMapping(columns={"class": ColumnMapping(source="group")})
    said = check_needs(needs, scan("nifti-groups", tmp_path).schema, mapping)[-1]
    assert said.verdict is Verdict.NOT_MET and "it has rotated; the plan knows" in said.why
    assert said.why.endswith("or add the dataset with the option groups and the folders to read")
    chosen = scan("nifti-groups", tmp_path, {"groups": "normal,pneumonia"})
    assert check_needs(needs, chosen.schema, mapping)[-1].verdict is Verdict.MAPPED


class Rows:
    """Samples that are in memory."""

    def __init__(self, *values: dict[str, str]) -> None:
        self.values = {f"p{number}": one for number, one in enumerate(values)}

    def read(self, samples):
        for sample in samples:
            grid = {"images": {"image": np.zeros((2, 2, 2), np.float32)}, "affine": np.eye(4)}
            yield SampleData(values=self.values[sample.subject], **grid)

    def subjects(self, needs: DataNeeds) -> SubjectSet:
        samples = tuple(Sample(subject=name, files={}, hash=blob_hash(name.encode())) for name in self.values)
        mapping = DataMapping(columns={"class": ColumnMapping(source="group")})
        return SubjectSet(self, samples, needs, mapping)


def test_groups_of_volumes_and_categories_of_tables_have_the_place_in_the_same_list() -> None:
    source = Rows(*({"group": name, "age": 40} for name in ("covid", "normal", "pneumonia", "covid")))
    volumes = source.subjects(DataNeeds(kind="volumes", target=TARGET)).volumes()
    assert [volume.target for volume in volumes] == [2, 0, 1, 2]
    needs = DataNeeds(kind="table", columns=(ColumnNeed(name="age"),), target=TARGET)
    assert source.subjects(needs).table().y.tolist() == [2, 0, 1, 2]


def test_a_table_that_lacks_a_class_fits_too() -> None:
    needs = DataNeeds(kind="table", columns=(ColumnNeed(name="age"),), target=TARGET)
    columns = {
        "age": ColumnSummary(type="number"),
        "class": ColumnSummary(type="category", categories={"normal": 3, "covid": 4}),
    }
    schema = DataSchema(kind="table", subjects=7, samples=7, columns=columns)
    said = check_needs(needs, schema, DataMapping())[-1]
    assert said.verdict is not Verdict.NOT_MET and said.why == "no sample is pneumonia"


def test_pooled_sites_have_the_classes_of_the_plan_though_their_folders_differ(tmp_path) -> None:
    own = DataMapping(columns={"class": ColumnMapping(values={"gesund": "normal", "Covid": "covid"})})
    sites = [
        scanned_site("a", pictures(tmp_path / "a", "normal", "pneumonia"), PICTURES, layout="class-folders"),
        scanned_site("b", pictures(tmp_path / "b", "gesund", "Covid"), PICTURES, layout="class-folders", mapping=own),
    ]
    pooled = pooled_site(sites, PICTURES, 0.2)
    table = SubjectSet(pooled.data, pooled.cohort.samples, PICTURES).table()
    assert dict(zip(table.ids, table.y.tolist(), strict=True)) == {
        "Covid0": 2, "Covid1": 2, "gesund0": 0, "gesund1": 0,
        "normal0": 0, "normal1": 0, "pneumonia0": 1, "pneumonia1": 1,
    }  # fmt: skip


def test_a_simulated_site_whose_folders_the_plan_does_not_know_is_refused(tmp_path) -> None:
    with pytest.raises(BadInput, match="it has Covid, gesund; the plan knows normal, pneumonia, covid"):
        scanned_site("b", pictures(tmp_path, "gesund", "Covid"), PICTURES, layout="class-folders")


def test_prepared_pictures_and_generated_ones_give_a_plan_the_same_kinds(tmp_path) -> None:
    root = pictures(tmp_path / "there", "normal", "pneumonia", each=6)
    raw = subjects(root)
    cohort = raw.source.cohort
    with PreparedCache(tmp_path / "cache", 1 << 24).prepare(root, cohort) as prepared:
        for path, name in prepared.files:
            (tmp_path / name).symlink_to(path)
        table = SubjectSet(PreparedSource(tmp_path, cohort), cohort.samples, PICTURES).table()
    assert np.array_equal(table.x, raw.table().x) and table.y.tolist() == raw.table().y.tolist()
    dummies = Dummies(PICTURES, scan("class-folders", root).schema, DataMapping(), "class-folders")
    (tmp_path / "dummies").mkdir()
    dummies.write(tmp_path / "dummies")
    made = SubjectSet(PreparedSource(tmp_path / "dummies", dummies.cohort), dummies.cohort.samples, PICTURES).table()
    assert made.x.dtype == table.x.dtype and made.x.shape[1:] == table.x.shape[1:] and set(made.y.tolist()) == {0, 1, 2}
