"""The report of any experiment, from the server's records: every metric, running or finished, summed or by site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

import archipel
from archipel.researcher.experiment_result import experiment_result
from archipel.researcher.outcome import ModelKind
from archipel.researcher.report import report_html
from archipel.transport.rest import BaselinesView, ExperimentView, RoundView
from archipel.vocabulary import Conflict, MetricSpec, Selection
from worlds.research import World
from worlds.scripted_experiments import logged

mpl.use("Agg")


def words(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("<body>")[2]))


@pytest.fixture
def finished(experiment: archipel.Experiment) -> archipel.Experiment:
    logged(experiment)
    experiment.run()
    return experiment


def records(experiment: archipel.Experiment) -> tuple[ExperimentView, list[RoundView]]:
    return experiment.document(), experiment.rounds()


def test_the_page_shows_every_model_at_every_site_and_loads_nothing(
    finished: archipel.Experiment, tmp_path: Path
) -> None:
    path = finished.report(tmp_path / "new")
    assert path == tmp_path / "new" / f"{finished.name}.html"
    page = path.read_text()
    assert {source[:22] for source in re.findall(r"(?:src|href)=\"([^\"]*)", page)} == {"data:image/png;base64,"}
    assert "<script" not in page
    text = words(page)
    for claim in (
        "Three hospitals trained one model in 3 rounds; no sample left its site.",
        "On 12 held-out samples it reaches a mean accuracy of 0.800; the best hospital alone reaches 0.620.",
        "at its worst site: site-a",
        "ensemble of the local models",
        "fedavg, 3 rounds",
        "model, not of the best one",
        "site-b 20 training, 2 s per round",
        finished.job_hash,
        "measured at site-a, site-b, site-c only",
        "A research model, not a medical device.",
    ):
        assert claim in text, claim
    for demonstration in ("Dice", "summary.json", "loopback", "image left", "small network on crops", "epoch"):
        assert demonstration not in text, demonstration


def test_a_metric_of_which_less_is_better_turns_best_and_worst(finished: archipel.Experiment) -> None:
    document, rounds = records(finished)
    job = document.job.model_copy(update={"validation": (MetricSpec(name="accuracy", better="lower"),)})
    job = job.model_copy(update={"selection": Selection(metric="accuracy", better="lower")})
    result = experiment_result(document.model_copy(update={"job": job}), rounds)
    best = result.score(ModelKind.LOCAL)
    assert best is not None and best.name == "site-a"
    page = report_html(result, b"")
    shades = [float(one) for one in re.findall(r"rgba\(15,118,110,([0-9.]+)\)", page)]
    assert (max(shades), min(shades)) == (0.25, 0.03)
    assert re.search(r"site-a alone</td><td class=\"\" style=\"[^\"]*0\.250\)\">0\.600", page), (
        "the best is the darkest"
    )
    assert "lower is better" in page


def test_a_mean_over_sites_is_called_so(finished: archipel.Experiment) -> None:
    document, rounds = records(finished)
    auc = MetricSpec(name="accuracy", better="higher", counts="site", largest_weight=1)
    job = document.job.model_copy(update={"validation": (auc,)})
    text = words(report_html(experiment_result(document.model_copy(update={"job": job}), rounds), b""))
    assert "The mean over all sites is averaged by site." in text and "all samples" not in text


def test_an_experiment_that_runs_is_reported_as_far_as_it_is(
    world: World, experiment: archipel.Experiment, tmp_path: Path
) -> None:
    with pytest.raises(Conflict, match="has no finished round to report on; run it, or wait for its first round"):
        experiment.report(tmp_path)
    logged(experiment)
    experiment.step()
    first = words(experiment.report(tmp_path / "first.html").read_text())
    assert "in 1 round;" in first and "it reaches" not in first and "1 of 3 rounds are finished." in first
    experiment.step()
    text = words(experiment.report(tmp_path / "second.html").read_text())
    assert "On the held-out samples it reaches a mean accuracy of 0.600." in text and "2 of 3 rounds" in text
    assert "those of the newest model that was measured; it may be of an earlier round." in text
    assert "The experiment is paused; numbers may change." in text


def test_what_leaves_within_a_sum_only_is_one_curve_for_all(finished: archipel.Experiment) -> None:
    document, rounds = records(finished)
    hidden: dict[str, Any] = {"samples": None, "metrics": {}, "validation": {}}
    summed = [
        one.model_copy(update={"sites": {site: part.model_copy(update=hidden) for site, part in one.sites.items()}})
        for one in rounds
    ]
    result = experiment_result(document.model_copy(update={"baselines": BaselinesView()}), summed)
    assert list(result.losses) == ["all_sites"] and [site.training for site in result.sites] == [None] * 3
    assert "site-a 1 s per round" in words(report_html(result, b""))


def test_texts_of_others_are_shown_as_text(finished: archipel.Experiment) -> None:
    document, rounds = records(finished)
    job = document.job.model_copy(update={"title": "<b>\u202eTiny</b>"})
    page = report_html(experiment_result(document.model_copy(update={"job": job}), rounds), b"")
    assert "<b>\u202e" not in page and "\u202e" not in page and "&lt;b&gt;" in page
