from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from plan_jobs import cohort, job_for, task_for, tensor_file

from archipel.data import PreparedCache, PreparedSource, RawSource, SubjectSet
from archipel.data.synthetic import phantom
from archipel.inference.segmentation import Segmenter, segment, segment_cases
from archipel.plans import Plan, SegmentationPlan, load
from archipel.plans.runtime import PlanRuntime
from archipel.plans.segmentation import dice_scores
from archipel.tensors import decode
from archipel.vocabulary import BadInput, DataNeeds, ErrorCode, TaskKind


class Threshold(torch.nn.Module):
    """Channel 2 where a voxel is above a learnt brightness, else background: needs no training to be right."""

    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        certainty = 50 * (images - self.level)
        return torch.cat([-certainty, -certainty - 1, certainty], dim=1)


class Bright(SegmentationPlan):
    needs = DataNeeds(kind="volumes", labels={"3": "dark", "7": "bright"}, minimum_subjects=1)
    shape = (8, 8, 8)
    divisor = 4

    def build_model(self):
        return Threshold()

    def build_optimiser(self, network, context):
        return torch.optim.SGD(network.parameters(), lr=1e-3)

    def loss(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets[:, 0])


SIDEWAYS = np.array([[0, 0, -1.0, 20], [1.0, 0, 0, -5], [0, 1.0, 0, 3], [0, 0, 0, 1]])


def volumes(root, affine, subjects=5, shape=(6, 11, 9)):
    """Bright boxes with the label 7, on a grid that is not a multiple of anything and partly outside ``shape``."""
    numbers = np.random.default_rng(0)
    for number in range(subjects):
        image = numbers.normal(0, 1, shape).astype(np.float32)
        label = np.zeros(shape, np.uint8)
        label[2:4, 7:, 3:5] = 7
        image[label == 7] += 100
        for part, values in (("images", image), ("labels", label)):
            path = root / part / f"sub-{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(values, affine).to_filename(path)
    return root


@pytest.mark.parametrize("affine", [np.eye(4), SIDEWAYS], ids=["ras", "turned"])
def test_validation_is_measured_on_the_whole_original_grid(tmp_path, affine):
    plan = Bright()
    runtime = PlanRuntime(plan, job_for(plan), "site-a", tmp_path, cohort(volumes(tmp_path, affine), "nifti-pairs"))
    runtime.prepare()
    outcome = runtime.evaluate(task_for(runtime.job, TaskKind.EVALUATE, passes=0), [tensor_file(plan)])
    assert list(outcome.validation) == ["dice", "dice_dark", "dice_bright"]
    assert outcome.validation["dice"].mean() == 1.0
    assert outcome.validation["dice_bright"].weight == outcome.samples.validation >= 1


def test_training_volumes_have_the_declared_shape_and_channel_numbers(tmp_path):
    plan = Bright()
    runtime = PlanRuntime(plan, job_for(plan), "site-a", tmp_path, cohort(volumes(tmp_path, SIDEWAYS), "nifti-pairs"))
    runtime.prepare()
    images, labels = plan.training.inputs, plan.training.targets
    assert images.shape == labels.shape == (len(images), 1, 8, 8, 8)
    assert labels.dtype == torch.int64 and set(labels.unique().tolist()) == {0, 2}
    outcome = runtime.train(
        task_for(runtime.job), tensor_file(plan), memoryview(bytearray(len(tensor_file(plan)))), None
    )
    assert outcome.samples.training == len(images) and outcome.validation["dice"].mean() == 1.0


def test_a_label_value_that_the_plan_does_not_know_is_named(tmp_path):
    volumes(tmp_path, np.eye(4), 2)
    path = tmp_path / "labels/sub-1.nii.gz"
    nibabel.Nifti1Image(np.full((6, 11, 9), 5, np.uint8), np.eye(4)).to_filename(path)
    plan = Bright()
    job = job_for(plan, validation_fraction=0.0)
    runtime = PlanRuntime(plan, job, "site-a", tmp_path, cohort(tmp_path, "nifti-pairs"))
    with pytest.raises(BadInput, match=r"sub-1: its label holds the value 5; the plan knows \[0, 3, 7\]") as caught:
        runtime.prepare()
    assert caught.value.code is ErrorCode.BAD_DATA


