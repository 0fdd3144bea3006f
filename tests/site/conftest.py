from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from site_world import new_site, table

from archipel.site import catalog
from archipel.site.state import SiteState


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[SiteState]:
    """A joined site without data."""
    site = new_site(tmp_path / "state")
    yield site
    site.close()


@pytest.fixture
def with_table(hospital: SiteState, tmp_path: Path) -> SiteState:
    """A joined site with a dataset called table."""
    catalog.add(hospital, "table", table(tmp_path / "data"), "npz")
    return hospital
