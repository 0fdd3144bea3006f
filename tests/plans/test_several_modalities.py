"""Plans of several modalities: each is a channel, in the plan's order, in training, validation and prediction."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from plan_jobs import cohort, job_for, task_for, tensor_file
from typer.testing import CliRunner

from archipel.data import Cohort, DataMapping, RawSource, SubjectSet, scan, split
from archipel.data.formats import settled
from archipel.inference.segmentation import Segmenter, segment, segment_cases
from archipel.plans import SegmentationPlan
from archipel.plans.runtime import PlanRuntime
from archipel.tensors import encode
from archipel.vocabulary import BadInput, DataNeeds, ErrorCode, TaskKind
from worlds.data_files import write_volume

SHAPE = (6, 11, 9)
SIDEWAYS = np.array([[0, 0, -1.0, 20], [1.0, 0, 0, -5], [0, 1.0, 0, 3], [0, 0, 0, 1]])
PLAN = """
import torch
from archipel.plans import SegmentationPlan
from archipel.vocabulary import DataNeeds


class Both(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        first, second = images[:, :1], images[:, 1:]
        certainty = 50 * (torch.minimum(first, -second) - self.level)
        return torch.cat([-certainty, certainty], dim=1)


class Pair(SegmentationPlan):
    needs = DataNeeds(kind="volumes", modalities=("T2", "T1"), labels={"7": "lesion"}, minimum_subjects=1)
    shape = (8, 8, 8)
    divisor = 4

    def build_model(self):
        return Both()

    def build_optimiser(self, network, context):
        return torch.optim.SGD(network.parameters(), lr=1e-3)

    def loss(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets[:, 0])
"""
made: dict[str, object] = {}
exec(PLAN, made)  # the text is what the command line reads, too
Pair: type[SegmentationPlan] = made["Pair"]  # type: ignore[assignment]


def images_of(number: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A lesion that is bright in T2 and dark in T1, beside a bright and a dark spot that are in one of the two only."""
    numbers = np.random.default_rng(number)
    t1, t2 = (numbers.normal(0, 1, SHAPE).astype(np.float32) for _ in range(2))
    label = np.zeros(SHAPE, np.uint8)
    label[2:4, 4:6, 3:5] = 7
    t2[label == 7] += 100
    t1[label == 7] -= 100
    t2[0, 8:10, 6:8] += 100
    t1[5, 1:3, 1:3] -= 100
    return {"T1": t1, "T2": t2}, label


def medical_folder(root: Path, subjects: int = 4, lacking: str = "") -> Path:
    for number in range(subjects):
        images, label = images_of(number)
        for role, values in {**images, "seg": label}.items():
            if f"sub-{number}/{role}" != lacking:
                write_volume(root / f"sub-{number}" / role / "x.nii.gz", values, SIDEWAYS)
    return root


def scanned(root: Path, **mapping) -> Cohort:
    options = {"label": "seg"}
    found = scan("medical-folder", root, options)
    assert not found.errors, found.errors
    return Cohort(
        dataset="data", format="medical-folder", options=options, samples=found.samples, mapping=DataMapping(**mapping)
    )


def test_a_plan_trains_on_every_modality_in_its_own_order(tmp_path: Path) -> None:
    plan = Pair()
    runtime = PlanRuntime(
        plan, job_for(plan, validation_fraction=0.5), "site-a", tmp_path, scanned(medical_folder(tmp_path))
    )
    runtime.prepare()
    inputs, targets = plan.training.inputs, plan.training.targets
    assert inputs.shape == (len(inputs), 2, 8, 8, 8) and targets.shape == (len(inputs), 1, 8, 8, 8)
    lesion = targets[:, 0] == 1
    assert lesion.any() and (inputs[:, 0][lesion] > 3).all() and (inputs[:, 1][lesion] < -3).all()
    outcome = runtime.evaluate(task_for(runtime.job, TaskKind.EVALUATE, passes=0), [tensor_file(plan)])
    assert outcome.validation["dice_lesion"].mean() == 1.0 and outcome.samples.training >= 1


def test_each_modality_is_normalised_by_itself(tmp_path: Path) -> None:
    root = medical_folder(tmp_path, 1)
    (volume,) = split(RawSource(root, scanned(root)), scanned(root), 0.0, Pair.needs)[0].volumes()
    assert list(volume.images) == ["T2", "T1"] and volume.stacked.shape == (2, *SHAPE)
    assert np.array_equal(volume.stacked[1], volume.images["T1"])
    plan = Pair()
    turned = plan._network_input("x", volume.images, volume.affine)
    scaled = plan._network_input("x", {"T1": volume.images["T1"] * 9 + 5, "T2": volume.images["T2"]}, volume.affine)
    assert np.allclose(turned, scaled, atol=1e-4)


def test_one_image_of_several_is_not_the_image(tmp_path: Path) -> None:
    root = medical_folder(tmp_path, 1)
    (volume,) = split(RawSource(root, scanned(root)), scanned(root), 0.0, Pair.needs)[0].volumes()
    with pytest.raises(BadInput, match=r"sub-0: has 2 images \(T2, T1\)") as caught:
        _ = volume.image
    assert caught.value.code is ErrorCode.BAD_PLAN


def test_a_modality_that_is_not_there_is_named_before_training(tmp_path: Path) -> None:
    root = medical_folder(tmp_path, lacking="sub-1/T2")
    plan = Pair()
    runtime = PlanRuntime(plan, job_for(plan, validation_fraction=0.0), "site-a", root, scanned(root))
    with pytest.raises(BadInput, match=r"sub-1: has no T2 \(it has T1\)"):
        runtime.prepare()


def test_a_mapping_brings_the_sites_names(tmp_path: Path) -> None:
    root = medical_folder(tmp_path)
    swapped = scanned(root, modalities={"T1": "T2", "T2": "T1"})
    (volume, *_) = split(RawSource(root, swapped), swapped, 0.0, Pair.needs)[0].volumes()
    assert volume.images["T1"].max() > 90 and volume.images["T2"].min() < -90


def by_modality(root: Path) -> None:
    for number in range(2):
        for name, values in images_of(number)[0].items():
            write_volume(root / name / f"sub-{number}.nii.gz", values, SIDEWAYS)


def by_ending(root: Path) -> None:
    for number in range(2):
        images, label = images_of(number)
        for name, values in {**images, "seg": label}.items():
            write_volume(root / f"sub-{number}_{name}.nii.gz", values, SIDEWAYS)


def by_case(root: Path) -> None:
    for number in range(2):
        for name, values in images_of(number)[0].items():
            write_volume(root / f"sub-{number}" / f"{name}.nii.gz", values, SIDEWAYS)


def by_case_and_ending(root: Path) -> None:
    for number in range(2):
        for name, values in images_of(number)[0].items():
            write_volume(root / f"sub-{number}" / f"sub-{number}_{name}.nii.gz", values, SIDEWAYS)


@pytest.mark.parametrize("make", [by_modality, by_ending, by_case, by_case_and_ending])
def test_a_prediction_uses_every_modality_and_lies_on_the_images_grid(tmp_path: Path, make) -> None:
    make(tmp_path / "in")
    plan = Pair()
    written = segment_cases(plan, [plan.initial_model(0)], tmp_path / "in", tmp_path / "out")
    assert [path.name for path in written] == ["sub-0.nii.gz", "sub-1.nii.gz"]
    for number, path in enumerate(written):
        found = nibabel.load(path)
        assert np.allclose(found.affine, SIDEWAYS)
        assert np.array_equal(np.asarray(found.dataobj), images_of(number)[1])
    images, label = images_of(0)
    assert np.array_equal(segment(plan, [plan.initial_model(0)], images, SIDEWAYS), label)


def test_what_is_missing_for_a_prediction_is_named_before_anything_is_written(tmp_path: Path) -> None:
    plan, source = Pair(), tmp_path / "in"
    model = [plan.initial_model(0)]
    by_ending(source)
    (source / "sub-1_T2.nii.gz").unlink()
    with pytest.raises(BadInput, match=r"sub-1.*has no T2 \(it has T1; the plan reads each\)"):
        segment_cases(plan, model, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadInput, match=r"is one volume; the plan reads T2, T1; name a folder with"):
        segment_cases(plan, model, source / "sub-0_T1.nii.gz", tmp_path / "out.nii.gz")
    write_volume(source / "T2" / "sub-0.nii.gz", images_of(0)[0]["T2"])
    with pytest.raises(BadInput, match="has two files for T2"):
        segment_cases(plan, model, source, tmp_path / "out")
    with pytest.raises(BadInput, match=r"holds no volume of T2, T1; name a folder with T2/CASE\.nii\.gz and T1/CASE"):
        segment_cases(plan, model, source / "T2", tmp_path / "out")
    with pytest.raises(BadInput, match=r"x: has no T2 \(given: T1\); give each image that the plan reads: T2, T1"):
        segment(plan, model, {"T1": images_of(0)[0]["T1"]}, np.eye(4), thing="x")


def test_the_command_names_a_case_without_a_modality_and_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "plan.py").write_text(PLAN)
    (tmp_path / "m.safetensors").write_bytes(encode({"level": np.float32(1).reshape(())}))
    write_volume(tmp_path / "in" / "T2" / "sub-0.nii.gz", images_of(0)[0]["T2"])
    words = ("--model", tmp_path / "m.safetensors", "--plan", tmp_path / "plan.py")
    lacking = typed("predict", *words, tmp_path / "in", tmp_path / "out")
    assert "case sub-0: has no T1 (it has T2; the plan reads each)" in str(lacking.exception)
    (tmp_path / "empty").mkdir()
    empty = typed("predict", *words, tmp_path / "empty", tmp_path / "out")
    assert isinstance(empty.exception, BadInput) and "empty" in str(empty.exception)


