from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from archipel.site.services import datasets
from archipel.site.state import schema
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


@pytest.fixture(scope="session")
def template_with_table(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder with a dataset called table, and its data beside it: adding it takes 20 ms, copying both 3."""
    folder = tmp_path_factory.mktemp("template_with_table") / "state"
    site = StateFolder.open(shutil.copytree(template, folder))
    datasets.add(site, "table", write_rows(folder.with_name("data")), "npz", by=ANNA)
    site.close()
    return folder


@pytest.fixture
def hospital(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StateFolder]:
    """A joined site, without data unless the test asks for ``with_table``."""
    made = "template_with_table" if "with_table" in request.fixturenames else "template"
    site = StateFolder.open(shutil.copytree(request.getfixturevalue(made), tmp_path / "state"))
    yield site
    site.close()


@pytest.fixture
def with_table(hospital: StateFolder, tmp_path: Path, template_with_table: Path) -> StateFolder:
    """A joined site with a dataset called table."""
    data = shutil.copytree(template_with_table.with_name("data"), tmp_path / "data").resolve()
    # As if the dataset had been added here: its folder, and the file that was looked into, are these.
    found = (data / "table.npz").stat()
    seen = {"inode": found.st_ino, "changed_ns": found.st_ctime_ns, "modified_ns": found.st_mtime_ns}
    with hospital.database.write() as connection:
        connection.execute(update(schema.datasets).values(root=str(data)))
        connection.execute(update(schema.files).values(seen))
    return hospital


@pytest.fixture
def terminal(with_table: StateFolder) -> Terminal:
    return Terminal(with_table.folder)
