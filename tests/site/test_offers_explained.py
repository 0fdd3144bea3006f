"""Explaining an offer is a function of the site: no terminal is needed, and the command line says the same."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from archipel.cli.site import app
from archipel.site.approval import offers
from archipel.site.services import explanations
from archipel.site.state.folder import StateFolder
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
