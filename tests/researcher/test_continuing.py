"""A new experiment that starts from a file or from another one's model, and what its card says of that."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_commands import Typed, typed  # noqa: F401 - the fixture of the commands

import archipel
from archipel.researcher.ancestry import Ancestor, in_words
from archipel.researcher.experiment_result import experiment_result
from archipel.tensors import blob_hash, encode
from archipel.transport.rest import ModelView
from archipel.vocabulary import ArchipelError, BadInput, ModelFile, NotFound, ParentModel
from worlds import scripted_experiments
from worlds.research import TINY_PLAN, World
from worlds.scripted_experiments import logged


def weights(number: int) -> bytes:
    return encode({"bias": np.zeros(1), "steps_taken": np.full((), number, np.int64), "weight": np.ones(8)})


@pytest.fixture
def fitting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The experiments' models are those of the tiny plan."""
    monkeypatch.setattr(scripted_experiments, "model", lambda name: weights(len(name)))


@pytest.fixture
def parent(world: World, experiment: archipel.Experiment, fitting: None) -> Iterator[archipel.Experiment]:
    logged(experiment).truncate()
    experiment.run()
    yield experiment


def create(federation: archipel.Federation, **more: Any) -> archipel.Experiment:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return federation.create(TINY_PLAN, rounds=2, **more)


@pytest.mark.parametrize(("choice", "which"), [("", "last"), (":last", "last"), (":best", "best")])
def test_an_experiment_continues_another_ones_model_by_name(
    federation: archipel.Federation, parent: archipel.Experiment, choice: str, which: str
) -> None:
    made = create(federation, start_from=f"{parent.name}{choice}")
    assert made.job.initial_model == blob_hash(weights(4))
    assert made.job.lineage == ParentModel(
        experiment=parent.name, job_hash=parent.job_hash, model=which, round=3
    )  # fmt: skip
    assert create(federation, start_from=parent).job.lineage == create(federation, start_from=parent.name).job.lineage


def test_the_card_and_the_report_say_the_whole_chain(
    federation: archipel.Federation, parent: archipel.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    world: World,
) -> None:  # fmt: skip
    second = create(federation, start_from=f"{parent.name}:best", sites=["site-a"]).submit()
    assert "starts from" in create(federation, start_from=parent, sites=["site-a"])._repr_html_()
    world.experiments.answer(second.name, "site-a", "approved")
    logged(second)
    second.run()
    third = create(federation, start_from=second, sites=["site-b"]).submit()
    world.experiments.answer(third.name, "site-b", "approved")
    logged(third)
    third.run()
    card = third.download(tmp_path).with_suffix(".md").read_text()
    assert f"- Started from {second.name}, last, after round 2, job `{second.job_hash}`.\n" in card
    assert f"- Which started from {parent.name}, best, after round 3, job `{parent.job_hash}`.\n" in card
    assert f"- {parent.name} began with a model that its plan made.\n" in card
    assert "It saw data of site-a, site-b, site-c only." in card
    notes = experiment_result(third.document(), third.rounds()).notes
    assert any(f"started from {second.name}, last, after round 2 ({second.job_hash})" in note for note in notes)


def test_a_parent_whose_job_is_another_one_ends_the_chain() -> None:
    lost = ParentModel(experiment="heart-1", job_hash="sha256:" + "1" * 64, model="last", round=4)
    said = in_words([Ancestor(lost)])
    assert said[0].startswith("Started from heart-1, last, after round 4, job `sha256:1")
    assert said[1] == "That job of heart-1 is not at this server: what came before is not known."
    file = ModelFile(file="blake3:" + "2" * 64)
    assert in_words([Ancestor(file)]) == [f"Started from a file of the researcher, `{file.file}`."]


def test_the_best_of_no_round_is_the_model_that_it_started_from(
    federation: archipel.Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    file = tmp_path / "heart.safetensors"
    file.write_bytes(weights(1))
    made = create(federation, start_from=file, sites=["site-a"]).submit()
    kept = ModelView(name="best", round=0, hash=blob_hash(weights(4)), lineage=made.job.lineage)
    monkeypatch.setattr(scripted_experiments, "model", lambda name: weights(4))
    monkeypatch.setattr(made, "_models", lambda: [kept])
    assert made.models()["origin"].tolist() == ["the model that it started from (a file of the researcher)"]
    path = made.download(tmp_path, which="best")
    assert path.name == f"{made.name}-best-initial.safetensors"
    card = path.with_suffix(".md").read_text()
    assert "untrained" not in card and "It was not trained" not in card
    assert f"Started from a file of the researcher, `{blob_hash(weights(1))}`." in card
    assert "It saw what the model that it started from was trained on, which is not known here." in card


@pytest.mark.parametrize(
    ("given", "error", "cause"),
    [
        (
            "nothing-1",
            NotFound,
            r"nothing-1: is not at this server; name one that `archipel experiment l.*\./nothing-1",
        ),
        ("{parent}:local", BadInput, "is not one that another experiment can start from; give {parent}:last or"),
        ("{parent}:", None, ""),
        ("missing.safetensors", BadInput, "missing.safetensors: cannot be read"),
        ("./{parent}", BadInput, "cannot be read"),
    ],
)
def test_what_cannot_be_started_from_is_named(
    federation: archipel.Federation, parent: archipel.Experiment, given: str, error: type[ArchipelError] | None,
    cause: str,
) -> None:  # fmt: skip
    given, cause = given.format(parent=parent.name), cause.format(parent=parent.name)
    if error is None:
        assert create(federation, start_from=given).job.lineage is not None
        return
    with pytest.raises(error, match=cause):
        create(federation, start_from=given)


def test_a_model_that_was_never_made_is_named(
    federation: archipel.Federation, experiment: archipel.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = federation._connection.ask_all
    monkeypatch.setattr(
        federation._connection, "ask_all", lambda kind, path: [] if kind is ModelView else asked(kind, path)
    )
    with pytest.raises(NotFound, match=rf"model last of {experiment.name}: is not made yet: .* is waiting and"):
        create(federation, start_from=experiment)


def test_a_model_of_another_plan_says_which_tensor_differs(
    federation: archipel.Federation, experiment: archipel.Experiment
) -> None:
    cause = rf"model last of {experiment.name}: does not fit the plan: tensor bias is missing, .* float64 \[1\]; tensor"
    with pytest.raises(BadInput, match=cause):
        create(federation, start_from=experiment)


def test_damaged_bytes_are_not_started_from(
    federation: archipel.Federation, parent: archipel.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federation._connection, "download", lambda path: weights(5))
    with pytest.raises(ArchipelError, match="is damaged: its bytes have another hash"):
        create(federation, start_from=parent)


def test_run_takes_a_model_to_start_from(world: World, typed: Typed, parent: archipel.Experiment) -> None:  # noqa: F811
    done = typed("run", TINY_PLAN, "--name", "typed-2", "--start-from", f"{parent.name}:best", "--site", "site-a")
    assert done.exit_code == 0, done.output
    assert world.experiments.jobs["typed-2"].lineage == ParentModel(
        experiment=parent.name, job_hash=parent.job_hash, model="best", round=3
    )
