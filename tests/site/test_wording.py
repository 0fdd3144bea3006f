from __future__ import annotations

import html
import unicodedata
from typing import Any

from clip import registered
from hypothesis import assume, given
from hypothesis import strategies as st

from archipel.data import SampleCounts
from archipel.data.quality import markup
from archipel.site.approval.explanation import explain_offer
from archipel.site.state.folder import StateFolder
from archipel.site.state.settings import SandboxRule, SiteSettings
from archipel.vocabulary import (
    UPDATE_FIELDS,
    Baselines,
    ColumnNeed,
    DataNeeds,
    HyperParameter,
    MetricSpec,
    OptimiserState,
    Patience,
    PrivacyTerms,
    Release,
    RosterEntry,
    RoundTerms,
    StepTerms,
)
from archipel.vocabulary.visible import escape_hidden_lines
from worlds.site import job_for


def words(site: StateFolder, settings: SiteSettings | None = None, **changes) -> dict[str, str]:
    return dict(explain_offer(job_for(site, **changes), settings or site.settings, "North", "table", 6))


def test_how_many_measure_the_model_is_said_and_too_few_are_warned_of(hospital: StateFolder) -> None:
    job = job_for(hospital, validation_fraction=0.2)

    def data(subjects: int, held_out: int | None) -> str:
        answers = explain_offer(job, hospital.settings, "North", "table", subjects, held_out=held_out)
        return dict(answers)["On which data?"]

    assert "About 20% of the subjects are only used to measure the model" in data(8, None)
    one, three, five = data(8, 1), data(8, 3), data(25, 5)
    assert "1 of the 8 subjects (asked for: about 20%) is only used to measure the model, never to train it." in one
    assert "WARNING: only 1 subject measures the model, so a metric that leaves is close to one patient's" in one
    assert "3 of the 8 subjects (asked for: about 20%) are only used" in three
    assert "WARNING: only 3 subjects measure the model" in three
    assert "5 of the 25 subjects" in five and "WARNING" not in five
    unmeasured = job_for(hospital, validation=())
    answers = explain_offer(unmeasured, hospital.settings, "North", "table", 8, held_out=1)
    assert "WARNING" not in dict(answers)["On which data?"], "nothing that is measured leaves"


@given(st.text())
def test_nothing_a_stranger_wrote_can_move_or_hide_what_a_terminal_shows(text: str) -> None:
    seen = escape_hidden_lines(text)
    assert all(character in "\n\t" or unicodedata.category(character)[0] != "C" for character in seen)
    assert escape_hidden_lines(seen) == seen


@given(st.text(st.characters(exclude_characters="\n\t")))
def test_a_page_shows_what_a_terminal_shows(text: str) -> None:
    assert html.unescape(markup.text(text)) == escape_hidden_lines(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], max_codepoint=0xFFFF)))
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    spaces = {one for one in text if unicodedata.category(one) == "Zs"} - {" "}
    assume(not (spaces or set(text) & {"\u115f", "\u1160", "\u2800", "\u3164", "\uffa0"}))
    assert escape_hidden_lines(text) == text


def test_every_field_that_leaves_is_spoken_of(hospital: StateFolder) -> None:
    spoken = {
        "model": "the trained model (12 bytes)",
        "samples": "How many samples it was trained on",
        "metrics": "From training: loss",
        "validation": "From measuring: accuracy, dice",
        "seconds": "the whole seconds it took",
        "failure": "If it fails: a code, a kind of error, a line number",
    }
    assert set(spoken) == set(UPDATE_FIELDS)
    validation = tuple(MetricSpec(name=name, better="higher") for name in ("accuracy", "dice"))
    leaves = words(hospital, validation=validation)["What leaves this site?"]
    for text in spoken.values():
        assert text in leaves
    assert "the server sees this site's own model" in leaves
    entries = [("charite", hospital.identity.public), ("mayo", "ed25519:" + "1" * 64)]
    roster = tuple(RosterEntry(site=site, identity_key=key, dataset="table") for site, key in entries)
    several = {"roster": roster, "terms": RoundTerms(rounds=3, quorum=2)}
    summed = words(hospital, privacy=PrivacyTerms(release=Release.SUM), **several)["What leaves this site?"]
    assert "keeps only the sum over sites; they are not masked yet" in summed


def test_what_privacy_steps_say_about_themselves_is_among_what_leaves(hospital: StateFolder) -> None:
    clipped = {"privacy": PrivacyTerms(steps=(StepTerms(name="clip", parameters={"bound": 1.0}),))}
    with registered():
        leaves = words(hospital, **clipped)["What leaves this site?"]
        assert "What these steps report about themselves leaves with the metrics: update_norm." in leaves
    assert "say about themselves" not in words(hospital)["What leaves this site?"]
    # A step that is not known here is an objection that a person reads.
    assert "say about themselves" not in words(hospital, **clipped)["What leaves this site?"]


def test_a_model_that_goes_to_other_hospitals_is_said_to(hospital: StateFolder) -> None:
    entries = [("charite", hospital.identity.public), ("mayo", "ed25519:" + "1" * 64)]
    several = {"roster": tuple(RosterEntry(site=site, identity_key=key, dataset="table") for site, key in entries)}
    measured = {"validation": (MetricSpec(name="dice", better="higher"),)}

    def leaves(local: bool, ensemble: bool, **changes: Any) -> str:
        return words(hospital, baselines=Baselines(local=local, ensemble=ensemble), **changes)["What leaves this site?"]

    assert "second model" not in leaves(False, False, **several, **measured)
    local = leaves(True, False, **several, **measured)
    assert "second model, trained on this site's data alone" in local
    assert "also sent to the other sites, which measure it on their data." in local
    assert "their data, alone and together with theirs." in leaves(True, True, **several, **measured)
    # Nothing is measured, or nobody else is there: the server alone receives it.
    assert "sent to the other sites" not in leaves(True, True, **several, validation=())
    assert "sent to the other sites" not in leaves(True, True, **measured)


