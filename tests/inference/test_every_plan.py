"""Every plan that trains also predicts and is evaluated: tables, pictures, volumes, and plans that need numpy only."""

from __future__ import annotations

import asyncio
import csv
import importlib
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import archipel
from archipel.inference.unlabelled import unlabelled_site
from archipel.plans import draft, load
from archipel.simulation import scanned_site, simulate
from archipel.simulation.scores import model_scores
from archipel.tensors import encode, joined
from archipel.vocabulary import ArchipelError, BadInput, Baselines, RosterEntry, RoundTerms
from worlds.data_files import write_pair

EXAMPLES = Path(__file__).parents[2] / "examples"
KEY = "ed25519:" + "0" * 64
HEART = ("age", "trestbps", "chol", "thalach", "oldpeak", "sex", "exang", "cp", "disease")
PAIN = ("typical angina", "atypical angina", "non-anginal pain", "asymptomatic")
VOLUMES = """
import torch
from archipel.plans import TorchPlan
from archipel.vocabulary import ColumnNeed, DataNeeds, MetricSpec, MetricSum


class Brightness(TorchPlan):
    needs = DataNeeds(
        kind="volumes", modalities=("T1", "T2"), target=ColumnNeed(name="age", unit="years"), minimum_subjects=1
    )
    validation = (MetricSpec(name="mae", better="lower"),)
    batch_size = 2

    def build_model(self):
        return torch.nn.Linear(2, 1)

    def build_optimiser(self, network, context):
        return torch.optim.SGD(network.parameters(), lr=1e-3)

    def examples(self, subjects):
        volumes = list(subjects.volumes())
        inputs = torch.stack([torch.from_numpy(one.stacked).mean((1, 2, 3)) for one in volumes])
        return inputs, torch.tensor([one.target for one in volumes])

    def loss(self, outputs, targets):
        return (outputs[:, 0] - targets).abs().mean()

    def measure(self, outputs, targets):
        return {"mae": MetricSum(total=float((outputs[:, 0] - targets).abs().sum()), weight=len(targets))}

    def predictions(self, outputs):
        return {"age": outputs[:, 0]}
"""


LABELS = """
import torch
from archipel.plans import SegmentationPlan
from archipel.vocabulary import DataNeeds


class Labels(SegmentationPlan):
    needs = DataNeeds(kind="volumes", labels={"1": "one", "2": "two"}, minimum_subjects=1)
    shape = (8, 8, 8)

    def build_model(self):
        return torch.nn.Conv3d(1, 3, 1)

    def build_optimiser(self, network, context):
        return torch.optim.SGD(network.parameters(), lr=0.1)

    def loss(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets[:, 0])
"""


def typed(command: str, *words: object) -> Result:
    app = importlib.import_module(f"archipel.cli.{command}").app
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def heart_table(path: Path, rows: int = 40, seed: int = 0, *, truth: bool = True) -> Path:
    draw = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", *(HEART if truth else HEART[:-1])])
        for number in range(rows):
            age, ill = draw.integers(35, 75), draw.random() < 0.4
            values = [age, draw.integers(110, 160), draw.integers(180, 300), draw.integers(90, 180) - 20 * ill]
            values += [round(float(draw.random() + ill), 1), draw.choice(["female", "male"])]
            values += [draw.choice(["no", "yes"]), draw.choice(PAIN)] + (["yes" if ill else "no"] if truth else [])
            writer.writerow([f"{path.parent.name}-{number:03}", *values])
    return path.parent


def chest_pictures(root: Path, seed: int = 0) -> Path:
    draw = np.random.default_rng(seed)
    for side, name in enumerate(("normal", "pneumonia")):
        (root / name).mkdir(parents=True)
        for number in range(16):
            values = draw.integers(0, 120, (28, 28), np.uint8)
            values[:, 14 * side : 14 * side + 14] += 60
            Image.fromarray(values).save(root / name / f"{root.name}-{name}{number:02}.png")
    return root


