from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from archipel.plans import Plan, draft, load, load_own, package
from archipel.plans.loading import PlanLine, plan_line_of
from archipel.plans.source import plan_text
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, ErrorCode, PlanReference, RosterEntry, RoundTerms

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = "from archipel.plans import Plan\nfrom archipel.vocabulary import DataNeeds\n"
CLASS = "class {}({}):\n    needs = DataNeeds(kind='arrays')\n"


def write(folder: Path, text: str | bytes, name: str = "plan.py") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_plan_is_packaged_as_its_source_and_hash_without_being_run(tmp_path):
    path = write(tmp_path, TINY + CLASS.format("Mine", "Plan") + "raise RuntimeError('was run')\n")
    packaged = package(path)
    source = path.read_bytes()
    assert packaged.files.blobs == {blob_hash(source): source}
    reference = PlanReference(files={"plan.py": blob_hash(source)}, entry="plan.py", class_name="Mine")
    assert packaged.reference == reference and reference.hash == blob_hash(source)


def test_a_base_of_the_researchers_own_is_not_taken_for_the_plan(tmp_path):
    text = TINY + CLASS.format("House", "Plan") + CLASS.format("Mine", "House")
    assert package(write(tmp_path, text)).class_name == "Mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class A(Plan):\n  def\n", r"plan\.py: has a syntax error in line 2: .*; fix it"),
        ("x = 1\n", r"plan\.py: has no plan class; define a class that derives from Plan, TorchPlan, SegmentationPlan"),
        (
            TINY + CLASS.format("A", "Plan") + CLASS.format("B", "Plan"),
            r"has 2 plan classes \(A, B\); give the class name",
        ),
        (b"\xff\xfe\x00", "is not UTF-8 text; save the plan as UTF-8"),
        (b"\nx = 1\x00\n", r"plan\.py: has a NUL character in line 2; remove it"),
        (b"x = 1\n\fy = 2\n", r"plan\.py: has a form feed in line 2; remove it"),
        (b"\xef\xbb\xbfx = 1\n", r"plan\.py: has a byte order mark in line 1; save it as UTF-8 without one"),
        (b"x = 1\r\n# a\ry = 2\n", r"has a carriage return without a line feed in line 2; save the plan with one kind"),
        (b"# coding: utf-7\n", r"plan\.py: has a coding line that names utf-7; remove it; a plan is UTF-8 text"),
        (b"#!/bin/python\n# vim: set fileencoding=latin-1 :\n", "has a coding line that names iso-8859-1; remove it"),
        (b"# -*- coding: raw_unicode_escape -*-\n", "has a coding line that names raw.unicode.escape; remove it"),
        (b"# coding: klingon\n", "has a coding line that Python refuses: unknown encoding: klingon; remove that line"),
        (
            "#" * (2 << 20),
            r"plan\.py: makes the plan larger than 1048576 bytes; keep the sum of its files below that",
        ),
    ],
)
def test_a_bad_plan_file_is_named(tmp_path, text, words):
    with pytest.raises(BadInput, match=words) as caught:
        package(write(tmp_path, text))
    assert caught.value.code is ErrorCode.BAD_PLAN


def test_a_missing_file_a_bad_name_and_a_missing_class_are_named(tmp_path):
    with pytest.raises(BadInput, match="is not a file"):
        package(tmp_path / "none.py")
    with pytest.raises(BadInput, match="is not a path that a plan's file may have"):
        package(write(tmp_path, "", "my plan.py"))
    path = write(tmp_path, TINY + CLASS.format("Mine", "Plan"))
    with pytest.raises(BadInput, match="has no plan class Other; plan classes in it are: Mine"):
        package(path, "Other")


