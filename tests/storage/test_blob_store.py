"""A blob is there whole under the hash of its bytes, or not at all: after a crash, a wrong hash, a full disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from blob_store_conformance import BlobStoreConformance, written
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from archipel.storage import FolderBlobStore, disk_errors_named, write_private
from archipel.tensors import blob_hash
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, StorageFull
from worlds.examples import examples


@pytest.fixture
def store(tmp_path: Path) -> FolderBlobStore:
    return FolderBlobStore(tmp_path / "blobs")


class TestFolderBlobStore(BlobStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FolderBlobStore:
        return FolderBlobStore(tmp_path / "blobs")


def held(store: FolderBlobStore) -> set[str]:
    return {f"blake3:{path.parent.name}{path.name}" for path in store.root.glob("??/*")}


@given(st.data())
@examples(30)
def test_what_goes_in_by_any_pieces_comes_out(tmp_path_factory: pytest.TempPathFactory, data: DataObject) -> None:
    store = FolderBlobStore(tmp_path_factory.mktemp("blobs"))
    pieces = data.draw(st.lists(st.binary(max_size=2000), max_size=6))
    whole = b"".join(pieces)
    with store.writer() as writer:
        for piece in pieces:
            writer.write(piece)
        name = writer.commit(blob_hash(whole))
    assert (name, store.size(name)) == (blob_hash(whole), len(whole))
    with store.open(name) as file:
        assert file.read() == whole


def test_the_same_bytes_twice_are_one_blob(store: FolderBlobStore) -> None:
    assert store.put(b"model") == store.put(memoryview(b"model"))
    assert held(store) == {blob_hash(b"model")}


def test_a_wrong_hash_is_refused_and_leaves_nothing(store: FolderBlobStore) -> None:
    with pytest.raises(BadInput, match="its bytes hash to") as refused:
        store.put(b"model", blob_hash(b"other"))
    assert refused.value.code is ErrorCode.BAD_UPDATE
    assert held(store) == set()
    assert list(store.incoming.iterdir()) == []


def test_what_is_not_committed_is_not_there(store: FolderBlobStore) -> None:
    with store.writer() as writer:
        writer.write(b"model")
    assert not store.has(blob_hash(b"model"))
    assert list(store.incoming.iterdir()) == []


def test_a_sweep_keeps_what_is_named_and_nothing_else(store: FolderBlobStore) -> None:
    kept, gone = store.put(b"kept"), store.put(b"gone")
    (store.incoming / "half").write_bytes(b"half")
    assert store.sweep({kept}) == 1
    assert held(store) == {kept}
    assert not store.has(gone)
    assert list(store.incoming.iterdir()) == []


_CRASHING = """
import os, signal, sys
from pathlib import Path
from archipel.storage import FolderBlobStore, blobs
store = FolderBlobStore(Path(sys.argv[1]))
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "before-sync":
    blobs.os.fsync = die
if sys.argv[2] == "before-rename":
    FolderBlobStore.put_file = die
if sys.argv[2] == "after-rename":
    blobs.sync_folder = die
writer = store.writer()
writer.write(b"x" * 100_000)
if sys.argv[2] == "while-writing":
    die()
writer.commit()
"""


@pytest.mark.processes
@pytest.mark.parametrize("moment", ["while-writing", "before-sync", "before-rename", "after-rename"])
def test_a_crash_leaves_a_whole_blob_or_none(store: FolderBlobStore, moment: str) -> None:
    died = subprocess.run([sys.executable, "-c", _CRASHING, str(store.root), moment], check=False)
    assert died.returncode == -signal.SIGKILL
    whole = blob_hash(b"x" * 100_000)
    assert held(store) == ({whole} if moment == "after-rename" else set())
    store.sweep(held(store))
    assert list(store.incoming.iterdir()) == []
    assert store.put(b"x" * 100_000) == whole


def test_a_full_disk_is_named_and_finished_blobs_stay(tiny_disk: Path) -> None:
    store = FolderBlobStore(tiny_disk / "blobs")
    first = store.put(bytes(600_000))
    with pytest.raises(StorageFull, match=f"{tiny_disk}/blobs: the disk is full; free space there"):
        store.put(b"\1" * 600_000)
    assert held(store) == {first}
    assert list(store.incoming.iterdir()) == []
    store.delete(first)
    assert store.put(b"\1" * 600_000) == blob_hash(b"\1" * 600_000)


def test_a_secret_on_a_full_disk_is_the_old_one_or_the_new_one(tiny_disk: Path) -> None:
    secret = tiny_disk / "key"
    write_private(secret, b"old")
    with pytest.raises(StorageFull):
        write_private(secret, bytes(2_000_000))
    assert secret.read_bytes() == b"old"


def test_a_secret_is_private_from_the_first_byte(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "key", b"secret")
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "key"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_cannot_be_written_is_named(number: int, tmp_path: Path) -> None:
    with (
        pytest.raises(ArchipelError, match="cannot be written; give this user") as refused,
        disk_errors_named(tmp_path),
    ):
        raise OSError(number, "no")
    assert refused.value.code is ErrorCode.CONFIGURATION


def test_a_blobs_new_folder_survives_a_power_cut_as_well(
    store: FolderBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("archipel.storage.blobs.sync_folder", synced.append)
    place = store.path(store.put(b"model"))
    assert synced == [place.parent, store.root]


def test_a_work_file_is_renamed_and_not_copied(store: FolderBlobStore) -> None:
    place = written(store.work_file(), b"model")
    before = place.stat().st_ino
    store.put_file(place, blob_hash(b"model"))
    assert store.path(blob_hash(b"model")).stat().st_ino == before


def test_a_file_of_another_file_system_is_copied_and_its_hash_checked(tiny_disk: Path, store: FolderBlobStore) -> None:
    store.put_file(written(tiny_disk / "model", b"model"), blob_hash(b"model"))
    assert not (tiny_disk / "model").exists()
    assert store.read(blob_hash(b"model"), 0, 9) == b"model"
    with pytest.raises(BadInput, match="its bytes hash to"):
        store.put_file(written(tiny_disk / "other", b"other"), blob_hash(b"another"))
    assert held(store) == {blob_hash(b"model")}
    assert list(store.incoming.iterdir()) == []
