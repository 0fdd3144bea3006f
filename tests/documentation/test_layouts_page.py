"""Every tree on the page "Layouts we read" is added as the page says, and every remedy on it works when it is typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pytest

from archipel.data import format_named, scan
from archipel.data.files import Folder
from archipel.data.formats import guessed, settled
from archipel.data.formats.known_layouts import LAYOUTS
from archipel.data.formats.layout import Layout
from archipel.data.formats.layout_finder import find_layout
from archipel.data.formats.volume_names import all_volumes
from archipel.vocabulary import BadInput

PAGE = (Path(__file__).parents[2] / "docs/layouts.md").read_text()
SHAPE = (4, 5, 6)


class Tree(NamedTuple):
    """A tree of the page: the files by kind, and what the page says of it."""

    files: dict[str, str]
    says: str


def trees(kind: str) -> list[Tree]:
    found = re.findall(rf"```text\n([^`]*?)```\n\n{kind}: (.*)", PAGE)
    return [Tree(dict(re.findall(r"^(\S.*?) +# (\w+)$", text, re.MULTILINE)), says) for text, says in found]


def write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.0, -1, 2, 1])
    kind = {"uint8": ("uchar", "MET_UCHAR"), "int16": ("short", "MET_SHORT")}[str(values.dtype)]
    content = values.tobytes(order="F")
    size = " ".join(map(str, values.shape))
    if path.name.endswith(".nrrd"):
        head = f"NRRD0004\ntype: {kind[0]}\ndimension: 3\nspace: left-posterior-superior\nsizes: {size}\n"
        head += "space directions: (1,0,0) (0,1,0) (0,0,2)\nendian: little\nencoding: raw\nspace origin: (0,0,0)\n\n"
        path.write_bytes(head.encode() + content)
    elif path.suffix == ".mhd":
        head = f"ObjectType = Image\nNDims = 3\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nDimSize = {size}\n"
        head += f"ElementSpacing = 1 1 2\nElementType = {kind[1]}\n"
        path.write_text(f"{head}ElementDataFile = {path.stem}.raw\n")
        path.with_suffix(".raw").write_bytes(content)
    else:
        made = {".hdr": nibabel.Nifti1Pair, ".mgz": nibabel.MGHImage}.get(path.suffix, nibabel.Nifti1Image)
        nibabel.save(made(values, affine), path)


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 1000, SHAPE).astype(np.int16)


def label(number: int) -> np.ndarray:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[1, : 1 + number % 4], drawn[2] = 1, 2
    return drawn


def planted(root: Path, tree: Tree) -> Path:
    structures = sorted({Path(place).name for place, kind in tree.files.items() if kind == "structure"})
    for number, (place, kind) in enumerate(tree.files.items()):
        values = label(number) if kind == "label" else image(number)
        if kind == "structure":
            values = (label(0) == structures.index(Path(place).name) + 1).astype(np.uint8)
        write(root / place, values)
    return root


def result(root: Path) -> str:
    """What the page says of a tree, as it is."""
    fit, *_ = guessed(root, {})
    assert fit.format == "layout"
    options = settled("layout", root, {})
    found = scan("layout", root, options)
    assert found.problems == ()
    known = find_layout(all_volumes(Folder(root), []))
    names = found.schema.label_names
    labels = " ".join(f"{value} {names.get(value, '')}".strip() for value in found.schema.label_values)
    return (
        f"{f'`{known.name}`' if known and known.name else 'no known layout'}, {found.subjects} subjects, "
        f"{len(found.samples)} samples, images {' '.join(found.schema.modalities)}, labels {labels or 'none'}"
    )


@pytest.mark.parametrize("tree", trees("Result"), ids=lambda tree: next(iter(tree.files)))
def test_a_tree_is_added_as_the_page_says(tmp_path: Path, tree: Tree) -> None:
    root = planted(tmp_path / "dataset", tree)
    assert result(root) == tree.says
    options = settled("layout", root, {})
    samples = scan("layout", root, options).samples
    for sample, reading in zip(samples, format_named("layout").read(root, samples, options), strict=True):
        for role, values in reading.images.items():
            stored = list(tree.files).index(sample.files[role])
            assert np.array_equal(values, image(stored))
        if "structure" in tree.files.values():
            assert np.array_equal(reading.label, label(0))
        elif "label" in tree.files.values():
            assert np.array_equal(reading.label, label(list(tree.files).index(sample.files["label"])))
        assert set(sample.file_hashes) == set(sample.files)


@pytest.mark.parametrize("tree", trees("Refused"), ids=lambda tree: next(iter(tree.files)))
def test_a_tree_that_is_not_clear_is_refused_with_options_that_work(tmp_path: Path, tree: Tree) -> None:
    root = planted(tmp_path / "dataset", tree)
    with pytest.raises(BadInput) as refused:
        guessed(root, {})
    assert refused.value.remedy == tree.says
    for said in re.findall(r"--image '[^']*'", tree.says)[: 2 if " or " in tree.says else 0]:
        template = shlex.split(said)[1]
        found = scan("layout", root, settled("layout", root, {"image": template}))
        assert found.errors == () and found.subjects == (2 if "modality" in template else 4)


def test_the_page_has_a_tree_for_each_layout_of_a_public_dataset() -> None:
    shown = {name for tree in trees("Result") for name in re.findall(r"`([a-z0-9-]+)`", tree.says)}
    public = {name for name in LAYOUTS if any(part.isupper() for part in LAYOUTS[name].title.split(":")[0].split())}
    assert len(trees("Result")) > 20 and {"brats", "kits", "acdc", "verse", "totalsegmentator"} <= shown
    assert shown <= LAYOUTS.keys() and len(public) > 5


def test_the_pages_layout_file_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    for subject in ("a", "b"):
        write(tmp_path / f"{subject}/1/T1.nii.gz", image(1))
        for structure, value in (("hippocampus", 1), ("amygdala", 2)):
            drawn = (label(0) == value).astype(np.uint8)
            write(tmp_path / f"{subject}/1/structures/{structure}.nii.gz", drawn)
    (tmp_path / "patients.csv").write_text("id,age\na,70\nb,60\n")
    (tmp_path / "brains.toml").write_text(block)
    options = settled("layout", tmp_path, {"layout": "brains.toml"})
    assert options.keys() <= Layout.options.keys() and "layout" not in options
    found = scan("layout", tmp_path, options)
    assert found.problems == () and [sample.key for sample in found.samples] == [("a", "1"), ("b", "1")]
    assert found.samples[0].values == {"age": 70}
    assert found.schema.label_names == {"0": "background", "1": "hippocampus", "2": "amygdala"}
