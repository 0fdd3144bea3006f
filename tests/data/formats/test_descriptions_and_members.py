from __future__ import annotations

import json
import struct
import zipfile

import pytest

from archipel.data import scan


def npy(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    """An array's header that says ``shape``, and whatever follows it."""
    words = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    words += b" " * (63 - (len(words) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words + content


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (npy((10**13,)), "would take 76293945 MiB in memory"),
        (npy((10**30,)), "MiB in memory; at most 4096 MiB are allowed"),
        (npy((-1, 5)), "cannot be read"),
        (b"hello", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_a_member_that_is_no_array_or_lies_about_its_size_is_named(tmp_path, x, words):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, content in (("x", x), ("y", npy((1,), bytes(8))), ("subject", npy((1,), bytes(8)))):
            archive.writestr(f"{name}.npy", content)
    found = scan("npz", tmp_path)
    assert found.samples == ()
    assert str(found.problems[0]).startswith("a.npz: ") and words in str(found.problems[0])


@pytest.mark.parametrize("key", ["modality", "channel_names"])
def test_a_number_of_thousands_of_digits_in_a_description_is_named(tmp_path, key):
    told = {key: {"0": "T1"}, "labels": {"0": "background", "9" * 5000: "tumour"}, "file_ending": ".nii.gz"}
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps(told))
    found = scan("msd" if key == "modality" else "nnunet", tmp_path)
    assert found.samples == () and "which is not a number and a name" in str(found.problems[0])
