from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archipel.site.membership import certificates
from archipel.site.membership.certificates import credentials, keep_certificate
from archipel.site.membership.creation import create_site
from archipel.site.membership.renewal import renew_now
from archipel.site.state.folder import StateFolder
from archipel.storage import write_private
from archipel.vocabulary import ArchipelError, ErrorCode
from worlds.site import pair


class Killed(BaseException):
    """The process died here."""


@pytest.mark.parametrize("written", range(3))
def test_a_kill_at_any_step_of_a_renewal_leaves_a_pair_that_fits(
    hospital: StateFolder, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    before, (key, certificate) = credentials(hospital.keys), pair()
    count = 0

    def dying(path: Path, data: bytes) -> None:
        nonlocal count
        if count == written:
            raise Killed
        count += 1
        write_private(path, data)

    def dying_at_last(_: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(certificates, "write_private", dying)
        patch.setattr(certificates, "_settle", dying_at_last)
        keep_certificate(hospital.keys, key, certificate)
    after = credentials(hospital.keys)
    expected = (key, certificate.encode()) if written == 2 else (before.key, before.certificate)
    assert (after.key, after.certificate) == expected
    assert not (hospital.keys / "tls.key.next").exists()


def test_a_certificate_on_another_key_is_refused_and_the_old_pair_stays(hospital: StateFolder) -> None:
    before, (key, _), (_, certificate) = credentials(hospital.keys), pair(), pair()
    with pytest.raises(ArchipelError, match="signed another key than this site's"):
        keep_certificate(hospital.keys, key, certificate)
    assert credentials(hospital.keys) == before


def test_the_end_of_a_certificate_is_known(hospital: StateFolder) -> None:
    keep_certificate(hospital.keys, *pair(days=10))
    left = credentials(hospital.keys).expires - datetime.now(UTC)
    assert timedelta(days=9) < left < timedelta(days=10)


async def test_a_site_that_has_not_joined_or_lost_a_file_says_so(hospital: StateFolder, tmp_path: Path) -> None:
    with pytest.raises(ArchipelError, match="has not joined a federation yet"):
        await renew_now(create_site(tmp_path / "new", "new"))
    (hospital.keys / "tls.pem").unlink()
    with pytest.raises(ArchipelError, match=r"tls.pem: is not there; restore it") as caught:
        credentials(hospital.keys)
    assert caught.value.code is ErrorCode.CONFIGURATION