def test_one_of_two_plans_is_chosen_by_name(tmp_path):
    path = write(tmp_path, TINY + CLASS.format("A", "Plan") + CLASS.format("B", "Plan"))
    assert type(load(path, "B")).__name__ == "B"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("pass", "does not declare its data needs"),
        ("needs = DataNeeds(kind='arrays'); metrics = ['loss']", "metrics is not a tuple of MetricSpec"),
        (
            "needs = DataNeeds(kind='arrays'); metrics = (MetricSpec(name='a', better='lower'),) * 2",
            "names one thing twice",
        ),
        (
            "needs = DataNeeds(kind='arrays'); selection = Selection(metric='dice', better='higher')",
            "its selection dice is not one of its validation metrics; declare the metric in validation",
        ),
        (
            "needs = DataNeeds(kind='arrays'); validation = (MetricSpec(name='dice', better='higher'),); "
            "selection = Selection(metric='dicee', better='higher')",
            "its selection dicee is not one of its validation metrics; select by a name in validation: dice",
        ),
    ],
)
def test_a_wrong_declaration_is_named_when_the_plan_is_loaded(tmp_path, body, words):
    text = f"from archipel.plans import Plan\nfrom archipel.vocabulary import *\nclass Mine(Plan):\n    {body}\n"
    with pytest.raises(BadInput, match=words):
        load(write(tmp_path, text))


def test_a_class_that_only_looks_like_a_plan_is_refused(tmp_path):
    with pytest.raises(BadInput, match="Mine is not an archipel Plan"):
        load(write(tmp_path, "class Plan: pass\nclass Mine(Plan): pass\n"), "Mine")


def test_arguments_outside_their_bounds_and_unknown_ones_are_named():
    plan = load(EXAMPLES / "tiny_numpy.py")
    assert isinstance(plan, Plan)
    assert plan.arguments({"steps": 7}) == {"learning_rate": 0.5, "steps": 7}
    with pytest.raises(BadInput, match=r"argument steps=0: is outside its bounds"):
        plan.arguments({"steps": 0})
    with pytest.raises(BadInput, match="argument speed: the plan declares no such hyper-parameter"):
        plan.arguments({"speed": 1})


@pytest.mark.processes
def test_a_numpy_plan_imports_neither_torch_nor_nibabel():
    code = (
        "import sys, pathlib; from archipel.plans import load; from archipel.plans.runtime import PlanRuntime;"
        f"load(pathlib.Path({str(EXAMPLES / 'tiny_numpy.py')!r}));"
        "print([name for name in ('torch', 'monai', 'nibabel', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_runs_is_what_was_hashed_and_nothing_is_left_beside_it(tmp_path):
    text = (
        TINY
        + "import dataclasses\n@dataclasses.dataclass\nclass Setting:\n    x: 'int' = 1\n"
        + CLASS.format("Mine", "Plan")
    )
    path = write(tmp_path, text)
    load(path)
    assert [file.name for file in tmp_path.iterdir()] == ["plan.py"]
    broken = write(tmp_path, text + "1 / 0\n", "broken.py")
    with pytest.raises(ZeroDivisionError) as caught:
        load(broken)
    assert plan_line_of(caught.value, package(broken).files) == PlanLine("broken.py", 9)


HIDDEN = {
    "a coding line": b"# coding: raw_unicode_escape\n# \\u000aopen('ran', 'w').close()\n",
    "utf-7": b"# coding: utf-7\n# +AAo-open('ran', 'w').close()\n",
    "a carriage return": b"# nothing\ropen('ran', 'w').close()\n",
}


@pytest.mark.parametrize("attack", HIDDEN.values(), ids=HIDDEN)
def test_a_comment_that_python_would_run_is_refused_before_anything_runs(tmp_path, monkeypatch, attack):
    monkeypatch.chdir(tmp_path)
    source = attack + (TINY + CLASS.format("Mine", "Plan")).encode()
    exec(compile(source, "plan.py", "exec"), {})
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    path = write(tmp_path, source)
    for refuse in (package, load, lambda path: plan_text(path.read_bytes(), path.name)):
        with pytest.raises(BadInput) as caught:
            refuse(path)
        assert caught.value.code is ErrorCode.BAD_PLAN
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("harmless", [b"# -*- coding: utf-8 -*-\n", b"# caf\xc3\xa9\r\n", b"'a'\r\n\r\n"])
def test_utf_8_text_of_any_system_loads(tmp_path, harmless):
    assert load(write(tmp_path, harmless + (TINY + CLASS.format("Mine", "Plan")).encode()))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "import numpyy\n",
            r"plan\.py:1: .* named 'numpyy'; correct the name, or install .*: pip install numpyy$",
        ),
        ("import sksurv\n", r"plan\.py:1: .*: pip install scikit-survival$"),
        ("import archipel.plan\n", r"plan\.py:1: ModuleNotFoundError: .* 'archipel.plan'; fix the plan"),
        ("\nraise RuntimeError('boom\\n  twice')\n", r"plan\.py:2: RuntimeError: boom twice; fix"),
        ("raise KeyError\n", r"plan\.py:1: KeyError; fix"),
        (
            "from archipel.vocabulary import HyperParameter\n\n"
            "HyperParameter(name='x', kind='float', default=50, maximum=10)\n",
            r"plan\.py:3: HyperParameter: .*; give both",
        ),
    ],
    ids=[
        "a misspelt module",
        "not installed",
        "archipel has no such module",
        "an error",
        "no text",
        "a default outside its bounds",
    ],
)
def test_an_author_is_told_in_one_sentence_what_the_plan_raised_and_where(tmp_path, body, words):
    path = write(tmp_path, body + TINY + CLASS.format("Mine", "Plan"))
    with pytest.raises(BadInput, match=words) as caught:
        load_own(package(path))
    assert caught.value.code is ErrorCode.BAD_PLAN and caught.value.__cause__ is not None
    with pytest.raises(type(caught.value.__cause__)):
        load(path)


