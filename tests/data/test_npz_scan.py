from __future__ import annotations

import errno
import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from archipel.data import Cohort, MemoryIndex, RawSource, SubjectSet, format_named, scan, split, verify
from archipel.data.files import Folder
from archipel.data.limits import DATA_LIMITS, DataLimits
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, DataNeeds, ErrorCode

NEEDS = DataNeeds(kind="arrays")


def save(root, rows=4, **changes):
    arrays = {
        "x": np.arange(rows * 2, dtype=float).reshape(rows, 2),
        "y": np.arange(rows) % 2,
        "subject": np.array([f"p{n}" for n in range(rows)]),
    }
    arrays.update(changes)
    np.savez(root / "table.npz", **{name: array for name, array in arrays.items() if array is not None})


def the_problem(root, limits=DATA_LIMITS):
    (problem,) = scan("npz", root, limits=limits).problems
    return str(problem)


def test_a_sound_table_has_one_subject_a_row(tmp_path):
    save(tmp_path)
    found = scan("npz", tmp_path)
    assert found.problems == ()
    assert [(one.subject, one.row) for one in found.samples] == [("p0", 0), ("p1", 1), ("p2", 2), ("p3", 3)]
    assert found.schema.arrays["x"] == "float64 [2]"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y": None}, "table.npz: has no array named y; save arrays x, y and subject"),
        ({"y": np.zeros(3)}, "have shapes [4, 2], [3] and [4]; give all three the same number of rows"),
        ({"subject": np.array(["p0", "p1", "p1", "p3"])}, "p1: is in table.npz more than once;"),
        ({"x": np.array([[1.0], [np.nan], [1], [1]])}, "p1: its row of table.npz contains NaN or infinite values;"),
        ({"x": np.array([[object()]] * 4)}, "it is damaged or holds Python objects;"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0), "subject": np.array([], str)}, "table.npz: holds no row;"),
    ],
)
def test_a_bad_table_is_named(tmp_path, changes, words):
    save(tmp_path, **changes)
    assert words in the_problem(tmp_path)


def test_a_truncated_table_and_an_empty_folder_are_named(tmp_path):
    assert "no .npz file in the folder; keep exactly one" in the_problem(tmp_path)
    save(tmp_path)
    path = tmp_path / "table.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert "table.npz: cannot be read" in the_problem(tmp_path)


def test_only_a_cohorts_own_rows_matter_to_it(tmp_path):
    save(tmp_path)
    found = scan("npz", tmp_path)
    cohort = Cohort(dataset="table", format="npz", samples=found.samples[:2])
    x = np.arange(8, dtype=float).reshape(4, 2)
    x[3] = -1
    save(tmp_path, x=x)
    verify(tmp_path, cohort)
    x[1] = -1
    save(tmp_path, x=x)
    with pytest.raises(BadInput, match=r"table\.npz: has another row for subject p1") as caught:
        verify(tmp_path, cohort)
    assert caught.value.code is ErrorCode.DATA_CHANGED
    save(tmp_path, subject=np.array(["p1", "p0", "p2", "p3"]))
    with pytest.raises(BadInput, match="no longer holds subject p0 in the row it had"):
        verify(tmp_path, cohort)


def test_rows_load_in_the_order_of_the_subjects(tmp_path):
    save(tmp_path)
    found = scan("npz", tmp_path)
    source = RawSource(tmp_path, Cohort(dataset="table", format="npz", samples=found.samples))
    table = SubjectSet(source, (found.samples[2], found.samples[0]), NEEDS).table()
    assert table.ids == ("p2", "p0")
    assert table.x.tolist() == [[4, 5], [0, 1]]
    assert SubjectSet(source, (), NEEDS).table().ids == ()


def test_both_sides_of_a_split_are_tables(tmp_path):
    save(tmp_path, rows=20)
    cohort = Cohort(dataset="table", format="npz", samples=scan("npz", tmp_path).samples)
    training, validation = split(RawSource(tmp_path, cohort), cohort, 0.3, NEEDS)
    assert set(training.table().ids).isdisjoint(validation.table().ids)
    assert len(training.table().ids) + len(validation.table().ids) == 20


