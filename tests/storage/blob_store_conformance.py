"""What every blob store keeps: a subclass gives a fresh store as the fixture ``store`` and inherits the claims."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from archipel.storage import BlobStore
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, ErrorCode, NotFound

BAD_NAMES = ["", "blake3:", "blake3:../../etc/passwd", "blake3:" + "A" * 64, "../" * 21 + "x"]


def written(path: Path, data: bytes) -> Path:
    """A file that is finished and synced, as ``put_file`` asks for."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return path


class BlobStoreConformance:
    """The contract of ``BlobStore``, claim by claim."""

    def test_what_goes_in_by_pieces_comes_out(self, store: BlobStore) -> None:
        with store.writer() as writer:
            for piece in (b"mo", b"", memoryview(b"del")):
                writer.write(piece)
            name = writer.commit(blob_hash(b"model"))
        assert (name, store.size(name), store.has(name)) == (blob_hash(b"model"), 5, True)
        with store.open(name) as file:
            assert (file.read(2), file.seek(0), file.read()) == (b"mo", 0, b"model")

    def test_the_same_bytes_twice_are_one_blob(self, store: BlobStore) -> None:
        assert store.put(b"model") == store.put(memoryview(b"model"))
        assert store.sweep(()) == 1

    def test_a_wrong_hash_is_refused_and_leaves_nothing(self, store: BlobStore) -> None:
        with pytest.raises(BadInput, match="its bytes hash to") as refused:
            store.put(b"model", blob_hash(b"other"))
        assert refused.value.code is ErrorCode.BAD_UPDATE
        assert not store.has(blob_hash(b"model"))
        assert store.sweep(()) == 0

    def test_what_is_not_committed_is_not_there(self, store: BlobStore) -> None:
        with store.writer() as writer:
            writer.write(b"model")
        assert not store.has(blob_hash(b"model"))
        assert store.sweep(()) == 0

    def test_a_file_is_taken_over(self, store: BlobStore, tmp_path: Path) -> None:
        for number, place in enumerate((store.work_file(), tmp_path / "elsewhere")):
            data = f"model {number}".encode()
            name = blob_hash(data)
            store.put_file(written(place, data), name)
            assert not place.exists()
            assert store.read(name, 0, 100) == data

    def test_a_file_of_a_blob_that_is_there_already_is_taken_over(self, store: BlobStore) -> None:
        name = store.put(b"model")
        place = written(store.work_file(), b"model")
        store.put_file(place, name)
        assert not place.exists()
        assert store.sweep(()) == 1

    def test_work_files_are_new_and_a_sweep_removes_what_is_left_there(self, store: BlobStore) -> None:
        first, second = written(store.work_file(), b"half"), store.work_file()
        assert first != second
        assert store.sweep(()) == 0
        assert not first.exists()

    @pytest.mark.parametrize(
        ("offset", "length", "piece"), [(0, 5, b"model"), (1, 3, b"ode"), (3, 9, b"el"), (5, 1, b""), (9, 1, b"")]
    )
    def test_a_range_is_read(self, store: BlobStore, offset: int, length: int, piece: bytes) -> None:
        assert store.read(store.put(b"model"), offset, length) == piece

    def test_a_local_file_has_the_bytes(self, store: BlobStore) -> None:
        with store.local(store.put(b"model")) as path:
            assert path.read_bytes() == b"model"

    def test_an_empty_blob_is_a_blob(self, store: BlobStore) -> None:
        name = store.put(b"")
        assert (store.has(name), store.size(name), store.read(name, 0, 1)) == (True, 0, b"")

    def test_a_missing_blob_is_named(self, store: BlobStore) -> None:
        missing = blob_hash(b"none")
        for ask in (store.size, store.open, lambda name: store.read(name, 0, 1)):
            with pytest.raises(NotFound, match=missing):
                ask(missing)
        with pytest.raises(NotFound, match=missing), store.local(missing):
            pass
        assert not store.has(missing)
        store.delete(missing)

    def test_a_deleted_blob_is_gone_and_a_reader_finishes(self, store: BlobStore) -> None:
        name = store.put(b"model")
        with store.open(name) as file:
            store.delete(name)
            assert file.read() == b"model"
        assert not store.has(name)

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_a_name_that_is_not_a_hash_is_refused(self, store: BlobStore, name: str, tmp_path: Path) -> None:
        for ask in (store.has, store.size, store.open, store.delete, lambda name: store.read(name, 0, 1)):
            with pytest.raises(BadInput, match="is not a content address"):
                ask(name)
        with pytest.raises(BadInput, match="is not a content address"):
            store.put_file(written(tmp_path / "file", b"model"), name)

    def test_a_sweep_keeps_what_is_named_and_nothing_else(self, store: BlobStore) -> None:
        kept, gone = store.put(b"kept"), store.put(b"gone")
        assert store.sweep({kept, blob_hash(b"never there")}) == 1
        assert (store.has(kept), store.has(gone)) == (True, False)
