"""A model to start from must be the plan's model by names, types and shapes, and whole."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from archipel.plans import StartingModel, draft, read_starting_model
from archipel.tensors import blob_hash, encode, schema_of
from archipel.vocabulary import BadInput, ModelFile, ParentChoice, ParentModel, RosterEntry, RoundTerms, Thing

TINY = Path(__file__).parents[2] / "examples" / "tiny_numpy.py"
MODEL = {"bias": np.ones(1), "steps_taken": np.full((), 7, np.int64), "weight": np.arange(8.0)}
NOBODY = "ed25519:" + "0" * 64


def started(path: Path, data: bytes) -> StartingModel:
    file = path / "model.safetensors"
    file.write_bytes(data)
    return read_starting_model(file)


def drafted(start: StartingModel | None):
    roster = [RosterEntry(site="site-a", identity_key=NOBODY, dataset="table")]
    return draft(
        TINY, experiment="twin", roster=roster, server_key=NOBODY, terms=RoundTerms(rounds=2, quorum=1),
        start_from=start,
    )  # fmt: skip


def test_a_job_starts_from_a_file_and_says_so(tmp_path: Path) -> None:
    data = encode(MODEL)
    made, usual = drafted(started(tmp_path, data)), drafted(None)
    assert made.initial_model == data and made.job.initial_model == blob_hash(data)
    assert made.job.lineage == ModelFile(file=blob_hash(data))
    assert usual.job.lineage is None and usual.job.initial_model != made.job.initial_model
    changed = {"initial_model": usual.job.initial_model, "lineage": None}
    assert made.job.model_copy(update=changed) == usual.job


def test_a_file_of_another_program_with_the_same_tensors_gives_the_same_job_model(tmp_path: Path) -> None:
    names = sorted(MODEL, reverse=True)
    header, data = {"__metadata__": {"format": "np"}}, b""
    for name in names:
        array, kind = MODEL[name], {"float64": "F64", "int64": "I64"}[MODEL[name].dtype.name]
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    foreign = struct.pack("<Q", len(text)) + text + data
    assert drafted(started(tmp_path, foreign)).initial_model == encode(MODEL)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"weight": np.arange(8, dtype=np.float32)},
         "tensor weight is float32 [8], in the plan's model float64 [8]"),
        ({"weight": np.zeros((2, 4))}, "tensor weight is float64 [2, 4], in the plan's model float64 [8]"),
        ({"weight": None}, "tensor weight is missing, in the plan's model float64 [8]"),
        ({"head.weight": np.zeros(2)}, "tensor head.weight is float64 [2], in the plan's model missing"),
        ({f"layer{number}": np.zeros(2) for number in range(5)}, "in the plan's model missing; and 2 more"),
        ({"bias": np.array([np.nan])}, "has values in tensor bias that are not finite"),
    ],
    ids=["type", "shape", "missing", "unknown", "many", "nan"],
)  # fmt: skip
def test_what_differs_is_named(tmp_path: Path, change: dict[str, np.ndarray | None], cause: str) -> None:
    arrays = {name: array for name, array in {**MODEL, **change}.items() if array is not None}
    with pytest.raises(BadInput) as refused:
        drafted(started(tmp_path, encode(arrays)))
    assert cause in refused.value.cause and refused.value.thing.endswith("model.safetensors")


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-1], lambda data: data + b"x", lambda data: b"\x80\x04" + data[2:]],
    ids=["empty", "cut", "longer", "pickle"],
)
def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path, damage) -> None:
    with pytest.raises(BadInput, match=r"model.safetensors: is damaged or not a model.*that was downloaded"):
        drafted(started(tmp_path, damage(encode(MODEL))))


@pytest.mark.parametrize("name", ["missing.safetensors", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_starting_model(tmp_path / name)


def test_the_model_of_a_fitting_file_is_the_file(tmp_path: Path) -> None:
    data = encode(MODEL)
    fitted = started(tmp_path, data).fitted(schema_of(MODEL))
    assert encode(fitted) == data and fitted["weight"].tolist() == list(range(8))


FREEZES = """
import numpy as np

from archipel import DataNeeds, MetricSpec, Part, Plan


class Frozen(Plan):
    needs = DataNeeds(kind="arrays")
    metrics = (MetricSpec(name="loss", better="lower"),)

    def initial_model(self, seed):
        return {"bias": np.zeros(1), "steps_taken": np.full((), 0, np.int64), "weight": np.zeros(8)}

    def partition(self, name, array):
        return Part.FROZEN if name == "weight" else Part.SENT

    def train(self, model, context):
        raise NotImplementedError
"""


def frozen_draft(tmp_path: Path, start: StartingModel):
    (tmp_path / "plan.py").write_text(FREEZES)
    roster = [RosterEntry(site="site-a", identity_key=NOBODY, dataset="table")]
    terms = RoundTerms(rounds=1, quorum=1)
    return draft(
        tmp_path / "plan.py", experiment="head", roster=roster, server_key=NOBODY, terms=terms, start_from=start
    )


def test_a_whole_model_is_the_start_of_both_parts(tmp_path: Path) -> None:
    made = frozen_draft(tmp_path, started(tmp_path, encode(MODEL)))
    sent, frozen = {name: MODEL[name] for name in ("bias", "steps_taken")}, {"weight": MODEL["weight"]}
    assert made.job.frozen is not None
    assert (made.job.initial_model, made.job.frozen.blob) == (blob_hash(encode(sent)), blob_hash(encode(frozen)))


def test_a_model_of_an_experiment_that_froze_another_part_is_started_from_as_a_file(tmp_path: Path) -> None:
    parent = ParentModel(experiment="heart", job_hash="sha256:" + "0" * 64, model=ParentChoice.LAST, round=2)
    whole = StartingModel(Thing("model", "last"), encode(MODEL), parent, trained=blob_hash(encode(MODEL)))
    with pytest.raises(BadInput, match=r"was trained with other tensors frozen.*start from the file"):
        frozen_draft(tmp_path, whole)
    sent = {name: MODEL[name] for name in ("bias", "steps_taken")}
    same = StartingModel(Thing("model", "last"), encode(MODEL), parent, trained=blob_hash(encode(sent)))
    assert frozen_draft(tmp_path, same).job.lineage == parent
