from __future__ import annotations

from archipel.cli.journal_lines import plain, rows
from archipel.governance import JournalEntry

AGE = {"name": "age", "unit": "years"}


def disclosed(number: int, *datasets: object) -> JournalEntry:
    return line(number, "datasets-disclosed", {"datasets": list(datasets)})


def line(number: int, kind: str, body: dict[str, object]) -> JournalEntry:
    digest = f"sha256:{number:064}"
    return JournalEntry(number=number, at="2026-01-01T00:00:00Z", kind=kind, body=body, previous=digest, hash=digest)


def dataset(name: str, subjects: int | str, **more: object) -> dict[str, object]:
    return {"name": name, "kind": "volumes", "subjects": subjects, **more}


def test_parts_that_say_nothing_are_left_out() -> None:
    body = {"experiment": "heart", "by": "root", "note": "", "before": None, "sites": [], "steps": 0}
    assert plain(body) == "experiment heart, by root, steps 0"
    assert "{" not in plain({"mapping": {"columns": {"age": {"scale": 2.0}}, "labels": {}}})


def test_what_was_told_is_shown_as_the_change_since_the_line_before() -> None:
    whole = dataset("hips", 15, labels={"1": "front"}, columns=[AGE])
    entries = [
        disclosed(1, whole),
        line(2, "task-accepted", {"round": 1}),
        disclosed(
            3, dataset("hips", 14, labels={"1": "front"}, columns=[AGE, {"name": "sex"}]), dataset("knees", "<5")
        ),
        disclosed(
            4, dataset("hips", 14, labels={"1": "back"}, columns=[{**AGE, "unit": "months"}]), dataset("knees", "<5")
        ),
        disclosed(5, dataset("knees", "<5")),
    ]
    bodies = [row["body"] for row in rows(entries)]
    assert bodies == [
        "hips for the first time: kind volumes, subjects 15, labels (1 front), columns age",
        "round 1",
        "knees for the first time: kind volumes, subjects <5; hips: subjects 14 (before: 15), columns with sex",
        "hips: labels 1 back (before: 1 front), columns without sex",
        "hips removed",
    ]
    assert [row["body"] for row in rows([entries[-1]], entries[-2].body)] == ["hips removed"]
    again = dataset("hips", 15, labels={"1": "front"}, columns=[{**AGE, "unit": "months"}])
    assert [row["body"] for row in rows([disclosed(9, again)], entries[0].body)] == ["hips: columns: new text"]


def test_a_line_that_somebody_changed_is_shown_as_it_stands() -> None:
    entries = [disclosed(1, dataset("hips", 15)), disclosed(2, "no dataset"), disclosed(3, dataset("hips", 15))]
    bodies = [row["body"] for row in rows(entries)]
    assert bodies[1] == "datasets no dataset"
    assert bodies[2].startswith("datasets (name hips")


def test_a_text_of_others_cannot_pass_for_another_field() -> None:
    shown = plain({"experiment": "heart", "asked_by": 'Anna, job_hash "sha256:0"\nnote fine', "note": "board 12/3"})
    assert shown == 'experiment heart, asked_by "Anna, job_hash \\"sha256:0\\"\\nnote fine", note board 12/3'
