"""Which texts a table holds, before anybody says that it is the one."""

from __future__ import annotations

from pathlib import Path

import pytest

from archipel.data.formats.table_cells import cells_in


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_cells_are_whole_and_names_of_files_are_without_folder_and_ending(tmp_path: Path, sign: str) -> None:
    table = tmp_path / "table.csv"
    lines = [["picture", "age"], ["a/b/p1.png", "70"], ['"C:\\scans\\p10.nii.gz"', " 71 "], ["sub-01", "7.5"]]
    table.write_text("\r\n".join(sign.join(line) for line in lines))
    found = cells_in(table)
    assert {"p1", "p10", "a/b/p1.png", "70", "71", "sub-01", "7.5"} <= found
    assert "sub-0" not in found and "p" not in found


def test_a_file_that_cannot_be_read_holds_nothing(tmp_path: Path) -> None:
    assert cells_in(tmp_path / "gone.csv") == frozenset()
