"""The cache of prepared samples: what comes out is what the files hold, whatever happens to the cache."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from archipel.data import (
    Cohort,
    DataMapping,
    Prepared,
    PreparedCache,
    PreparedSource,
    RawSource,
    Sample,
    SampleData,
    Samples,
    scan,
)
from archipel.data.cohorts import with_declared_columns
from archipel.data.prepared.preparation import Preparation
from archipel.data.prepared.source import Damaged, Keyed, PreparedFile, write_prepared
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, Cancellation, Cancelled, ColumnNeed, DataNeeds, ErrorCode, Watch, WorkProgress
from worlds.examples import examples

KEY = f"{'a' * 64}.{'b' * 32}"
ROOM = 1 << 30


def volumes(root: Path, subjects: int = 4, seed: int = 0) -> Path:
    draw = np.random.default_rng(seed)
    for number in range(subjects):
        affine = np.diag([-1.0, 1.0, 2.0, 1.0])
        for part, values in (
            ("images", draw.normal(9, 2, (6, 7, 8)).astype(np.float32)),
            ("labels", draw.integers(0, 4, (6, 7, 8)).astype(np.uint8)),
        ):
            path = root / part / f"s{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(values, affine).to_filename(path)
    return root


def table(root: Path, rows: int = 5) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    x = np.arange(rows * 6, dtype=np.float32).reshape(rows, 2, 3)
    np.savez(root / "table.npz", x=x, y=np.arange(rows) % 2, subject=[f"p{n}" for n in range(rows)])
    return root


def cohort(root: Path, layout: str = "nifti-pairs", **mapping: object) -> Cohort:
    return Cohort(
        dataset="d", format=layout, samples=scan(layout, root).samples, mapping=DataMapping.model_validate(mapping)
    )


def source(prepared: Prepared, of: Cohort, folder: Path) -> PreparedSource:
    """As a worker has it: the files of the cohort in one folder."""
    folder.mkdir()
    for path, name in prepared.files:
        os.link(path, folder / name)
    return PreparedSource(folder, of)


def steps(array: np.ndarray) -> list[int]:
    """The strides that mean something: not those along an axis of one element."""
    return [] if array.size < 2 else [step for step, size in zip(array.strides, array.shape, strict=True) if size > 1]


def same(one: SampleData, other: SampleData) -> bool:
    """The same arrays, to the last bit and in the same memory order, and the same values."""

    def arrays_of(reading: SampleData) -> dict[str, np.ndarray]:
        found = {"affine": reading.affine, "label": reading.label, **reading.images, **reading.arrays}
        return {name: np.asarray(array) for name, array in found.items() if array is not None}

    mine, theirs = arrays_of(one), arrays_of(other)
    return (
        mine.keys() == theirs.keys()
        and one.values == other.values
        and all(
            a.dtype == theirs[name].dtype
            and a.shape == theirs[name].shape
            and a.tobytes("A") == theirs[name].tobytes("A")
            and steps(a) == steps(theirs[name])
            for name, a in mine.items()
        )
    )


@pytest.mark.parametrize(
    "mapping",
    [{}, {"orientation": "RAS"}, {"labels": {"3": 1}}, {"labels": {"2": 7}, "drop_other_labels": True}],
    ids=["as-stored", "turned", "merged", "dropped"],
)
def test_prepared_volumes_are_what_the_files_hold(tmp_path: Path, mapping: dict[str, object]) -> None:
    root = volumes(tmp_path / "data")
    whole = cohort(root, **mapping)
    with PreparedCache(tmp_path / "cache", ROOM).prepare(root, whole) as prepared:
        found = source(prepared, whole, tmp_path / "shown").read(whole.samples)
        assert all(map(same, found, RawSource(root, whole).read(whole.samples)))


def test_a_prepared_table_is_what_the_file_holds_and_has_the_cohorts_rows_only(tmp_path: Path) -> None:
    root = table(tmp_path / "data")
    part = cohort(root, "npz").without(["p1", "p3"])
    with PreparedCache(tmp_path / "cache", ROOM).prepare(root, part) as prepared:
        assert len(prepared.files) == 1
        found = source(prepared, part, tmp_path / "shown").read(part.samples)
        assert all(map(same, found, RawSource(root, part).read(part.samples)))
        kept = prepared.files[0][0].read_bytes()
    assert np.arange(6, 12, dtype=np.float32).tobytes() not in kept
    assert np.arange(12, 18, dtype=np.float32).tobytes() in kept


KINDS = st.sampled_from(["<f4", ">f4", "<f8", "<i2", "u1", "?", "<U5", "<u4"])


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_array_comes_back_in_its_type_shape_and_memory_order(tmp_path: Path, data: st.DataObject) -> None:
    kind = np.dtype(data.draw(KINDS))
    stored = data.draw(arrays(kind, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)))
    axes = data.draw(st.permutations(range(stored.ndim)))
    reading = SampleData(
        arrays={"x": stored.transpose(axes)},
        values={"age": data.draw(st.floats(allow_nan=False, allow_infinity=False))},
    )
    path = tmp_path / "one"
    path.unlink(missing_ok=True)
    with path.open("xb", buffering=0) as file:
        size = write_prepared(file, Preparation(layout="npz"), [Keyed(KEY, reading)])
    assert path.stat().st_size == size
    opened = PreparedFile.open(path)
    assert same(opened.reading(*opened.places([KEY])), reading)


def test_python_objects_are_not_prepared(tmp_path: Path) -> None:
    reading = SampleData(arrays={"x": np.array([{}])})
    with (tmp_path / "one").open("xb", buffering=0) as file, pytest.raises(BadInput, match="array x has type object"):
        write_prepared(file, Preparation(layout="npz"), [Keyed(KEY, reading)])


def test_a_second_time_nothing_is_read_but_to_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = volumes(tmp_path / "data")
    whole, cache = cohort(root), PreparedCache(tmp_path / "cache", ROOM)
    with cache.prepare(root, whole) as first:
        assert first.made == 4
    with cache.prepare(root, whole) as second:
        assert (second.made, second.files) == (0, first.files)


def test_another_mapping_is_another_entry_and_another_name_of_a_column_is_not(tmp_path: Path) -> None:
    root = volumes(tmp_path / "data", 1)
    keys = {
        tuple(Preparation.of(one).keys(one.samples))
        for one in (
            cohort(root),
            cohort(root, columns={"age": {"source": "years"}}, modalities={"T1": "image"}),
            cohort(root, orientation="RAS"),
            cohort(root, labels={"2": 1}),
        )
    }
    assert len(keys) == 3


def test_rows_are_made_again_for_other_values_and_volumes_are_not(tmp_path: Path) -> None:
    (one,) = scan("nifti-pairs", volumes(tmp_path, 1)).samples
    older = one.model_copy(update={"values": {"age": 61}})
    for layout, is_same in (("nifti-pairs", True), ("picture-table", False)):
        how = Preparation(layout=layout)
        assert (list(how.keys([one])) == list(how.keys([older]))) is is_same


def test_plans_with_other_columns_share_what_is_prepared_of_volumes(tmp_path: Path) -> None:
    root, cache = volumes(tmp_path / "data", 2), PreparedCache(tmp_path / "cache", ROOM)
    whole = cohort(root)
    values = ({"age": 61.0, "sex": "f"}, {"age": 62.0, "sex": "f"})
    known = [one.model_copy(update={"values": two}) for one, two in zip(whole.samples, values, strict=True)]
    whole = whole.model_copy(update={"samples": Samples.of(known)})
    made = []
    for number, target in enumerate(("age", "sex", "age")):
        needs = DataNeeds(kind="volumes", target=ColumnNeed(name=target, categories=("f",) if target == "sex" else ()))
        asked = with_declared_columns(whole, needs)
        with cache.prepare(root, asked) as prepared:
            made.append(prepared.made)
            readings = list(source(prepared, asked, tmp_path / f"worker{number}").read(asked.samples))
        assert [list(one.values) for one in readings] == [[target]] * 2
    assert made == [2, 0, 0]
    assert [one.values["age"] for one in readings] == [61.0, 62.0]


@pytest.mark.parametrize("layout", ["nifti-pairs", "npz"])
def test_a_changed_file_is_refused_by_name_though_it_was_prepared_before(tmp_path: Path, layout: str) -> None:
    root = volumes(tmp_path / "data") if layout == "nifti-pairs" else table(tmp_path / "data")
    whole, cache = cohort(root, layout), PreparedCache(tmp_path / "cache", ROOM)
    cache.prepare(root, whole).close()
    if layout == "npz":
        table(root, 4)
        name = "table.npz"
    else:
        with (root / "labels/s2.nii.gz").open("ab") as file:
            file.write(b"\0")
        name = "labels/s2.nii.gz"
    with pytest.raises(BadInput, match=name) as refused:
        cache.prepare(root, whole)
    assert refused.value.code is ErrorCode.DATA_CHANGED


def test_a_file_that_is_written_to_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = volumes(tmp_path / "data", 1)
    whole, cache = cohort(root), PreparedCache(tmp_path / "cache", ROOM)
    read = type(cache)._write

    def written_to(*given: object) -> None:
        os.utime(root / "images/s0.nii.gz")
        read(*given)

    monkeypatch.setattr(PreparedCache, "_write", written_to)
    with pytest.raises(BadInput, match=r"images/s0\.nii\.gz: was changed while it was read") as refused:
        cache.prepare(root, whole)
    assert refused.value.code is ErrorCode.DATA_CHANGED


DAMAGES = {
    "cut": lambda data: data[:-1],
    "cut-to-nothing": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "another-index": lambda data: data.replace(b'"image:image"', b'"image:imagE"'),
    "zeros": lambda data: bytes(len(data)),
    "longer": lambda data: data + data[-80:],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("layout", ["nifti-pairs", "npz"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: str, layout: str) -> None:
    if (damage, layout) == ("another-index", "npz"):
        damage = "cut"
    root = volumes(tmp_path / "data") if layout == "nifti-pairs" else table(tmp_path / "data")
    whole, cache = cohort(root, layout), PreparedCache(tmp_path / "cache", ROOM)
    with cache.prepare(root, whole) as first:
        path = first.files[-1][0]
    before = path.read_bytes()
    path.unlink()
    path.write_bytes(DAMAGES[damage](before))
    with pytest.raises(Damaged):
        PreparedFile.open(path)
    with cache.prepare(root, whole) as again:
        assert again.made == (1 if layout == "nifti-pairs" else 5)
        assert path.read_bytes() == before


KILLED = """
import os, sys
from pathlib import Path
sys.path[:0] = [sys.argv[3], os.path.dirname(sys.argv[3])]
from test_cache import cohort
from archipel.data import PreparedCache
from archipel.data.prepared import cache as module
at, seen = int(sys.argv[2]), 0
def count(done):
    global seen
    seen += 1
    if seen == at:
        os.kill(os.getpid(), 9)
