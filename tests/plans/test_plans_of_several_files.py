from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from archipel.plans import Plan, declared, load, load_own, load_packaged, package
from archipel.plans.files import LARGEST_PLAN, PlanFiles, check_paths, read_folder
from archipel.plans.loading import PlanLine, package_name, plan_line_of
from archipel.plans.packaging import PackagedPlan, explain
from archipel.vocabulary import BadInput, ErrorCode, PlanReference
from archipel.vocabulary.plans import MOST_PLAN_FILES

ENTRY = """import json
from archipel.plans import Plan
from archipel.vocabulary import DataNeeds
from .losses import scaled
from .nets.small import width


class Mine(Plan):
    needs = DataNeeds(kind="arrays")
    version = json.dumps(scaled(width))

    def late(self):
        from . import json as own
        return own.answer

    def broken(self):
        return scaled(None)
"""
LOSSES = "def scaled(value):\n    return value * 2\n"


def folder_of(folder: Path, **changed: str | bytes) -> Path:
    """A plan of four files: its entry, a loss, a network in a folder, and one that is named like a stdlib module."""
    files: dict[str, str | bytes] = {
        "plan.py": ENTRY,
        "losses.py": LOSSES,
        "nets/small.py": "width = 21\n",
        "json.py": "answer = 'own'\n",
        **changed,
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def refused(words: str) -> pytest.RaisesExc[BadInput]:
    return pytest.raises(BadInput, match=words)


def test_the_files_of_a_plan_import_each_other_and_shadow_nothing(tmp_path):
    plan = load(folder_of(tmp_path))
    assert isinstance(plan, Plan) and type(plan).version == "42"
    assert plan.late() == "own" and sys.modules["json"] is json


def test_what_runs_is_what_was_read_and_the_disk_is_neither_read_again_nor_written(tmp_path):
    files = read_folder(folder_of(tmp_path))
    (tmp_path / "losses.py").write_text("raise RuntimeError('read again')\n")
    (tmp_path / "json.py").unlink()
    before = sorted(tmp_path.rglob("*"))
    assert load_packaged(PackagedPlan(files, "plan.py", "Mine")).late() == "own"
    assert sorted(tmp_path.rglob("*")) == before


def test_two_plans_do_not_see_each_others_modules(tmp_path):
    one = read_folder(folder_of(tmp_path / "one"))
    other = read_folder(folder_of(tmp_path / "other", **{"json.py": "answer = 'another'\n"}))
    plans = [load_packaged(PackagedPlan(files, "plan.py", "Mine")) for files in (one, other)]
    assert [plan.late() for plan in plans] == ["own", "another"]
    assert package_name(one) != package_name(other)
    assert not {"losses", "nets", "plan"} & set(sys.modules)


def test_a_module_that_the_plan_does_not_declare_is_not_found(tmp_path):
    files = read_folder(folder_of(tmp_path))
    (tmp_path / "extra.py").write_text("x = 1\n")
    late = PlanFiles({**files.texts, "losses.py": "from . import extra\n"}, {**files.hashes, "losses.py": "changed"})
    with pytest.raises(ImportError, match="extra") as error:
        load_packaged(PackagedPlan(late, "plan.py", "Mine"))
    assert plan_line_of(error.value, late) == PlanLine("losses.py", 1)


def test_a_plan_is_explained_without_being_run(tmp_path):
    files = read_folder(folder_of(tmp_path, **{"losses.py": "raise RuntimeError('was run')\n"}))
    assert explain(files, "plan.py") == "Mine"
    with pytest.raises(RuntimeError, match="was run") as error:
        load_packaged(PackagedPlan(files, "plan.py", "Mine"))
    assert plan_line_of(error.value, files) == PlanLine("losses.py", 1)
    assert not [name for name in sys.modules if name.startswith(package_name(files))]


def test_an_error_names_the_innermost_file_and_line_of_the_plan(tmp_path):
    files = read_folder(folder_of(tmp_path))
    with pytest.raises(TypeError) as error:
        load_packaged(PackagedPlan(files, "plan.py", "Mine")).broken()
    assert plan_line_of(error.value, files) == PlanLine("losses.py", 2)


def test_a_place_that_the_plan_makes_up_is_not_reported(tmp_path):
    body = "import sys\nname = scaled.__code__.co_filename\nsecret = chr(10) * 4711 + 'raise ValueError'\n"
    code = "exec(compile(secret, name, 'exec'))\n"
    files = read_folder(folder_of(tmp_path, **{"plan.py": ENTRY + body + code}))
    with pytest.raises(ValueError) as error:
        load_packaged(PackagedPlan(files, "plan.py", "Mine"))
    place = plan_line_of(error.value, files)
    assert place is not None and place.file == "plan.py"
    assert plan_line_of(SyntaxError("x", ("patient-7.py", 1, 1, "")), files) is None


@pytest.mark.parametrize(
    "path", ["../plan.py", "/plan.py", "a/../plan.py", ".plan.py", "a/.b/c.py", "a//b.py", "a\\b.py", "é.py", "a.b.py",
             "plan.txt", "plan.py\n", "", "a" * 200 + ".py"]
)  # fmt: skip
def test_a_path_that_leaves_the_folder_or_hides_is_refused(path):
    with refused("is not a path that a plan's file may have; use a relative path") as error:
        check_paths(["plan.py", path])
    assert error.value.code is ErrorCode.BAD_PLAN


@pytest.mark.parametrize("pair", [("nets.py", "nets/small.py"), ("Loss.py", "loss.py"), ("nets/a.py", "Nets/b.py")])
def test_two_files_with_one_module_name_are_refused(pair):
    with refused("has the name of another file or folder of the plan; rename one"):
        check_paths(pair)


def test_files_are_bounded_in_number_and_in_bytes(tmp_path):
    many = folder_of(tmp_path / "many", **{f"m{number}.py": "" for number in range(MOST_PLAN_FILES)})
    with refused(f"keep a plan to {MOST_PLAN_FILES} files"):
        read_folder(many)
    half = "#" + "x" * (LARGEST_PLAN // 2)
    with refused(f"makes the plan larger than {LARGEST_PLAN} bytes"):
        read_folder(folder_of(tmp_path / "large", **{"a.py": half, "b.py": half}))


def test_bytes_that_a_job_does_not_name_are_refused(tmp_path):
    packaged = package(folder_of(tmp_path))
    sources = {path: text.encode() for path, text in packaged.files.texts.items()}
    assert declared(packaged.reference, sources.items()) == packaged
    with refused(r"losses\.py: is not the file that its hash names; fetch"):
        declared(packaged.reference, {**sources, "losses.py": LOSSES.encode() + b"\n"}.items())
    with refused(r"losses\.py: is not the file that its hash names; fetch"):
        declared(packaged.reference, {path: one for path, one in sources.items() if path != "losses.py"}.items())
    with refused(r"extra\.py: is not one of the plan's files; fetch"):
        declared(packaged.reference, {**sources, "extra.py": b""}.items())


def test_a_link_is_refused(tmp_path):
    folder_of(tmp_path)
    (tmp_path / "losses.py").unlink()
    (tmp_path / "losses.py").symlink_to("/etc/passwd")
    with refused(r"losses\.py: is reached through a link"):
        read_folder(tmp_path)


def test_a_helper_with_a_hidden_line_end_is_refused_and_named(tmp_path):
    with refused(r"losses\.py: has a carriage return without a line feed in line 1"):
        read_folder(folder_of(tmp_path, **{"losses.py": b"# a\rimport os\n"}))


def test_an_entry_must_be_one_of_the_files(tmp_path):
    files = read_folder(folder_of(tmp_path, **{"__init__.py": ""}))
    with refused(r"other\.py: is not one of the plan's files"):
        explain(files, "other.py")
    with refused("cannot be the entry"):
        explain(files, "__init__.py")


def test_a_folder_says_by_itself_which_file_is_the_entry(tmp_path):
    packaged = package(folder_of(tmp_path / "usual"))
    assert (packaged.entry, packaged.class_name) == ("plan.py", "Mine")
    (tmp_path / "usual" / "plan.py").rename(tmp_path / "usual" / "mine.py")
    assert package(tmp_path / "usual").entry == "mine.py"
    (tmp_path / "usual" / "other.py").write_text(ENTRY)
    with refused(r"has no plan\.py, and plan classes in mine\.py, other\.py; .* give it as the entry"):
        package(tmp_path / "usual")
    assert package(tmp_path / "usual", entry="other.py").entry == "other.py"


def test_one_hash_names_all_files_and_changes_with_each(tmp_path):
    files = package(folder_of(tmp_path)).files
    one = package(tmp_path).reference.hash
    (tmp_path / "losses.py").write_text(LOSSES + "#")
    two = package(tmp_path).reference.hash
    (tmp_path / "losses.py").rename(tmp_path / "other.py")
    assert len({one, two, package(tmp_path).reference.hash, *files.hashes.values()}) == 3 + len(files.hashes)


@pytest.mark.parametrize(
    "changed", [{"../x.py": "a"}, {"/x.py": "a"}, {"x\x1b[2J.py": "a"}, {"x.txt": "a"}, {"Plan.py": "a"}]
)
def test_a_job_that_names_a_hostile_file_is_refused(tmp_path, changed):
    reference = package(folder_of(tmp_path)).reference
    some = next(iter(reference.files.values()))
    files = {**reference.files, **dict.fromkeys(changed, some)}
    with pytest.raises(ValidationError):
        PlanReference(files=files, entry="plan.py", class_name="Mine")
    with pytest.raises(ValidationError, match="is not one of the plan's files"):
        PlanReference(files=reference.files, entry="none.py", class_name="Mine")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("from losses import scaled", r"plan\.py:1: ModuleNotFoundError: .* with a dot: from \.losses import"),
        ("from .lost import scaled", r"plan\.py:1: ModuleNotFoundError: No module named 'lost'; add lost\.py to the"),
    ],
)
def test_an_author_is_told_how_the_files_of_a_plan_are_imported(tmp_path, line, words):
    with refused(words):
        load_own(package(folder_of(tmp_path, **{"plan.py": f"{line}\n{ENTRY}"})))


def test_a_coding_line_in_the_second_file_is_refused_before_anything_runs(tmp_path):
    hidden = "# coding: utf-7\n# +AAo-raise SystemExit\n"
    with refused(r"losses\.py: has a coding line that names utf-7; remove it"):
        load(folder_of(tmp_path, **{"losses.py": hidden}))