def test_the_metrics_follow_from_the_labels():
    assert [spec.name for spec in Bright.validation] == ["dice", "dice_dark", "dice_bright"]
    assert Bright.selection is not None and Bright.selection.metric == "dice"


def test_dice_of_the_whole_counts_a_confused_part_as_found():
    truth = np.array([0, 3, 3, 7, 7], np.int16)
    found = np.array([0, 3, 7, 7, 0], np.int16)
    scores = dice_scores(found, truth, {3: "dark", 7: "bright"})
    assert scores == {"whole": pytest.approx(6 / 7), "dark": pytest.approx(2 / 3), "bright": pytest.approx(0.5)}
    empty = np.zeros(5, np.int16)
    assert dice_scores(empty, empty, {3: "dark"}) == {"whole": 1.0, "dark": 1.0}


def test_a_prediction_is_written_on_the_images_own_grid(tmp_path):
    source = volumes(tmp_path / "in", SIDEWAYS, 2)
    plan = Bright()
    written = segment_cases(plan, [plan.initial_model(0)], source, tmp_path / "out")
    assert [path.name for path in written] == ["sub-0.nii.gz", "sub-1.nii.gz"]
    for path in written:
        found, truth = nibabel.load(path), nibabel.load(source / "labels" / path.name)
        assert np.allclose(found.affine, truth.affine)
        assert found.get_data_dtype() == np.int16
        assert np.array_equal(np.asarray(found.dataobj), np.asarray(truth.dataobj))
    single = segment_cases(plan, [plan.initial_model(0)], source / "images/sub-0.nii.gz", tmp_path / "one.nii.gz")
    assert single[0].read_bytes()


def test_an_ensemble_averages_probabilities():
    image = np.random.default_rng(0).choice([-1, 1], size=(8, 8, 8)).astype(np.float32)
    models = [{"level": np.float32(level).reshape(())} for level in (-9.0, 0.0, 0.5)]
    plan = Bright()
    together = segment(plan, models, {"image": image}, np.eye(4))
    assert np.array_equal(together, segment(plan, models[1:2], {"image": image}, np.eye(4)))


def test_a_segmentation_that_says_spread_reports_how_much_each_dice_differs():
    class Spread(Bright):
        needs = Bright.needs
        spread = True

    assert all(metric.spread for metric in Spread.validation) and not any(metric.spread for metric in Bright.validation)


def test_each_volume_is_scored_by_dice_and_by_the_distance_of_borders(tmp_path):
    root = volumes(tmp_path, np.diag([1.0, 1.0, 1.0, 1]), 2)
    plan, whole = Bright(), cohort(root, "nifti-pairs")
    subjects = SubjectSet(RawSource(root, whole), whole.samples, plan.needs)
    found = dict(Segmenter.of(plan, [plan.initial_model(0)]).scores(subjects))
    perfect = {"dice": 1.0, "dice_dark": 1.0, "dice_bright": 1.0, "hd95_mm": 0.0, "hd95_mm_dark": 0.0}
    assert found == {subject: perfect | {"hd95_mm_bright": 0.0} for subject in ("sub-0", "sub-1")}
    missed = dict(Segmenter.of(plan, [{"level": np.float32(99).reshape(())}]).scores(subjects))
    assert missed["sub-0"]["dice"] == 0.0 and missed["sub-0"]["hd95_mm"] is None


