"""What a demonstration leaves behind: numbers, curves and a report that says how they were measured."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from archipel.researcher.outcome import ExperimentResult, ModelKind, ModelScore, SiteFacts, middle_slice
from archipel.researcher.report import write_report
from archipel.researcher.report_figures import _spread

mpl.use("Agg")


def volume() -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).normal(size=(20, 24, 18)).astype(np.float32)
    truth = np.zeros(image.shape, np.int16)
    truth[11, 5:12, 4:9], truth[11, 12:18, 4:9], truth[12, 6:8, 4:6] = 1, 2, 1
    return image, truth


@pytest.fixture
def result() -> ExperimentResult:
    image, truth = volume()
    scores = [
        ModelScore(ModelKind.FEDERATED, "federated", 0.874, {"a": 0.88, "b": 0.868}, {"anterior": 0.85}),
        ModelScore(ModelKind.POOLED, "pooled", 0.877, {"a": 0.88, "b": 0.874}, {"anterior": 0.86}),
        ModelScore(ModelKind.ENSEMBLE, "ensemble", 0.866),
        ModelScore(ModelKind.LOCAL, "a", 0.861, {"a": 0.88, "b": 0.84}),
        ModelScore(ModelKind.LOCAL, "b", 0.842, {"a": 0.83, "b": 0.86}),
    ]
    return ExperimentResult(
        title="Two <hospitals>",
        data="generated phantoms",
        deployed=True,
        sites=[SiteFacts("a", 36, 9, 0.9), SiteFacts("b", 30, 8)],
        rounds=4,
        seed=7,
        scores=scores,
        curves={"federated": [0.4, 0.7, 0.8, 0.874], "pooled": [0.5, 0.8, 0.85, 0.877]},
        losses={"a": [1.0, 0.5, 0.3, 0.2], "b": [1.1, 0.6, 0.4, 0.3]},
        slices=[middle_slice("a", "sub-1", image, truth, truth, np.eye(4), 0.9)],
        seconds={"total": 83.2},
        label_names={1: "anterior", 2: "posterior"},
        plan="hippocampus.py",
        plan_hash="blake3:" + "ab" * 32,
        job_hash="sha256:" + "cd" * 32,
    )


class Reader(HTMLParser):
    """The words of a page, and where its pictures and links come from."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_three_files_are_written(result: ExperimentResult, tmp_path: Path) -> None:
    paths = write_report(result, tmp_path / "demo-results")
    assert [path.name for path in paths] == ["summary.json", "curves.png", "report.html"]
    assert (tmp_path / "demo-results" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_summary_has_every_number_by_its_name(result: ExperimentResult, tmp_path: Path) -> None:
    write_report(result, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["dice"] == {
        "federated": 0.874,
        "pooled": 0.877,
        "ensemble": 0.866,
        "local": {"a": 0.861, "b": 0.842},
    }
    assert summary["ratio"] == pytest.approx(0.874 / 0.877)
    assert (summary["rounds"], summary["seconds"]["total"], summary["held_out"]) == (4, 83.2, 17)


def test_the_report_stands_alone_and_says_how_it_was_measured(result: ExperimentResult, tmp_path: Path) -> None:
    write_report(result, tmp_path)
    reader = Reader()
    reader.feed((tmp_path / "report.html").read_text())
    assert len(reader.sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in reader.sources)
    assert "script" not in reader.tags
    text = re.sub(r"\s+", " ", " ".join(reader.words))
    for claim in (
        "Two <hospitals>",
        "Two hospitals trained one model in 4 rounds; no image left its site. On 17 held-out subjects",
        "mean Dice of 0.874, 99.7%",
        "b alone",
        "83 s",
        "the model of the last round, not of the best one",
        "7; one run",
        "a 36 training, 9 held out, 0.9 s per round",
        "mutual TLS between them",
        "sha256:" + "cd" * 32,
        "A research model, not a medical device.",
    ):
        assert claim in text, claim


def test_a_simulation_does_not_claim_what_it_did_not_do(result: ExperimentResult, tmp_path: Path) -> None:
    bare = replace(result, deployed=False, slices=(), scores=result.scores[:1], losses={}, curves={"federated": [0.5]})
    write_report(bare, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "no image left" not in page
    assert "mutual TLS" not in page
    assert "simulated hospitals" in page
    assert json.loads((tmp_path / "summary.json").read_text())["ratio"] is None


def test_the_middle_slice_cuts_most_of_the_structure_in_any_orientation() -> None:
    image, truth = volume()
    straight = middle_slice("a", "s", image, truth, truth, np.diag([1.0, 2.0, 3.0, 1.0]), 1.0)
    assert straight.spacing == (2.0, 3.0)
    assert (straight.truth == truth[11]).all()
    turned = np.array([[0, 0, -1.0, 19], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    again = middle_slice(
        "a", "s", *(one.transpose(1, 2, 0)[:, :, ::-1] for one in (image, truth, truth)), affine=turned, dice=1.0
    )
    assert (again.truth == truth[11]).all()


def test_labels_beside_the_curves_do_not_overlap() -> None:
    places = [place for place, _ in _spread([(0.87, "x", ""), (0.871, "y", ""), (0.6, "z", "")], 0.02)]
    assert min(b - a for a, b in pairwise(places)) >= 0.02 - 1e-9