def tiny_rows(root: Path, seed: int = 0) -> Path:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(30, 8))
    root.mkdir(parents=True)
    ids, visits = [f"{root.name}-{n // 2:02}" for n in range(30)], [f"v{n % 2}" for n in range(30)]
    y = (x[:, 0] + draw.normal(0, 0.5, 30) > 0).astype(float)
    np.savez(root / "table.npz", x=x, y=y, subject=ids, session=visits)
    return root


class Trained:
    """A plan trained over two simulated sites, its last model downloaded with the plan beside it."""

    def __init__(self, root: Path, plan: Path, layout: str, make: Any) -> None:
        self.plan, self.data = plan, root / "data"
        for seed, site in enumerate(("north", "south")):
            make(self.data / site, seed)
        needs = load(plan).needs
        sites = [scanned_site(name, self.data / name, needs, layout=layout) for name in ("north", "south")]
        drafted = draft(
            plan,
            experiment="known",
            roster=[RosterEntry(site=site.name, identity_key=KEY, dataset="data") for site in sites],
            server_key=KEY,
            terms=RoundTerms(rounds=2, quorum=2),
            validation_fraction=0.3,
            baselines=Baselines(local=True, ensemble=True),
        )
        (root / "simulation").mkdir()
        made = drafted.initial_model, sites, root / "simulation"
        store = asyncio.run(simulate(drafted.job, drafted.plan, *made, frozen=drafted.frozen, local=drafted.local))
        self.scores = {scored.model: scored for scored in model_scores(store)}
        self.folder = root / "download"
        (self.folder / "last-plan").mkdir(parents=True)
        (self.folder / "last-plan" / plan.name).write_bytes(plan.read_bytes())
        self.model = self.folder / "last.safetensors"
        self.model.write_bytes(joined(store.models[store.model].read_bytes(), drafted.frozen))
        (root / "local").mkdir()
        self.local = []
        for site, name in store.local_models.items():
            self.local.append(root / "local" / f"{site}.safetensors")
            self.local[-1].write_bytes(joined(store.models[name].read_bytes(), drafted.frozen))


KINDS = {
    "table": ("heart_disease.py", "table", lambda root, seed: heart_table(root / "rows.csv", seed=seed)),
    "pictures": ("chest_pictures.py", "class-folders", chest_pictures),
    "numpy": ("tiny_numpy.py", "npz", tiny_rows),
}