def drafted(path: Path, **terms: object) -> None:
    entry = RosterEntry(site="a", identity_key="ed25519:" + "0" * 64, dataset="d")
    draft(path, experiment="e", roster=[entry], server_key=entry.identity_key, terms=RoundTerms(rounds=1, quorum=1),
          **terms)  # fmt: skip


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("None", "initial_model: returns NoneType, not a dictionary of arrays; return numpy arrays by their names"),
        ("{'bias': 0.0}", "initial_model, bias: is float, not a numpy array; return numpy arrays by their names"),
    ],
)
def test_an_initial_model_of_other_things_than_arrays_is_refused(tmp_path, returned, words):
    first = f"    def initial_model(self, seed):\n        return {returned}\n"
    path = write(tmp_path, TINY + CLASS.format("Mine", "Plan") + first)
    with pytest.raises(BadInput, match=words):
        drafted(path)


def test_what_a_plan_raises_for_its_initial_model_is_said_with_its_line(tmp_path):
    body = CLASS.format("Mine", "Plan") + "    def initial_model(self, seed):\n        return {'w': 1 / 0}\n"
    with pytest.raises(BadInput, match=r"plan\.py:6: ZeroDivisionError: division by zero"):
        drafted(write(tmp_path, TINY + body))


@pytest.mark.parametrize("seed", [-1, 2**53, 1.5, True, "1"])
def test_what_is_no_seed_is_said(seed):
    with pytest.raises(BadInput, match=r"seed=.*: is not a seed; give a whole number from 0"):
        drafted(EXAMPLES / "tiny_numpy.py", seed=seed)


@pytest.mark.parametrize("fraction", [-0.1, 1, 20, True, "a fifth"])
def test_what_is_no_share_of_the_subjects_is_said(fraction):
    with pytest.raises(BadInput, match=r"validation_fraction .*: is not a share of the subjects; give a number from 0"):
        drafted(EXAMPLES / "tiny_numpy.py", validation_fraction=fraction)
