"""Standard deviation and 95 % interval in every table, the model card, the report and on the screen."""

from __future__ import annotations

import re
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

import archipel
from archipel.cli.scores import as_document, print_scores
from archipel.researcher import tables
from archipel.researcher.experiment_result import experiment_result
from archipel.researcher.model_card import model_card
from archipel.researcher.progress import Progress
from archipel.researcher.report import report_html
from archipel.researcher.report_figures import curves_png
from archipel.rounds.record_views import baselines as measured_at_server
from archipel.simulation.scores import scores
from archipel.transport.rest import BaselinesView, ExperimentView, ModelView, RoundView
from archipel.vocabulary import MetricDetail, MetricSpec, MetricSum, metric_details
from worlds.scripted_experiments import logged

mpl.use("Agg")

SPEC = MetricSpec(name="accuracy", better="higher", spread=True)
OF_SITES = {
    "site-a": MetricSum.of([0.5, 0.7, 0.9]).rounded("accuracy"),
    "site-b": MetricSum.of([0.8, 1.0, 0.9]).rounded("accuracy"),
    "site-c": MetricSum(total=1.6, weight=2),  # too few patients
}
DETAILS = metric_details({"accuracy": OF_SITES["site-a"] + OF_SITES["site-b"] + OF_SITES["site-c"]})
BY_SITE = {site: found for site, one in OF_SITES.items() if (found := metric_details({"accuracy": one}))}
# numpy: std(ddof=1) of the six values 0.178885, mean 0.8, t of 5 degrees of freedom 2.570582.
INTERVAL, OVER = "0.6123 to 0.9877", "6 samples, 2 sites"


@pytest.fixture
def shown(experiment: archipel.Experiment) -> tuple[ExperimentView, list[RoundView]]:
    """A finished experiment whose metric says how much it differs, of its last model and of each round's."""
    logged(experiment)
    experiment.run()
    document, rounds = experiment.document(), experiment.rounds()
    assert document.baselines.federated is not None
    beside: dict[str, Any] = {"details": DETAILS, "per_site_details": BY_SITE}
    measured = document.baselines.model_copy(
        update={"federated": document.baselines.federated.model_copy(update=beside)}
    )
    job = document.job.model_copy(update={"validation": (SPEC,)})
    document = document.model_copy(update={"job": job, "baselines": measured})
    return document, [one.model_copy(update={"model_details": DETAILS}) for one in rounds]


def test_the_table_of_models_has_the_columns_only_where_they_are_known(
    shown: tuple[ExperimentView, list[RoundView]],
) -> None:
    document, _ = shown
    found = tables.baselines(document.baselines, [SPEC]).set_index("model")
    assert found.loc["federated", ["deviation", "low", "high"]].tolist() == pytest.approx(
        [0.178885, 0.6123, 0.9877], abs=1e-4
    )
    assert found.loc["federated", "over"] == OVER
    assert found.loc["ensemble", ["low"]].isna().all()
    plain = tables.baselines(BaselinesView(ensemble=document.baselines.ensemble), [SPEC])
    assert not {"deviation", "low", "high", "over"} & set(plain.columns)


def test_history_has_them_for_all_sites_and_for_each(shown: tuple[ExperimentView, list[RoundView]]) -> None:
    document, rounds = shown
    found = tables.history(rounds, document.baselines).query("round == 3").set_index("site")
    assert found.loc["all_sites", "model_accuracy_low"] == pytest.approx(0.6123, abs=1e-4)
    assert found.loc["site-a", "model_accuracy_deviation"] == pytest.approx(0.2, abs=1e-6)
    assert found["model_accuracy_high"].isna().to_dict()["site-c"]


def test_the_card_says_them_in_a_table_and_at_each_site(shown: tuple[ExperimentView, list[RoundView]]) -> None:
    document, rounds = shown
    last = ModelView(name="last", round=3, hash="blake3:" + "1" * 64, validation={"accuracy": 0.8}, details=DETAILS)
    card = model_card(document.job, document.job_hash, last, document, rounds, {}, last.hash)
    assert f"| accuracy | 0.8000 | 0.1789 | {INTERVAL} | {OVER} |" in card
    assert re.search(r"\| site-a \| 0\.\d{4} \(SD 0\.2000\) \|", card)
    assert re.search(r"\| site-c \| 0\.\d{4} \|", card)
    assert "How much the values differ" not in model_card(
        document.job, document.job_hash, last.model_copy(update={"details": {}}), document, rounds, {}, last.hash
    )


def test_the_report_has_the_interval_in_its_table_and_as_bars(shown: tuple[ExperimentView, list[RoundView]]) -> None:
    document, rounds = shown
    result = experiment_result(document, rounds)
    assert sorted(result.intervals) == [1, 2, 3]
    page = report_html(result, b"")
    assert "<th>95 % interval, by sample</th><th>standard deviation</th>" in page
    assert f'<td title="{OVER}">0.612 to 0.988</td><td>0.179</td>' in page and "<td>–</td><td>–</td>" in page
    assert f"too narrow where one patient has several; over {OVER}." in page and "Bars are 95 % intervals" in page
    with_bars = curves_png(result)
    plain = experiment_result(document, [one.model_copy(update={"model_details": {}}) for one in rounds])
    assert not plain.intervals and curves_png(plain) != with_bars


