"""History as a frame, the plot, baselines, and a model taken home with its card."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pytest
from rest_world import World, logged, model

import archipel
from archipel.researcher.progress import Progress, advance, sparkline
from archipel.tensors import decode
from archipel.vocabulary import NotFound

mpl.use("Agg")

FAILURE = {
    "code": "plan-error",
    "sentence": "the plan raised an error while it trained",
    "exception": "ValueError",
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
    pooled = history[history["site"] == "pooled"]
    assert pooled["loss"].tolist() == [1.0, 0.5, 1 / 3]
    assert pooled["validation_accuracy"].tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert pooled["model_accuracy"].tolist() == pytest.approx([0.6, 0.7, 0.8])
    site_c = history[history["site"] == "site-c"]
    assert site_c["model_accuracy"].tolist() == pytest.approx([0.62, 0.72, 0.8])
    assert pooled["samples"].tolist() == [60, 40, 60]


def test_failures_are_told_in_the_agents_words(finished: archipel.Experiment) -> None:
    rows = finished.failures.to_dict("records")
    assert [(row["round"], row["site"], row["sentence"], row["line"]) for row in rows] == [
        (2, "site-b", FAILURE["sentence"], 12)
    ]


def test_the_plot_shows_sites_all_of_them_and_baselines(finished: archipel.Experiment) -> None:
    figure = finished.plot()
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["training loss", "validation accuracy"]
    labels = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert labels == {"all sites", "site-a", "site-b", "site-c", "ensemble", *(f"site-{x} alone" for x in "abc")}


def test_baselines_stand_beside_the_federated_model(finished: archipel.Experiment) -> None:
    rows = finished.baselines.set_index("model")
    assert rows.index.tolist() == ["federated", "ensemble", "site-a alone", "site-b alone", "site-c alone"]
    assert rows["all_sites"].tolist() == pytest.approx([0.8, 0.7, 0.6, 0.61, 0.62])
    assert rows.loc["federated", "site-c"] == pytest.approx(0.8)


def test_a_model_comes_home_with_its_card(finished: archipel.Experiment, tmp_path: Path) -> None:
    path = finished.download(tmp_path / "models" / "tiny.safetensors", which="best")
    assert decode(path.read_bytes())["weight"].tolist() == [4.0] * 8
    card = path.with_suffix(".md").read_text()
    for fact in (finished.job_hash, finished.job.plan.hash, "site-b | 2 of 3", "1 rounds lacked", "0.8000", "Limits"):
        assert fact in card
    assert "flatters" in card
    local = finished.download(tmp_path, which="local:site-a")
    assert local.name == f"{finished.name}-local-site-a.safetensors"
    assert "trained at site-a alone" in local.with_suffix(".md").read_text()
    assert finished.models()["name"].tolist() == ["last", "best", "local:site-a"]
    with pytest.raises(NotFound, match=r"model first of .*: is not kept; there are: best, last, local:site-a"):
        finished.download(tmp_path, which="first")


def test_damaged_bytes_are_not_kept(
    finished: archipel.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finished._connection, "download", lambda path: model("last")[:-1])
    with pytest.raises(archipel.ArchipelError, match="is damaged"):
        finished.download(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_open_exchange_is_folded_from_events() -> None:
    progress = Progress({"experiment": "x", "state": "running", "round": 0, "rounds": 2}, ())
    for kind, body in (
        ("round-opened", {"round": 1, "attempt": 2, "kind": "train", "about": ""}),
        ("task-accepted", {"site": "a"}),
        ("update-received", {"site": "b"}),
        ("site-failed", {"site": "c", "failure": FAILURE}),
    ):
        progress = advance(progress, {"kind": kind, "body": body})
    words = "failed: the plan raised an error while it trained [ValueError] (line 12 of the plan)"
    assert progress.doing == {"a": "working", "b": "delivered", "c": words}
    assert progress.notice == f"c {words}"
    assert progress.headline() == "x · running · round 0 of 2 · round 1 is open (attempt 2)"
    assert advance(progress, {"kind": "round-committed", "body": {}}).doing == {}


def test_a_course_of_equal_values_is_drawn_flat() -> None:
    assert sparkline([0.3, 0.3]) == "▁▁"