def test_who_takes_part_and_for_how_long_is_said(hospital: StateFolder) -> None:
    entries = [("charite", hospital.identity.public), ("mayo", "ed25519:" + "1" * 64), ("ucl", "ed25519:" + "2" * 64)]
    roster = tuple(RosterEntry(site=site, identity_key=key, dataset="table") for site, key in entries)
    said = words(hospital, roster=roster, terms=RoundTerms(rounds=20, quorum=2, deadline_s=7200, retries=0))
    here = "This site would take part together with mayo, ucl."
    assert said["Who asks?"] == f"The server does not say who asks. Federation:\n| North\n{here}"
    assert said["For how long?"].startswith("20 rounds of at most 2 hours each. A round counts when 2 of 3 sites")
    assert "one that does not is tried again only when the researcher resumes." in said["For how long?"]


def test_how_many_attempts_there_may_be_is_said_of_a_stage_and_of_the_whole_experiment(hospital: StateFolder) -> None:
    terms = RoundTerms(rounds=20, quorum=1, retries=2, resumes=3)
    alone = Baselines(local=True)
    # 20 rounds, 10 measurements between them, the last model measured, a model trained alone, and that one measured: 12
    # attempts at each.
    job = job_for(hospital, terms=terms, baselines=alone)
    said = dict(explain_offer(job, hospital.settings, "North", "table", 50, samples=SampleCounts(40, 10)))
    assert "at most 12 attempts at each round, measurement and baseline, 396 in all." in said["For how long?"]
    assert "is tried again up to 2 times." in said["For how long?"]
    assert "bytes of information per attempt; this site makes at most 396 attempts." in said["What leaves this site?"]


def test_an_early_end_is_said_to_ask_for_nothing_else(hospital: StateFolder) -> None:
    def said(**changes: Any) -> str:
        return words(hospital, **changes)["For how long?"]

    asked = "then this site is asked for nothing but the measurement of the last round's model"
    between = "Between rounds, after a pause or at an early end, this site measures the model at most"
    assert f"It may end before the last round when a person finishes it; {asked}. {between} 2 times." in said()
    passes = "and the baselines, with as many passes as there were rounds."
    assert f"{asked} {passes}" in said(baselines=Baselines(local=True))
    rule = Patience(metric="accuracy", rounds=5, smallest_gain=0.01)
    terms = RoundTerms(rounds=20, quorum=1, patience=rule, measurements=3)
    by_itself = "or by itself after no gain of 0.01 in accuracy for 5 rounds; "
    assert by_itself in said(terms=terms) and f"{between} 3 times." in said(terms=terms)
    unmeasured = said(validation=())
    assert "then this site is asked for nothing more." in unmeasured and between not in unmeasured


def test_bounds_and_what_stays_are_said(hospital: StateFolder) -> None:
    parameters = (
        HyperParameter(name="rate", kind="float", default=0.1, minimum=0, maximum=1),
        HyperParameter(name="flip", kind="bool", default=True),
        HyperParameter(name="loss", kind="choice", default="dice", choices=("dice", "\x1bfocal")),
    )
    values = {"rate": 0.5, "flip": False, "loss": "dice"}
    said = words(hospital, parameters=parameters, arguments=values, optimiser_state=OptimiserState.CONTINUE_LOCAL)
    assert (
        'rate (now 0.5): 0 to 1; flip (now False): yes or no; loss (now dice): dice, "\\x1bfocal"\n'
        in (said["What may the researcher change later?"])
    )
    assert "patient identifiers" in said["What stays here?"]
    assert "optimiser's state is kept at this site" in said["What stays here?"]


def test_a_site_without_a_sandbox_warns_its_own_people(hospital: StateFolder) -> None:
    assert "sandbox without network" in words(hospital)["With which limits?"]
    careless = SiteSettings(site="charite", sandbox=SandboxRule.NONE)
    assert "WITHOUT a sandbox" in words(hospital, careless)["With which limits?"]


def test_the_classes_and_the_numbers_that_a_plan_gets_for_them_are_said(hospital: StateFolder) -> None:
    sick = ColumnNeed(name="class", categories=("normal", "pneumonia\x1b[2J"))
    needs = DataNeeds(kind="arrays", target=sick)
    said = words(hospital, needs=needs)["On which data?"]
    assert 'Classes (class):\n| 0 = normal, 1 = "pneumonia\\x1b[2J"\n' in said
    age = DataNeeds(kind="arrays", target=ColumnNeed(name="age", unit="years"))
    assert "Target:\n| age in years\n" in words(hospital, needs=age)["On which data?"]


def test_a_metric_that_says_more_than_a_mean_is_explained_with_the_sites_smallest_cell(hospital: StateFolder) -> None:
    asked = (
        MetricSpec(name="dice", better="higher", spread=True),
        MetricSpec(name="auc", better="higher", bins=64),
    )
    plain = job_for(hospital)
    said = dict(explain_offer(plain.model_copy(update={"validation": asked}), hospital.settings, "North", "table", 50))
    leaves = " ".join(said["What leaves this site?"].split())
    assert "Of dice also how much the values differ (a sum of squares), if the model is measured on at least" in leaves
    assert "Of auc (64 bins) also how many positive and negative cases" in leaves and "at least 5 cases" in leaves
    without = dict(explain_offer(plain, hospital.settings, "North", "table", 50))["What leaves this site?"]
    assert "sum of squares" not in without and "bins" not in without
