"""Headers of NRRD and MetaImage that ask for much, or for what cannot be: a few hundred bytes each."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from archipel.data.files import Folder
from archipel.data.volumes.decoding import decode
from archipel.data.volumes.volumes import look
from archipel.vocabulary import BadInput
from worlds.examples import examples

META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "DimSize": "4 4 4",
    "ElementType": "MET_UCHAR",
}
NRRD = {"type": "uchar", "dimension": "3", "sizes": "4 4 4", "encoding": "raw"}


def meta(**changed):
    lines = [f"{name} = {value}\n" for name, value in {**META, **changed}.items() if value is not None]
    return ("".join(lines) + "ElementDataFile = LOCAL\n").encode() + bytes(64)


def nrrd(**changed):
    fields = {**NRRD, **{name.replace("_", " "): value for name, value in changed.items()}}
    lines = [f"{name}: {value}\n" for name, value in fields.items() if value is not None]
    return ("NRRD0004\n" + "".join(lines) + "\n").encode() + bytes(64)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (meta(NDims="-3"), "its header declares -3 dimensions"),
        (meta(NDims="0", DimSize=""), "its header declares 0 dimensions"),
        (meta(NDims="100000"), "its header declares 100000 dimensions"),
        (meta(NDims="1000", DimSize="1 " * 1000), "its header declares 1000 dimensions"),
        (meta(NDims="3 3"), "cannot be read to its end (ValueError)"),
        (meta(DimSize="-4 -4 4"), "its header declares 64 voxels"),
        (meta(DimSize="4e9 4e9 4"), "cannot be read to its end (ValueError)"),
        (meta(DimSize="9" * 5000 + " 1 1"), "cannot be read to its end (ValueError)"),
        (meta(DimSize="9" * 16 + " 1 1"), "cannot be read to its end (ValueError)"),
        (meta(ElementNumberOfChannels="9" * 4000), "cannot be read to its end (ValueError)"),
        (meta(DimSize="0 4 4"), "has no voxels"),
        (meta(HeaderSize="-1"), "does not begin its voxels after its header"),
        (meta(HeaderSize="9000000000"), "does not begin its voxels after its header"),
        (meta(ElementNumberOfChannels="2000000000"), "has 4 dimensions [4, 4, 4, 2000000000]"),
        (meta(ElementNumberOfChannels="-1"), "has 4 dimensions [4, 4, 4, -1]"),
        (meta(ElementSpacing="1 " * 5000), "cannot be read to its end (ValueError)"),
        (meta(ElementSpacing="1 1 nan"), "an affine that is not a grid"),
        (meta(TransformMatrix="1 " * 5000), "cannot be read to its end (ValueError)"),
        (meta(Offset="9 " * 5000), "cannot be read to its end (ValueError)"),
        (meta(Offset="1 2 3", Position="3 2 1"), "cannot be read to its end (ValueError)"),
        (meta(CompressedData="True", CompressedDataSize="900000000000"), "cannot be read to its end"),
        (meta(BinaryData="False"), "has voxels written as text"),
        (meta(ElementType="MET_OTHER"), "its header has voxels of type MET_OTHER"),
        (meta(ElementType="M" * 5000), "its header has voxels of type MMMM"),
        (meta(Comment="x\ny"), "its header has a line 'y'"),
        (meta(Comment="a" + " " * 500_000 + "b\nc" + " " * 400_000 + "d"), "its header has a line 'c   "),
        (b"NRRD0004\nencoding: raw\ndata file: ../a.raw\n", "keeps its voxels in another file (../a.raw)"),
        (b"NRRD0004\ntype: uchar\n", "no voxels follow its header"),
        (nrrd(content="(" * 500_000, space="LPS", space_directions="(1,0" * 100_000), "(ValueError)"),
        (nrrd(dimension="17", sizes="1 " * 17), "its header declares 17 dimensions"),
        (nrrd(dimension="-3"), "its header declares -3 dimensions"),
        (nrrd(sizes="4 4"), "its header declares 3 dimensions"),
        (nrrd(sizes="-4 -4 4"), "its header declares 64 voxels"),
        (nrrd(sizes="99999999999 99999999999 99999999999"), "its header declares 99999999997000000000029999999999"),
        (nrrd(line_skip="999999999"), "does not begin its voxels after its header"),
        (nrrd(byte_skip="-99999999999"), "does not begin its voxels after its header"),
        (nrrd(type="block", block_size="900000000000"), "its header has voxels of type block"),
        (nrrd(encoding="ascii"), "has voxels in encoding ascii"),
        (nrrd(encoding="hex"), "has voxels in encoding hex"),
        (nrrd(encoding="gzip"), "cannot be read to its end"),
        (nrrd(type="short"), "no valid byte order"),
        (nrrd(Sizes="3 3 3"), "its header has sizes twice"),
        (nrrd(space="LPS", space_directions="(1,0,0) (0,1,0)"), "another number of axes in each line"),
        (nrrd(space="LPS", space_directions="(1) (0,1) (0,0,1)"), "cannot be read to its end (ValueError)"),
        (nrrd(space="LPS", space_directions="(1,0,0) (0,1,0) (0,0,inf)"), "an affine that is not a grid"),
        (nrrd(spacings="1 1"), "cannot be read to its end (ValueError)"),
        (nrrd(kinds="vector domain domain", sizes="3 4 4"), "has 3 dimensions [4, 4, 3]"),
    ],
)
def test_a_header_that_asks_for_what_cannot_be_is_named(tmp_path, content, words):
    name = "a.nrrd" if content[:4] == b"NRRD" else "a.mha"
    (tmp_path / name).write_bytes(content)
    problem = look(Folder(tmp_path), name, "image").problem
    assert problem is not None and words in str(problem) and len(str(problem)) < 400


@pytest.mark.parametrize("make", [meta, nrrd])
def test_what_other_programs_add_to_a_header_is_no_matter(tmp_path, make):
    added = {"Comment": "a : b = c"} if make is meta else {"content": "a := b", "thicknesses": "nan nan nan"}
    assert decode(tmp_path / "a.mha", make(**added)).values.shape == (4, 4, 4)


@examples(300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([meta(), nrrd()]), st.integers(0, 200), st.integers(0, 8), st.binary(max_size=12))
def test_no_header_raises_anything_but_bad_input(tmp_path, content, at, dropped, put):
    try:
        found = decode(tmp_path / "a.nrrd", content[:at] + put + content[at + dropped :])
    except BadInput as error:
        assert str(error)
    else:
        assert 0 < found.values.size <= 64 + 12