def test_the_screen_has_the_interval_in_the_row_of_all_sites(shown: tuple[ExperimentView, list[RoundView]]) -> None:
    document, rounds = shown
    _, rows = Progress("tiny", document, tuple(rounds)).table()
    assert rows[-1][-1] == f"0.8 (95 %: 0.6123 to 0.9877, {OVER})"


def test_the_terminals_table_and_json_have_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    reached = scores("federated", {site: {"accuracy": one} for site, one in OF_SITES.items()})
    print_scores([reached, scores("other", {"site-c": {"accuracy": OF_SITES["site-c"]}})], [SPEC])
    rows = [re.sub(r"[│┃\s]+", " ", line).strip() for line in capsys.readouterr().out.splitlines()]
    assert "model all sites standard deviation 95 % interval over site-a site-b site-c worst site" in rows
    assert f"federated 0.8000 0.1789 {INTERVAL} {OVER} 0.7000 0.9000 0.8000 site-a 0.7000" in rows
    assert "other 0.8000 - - - - - 0.8000 -" in rows
    assert as_document([reached])[0]["details"]["accuracy"]["spread"]["counted"] == 6  # type: ignore[index,call-overload]


def test_a_server_answers_with_them_from_its_records() -> None:
    from archipel.rounds import Stage, StageRecord
    from archipel.rounds.experiment_store import SiteRecord
    from archipel.vocabulary import TaskKind
    from archipel.vocabulary.states import ParticipantStatus

    sites = {
        site: SiteRecord(state=ParticipantStatus.DELIVERED, validation={"accuracy": one})
        for site, one in OF_SITES.items()
    }
    total = OF_SITES["site-a"] + OF_SITES["site-b"] + OF_SITES["site-c"]
    record = StageRecord(
        stage=Stage(kind=TaskKind.EVALUATE, round=3), attempt=1, committed=True, seconds=1.0,
        contributors=tuple(sites), sites=sites, samples=8, metrics={}, validation={"accuracy": total},
    )  # fmt: skip
    # As it is kept, and as it is answered.
    kept = StageRecord.model_validate_json(record.model_dump_json())
    found = measured_at_server([kept], frozenset({"accuracy"}), newest=3).federated
    assert found is not None and found.details == DETAILS and found.per_site_details == BY_SITE
    assert type(found).model_validate_json(found.model_dump_json()) == found


# A pooled AUC

AUC = MetricSpec(name="accuracy", better="higher", bins=32)
DRAW = np.random.default_rng(4)
TRUE = DRAW.random(80) < 0.5
BINNED = MetricSum.of_scores(np.clip(0.5 + 0.2 * TRUE + 0.1 * DRAW.standard_normal(80), 0, 1), TRUE, bins=32)
POOLED = metric_details({"accuracy": BINNED})["accuracy"].pooled_auc
WORDS = f"{POOLED.auc:.4f} (bounds {POOLED.low:.4f} to {POOLED.high:.4f})"
CASES = f"{TRUE.sum()} positive, {80 - TRUE.sum()} negative, 0 sites"


def test_a_pooled_auc_stands_beside_the_mean_of_the_sites_wherever_it_is_shown(
    shown: tuple[ExperimentView, list[RoundView]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document, rounds = shown
    binned = {"accuracy": MetricDetail(pooled_auc=POOLED)}
    federated = document.baselines.federated.model_copy(update={"details": binned, "per_site_details": {}})
    job = document.job.model_copy(update={"validation": (AUC,)})
    measured = document.baselines.model_copy(update={"federated": federated})
    document = document.model_copy(update={"job": job, "baselines": measured})
    rounds = [one.model_copy(update={"model_details": binned}) for one in rounds]
    row = tables.baselines(measured, [AUC]).set_index("model").loc["federated"]
    assert (
        row[["pooled_auc", "pooled_low", "pooled_high"]].tolist() == [POOLED.auc, POOLED.low, POOLED.high]
        and row["over"] == CASES
    )
    assert row["averaged_by"] == "site, weighted by sample"
    last = tables.history(rounds, measured).query("round == 3 and site == 'all_sites'").iloc[0]
    assert (last["model_accuracy_pooled"], last["model_accuracy_pooled_high"]) == (POOLED.auc, POOLED.high)
    model = ModelView(name="last", round=3, hash="blake3:" + "1" * 64, validation={"accuracy": 0.8}, details=binned)
    card = model_card(job, document.job_hash, model, document, rounds, {}, model.hash)
    assert f"| accuracy | {WORDS} | 32 | {CASES} |" in card
    assert "| accuracy | 0.8000 | mean of the sites' AUCs, weighted by sample, higher is better |" in card
    page = report_html(experiment_result(document, rounds), b"")
    assert "<th>AUC, pooled over sites (32 bins)</th>" in page and f"<td>{WORDS}</td>" in page
    assert "is mean of the sites&#x27; AUCs, weighted by sample." in page and "all samples" not in page
    assert f"which say nothing about chance; over {CASES}." in page
    assert Progress("tiny", document, tuple(rounds)).table()[1][-1][-1] == f"0.8 (pooled: {WORDS}, {CASES})"
    monkeypatch.setenv("COLUMNS", "200")
    print_scores([scores("federated", {"a": {"accuracy": BINNED}})], [AUC])
    said = capsys.readouterr().out
    assert "mean of the sites' AUCs, weighted by sample" in said and "AUC, pooled over sites (32 bins)" in said
    assert WORDS in said and CASES in said
