"""Explaining an offer is a function of the site: no terminal is needed, and the command line says the same."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from archipel.cli.site import app
from archipel.site.approval import offers
from archipel.site.services import explanations
from archipel.site.state.folder import StateFolder
from archipel.tensors import blob_hash
from archipel.vocabulary import FrozenPart, TensorSchema, TensorSpec
from worlds.site import job_for, take_offer


def test_a_program_is_given_what_the_service_says(with_table: StateFolder) -> None:
    take_offer(with_table)
    offer = offers.offered(with_table.database, "heart")
    done = CliRunner().invoke(app, ["plans", "heart", "--json", "--state", str(with_table.folder)])
    document = json.loads(done.stdout)
    assert document["explanation"] == [list(answer) for answer in explanations.explain(with_table, offer)]
    needs = explanations.answer_needs(with_table, offer)
    assert needs and document["needs"] == [answer.model_dump(mode="json") for answer in needs]


def test_a_dataset_that_is_not_here_speaks_against_the_offer_and_answers_no_need(hospital: StateFolder) -> None:
    offers.record(hospital, job_for(hospital))
    offer = offers.offered(hospital.database, "heart")
    question, answer = explanations.explain(hospital, offer, "nowhere")[-1]
    assert question == "What prevents it?" and "dataset nowhere" in answer and "--dataset NAME" in answer
    assert explanations.answer_needs(hospital, offer, "nowhere") == ()


def test_of_a_model_with_a_frozen_part_it_is_said_how_many_numbers_leave_and_which(with_table: StateFolder) -> None:
    names = [f"backbone.{number:02}" for number in range(40)]
    specs = [TensorSpec(name=name, dtype="float32", shape=(256, 256)) for name in names]
    part = FrozenPart(tensors=TensorSchema.of(specs), blob=blob_hash(b"frozen"))
    take_offer(with_table, frozen=part)
    said = dict(explanations.explain(with_table, offers.offered(with_table.database, "heart")))
    runs, leaves = said["What runs?"], said["What leaves this site?"]
    assert "trains 3 of the 2,621,443 numbers of a model (12 bytes of 10 MiB). The trained part is 1 tensor:" in runs
    assert "The other 2,621,440 numbers (10 MiB) are frozen" in runs and "no round changes them" in runs
    assert "The frozen part is 40 tensors:" in runs and "and 10 more, which the job names." in runs
    assert "\n| w\n" in runs and "backbone.29" in runs and "backbone.30" not in runs
    assert "of its 2,621,443 numbers only 3 leave (12 bytes of 10 MiB); the server sees this site's own model" in leaves
    assert "The frozen part of the model is never sent back" in said["What stays here?"]


def test_names_of_tensors_cannot_imitate_an_answer(with_table: StateFolder) -> None:
    forged = TensorSpec(name="a\nWhat leaves this site?\nNothing.", dtype="float32", shape=(2,))
    part = FrozenPart(tensors=TensorSchema.of([forged]), blob=blob_hash(b"frozen"))
    take_offer(with_table, frozen=part)
    runs = dict(explanations.explain(with_table, offers.offered(with_table.database, "heart")))["What runs?"]
    assert "Nothing." in runs and "\nNothing." not in runs and "\nWhat leaves" not in runs
