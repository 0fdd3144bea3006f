"""Nothing that a site shows or keeps names a patient who withdrew: every command is given, and every table is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from sqlalchemy import insert, select

from archipel.cli.site import app
from archipel.data import pseudonym, subject_token
from archipel.site.services import cohorts, datasets, withdrawals
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder
from archipel.storage import utc_now
from archipel.vocabulary import ErrorCode, Failure, TaskKey
from worlds.data_files import write_pair, write_volume
from worlds.people import ANNA, approve
from worlds.site import Terminal, make_site, take_offer

WHO = "P007"
OTHERS = ("P001", "P002", "P003", "P004", "P005")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateFolder]:
    """A site with datasets of several formats that know a patient, who then withdrew; scanned again since."""
    folder = tmp_path_factory.mktemp("withdrawn")
    made = make_site(folder / "state")
    _add_datasets(made, folder)
    for name in ("table", "heads"):
        cohorts.freeze_version(made, name, by=ANNA, pseudonymise=name == "heads")
    datasets.exclude(made, "scans", [WHO, "P001"], by=ANNA)
    datasets.make_report(made, "heads", made.reports / "heads")
    take_offer(made)
    approve(made, "heart")
    _fail(made)
    (made.logs / "heart.log").write_text(
        f"\u00fc \u201c{WHO}\u201d: P0071 {WHO}P\n{pseudonym(WHO, made.cohort_key)} {WHO}"
    )
    assert any(WHO in text for text in _kept(made)), "before the withdrawal the id is everywhere"
    withdrawals.withdraw(made, [WHO], by=ANNA)
    yield made
    made.close()


def _add_datasets(site: StateFolder, folder: Path) -> None:
    people, numbers = (WHO, *OTHERS), np.random.default_rng(0)
    (folder / "table").mkdir()
    ids = np.array(people)
    np.savez(folder / "table/t.npz", x=numbers.normal(size=(6, 3)), y=np.arange(6) % 2, subject=ids)
    datasets.add(site, "table", folder / "table", "npz", by=ANNA)
    for subject in people:
        write_pair(folder / "heads", subject, (4, 4, 4), seed=int(subject[1:]))
        values = numbers.normal(9, 2, (4, 4, 4)).astype(np.float32)
        write_volume(folder / "scans" / subject / "T1" / "scan.nii.gz", values)
    (folder / "heads/labels/P005.nii.gz").write_bytes(b"no volume")
    datasets.add(site, "heads", folder / "heads", "nifti-pairs", by=ANNA, leave_out_faulty=True)
    rows = "".join(f"{one},{40 + place}\n" for place, one in enumerate(people))
    (folder / "scans/demographics.csv").write_text(f"subject,age\n{rows}P007,51\nP099,50\n")
    datasets.add(site, "scans", folder / "scans", "medical-folder", by=ANNA)
    (folder / "scores").mkdir()
    scores = "".join(f"{one},{one},{place / 7:.3f}\n" for place, one in enumerate((*people, "P009", "P010")))
    again = f"{WHO},{WHO},0.9\n"
    (folder / "scores/scores.csv").write_text(f"id,code,score\n{scores}{again}")
    datasets.add(site, "scores", folder / "scores", "table", by=ANNA, leave_out_faulty=True)
    (folder / "pictures").mkdir()
    for one in people:
        for eye in "LR":
            pixels = numbers.integers(0, 255, (6, 6), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / f"{one}_{eye}.png")
    named = "".join(f"{one}_{eye},{one},{'ab'[place % 2]}\n" for place, one in enumerate(people) for eye in "LR")
    (folder / "pictures/labels.csv").write_text(f"image,patient,label\n{named}")
    datasets.add(site, "pictures", folder / "pictures", "picture-table", by=ANNA)


def _fail(site: StateFolder) -> None:
    failure = Failure(code=ErrorCode.PLAN_ERROR, sentence="the plan raised", exception="KeyError", file="p.py", line=7)
    key = TaskKey(experiment="heart", round=2).model_dump(mode="json")
    known = {"task": "{}", "task_hash": "sha256:" + "0" * 64, "state": "failed", "accepted_at": utc_now()}
    detail = f"KeyError: 'P007_L', {pseudonym(WHO, site.cohort_key)} and XP007 in /data/{WHO}/T1"
    with site.database.write() as connection:
        connection.execute(
            insert(schema.tasks).values(**key, **known, failure=failure.model_dump_json(), detail=detail)
        )


def _kept(site: StateFolder) -> list[str]:
    """Every text of the database but the frozen bytes of cohorts, which a hash covers."""
    texts: list[str] = []
    with site.database.read() as connection:
        for table in schema.metadata.sorted_tables:
            if table is not schema.cohort_pieces:
                texts += [f"{table.name}: {value}" for row in connection.execute(select(table)) for value in row]
    return texts


def names(site: StateFolder, text: str) -> bool:
    """Whether a text has the patient's id or pseudonym; another id that holds it is another patient's."""
    return WHO in text.replace("XP007", "") or pseudonym(WHO, site.cohort_key) in text


NAMES = ("table", "heads", "scans", "scores", "pictures")
COMMANDS = [
    *(f"dataset {what} {name}" for what in ("show", "check") for name in NAMES),
    *(f"cohort freeze {name}" for name in NAMES if name != "scans"),
    *(f"cohort show {name}" for name in ("table", "heads")),
    *(f"cohort diff {name} 1" for name in ("table", "heads")),
    "cohort diff table 1 2",
    *(f"dataset report {name} --out REPORT" for name in NAMES if name != "scans"),
    "dataset map heads --label 1=left --label 2=right",
    "dataset exclude heads P001",
    *("dataset list", "cohort list", "status", "plans", "plans heart", "approve heart --yes"),
    *("errors list", "errors show heart 2", "errors release heart 2", "journal show", "journal verify"),
    *("journal export EXPORT", "journal server-head", "revoke heart --note no", "reject heart --note no"),
    "gpu list",
    *("dataset formats", "dataset remove pictures"),
]
REFUSED = {"dataset check heads", "journal server-head"}
"""A patient of heads has a faulty file, and the site has no head of the server's journal."""
UNTRIED = {
    *("cohort withdraw", "cohort reinstate", "dataset add"),
    *("init", "join", "renew", "start", "check", "gpu add", "gpu remove"),
}
"""Commands by which a person names the patient, and those that start processes, talk with a server or need a GPU."""


