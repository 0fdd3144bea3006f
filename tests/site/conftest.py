from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from archipel.site.services import datasets
from archipel.site.state.folder import StateFolder
from worlds.data_files import write_rows
from worlds.people import ANNA
from worlds.site import Terminal, make_site


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A joined site's folder, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("template") / "state"
    make_site(folder).close()
    return folder


@pytest.fixture
def hospital(tmp_path: Path, template: Path) -> Iterator[StateFolder]:
    """A joined site without data."""
    site = StateFolder.open(shutil.copytree(template, tmp_path / "state"))
    yield site
    site.close()


@pytest.fixture
def with_table(hospital: StateFolder, tmp_path: Path) -> StateFolder:
    """A joined site with a dataset called table."""
    datasets.add(hospital, "table", write_rows(tmp_path / "data"), "npz", by=ANNA)
    return hospital


@pytest.fixture
def terminal(with_table: StateFolder) -> Terminal:
    return Terminal(with_table.folder)