def test_two_images_of_a_case_on_two_grids_are_refused(tmp_path: Path) -> None:
    by_ending(tmp_path)
    write_volume(tmp_path / "sub-0_T1.nii.gz", images_of(0)[0]["T1"], np.eye(4))
    plan = Pair()
    with pytest.raises(BadInput, match="sub-0: the grids of T2 and T1 are up to"):
        segment_cases(plan, [plan.initial_model(0)], tmp_path, tmp_path / "out")


def typed(command: str, *words: object):
    app = importlib.import_module(f"archipel.cli.{command}").app
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def test_a_dataset_of_several_modalities_is_evaluated_by_its_format_and_mapping(tmp_path: Path) -> None:
    root = medical_folder(tmp_path / "data", 2)
    (tmp_path / "plan.py").write_text(PLAN)
    (tmp_path / "model.safetensors").write_bytes(encode({"level": np.float32(1).reshape(())}))
    (tmp_path / "swapped.toml").write_text('[modalities]\nT1 = "T2"\nT2 = "T1"\n')
    words = ("--model", tmp_path / "model.safetensors", "--plan", tmp_path / "plan.py", "--data", root, "--json")
    words = (*words, "--format", "medical-folder")
    done = typed("evaluate", *words, "--option", "label=seg")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["count"] == 2 and {name: one["value"] for name, one in found["metrics"].items()} == {
        "dice": 1.0,
        "dice_lesion": 1.0,
        "hd95_mm": 0.0,
        "hd95_mm_lesion": 0.0,
    }
    predicted = typed("predict", *words[:4], "--format", "medical-folder", root, tmp_path / "out")
    assert predicted.exit_code == 0, predicted.output
    for number, path in enumerate(sorted((tmp_path / "out").iterdir())):
        written = nibabel.load(path)
        assert np.array_equal(np.asarray(written.dataobj), images_of(number)[1])
        assert np.allclose(written.affine, SIDEWAYS) and written.get_data_dtype() == np.int16
    wrong = typed("evaluate", *words, "--option", "label=seg", "--mapping", tmp_path / "swapped.toml")
    assert json.loads(wrong.stdout)["metrics"]["dice"]["value"] == 0.0
    unlabelled = typed("evaluate", *words, "--option", "modalities=T1,T2")
    assert "labels: not met (the dataset has no label volumes)" in str(unlabelled.exception)