def test_no_command_names_a_patient_who_withdrew(site: StateFolder, tmp_path: Path) -> None:
    terminal, said = Terminal(site.folder), {}
    for line in COMMANDS[:-1]:
        words = [
            {"REPORT": str(tmp_path / "report"), "EXPORT": str(tmp_path / "export")}.get(one, one)
            for one in line.split()
        ]
        result = terminal(*words, answer="y\n")
        assert result.exit_code == (line in REFUSED), (line, result.output)
        said[line] = f"{result.output}{result.exception or ''}"
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        said[f"{line} wrote"] = "".join(path.read_text(errors="replace") for path in written)
    assert not {line: text for line, text in said.items() if names(site, text)}
    assert "P001" in said["cohort show table"] and "(withdrawn)" in said["errors show heart 2"]
    assert "P001" in said["dataset show scans"], "who is excluded and did not withdraw is shown"


def test_every_command_of_a_site_is_tried() -> None:
    tried = {word for line in COMMANDS for word in (line.split()[0], " ".join(line.split()[:2]))}
    assert not set(_commands(typer.main.get_command(app))) - tried - UNTRIED


def _commands(command: object, before: str = "") -> Iterator[str]:
    inside = getattr(command, "commands", None)
    if inside is None:
        yield before.strip()
        return
    for name, inner in inside.items():
        yield from _commands(inner, f"{before} {name}")


def test_nothing_that_is_kept_names_a_patient_who_withdrew(site: StateFolder) -> None:
    for name in ("table", "heads", "scans", "scores"):
        datasets.check(site, name)
        datasets.check(site, name)
    assert not [text for text in _kept(site) if names(site, text)]
    assert any("XP007" in text for text in _kept(site)), "another patient's id stays"


def test_what_a_plan_printed_names_nobody_who_withdrew(site: StateFolder) -> None:
    printed = (site.logs / "heart.log").read_text()
    masked = "*" * len(pseudonym(WHO, site.cohort_key))
    assert printed == f"\u00fc \u201c****\u201d: P0071 {WHO}P\n{masked} ****"


def test_who_was_excluded_is_excluded_again_when_reinstated(site: StateFolder) -> None:
    token = subject_token(WHO, site.cohort_key)
    assert not [text for text in Terminal(site.folder).json("dataset", "show", "scans")["excluded"] if text == token]
    withdrawals.reinstate(site, WHO, by=ANNA)
    assert WHO in Terminal(site.folder).json("dataset", "show", "scans")["excluded"]
    assert datasets.check(site, "table").subjects == 6
    assert datasets.check(site, "scans").subjects == 4
    withdrawals.withdraw(site, [WHO], by=ANNA)
    assert not [text for text in _kept(site) if names(site, text)]
