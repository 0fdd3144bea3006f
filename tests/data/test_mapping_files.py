from __future__ import annotations

import pytest

from archipel.cli.site_dataset import asked_mapping
from archipel.data import ColumnMapping, DataMapping, read_mapping
from archipel.simulation import read_sites
from archipel.vocabulary import BadInput, DataNeeds

WHOLE = """
drop_other_labels = true
[labels]
3 = 0
[label_names]
1 = "anterior"
[columns.age]
source = "alter"
scale = 0.5
"""


def test_a_mapping_is_read_as_it_is_written(tmp_path):
    (tmp_path / "mapping.toml").write_text(WHOLE)
    columns = {"age": ColumnMapping(source="alter", scale=0.5)}
    expected = DataMapping(drop_other_labels=True, labels={"3": 0}, label_names={"1": "anterior"}, columns=columns)
    assert read_mapping(tmp_path / "mapping.toml") == expected


def test_label_names_beside_the_file_are_added_to_its_own(tmp_path):
    (tmp_path / "mapping.toml").write_text(WHOLE)
    found = asked_mapping(tmp_path / "mapping.toml", ["2=posterior", "1=front"])
    assert found.label_names == {"1": "front", "2": "posterior"} and found.labels == {"3": 0}
    assert asked_mapping(None, ["2=posterior"]) == DataMapping(label_names={"2": "posterior"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[columns.age]\nskale = 2\n", r"age.skale: is not a known key; did you mean columns.age.scale\?"),
        (
            b"[columns.age]\nzzz = 2\n",
            r"age.zzz: is not a known key; known keys are fill, offset, scale, sou",
        ),
        (b'orientaton = "RAS"\n', r"mapping.toml: orientaton: is not a known key; did you mean orientation\?"),
        (
            b'way = "RAS"\n',
            r"way: is not a known key; known keys are columns, drop_incomplete, drop_other",
        ),
        (b"[labels]\n3 = -1\n", r"mapping.toml: labels.3=-1: is too small; give at least 0"),
        (b"[columns.age]\nscale = 0\n", r"mapping.toml: columns.age: scale 0 makes every value the same"),
        (b"[columns.age]\nscale = inf\n", r"mapping.toml: columns.age.scale=inf: is not a finite number"),
        (b"[labels\n", r"mapping.toml: is not TOML"),
        (b"labels = " + b"[" * 10_000, r"mapping.toml: is not TOML: maximum recursion depth"),
        (b'[label_names]\n1 = "\xff"\n', r"mapping.toml: is not TOML"),
        (None, r"mapping.toml: cannot be read \(No such file"),
    ],
)
def test_what_is_wrong_with_a_mapping_is_named_alike_by_site_and_simulation(tmp_path, content, said):
    file = tmp_path / "mapping.toml"
    if content is not None:
        file.write_bytes(content)
    (tmp_path / "sites.toml").write_text('[charite]\nmapping = "mapping.toml"\n')
    needs = DataNeeds(kind="volumes")
    for reading in (
        lambda: read_mapping(file),
        lambda: asked_mapping(file, None),
        lambda: read_sites(tmp_path / "sites.toml", tmp_path, needs),
    ):
        with pytest.raises(BadInput, match=said) as caught:
            reading()
        assert "known key" in said or "From folder to cohort" in caught.value.remedy