def test_one_modality_gives_the_inputs_that_it_always_gave(tmp_path: Path) -> None:
    class One(Pair):  # type: ignore[misc, valid-type]
        needs = DataNeeds(kind="volumes", labels={"7": "lesion"}, minimum_subjects=1)

    for number in range(3):
        images, label = images_of(number)
        write_volume(tmp_path / "images" / f"s{number}.nii.gz", images["T2"], SIDEWAYS)
        write_volume(tmp_path / "labels" / f"s{number}.nii.gz", label, SIDEWAYS)
    subjects, _ = split(
        RawSource(tmp_path, cohort(tmp_path, "nifti-pairs")), cohort(tmp_path, "nifti-pairs"), 0.0, One.needs
    )
    inputs, targets = One().examples(subjects)
    assert inputs.shape == targets.shape == (3, 1, 8, 8, 8) and inputs.dtype == torch.float32


class ByBrightness(torch.nn.Module):
    """Liver where bright, spleen where dark: needs no training to be right."""

    def __init__(self) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(images) + self.level, images, -images], dim=1)


class Organs(Pair):  # type: ignore[misc, valid-type]
    needs = DataNeeds(kind="volumes", labels={"1": "liver", "2": "spleen"}, minimum_subjects=1)

    def build_model(self) -> torch.nn.Module:
        return ByBrightness()


def test_labels_that_are_a_file_for_each_structure_train_and_evaluate_as_one(tmp_path: Path) -> None:
    for number in range(3):
        image = np.random.default_rng(number).normal(0, 1, SHAPE).astype(np.float32)
        organs = {name: np.zeros(SHAPE, np.uint8) for name in ("spleen", "liver")}
        organs["liver"][2:4, 4:6, 3:5] = 1
        organs["spleen"][2:4, 4:6, 6:8] = 1
        image[organs["liver"] == 1] += 100
        image[organs["spleen"] == 1] -= 100
        write_volume(tmp_path / f"s{number}" / "ct.nii.gz", image, SIDEWAYS)
        for name, values in organs.items():
            write_volume(tmp_path / f"s{number}" / "masks" / f"{name}.nii.gz", values, SIDEWAYS)
    options = {"image": "{subject}/ct.nii.gz", "label": "{subject}/masks/{structure}.nii.gz"}
    plan = Organs()
    kept = settled("layout", tmp_path, options)
    samples = scan("layout", tmp_path, kept).samples
    whole = Cohort(dataset="data", format="layout", options=kept, samples=samples)
    subjects = SubjectSet(RawSource(tmp_path, whole), whole.samples, plan.needs)
    found = dict(Segmenter.of(plan, [plan.initial_model(0)]).scores(subjects))
    dice = {"dice": 1.0, "dice_liver": 1.0, "dice_spleen": 1.0}
    assert len(found) == 3 and all(scores.items() >= dice.items() for scores in found.values())
    inputs, targets = plan.examples(split(RawSource(tmp_path, whole), whole, 0.0, plan.needs)[0])
    assert inputs.shape == (3, 1, 8, 8, 8) and set(targets.unique().tolist()) == {0, 1, 2}