real = {name: getattr(os, name) for name in ("fsync", "fchmod", "open")}
for name, function in real.items():
    def wrapped(*given, _function=function, **more):
        count(name)
        return _function(*given, **more)
    setattr(os, name, wrapped)
root = Path(sys.argv[1])
PreparedCache(root / "cache", 1 << 30).prepare(root / "data", cohort(root / "data")).close()
"""


@pytest.mark.processes
@pytest.mark.parametrize("step", [1, 4, 9, 15])
def test_after_a_kill_at_any_step_the_cache_is_completed(tmp_path: Path, step: int) -> None:
    root = volumes(tmp_path / "data")
    arguments = [sys.executable, "-c", KILLED, str(tmp_path), str(step), str(Path(__file__).parent)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole, cache = cohort(root), PreparedCache(tmp_path / "cache", ROOM)
    with cache.prepare(root, whole) as prepared:
        found = source(prepared, whole, tmp_path / "shown").read(whole.samples)
        assert all(map(same, found, RawSource(root, whole).read(whole.samples)))
        assert cache.size == prepared.size
    assert not list((tmp_path / "cache/incoming").iterdir())
    assert not list((tmp_path / "cache/holds").iterdir())


def test_what_nobody_holds_makes_room_and_what_was_not_used_the_longest_goes_first(tmp_path: Path) -> None:
    first, second, third = (volumes(tmp_path / name, 1, seed) for seed, name in enumerate("abc"))
    size = PreparedCache(tmp_path / "cache", ROOM).prepare(first, cohort(first)).size
    cache = PreparedCache(tmp_path / "cache", int(2.5 * size))
    cache.prepare(second, cohort(second)).close()
    with cache.prepare(first, cohort(first)) as used_again:
        assert used_again.made == 0
    cache.prepare(third, cohort(third)).close()
    assert cache.size == 2 * size
    with cache.prepare(first, cohort(first)) as kept:
        assert kept.made == 0
    with cache.prepare(second, cohort(second)) as evicted:
        assert evicted.made == 1


def test_a_cohort_that_cannot_fit_is_one_error_naming_the_setting_and_evicts_nothing_in_use(tmp_path: Path) -> None:
    small, large = volumes(tmp_path / "small", 2), volumes(tmp_path / "large", 6, seed=1)
    held = PreparedCache(tmp_path / "cache", ROOM).prepare(small, cohort(small))
    cache = PreparedCache(tmp_path / "cache", 3 * held.size)
    with pytest.raises(BadInput, match=r"dataset d: need more than .* cache_mb .*; raise cache_mb in site\.toml") as no:
        cache.prepare(large, cohort(large))
    assert no.value.code is ErrorCode.CONFIGURATION
    assert all(path.exists() for path, _ in held.files)
    assert cache.size <= 3 * held.size
    held.close()


def test_a_withdrawn_patient_is_forgotten_also_while_held(tmp_path: Path) -> None:
    root, rows = volumes(tmp_path / "data"), table(tmp_path / "rows")
    whole, of_rows, cache = cohort(root), cohort(rows, "npz"), PreparedCache(tmp_path / "cache", ROOM)
    turned = cohort(root, orientation="RAS")
    with cache.prepare(root, whole) as held, cache.prepare(root, turned), cache.prepare(rows, of_rows) as packed:
        assert cache.forget([whole.samples[1].hash, of_rows.samples[2].hash]) == 3
        assert [path.exists() for path, _ in held.files] == [True, False, True, True]
        assert not packed.files[0][0].exists()
    assert cache.forget(["blake3:" + "0" * 64]) == 0


def test_only_the_owner_enters_and_an_entry_cannot_be_written(tmp_path: Path) -> None:
    root = volumes(tmp_path / "data", 1)
    with PreparedCache(tmp_path / "cache", ROOM).prepare(root, cohort(root)) as prepared:
        ((path, _),) = prepared.files
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o777 == 0o444


def test_what_plans_read_cannot_be_written_wherever_it_comes_from(tmp_path: Path) -> None:
    root = volumes(tmp_path / "data", 1)
    whole = cohort(root)
    with PreparedCache(tmp_path / "cache", ROOM).prepare(root, whole) as prepared:
        for one in (source(prepared, whole, tmp_path / "shown"), RawSource(root, whole)):
            (found,) = one.read(whole.samples)
            with pytest.raises(ValueError, match="read-only"):
                found.images["image"][:] = 0


def test_more_volumes_than_a_worker_may_open_files_can_be_kept(tmp_path: Path) -> None:
    root = volumes(tmp_path / "data", 1)
    whole = cohort(root)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with PreparedCache(tmp_path / "cache", ROOM).prepare(root, whole) as prepared:
        mine = source(prepared, whole, tmp_path / "shown")
        ((path, _),) = prepared.files
        opened = [PreparedFile.open(path) for _ in range(300)]
        assert len(opened[0].rows) == 1
        kept = [next(iter(mine.read(whole.samples))), *(one.reading(0) for one in opened)]
        assert len(os.listdir("/proc/self/fd")) < before + 10  # noqa: PTH208
    assert len({float(one.images["image"].mean()) for one in kept}) == 1


def test_what_was_not_prepared_is_named(tmp_path: Path) -> None:
    root = volumes(tmp_path / "data", 2)
    whole = cohort(root)
    with PreparedCache(tmp_path / "cache", ROOM).prepare(root, whole.without(["s1"])) as prepared:
        shown = source(prepared, whole, tmp_path / "shown")
        with pytest.raises(BadInput, match="s1: was not prepared"):
            list(shown.read(whole.samples))


TOGETHER = """
import os, sys
from pathlib import Path
sys.path[:0] = [sys.argv[2], os.path.dirname(sys.argv[2])]
from test_cache import cohort
from archipel.data import PreparedCache
root = Path(sys.argv[1])
whole = cohort(root / "data")
sys.stdin.readline()
with PreparedCache(root / "cache", 1 << 30).prepare(root / "data", whole) as prepared:
    print(prepared.made, all(path.exists() for path, _ in prepared.files))