def test_a_pooled_cohort_may_lie_in_several_tables(tmp_path):
    subjects = []
    for site in ("a", "b"):
        (tmp_path / site).mkdir()
        save(tmp_path / site, subject=np.array([f"{site}{n}" for n in range(4)]))
        for subject in scan("npz", tmp_path / site).samples:
            subjects.append(subject.model_copy(update={"files": {"table": f"{site}/table.npz"}}))
    cohort = Cohort(dataset="pooled", format="npz", samples=tuple(subjects))
    verify(tmp_path, cohort)
    training, validation = split(RawSource(tmp_path, cohort), cohort, 0.3, NEEDS)
    table = training.table()
    assert table.ids == training.ids and len(table.x) + len(validation.table().x) == 8
    assert all(
        row.tolist() == [2 * int(one[1]), 2 * int(one[1]) + 1] for one, row in zip(table.ids, table.x, strict=True)
    )


def test_a_file_that_would_fill_the_memory_is_named_before_it_is_unpacked(tmp_path):
    save(tmp_path, x=np.zeros((4, 1 << 20)))
    few = DataLimits(npz_bytes=1 << 20)
    assert "table.npz: would take 32 MiB in memory; at most 1 MiB are allowed" in the_problem(tmp_path, limits=few)


def written(path, **arrays):
    """Arrays whose headers say what no library would write: type and shape, and no data."""
    with zipfile.ZipFile(path, "w") as packed:
        for name, (kind, shape) in arrays.items():
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": kind, "fortran_order": False, "shape": shape})
            packed.writestr(f"{name}.npy", header.getvalue())


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {"train_images": ("|u1", (10**9, 0)), "train_labels": ("|u1", (10**9, 0))},
            "table.npz: has 1000000000 rows; at most 1000000 are allowed; split it into several datasets",
        ),
        (
            {"x": ("|u1", (10**9, 0)), "y": ("|V0", (10**9,)), "subject": ("<U0", (10**9,))},
            "table.npz: has 1000000000 rows; at most 1000000 are allowed",
        ),
        ({"x": ("|u1", (3, 0)), "y": ("|u1", (3, 0)), "subject": ("|V0", (3,))}, "has rows that hold nothing"),
        ({"x": ("<f8", (10**9, 10**9)), "y": ("|u1", (3,))}, "would take 7629394531250 MiB in memory; at most"),
        ({"x": ("<f8", (-1, 3)), "y": ("|u1", (3,))}, "table.npz: cannot be read"),
        ({"x": ("<f8", (10**30, 0)), "y": ("|u1", (3,))}, "table.npz: cannot be read"),
        ({f"a{number}": ("|u1", (1,)) for number in range(2000)}, "table.npz: lists more arrays than are allowed"),
    ],
)
def test_a_small_file_that_speaks_of_much_is_named_before_room_is_made_for_it(tmp_path, arrays, words):
    written(tmp_path / "table.npz", **arrays)
    tracemalloc.start()
    problem = the_problem(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert words in problem and peak < 8 << 20


def test_more_rows_than_are_allowed_are_counted_over_all_parts(tmp_path):
    arrays = {f"{part}_{what}": np.zeros((3, 1)) for part in ("train", "val") for what in ("images", "labels")}
    np.savez(tmp_path / "a.npz", **arrays)
    assert "a.npz: has 6 rows; at most 5 are allowed" in the_problem(tmp_path, limits=DataLimits(npz_rows=5))


def test_a_sparse_file_is_named_by_its_size(tmp_path):
    with (tmp_path / "table.npz").open("wb") as file:
        file.truncate(300 << 30)
    assert "table.npz: holds 307200 MiB; at most 16384 MiB are allowed" in the_problem(tmp_path)


def test_a_hash_of_a_row_is_that_of_its_types_shapes_and_bytes(tmp_path):
    """Approved cohorts hold it."""
    save(tmp_path, y=np.arange(4, dtype=np.int8))
    x = np.arange(2, 4, dtype=float)
    content = b"<f8[2]\0" + x.tobytes() + b"|i1[]\0" + b"\1"
    assert scan("npz", tmp_path).samples[1].hash == blob_hash(content)


def test_memory_that_runs_out_is_a_problem_of_the_file(tmp_path, monkeypatch):
    save(tmp_path)
    cohort = Cohort(dataset="table", format="npz", samples=scan("npz", tmp_path).samples)

    def short(*_, **__):
        raise MemoryError

    monkeypatch.setattr("numpy.load", short)
    words = "needs more memory than this machine has left"
    assert words in the_problem(tmp_path)
    with pytest.raises(BadInput, match=words):
        verify(tmp_path, cohort)


def test_an_archive_of_zeros_is_refused_by_its_size(tmp_path):
    """Before it is unpacked: 90 MiB in 90 KiB, as an array and as the header of one, which is read whole."""
    for name, content in (("x.npy", b"\0"), ("x.npy", b"\x93NUMPY\x02\0\xff\xff\xff\x7f{ ")):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            archive.writestr(name, content.ljust(90 << 20, b" "))
        tracemalloc.start()
        problem = the_problem(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert "would take 90 MiB in memory; at most " in problem and peak < 4 << 20


def test_faulty_rows_beyond_some_number_are_counted(tmp_path):
    save(tmp_path, 9, x=np.full((9, 2), np.nan))
    found = scan("npz", tmp_path, limits=DataLimits(findings=3))
    assert [one.subject for one in found.errors] == ["p0", "p1", "p2"] and not found.samples
    assert [str(one) for one in found.problems[3:]] == ["table.npz: has 6 faulty rows more; fix the rows above first"]


def test_rows_of_those_who_are_left_out_are_not_counted_as_faulty(tmp_path):
    save(tmp_path, 9, x=np.full((9, 2), np.nan))
    folder = Folder(tmp_path, leaves_out=lambda subject: subject < "p6", withdrawn="six", limits=DataLimits(findings=2))
    found = format_named("npz").scan(folder, {})
    assert [one.subject for one in found.errors] == ["p6", "p7"]
    assert "has 1 faulty rows more" in str(found.problems[2])


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_the_names_of_classes_may_be_a_column(tmp_path, shape):
    save(tmp_path, y=np.array(["ill", "well", "ill", " well "]).reshape(shape))
    found = scan("npz", tmp_path)
    assert found.problems == () and found.schema.columns["class"].categories == {"ill": 2, "well": 2}


def test_two_names_in_a_row_are_no_class(tmp_path):
    save(tmp_path, y=np.array([["ill", "well"]] * 4))
    assert "y is text with [2] values per row; save the name of one class per row" in the_problem(tmp_path)


@pytest.mark.parametrize("header", [b"{'descr': '<f8', 'fortran_order': False, 'shape': (4", b"\xff" * 20, b"{'a': [}"])
def test_a_damaged_header_is_named(tmp_path, header):
    save(tmp_path)
    data = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "table.npz") as old, zipfile.ZipFile(data, "w") as new:
        for name in old.namelist():
            text = header.ljust(117) + b"\n"
            new.writestr(name, b"\x93NUMPY\x01\x00v\x00" + text if name == "x.npy" else old.read(name))
    (tmp_path / "table.npz").write_bytes(data.getvalue())
    assert "it is damaged or holds Python objects" in the_problem(tmp_path)


def test_a_disk_that_does_not_give_a_file_does_not_make_it_damaged(tmp_path, monkeypatch):
    save(tmp_path)
    index, load = MemoryIndex(), np.load

    def broken(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(np, "load", broken)
    (problem,) = scan("npz", tmp_path, index=index).problems
    assert str(problem) == "table.npz: cannot be opened (Input/output error); check the file and its permissions"
    monkeypatch.setattr(np, "load", load)
    assert scan("npz", tmp_path, index=index).problems == ()
