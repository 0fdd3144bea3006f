"""History as a DataFrame, the plot, baselines, and a model taken home with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

import archipel
from archipel.plans import package
from archipel.plans.files import trained_with
from archipel.researcher import packages, tables
from archipel.researcher.progress import Progress, advance, sparkline
from archipel.tensors import blob_hash, decode, joined
from archipel.transport.rest import BaselinesView, Event, ModelView, RoundView, UnknownEvent
from archipel.vocabulary import ErrorCode, Failure, MetricSpec, NotFound
from worlds.research import World
from worlds.scripted_experiments import logged, model

mpl.use("Agg")
FROZEN_PLAN = Path(__file__).parents[1] / "federation" / "frozen_plan.py"
CARD_ROWS = ("this model, its trained part", "this model, its frozen part", "this model's file, both parts")

FAILURE = {
    "code": "plan-error",
    "sentence": "the plan raised an error while it trained",
    "exception": "ValueError",
    "file": "plan.py",
    "line": 12,
    "retry": False,
}


@pytest.fixture
def finished(world: World, experiment: archipel.Experiment) -> archipel.Experiment:
    logged(experiment)
    world.experiments.failing = {"round": 2, "site": "site-b", "failure": FAILURE}
    experiment.run()
    world.experiments.failing = None
    return experiment


def test_history_has_a_row_for_each_round_and_site(finished: archipel.Experiment) -> None:
    history = finished.history
    assert len(history) == 3 * 4
    together = history[history["site"] == "all_sites"]
    assert together["loss"].tolist() == [1.0, 0.5, 1 / 3]
    assert together["validation_accuracy"].tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert together["model_accuracy"].tolist() == pytest.approx([0.6, 0.7, 0.8])
    assert together["argument_learning_rate"].tolist() == [0.5] * 3
    site_c = history[history["site"] == "site-c"]
    assert site_c["model_accuracy"].tolist() == pytest.approx([0.62, 0.72, 0.8])
    assert together["samples"].tolist() == [60, 40, 60]


def test_a_metric_called_validation_gets_no_second_prefix() -> None:
    part = {"state": "delivered", "samples": 1, "seconds": 1.0, "metrics": {}, "validation": {"validation_loss": 2.0}}
    one = {
        "round": 1, "attempt": 1, "state": "committed", "seconds": 1.0, "arguments": {}, "contributors": ["a"],
        "opened": "", "sites": {"a": part}, "metrics": {}, "model_validation": {},
        "validation": {"validation_loss": 2.0},
    }  # fmt: skip
    assert tables.history([RoundView.model_validate(one)])["validation_loss"].tolist() == [2.0, 2.0]


def test_failures_are_told_in_the_agents_words_and_in_full_once_a_person_released_it(
    world: World, finished: archipel.Experiment
) -> None:
    def told() -> list[tuple[Any, ...]]:
        rows = finished.failures.to_dict("records")
        columns = ("round", "stage", "site", "sentence", "file", "line", "detail")
        return [tuple(row[column] for column in columns) for row in rows]

    assert told() == [(2, "train", "site-b", FAILURE["sentence"], "plan.py", 12, "")]
    world.experiments.release(finished.name, "site-b", 2, "Traceback:\n  line 12\nValueError: 3 channels\x1b[2J")
    world.experiments.release(finished.name, "site-a", 2, "of another site")
    full = "Traceback:\n  line 12\nValueError: 3 channels\\x1b[2J"
    assert told() == [(2, "train", "site-b", FAILURE["sentence"], "plan.py", 12, full)]


def test_a_failure_to_import_has_the_packages_that_its_site_lacks_beside_it() -> None:
    def failed(number: int, site: str, exception: str) -> Event:
        failure = Failure(code=ErrorCode.PLAN_ERROR, sentence="the plan failed", exception=exception)
        body = {
            "site": site, "round": 1, "attempt": 1, "kind": "train", "about": "",
            "failure": failure.model_dump(mode="json"),
        }  # fmt: skip
        return Event.model_validate({"seq": number, "at": "", "kind": "site-failed", "body": body})

    events = [
        failed(1, "a", "ModuleNotFoundError"),
        failed(2, "a", "ValueError"),
        failed(3, "b", "ModuleNotFoundError"),
    ]
    rows = tables.failure_rows(events, {"a": "scikit-survival (imported as sksurv)"})
    assert [row["lacks"] for row in rows] == ["scikit-survival (imported as sksurv)", "", ""]


def test_what_a_site_lacks_is_what_it_said_itself(finished: archipel.Experiment) -> None:
    document = finished.document()
    answers = [
        answer.model_copy(update={"packages": {"sksurv": None, "numpy": "2.4"} if number == 0 else None})
        for number, answer in enumerate(document.approvals)
    ]
    said = packages.lacking(document.model_copy(update={"approvals": tuple(answers)}))
    assert said == {answers[0].site: "scikit-survival (imported as sksurv)"}


def test_events_of_several_pages_are_all_read(finished: archipel.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, asked = finished.events(), []
    ask = finished._connection.ask_all

    def two_at_a_time(kind: Any, path: str) -> Any:
        asked.append(path)
        return ask(kind, path)[:2]

    monkeypatch.setattr(finished._connection, "ask_all", two_at_a_time)
    assert finished.events() == whole
    assert len(asked) == len(whole) // 2 + (1 if len(whole) % 2 == 0 else 2)


def test_the_plot_shows_sites_all_of_them_and_baselines(finished: archipel.Experiment) -> None:
    figure = finished.plot()
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["training loss", "validation accuracy"]
    labels = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert labels == {"all sites", "site-a", "site-b", "site-c", "ensemble", *(f"site-{x} alone" for x in "abc")}
    drawn = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in figure.axes[1].get_lines()}
    for site in finished.job.sites:
        assert drawn[site] == (drawn[f"{site} alone"][0], "-") and drawn[f"{site} alone"][1] == ":"
    assert len({drawn[site][0] for site in finished.job.sites}) == 3


def test_baselines_stand_beside_the_federated_model(finished: archipel.Experiment) -> None:
    rows = finished.baselines.set_index("model")
    assert rows.index.tolist() == ["federated", "ensemble", "site-a alone", "site-b alone", "site-c alone"]
    assert rows["all_sites"].tolist() == pytest.approx([0.8, 0.7, 0.6, 0.61, 0.62])
    assert rows.loc["federated", "site-c"] == pytest.approx(0.8)


def test_the_worst_site_stands_beside_the_mean_whichever_way_is_better() -> None:
    per_site = {"a": {"dice": 0.9, "mae": 3.0}, "b": {"dice": 0.7, "mae": 5.0}, "c": {"dice": 0.8}}
    measured = {"validation": {"dice": 0.8, "mae": 4.0, "auc": 0.6}, "per_site": per_site, "subjects": 9}
    specs = [
        MetricSpec(name="dice", better="higher"),
        MetricSpec(name="mae", better="lower"),
        MetricSpec(name="auc", better="higher", counts="site", largest_weight=1),
    ]
    rows = tables.baselines(BaselinesView.model_validate({"federated": measured}), specs).set_index("metric")
    assert rows.loc["dice", ["worst_site", "worst_value"]].tolist() == ["b", 0.7]
    assert rows.loc["mae", ["worst_site", "worst_value"]].tolist() == ["b", 5.0]
    assert rows["averaged_by"].to_dict() == {"auc": "site", "dice": "sample", "mae": "sample"}
    assert rows.loc[["auc"], ["worst_site", "worst_value"]].isna().all(axis=None), "no site's own is known"


def test_the_card_has_every_site_and_the_worst(
    world: World, finished: archipel.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_site = world.experiments.documents[finished.name]["baselines"]["federated"]["per_site"]
    monkeypatch.setitem(per_site, "site-b", {"accuracy": 0.3125})
    card = finished.download(tmp_path).with_suffix(".md").read_text()
    assert "| accuracy | 0.8000 | averaged by sample, higher is better | 0.3125 (site-b) |" in card
    assert "### At each site\n\n| site | accuracy |\n|---|---|\n| site-a | 0.8000 |\n| site-b | 0.3125 |" in card
    local = finished.download(tmp_path, which="local:site-a").with_suffix(".md").read_text()
    assert "| site-b | 0.6000 |" in local and "0.6000 (site-a)" in local


def test_the_plan_comes_with_the_model(finished: archipel.Experiment, tmp_path: Path) -> None:
    finished.download(tmp_path / "best.safetensors", which="best")
    folder = tmp_path / "best-plan"
    assert sorted(path.name for path in folder.iterdir()) == ["tiny_numpy.py", "trained-with.json"]
    assert package(folder).reference == finished.job.plan
    assert "whose name ends in `-plan`" in (tmp_path / "best.md").read_text()
    again = archipel.Experiment.known(finished._connection, finished.name).download(tmp_path / "best.safetensors")
    assert again.exists() and package(folder).reference == finished.job.plan
    with pytest.raises(archipel.ArchipelError, match="is not in the job"):
        finished._connection.download(f"/v1/experiments/{finished.name}/blobs/{blob_hash(b'of another')}")


def test_a_model_with_a_frozen_part_comes_home_whole(
    world: World, federation: archipel.Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = federation.create(FROZEN_PLAN, rounds=1, quorum=2)
    assert made.job.frozen is not None and made._draft is not None
    frozen = made._draft.frozen
    made.submit()
    for site in made.job.sites:
        world.experiments.answer(made.name, site, "approved")
    logged(made)
    made.run()
    path = made.download(tmp_path)
    assert path.read_bytes() == joined(model("last"), frozen)
    card = path.with_suffix(".md").read_text()
    assert "- **Values**: 131,137 in 3 tensors, 1,049,096 bytes" in card
    assert "- **Trained part**: 65 in 2 tensors, 520 bytes; only these left the sites" in card
    hashes = [blob_hash(model("last")), made.job.frozen.blob, blob_hash(path.read_bytes())]
    assert [f"| {what} | `{one}` |" in card for what, one in zip(CARD_ROWS, hashes, strict=True)] == [True] * 3
    honest, other = made._connection.download, made.job.frozen.blob
    forged = lambda path: b"forged" if path.endswith(other) else honest(path)  # noqa: E731
    monkeypatch.setattr(made._connection, "download", forged)
    with pytest.raises(archipel.ArchipelError, match=r"frozen part of the model .* is damaged"):
        made.download(tmp_path / "again.safetensors")
    assert not (tmp_path / "again.safetensors").exists()


def test_a_plan_that_is_not_the_approved_one_is_not_kept(
    finished: archipel.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = finished._connection.download
    forged = lambda path: b"import os\n" if "/blobs/" in path else honest(path)  # noqa: E731
    monkeypatch.setattr(finished._connection, "download", forged)
    with pytest.raises(archipel.ArchipelError, match=r"tiny_numpy.py: is not the file that its hash names"):
        finished.download(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_plan_does_not_join_this_one(finished: archipel.Experiment, tmp_path: Path) -> None:
    (tmp_path / "m-plan").mkdir()
    (tmp_path / "m-plan" / "plan.py").write_text("class Other(Plan): ...\n")
    with pytest.raises(archipel.ArchipelError, match=r"holds plan.py, which is not a file of this plan; give another"):
        finished.download(tmp_path / "m.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["m-plan"]


def test_a_model_comes_home_with_its_card(finished: archipel.Experiment, tmp_path: Path) -> None:
    path = finished.download(tmp_path / "models" / "tiny.safetensors", which="best")
    assert decode(path.read_bytes())["weight"].tolist() == [4.0] * 8
    card = path.with_suffix(".md").read_text()
    assert f"archipel {archipel.__version__}" in card and "purpose**: not stated" in card.lower()
    assert "asked by anna" in card and "| learning_rate | 0.5 |" in card and ": 12 samples in all" in card
    assert "archipel evaluate" in card, "it takes every plan that has validation metrics"
    for fact in (
        finished.job_hash,
        finished.job.plan.hash,
        "site-b | 20 | 2 of 3",
        "1 round lacked",
        "created 2026-11-21 08:00",
        "0.8000",
        "Limits",
    ):
        assert fact in card
    assert "too optimistic" in card
    local = finished.download(tmp_path, which="local:site-a")
    assert local.name == f"{finished.name}-local-site-a.safetensors"
    assert "trained at site-a alone" in local.with_suffix(".md").read_text()
    assert finished.models()["name"].tolist() == ["last", "best", "local:site-a"]
    with pytest.raises(NotFound, match=r"model first of .*: is not kept; there are: best, last, local:site-a"):
        finished.download(tmp_path, which="first")


def test_the_best_of_no_round_is_called_the_untrained_initial_model_wherever_it_is(
    finished: archipel.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained = ModelView(name="best", round=0, hash=blob_hash(model("best")), validation={"accuracy": 0.9})
    monkeypatch.setattr(finished, "_models", lambda: [untrained])
    assert finished.models()["origin"].tolist() == ["the untrained initial model"]
    path = finished.download(tmp_path, which="best")
    assert path.name == f"{finished.name}-best-untrained.safetensors"
    card = path.with_suffix(".md").read_text()
    assert "best (the untrained initial model)\n" in card and "**Model**: best (the untrained initial model)" in card
    assert "None: this is the model that the experiment began with. No round made a model that measured better." in card
    assert "It was not trained" in card and "0.9000" in card
    for false in ("after round", "It saw data of", "follow from patients' data", "too optimistic", "2 of 3"):
        assert false not in card


def test_damaged_bytes_are_not_kept(
    finished: archipel.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finished._connection, "download", lambda path: model("last")[:-1])
    with pytest.raises(archipel.ArchipelError, match="is damaged"):
        finished.download(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(finished: archipel.Experiment, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "inside", Path("/proc/models")):
        with pytest.raises(archipel.ArchipelError, match=r"cannot be written .*; choose another place"):
            finished.download(place)


def test_a_changed_hyper_parameter_stands_in_the_card_with_its_rounds(
    world: World, experiment: archipel.Experiment, tmp_path: Path
) -> None:
    logged(experiment)
    experiment.step()
    experiment.set(learning_rate=0.1)
    experiment.run()
    card = experiment.download(tmp_path).with_suffix(".md").read_text()
    assert "| learning_rate | 0.5 (rounds 1-1), 0.1 (rounds 2-3) |" in card and "| steps | 5 |" in card
    assert experiment.history["argument_learning_rate"].tolist() == [0.5] * 4 + [0.1] * 8
    experiment.download(tmp_path / "last.safetensors")
    trained = trained_with(tmp_path / "last-plan")
    assert trained is not None and trained.arguments["learning_rate"] == 0.1
    assert (trained.entry, trained.class_name) == (experiment.job.plan.entry, experiment.job.plan.class_name)


def test_the_open_exchange_is_folded_from_events() -> None:
    def happened(kind: str, **body: Any) -> Event:
        place = {"round": 1, "attempt": 2, "kind": "train", "about": ""}
        return Event.model_validate({"seq": 1, "at": "", "kind": kind, "body": {**place, **body}})

    progress = Progress("x")
    for kind, body in (
        ("round-opened", {"model": "blake3:" + "0" * 64}),
        ("task-accepted", {"site": "a"}),
        ("update-received", {"site": "b", "samples": 1}),
        ("site-failed", {"site": "c", "failure": FAILURE}),
    ):
        progress = advance(progress, happened(kind, **body))
    words = 'failed: "the plan raised an error while it trained [ValueError] (plan.py:12)"'
    assert progress.doing == {"a": "working", "b": "delivered", "c": words}
    assert progress.notice == f"c {words}"
    assert progress.stage == "round 1 is open (attempt 2)"
    ended = happened("round-committed", state="committed", contributors=[], seconds=1.0)
    assert advance(progress, ended).doing == {}
    newer = happened("site-drained", hours=3)
    assert isinstance(newer.body, UnknownEvent)
    assert advance(progress, newer) == progress


def test_a_course_of_equal_values_is_drawn_flat() -> None:
    assert sparkline([0.3, 0.3]) == "▁▁"