def test_what_cannot_be_predicted_or_evaluated_is_named(tmp_path):
    plan, model = Bright(), [Bright().initial_model(0)]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadInput, match="does not segment volumes"):
        segment_cases(Plan(), model, volumes(tmp_path, np.eye(4), 1), tmp_path / "out")
    with pytest.raises(BadInput, match="is not there"):
        segment_cases(plan, model, tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(BadInput, match=r"holds no \*\.nii\.gz"):
        segment_cases(plan, model, empty, tmp_path / "out")
    with pytest.raises(BadInput, match=r"does not end in \.nii\.gz"):
        segment_cases(plan, model, tmp_path / "images/sub-0.nii.gz", tmp_path / "out.mha")
    with pytest.raises(BadInput, match=r"parameter level: .* absent in the model"):
        segment(plan, [{"other": np.zeros(1)}], {"image": np.zeros((4, 4, 4), np.float32)}, np.eye(4))


def test_the_hippocampus_plan_learns_a_phantom(tmp_path):
    (folder,) = phantom.generate(tmp_path, ("site-a",), subjects_per_site=3)
    plan = load(Path(__file__).parents[2] / "examples" / "hippocampus.py")
    runtime = PlanRuntime(plan, job_for(plan, rounds=2), "site-a", folder, cohort(folder, "nifti-pairs"))
    runtime.prepare()
    model = tensor_file(plan)
    result = memoryview(bytearray(len(model)))
    first = runtime.train(task_for(runtime.job), model, result, None)
    again = memoryview(bytearray(len(model)))
    second = runtime.train(task_for(runtime.job, round_=1), result, again, None)
    assert second.metrics["loss"].mean() < first.metrics["loss"].mean()
    assert decode(again).keys() == decode(model).keys()


def test_monai_dictionary_transforms_move_image_and_label_together_and_follow_the_seed(tmp_path):
    from monai.transforms import RandFlipd, RandGaussianNoised

    root = volumes(tmp_path, np.eye(4))
    seen = []

    class Moved(Bright):
        def transforms(self):
            return [RandFlipd(["image", "label"], prob=0.5, spatial_axis=1), RandGaussianNoised(["image"], prob=1.0)]

        def loss(self, outputs, targets):
            assert type(targets) is torch.Tensor
            seen.append((outputs.detach()[:, 2].clone(), targets))
            return super().loss(outputs, targets)

    def once():
        seen.clear()
        plan = Moved()
        job = job_for(plan, validation_fraction=0.0)
        runtime = PlanRuntime(plan, job, "site-a", root, cohort(root, "nifti-pairs"))
        runtime.prepare()
        runtime.train(task_for(job), tensor_file(plan), memoryview(bytearray(len(tensor_file(plan)))), None)
        return torch.cat([outputs for outputs, _ in seen]), torch.cat([targets for _, targets in seen])

    outputs, targets = once()
    assert torch.equal((outputs > 0).long() * 2, targets[:, 0]), "the bright voxels lie where the label says"
    flipped = {tuple(np.argwhere(label.numpy())[0]) for label in targets[:, 0]}
    assert len(flipped) == 2, "some are flipped and some are not"
    again, _ = once()
    assert torch.equal(outputs, again)


def test_volumes_read_from_prepared_files_for_each_batch_give_the_same_model_bit_for_bit(tmp_path):
    root = volumes(tmp_path / "data", SIDEWAYS)
    whole = cohort(root, "nifti-pairs")
    shown = tmp_path / "shown"
    shown.mkdir()
    prepared = PreparedCache(tmp_path / "cache", 1 << 30).prepare(root, whole)
    for path, name in prepared.files:
        (shown / name).symlink_to(path)

    class Small(Bright):
        in_memory = False
        batch_size = 2

    class Kept(Small):
        in_memory = True

    found = []
    for plan, data in ((Kept(), root), (Small(), PreparedSource(shown, whole))):
        runtime = PlanRuntime(plan, job_for(plan), "site-a", data, whole)
        runtime.prepare()
        result = memoryview(bytearray(len(tensor_file(plan))))
        found.append((runtime.train(task_for(runtime.job), tensor_file(plan), result, None), bytes(result)))
    assert found[0] == found[1]
    assert found[0][0].validation["dice"].weight > 0