@pytest.fixture(scope="module", params=list(KINDS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    plan, layout, make = KINDS[request.param]
    return Trained(tmp_path_factory.mktemp(request.param), EXAMPLES / plan, layout, make)


def test_a_sites_validation_samples_give_the_value_in_the_table_of_the_experiment(trained: Trained) -> None:
    for site, values in trained.scores["federated"].per_site.items():
        found = archipel.evaluate(trained.folder, trained.data / site, validation_fraction=0.3, resamples=20)
        assert {name: one.value for name, one in found.metrics.items()} == values
        ensemble = archipel.evaluate(
            trained.local, trained.data / site, plan=trained.plan, validation_fraction=0.3, per_subject=False
        )
        assert {name: one.value for name, one in ensemble.metrics.items()} == trained.scores["ensemble"].per_site[site]
        assert ensemble.subjects == {} and all(one.low is None for one in ensemble.metrics.values())


def test_the_command_says_each_subject_and_an_interval_that_holds_the_value(trained: Trained) -> None:
    words = ("--model", trained.folder, "--data", trained.data / "north", "--resamples", 100)
    done = typed("evaluate", *words, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["count"] == len(found["subjects"]) and found["samples"] >= found["count"] > 10
    for one in found["metrics"].values():
        assert one["low"] <= one["value"] <= one["high"] and one["low"] < one["high"]
    name = "accuracy"
    values = [subject[name] for subject in found["subjects"].values()]
    assert np.mean(values) == pytest.approx(found["metrics"][name]["value"], rel=1e-6)
    assert json.loads(typed("evaluate", *words, "--json").stdout) == found, "the same seed, the same interval"
    other = json.loads(typed("evaluate", *words, "--seed", 1, "--json").stdout)
    assert other["subjects"] == found["subjects"]
    shown = typed("evaluate", *words).stdout
    assert f"all {found['count']} subjects" in shown and "95 % interval" in shown


def test_a_plan_predicts_a_row_for_each_sample(trained: Trained) -> None:
    out = trained.folder / "predicted.csv"
    done = typed("predict", "--model", trained.folder, trained.data / "south", out)
    assert done.exit_code == 0 and done.stdout.strip() == str(out), done.output
    rows = rows_of(out)
    assert list(rows[0])[:2] == ["subject", "session"] and list(rows[0])[-1] == "truth"
    again = archipel.predict(trained.model, trained.data / "south", out.with_suffix(".npz"))
    with np.load(out.with_suffix(".npz")) as arrays:
        assert arrays["subject"].tolist() == [row["subject"] for row in rows] == list(again.subjects)
        assert arrays["truth"].tolist() == [row["truth"] for row in again.rows()]
        for name, values in again.columns.items():
            assert np.array_equal(arrays[name], values)
    right = archipel.evaluate(trained.model, trained.data / "south", resamples=0).metrics["accuracy"].value
    assert np.mean([is_right(row) for row in rows]) == pytest.approx(right, abs=1e-6)


def is_right(row: dict[str, str]) -> bool:
    match row:
        case {"class": predicted, "truth": truth}:
            assert float(row[f"class={predicted}"]) >= 0.5
            return predicted == truth
        case {"chance of disease": chance, "truth": truth}:
            return (float(chance) > 0.5) == (truth == "yes")
    return (float(row["chance"]) > 0.5) == (float(row["truth"]) > 0.5)


def test_patients_whose_truth_is_not_known_are_predicted_alike(tmp_path: Path) -> None:
    known, unknown = heart_table(tmp_path / "a" / "rows.csv"), heart_table(tmp_path / "b" / "rows.csv", truth=False)
    plan = load(EXAMPLES / "heart_disease.py")
    model = tmp_path / "m.safetensors"
    model.write_bytes(encode({name: array + 0.1 for name, array in plan.initial_model(0).items()}))
    found = [archipel.predict(model, one, plan=EXAMPLES / "heart_disease.py") for one in (known, unknown)]
    assert "truth" not in found[1].rows()[0] and set(found[0].truths) == {"no", "yes"}
    # The table of whom the truth is not known was drawn alike up to its first answer.
    inputs = [row["chance of disease"] for row in found[1].rows()]
    assert inputs == pytest.approx([row["chance of disease"] for row in found[0].rows()])
    file = archipel.predict(model, unknown / "rows.csv", plan=EXAMPLES / "heart_disease.py")
    assert np.array_equal(file.columns["chance of disease"], found[1].columns["chance of disease"])
    with pytest.raises(BadInput, match="disease"):
        archipel.evaluate(model, unknown, plan=EXAMPLES / "heart_disease.py")


def test_arrays_without_y_are_predicted(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(5, 8))
    np.savez(tmp_path / "rows.npz", x=x, subject=[f"p{n}" for n in range(5)])
    model = tmp_path / "m.safetensors"
    model.write_bytes(encode({"bias": np.zeros(1), "steps_taken": np.zeros((), np.int64), "weight": np.ones(8)}))
    found = archipel.predict(model, tmp_path, plan=EXAMPLES / "tiny_numpy.py")
    assert found.columns["chance"] == pytest.approx(1 / (1 + np.exp(-x.sum(1)))) and found.truths == (None,) * 5
    assert archipel.predict(model, tmp_path / "rows.npz", plan=EXAMPLES / "tiny_numpy.py").rows() == found.rows()
    for arrays, said in (
        ({"x": x, "subject": ["p"] * 5}, "has a subject twice; name the visits"),
        ({"x": x, "subject": ["p"] * 4}, "arrays of different lengths"),
        ({"z": x}, "has no array named x"),
    ):
        np.savez(tmp_path / "rows.npz", **arrays)
        with pytest.raises(BadInput, match=said):
            archipel.predict(model, tmp_path, plan=EXAMPLES / "tiny_numpy.py")
    (tmp_path / "rows.npz").write_bytes(b"PK damaged")
    with pytest.raises(BadInput, match="damaged"):
        archipel.predict(model, tmp_path, plan=EXAMPLES / "tiny_numpy.py")


def test_pictures_without_a_class_are_predicted_from_their_folder(tmp_path: Path) -> None:
    known, new = chest_pictures(tmp_path / "known"), tmp_path / "new"
    new.mkdir()
    for file in known.glob("*/*.png"):
        (new / file.name).write_bytes(file.read_bytes())
    plan, model = EXAMPLES / "chest_pictures.py", tmp_path / "m.safetensors"
    model.write_bytes(encode(load(plan).initial_model(3)))
    expected, found = (archipel.predict(model, data, plan=plan) for data in (known, new))
    assert found.subjects == expected.subjects and set(found.truths) == {None}
    for name, values in expected.columns.items():
        assert np.array_equal(found.columns[name], values)
    one = archipel.predict(model, new / f"{found.subjects[4]}.png", plan=plan)
    assert one.rows()[0]["class=normal"] == pytest.approx(found.rows()[4]["class=normal"], rel=1e-5)
    Image.fromarray(np.zeros((30, 28), np.uint8)).save(new / "zz.png")
    with pytest.raises(BadInput, match=r"zz.png: has the shape \[30, 28\], and known-normal00.png has \[28, 28\]"):
        archipel.predict(model, new, plan=plan)
    assert len(archipel.predict(model, new, plan=plan, options={"size": "28x28"}).subjects) == 33
    (new / "zz.jpg").write_bytes((new / "zz.png").read_bytes())
    with pytest.raises(BadInput, match="has 2 pictures called zz"):
        archipel.predict(model, new, plan=plan)
    with pytest.raises(BadInput, match="option depth: is unknown; pictures have: "):
        archipel.predict(model, new, plan=plan, options={"depth": "8"})


def volume_world(root: Path) -> tuple[Path, Path]:
    """Six subjects of two modalities, whose age is the sum of the two images' brightness; a model that adds them."""
    rows = ["subject,age"]
    for number in range(6):
        for place, modality in enumerate(("T1", "T2")):
            image = np.full((4, 4, 4), 10.0 * number + place, np.float32)
            file = root / "data" / f"sub-{number}" / modality / "x.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(image, np.eye(4)).to_filename(file)
        rows.append(f"sub-{number},{20 * number + 3}")
    (root / "data" / "demographics.csv").write_text("\n".join(rows) + "\n")
    (root / "plan.py").write_text(VOLUMES)
    model = root / "m.safetensors"
    model.write_bytes(encode({"weight": np.ones((1, 2), np.float32), "bias": np.zeros(1, np.float32)}))
    return root / "data", model


def test_a_plan_on_volumes_of_several_modalities_predicts_a_number(tmp_path: Path) -> None:
    data, model = volume_world(tmp_path)
    options = {"modalities": "T1,T2"}
    found = archipel.predict(model, data, plan=tmp_path / "plan.py", layout="medical-folder", options=options)
    assert found.columns["age"] == pytest.approx([20 * number + 1 for number in range(6)])
    assert found.truths == tuple(20 * number + 3 for number in range(6))
    measured = archipel.evaluate(model, data, plan=tmp_path / "plan.py", layout="medical-folder", options=options)
    assert measured.metrics["mae"][:3] == (2.0, 2.0, 2.0) and measured.subjects["sub-3"] == {"mae": 2.0}
    (data / "sub-4" / "T2" / "x.nii.gz").unlink()
    with pytest.raises(BadInput, match=r"image T2: not met \(1 of 6 samples have no T2"):
        archipel.predict(model, data, plan=tmp_path / "plan.py", layout="medical-folder", options=options)


def test_a_plan_with_maps_as_outputs_writes_arrays_and_no_table(tmp_path: Path) -> None:
    (tmp_path / "plan.py").write_text(
        "import torch\nfrom archipel.plans import TorchPlan\nfrom archipel.vocabulary import DataNeeds\n\n\n"
        'class Maps(TorchPlan):\n    needs = DataNeeds(kind="arrays")\n\n'
        "    def build_model(self):\n        return torch.nn.Conv2d(1, 2, 1)\n\n"
        "    def examples(self, subjects):\n        x, y, _ = subjects.table()\n"
        "        return torch.from_numpy(x).float()[:, None], torch.from_numpy(y)\n"
    )
    np.savez(tmp_path / "rows.npz", x=np.ones((3, 5, 4), np.float32), subject=["a", "b", "c"])
    model = tmp_path / "m.safetensors"
    model.write_bytes(encode({"weight": np.ones((2, 1, 1, 1), np.float32), "bias": np.zeros(2, np.float32)}))
    with pytest.raises(BadInput, match=r"cannot hold column output, which has 2x5x4 numbers per sample; name a .npz"):
        archipel.predict(model, tmp_path, tmp_path / "out.csv", plan=tmp_path / "plan.py")
    found = archipel.predict(model, tmp_path, tmp_path / "out.npz", plan=tmp_path / "plan.py")
    assert found.columns["output"].shape == (3, 2, 5, 4) and found.files == (tmp_path / "out.npz",)


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of rows and a model of the tiny plan."""
    plan = load(EXAMPLES / "tiny_numpy.py")
    model = tmp_path / "m.safetensors"
    model.write_bytes(encode(plan.initial_model(0)))
    return tiny_rows(tmp_path / "data"), model


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_what_does_not_fit_together_is_one_error(tiny: tuple[Path, Path], tmp_path: Path, command: str) -> None:
    data, model = tiny

    def error(model: Path, data: Path, *more: object) -> str:
        where = (data, tmp_path / "out.csv") if command == "predict" else ("--data", data)
        done = typed(command, "--model", model, *where, *more)
        assert isinstance(done.exception, ArchipelError), done.output
        return str(done.exception)

    assert "m.safetensors: has no plan beside it (looked for" in error(model, data)
    other = error(model, data, "--plan", EXAMPLES / "heart_disease.py")
    assert "is of another plan: tensor bias is float64 [1] in the model and float32 [1] in the plan HeartDi" in other
    model.with_name("two.safetensors").write_bytes(model.read_bytes())
    assert "holds 2 models (m.safetensors, two.safetensors); name the .safetensors file" in error(tmp_path, data)
    assert "holds no *.safetensors" in error(data, data)
    table = heart_table(tmp_path / "table" / "rows.csv")
    kind = error(model, table, "--plan", EXAMPLES / "tiny_numpy.py")
    assert "holds data of kind table (format table); the plan needs arrays" in kind
    kind = error(model, table, "--plan", EXAMPLES / "tiny_numpy.py", "--format", "table")
    assert "is of kind table" in kind
    setting = error(model, data, "--plan", EXAMPLES / "tiny_numpy.py", "--set", "speed=3")
    assert "speed" in setting and "learning_rate" in setting


def test_a_class_that_the_plan_does_not_know_is_named(tmp_path: Path) -> None:
    data = chest_pictures(tmp_path / "data")
    (data / "pneumonia").rename(data / "covid")
    plan = EXAMPLES / "chest_pictures.py"
    model = tmp_path / "m.safetensors"
    model.write_bytes(encode(load(plan).initial_model(0)))
    with pytest.raises(BadInput, match=r"covid; the plan knows normal, pneumonia; map the value"):
        archipel.predict(model, data, plan=plan)
    with pytest.raises(BadInput, match="covid"):
        archipel.evaluate(model, data, plan=plan)
    (tmp_path / "map.toml").write_text('[columns.class.values]\ncovid = "pneumonia"\n')
    assert set(archipel.predict(model, data, plan=plan, mapping=tmp_path / "map.toml").truths) == {
        "normal",
        "pneumonia",
    }


def test_a_plan_that_does_not_say_how_it_predicts_says_what_to_write(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    data, model = tiny
    source = (EXAMPLES / "tiny_numpy.py").read_text()
    (tmp_path / "plan.py").write_text(source.replace("def predict(", "def other("))
    with pytest.raises(BadInput, match=r"plan TinyPlan: does not say how it predicts.*define predict\(self, models"):
        archipel.predict(model, data, plan=tmp_path / "plan.py")
    for answer, said in {
        '{"chance": np.zeros(3)}': "column chance of plan TinyPlan: has 3 rows for 30 samples",
        '{"truth": np.zeros(30)}': "has the name of a column that every prediction has",
        '{"chance": np.array([None] * 30)}': "has values of type object",
        "1 / 0": "plan.py:.*ZeroDivisionError",
    }.items():
        told = source.replace('{"chance": _chance(models, subjects.table().x)}', answer)
        (tmp_path / "plan.py").write_text(told)
        with pytest.raises(BadInput, match=said):
            archipel.predict(model, data, plan=tmp_path / "plan.py")
    (tmp_path / "plan.py").write_text(
        source.replace('(MetricSpec(name="accuracy", better="higher"),)', "()").replace(
            'selection = Selection(metric="accuracy", better="higher")', "selection = None"
        )
    )
    with pytest.raises(BadInput, match="declares no validation metrics"):
        archipel.evaluate(model, data, plan=tmp_path / "plan.py")


def test_a_plan_that_measures_no_subject_alone_is_told_how_to_go_on(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    data, model = tiny
    source = (EXAMPLES / "tiny_numpy.py").read_text()
    refusal = "        x, y, _ = self.held_out\n        assert len(set(y.tolist())) > 1, 'one class only'\n"
    (tmp_path / "plan.py").write_text(source.replace("        x, y, _ = self.held_out\n", refusal))
    words = ("--model", model, "--plan", tmp_path / "plan.py", "--data", data)
    done = typed("evaluate", *words)
    assert "cannot be measured alone (one class only); measure all subjects together only (--total-only" in str(
        done.exception
    )
    done = typed("evaluate", *words, "--total-only", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["metrics"]["accuracy"]["low"] is None


def test_a_plan_of_several_classes_is_named_as_the_card_names_it(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    data, model = tiny
    text = (EXAMPLES / "tiny_numpy.py").read_text()
    (tmp_path / "m-plan").mkdir()
    (tmp_path / "m-plan" / "mine.py").write_text(text + "\n\nclass Other(Plan):\n    pass\n")
    with pytest.raises(BadInput, match="has 2 plan classes"):
        archipel.predict(model, data)
    words = ("--model", model, data, tmp_path / "out.csv", "--entry", "mine.py", "--class", "TinyPlan")
    assert typed("predict", *words).exit_code == 0
    found = archipel.evaluate(model, data, plan_class="TinyPlan", entry="mine.py", resamples=0)
    assert found.metrics["accuracy"].weight == 30


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"validation_fraction": 1.0}, "validation fraction 1: is not a share"),
        ({"validation_fraction": float("nan")}, "validation fraction nan: is not a share"),
        ({"seed": -1}, "seed -1: is below 0"),
        ({"resamples": -1}, "resamples -1: is below 0"),
    ],
)
def test_a_number_that_says_nothing_is_refused(tiny: tuple[Path, Path], given: dict[str, Any], said: str) -> None:
    data, model = tiny
    with pytest.raises(BadInput, match=said):
        archipel.evaluate(model, data, plan=EXAMPLES / "tiny_numpy.py", **given)


def test_visits_of_a_patient_stay_together(tiny: tuple[Path, Path]) -> None:
    data, model = tiny
    found = archipel.evaluate(model, data, plan=EXAMPLES / "tiny_numpy.py")
    assert (found.count, found.samples, len(found.subjects)) == (15, 30, 15)
    assert {one["accuracy"] for one in found.subjects.values()} <= {0.0, 0.5, 1.0}
    assert found.metrics["accuracy"].weight == 30


def test_a_model_of_volumes_measured_in_a_simulation_is_measured_alike(tmp_path: Path) -> None:
    plan = tmp_path / "labels.py"
    plan.write_text(LABELS)

    def make(root: Path, seed: int) -> None:
        for number in range(5):
            write_pair(root, f"sub-{number}", seed=10 * seed + number)

    trained = Trained(tmp_path, plan, "nifti-pairs", make)
    for models, model in ((trained.model, "federated"), (trained.local, "ensemble")):
        found = archipel.evaluate(models, trained.data / "north", plan=plan, validation_fraction=0.3, resamples=20)
        values = {name: one.value for name, one in found.metrics.items() if not name.startswith("hd95")}
        assert values == trained.scores[model].per_site["north"] and 0 < found.count < 5
    both = archipel.evaluate(trained.model, trained.data, plan=plan)
    assert both.count == 10 and {"north:sub-0", "south:sub-4"} <= both.subjects.keys()
    assert both.metrics["dice"].low < both.metrics["dice"].high


def test_a_plan_that_segments_and_measures_in_its_own_way_is_measured_so(tmp_path: Path) -> None:
    own = """
    validation = (MetricSpec(name="dice", better="higher"), MetricSpec(name="volumes", better="higher"))

    def evaluate(self, models, context):
        found = super().evaluate(models, context)
        count = found["dice"].weight
        return {"dice": found["dice"], "volumes": MetricSum(total=2 * count, weight=count)}
"""
    text = LABELS.replace("import DataNeeds", "import DataNeeds, MetricSpec, MetricSum").replace(
        "    shape =", f"{own}\n    shape ="
    )
    (tmp_path / "own.py").write_text(text)
    (tmp_path / "plain.py").write_text(LABELS)
    for number in range(3):
        write_pair(tmp_path / "data", f"sub-{number}", seed=number)
    model = tmp_path / "m.safetensors"
    model.write_bytes(encode(load(tmp_path / "own.py").initial_model(1)))
    found, plain = (
        archipel.evaluate(model, tmp_path / "data", plan=tmp_path / name) for name in ("own.py", "plain.py")
    )
    assert list(found.metrics) == ["dice", "volumes"] and found.metrics["dice"] == plain.metrics["dice"]
    assert found.metrics["volumes"][:4] == (2.0, 2.0, 2.0, 3)
    for subject, values in found.subjects.items():
        assert values == {"dice": plain.subjects[subject]["dice"], "volumes": 2.0}


def test_importing_the_package_loads_neither_numpy_nor_torch() -> None:
    import subprocess
    import sys

    code = "import sys, archipel; archipel.__dir__(); assert not {'numpy', 'torch', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("table", ["classes.csv", "classes.tsv", "classes.CSV.GZ", "classes.xlsx", "classes.parquet"])
def test_pictures_beside_a_table_of_any_ending_are_read_as_a_site_reads_them(tmp_path: Path, table: str) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "p-1.png")
    assert unlabelled_site("new", tmp_path, {}) is not None
    (tmp_path / table).write_bytes(b"-")
    assert unlabelled_site("new", tmp_path, {}) is None