"""


@pytest.mark.processes
def test_two_processes_make_each_sample_once(tmp_path: Path) -> None:
    volumes(tmp_path / "data", 8)
    arguments = [sys.executable, "-c", TOGETHER, str(tmp_path), str(Path(__file__).parent)]
    both = [subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate("\n", timeout=120)[0].split() for one in both]
    assert sorted(int(made) for made, _ in said) == [0, 8]
    assert all(there == "True" for _, there in said)


def test_preparing_can_be_stopped_and_goes_on_later(tmp_path: Path) -> None:
    root = volumes(tmp_path / "data")
    whole, cache, stop = cohort(root), PreparedCache(tmp_path / "cache", ROOM), Cancellation()
    shown: list[WorkProgress] = []

    def show(progress: WorkProgress) -> None:
        shown.append(progress)
        if progress.done == 2:
            stop.cancel()

    with pytest.raises(Cancelled):
        cache.prepare(root, whole, watch=Watch(show, stop))
    assert shown == [("samples prepared", 1, len(whole.samples)), ("samples prepared", 2, len(whole.samples))]
    with cache.prepare(root, whole) as prepared:
        assert prepared.made == 2


def test_the_same_patient_twice_is_one_entry(tmp_path: Path) -> None:
    root = volumes(tmp_path / "data", 1)
    (one,) = cohort(root).samples
    twice = Cohort(dataset="d", format="nifti-pairs", samples=(one, one.model_copy(update={"subject": "again"})))
    with PreparedCache(tmp_path / "cache", ROOM).prepare(root, twice) as prepared:
        assert len(prepared.files) == 1
        assert len(list(source(prepared, twice, tmp_path / "shown").read(twice.samples))) == 2


def test_a_sample_keeps_its_key_when_its_file_is_renamed() -> None:
    one = Sample(subject="a", files={"image": "a.nii.gz"}, hash=blob_hash(b"a"))
    how = Preparation(layout="nifti-pairs")
    renamed = one.model_copy(update={"files": {"image": "b.nii.gz"}, "subject": "b"})
    assert list(how.keys([one])) == list(how.keys([renamed]))
