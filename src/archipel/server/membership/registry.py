"""Who belongs to the federation: sites, their identity keys and the certificates that are good now.

Every change writes its journal line first, in the same transaction.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, PoolProxiedConnection, RowMapping, insert, select, update

from archipel.governance import JournalHead, check_chain, head
from archipel.governance.journal import JournalEntry, entries
from archipel.server.membership.authority import Authority, SiteCertificate
from archipel.server.membership.prefixes import whole
from archipel.server.membership.revoked import check_not_revoked
from archipel.server.state import (
    AnswerKept,
    CertificateIssued,
    CertificateRevoked,
    ServerJournalKind,
    SiteEnrolled,
    SiteNamed,
    add_entry,
    schema,
)
from archipel.storage import Database, utc_now
from archipel.transport.messages import Datasets, DatasetSummary
from archipel.vocabulary import Actor, Conflict, ErrorCode, NotFound, NotPermitted, Record, Thing
from archipel.vocabulary.remedies import CreateJoinToken, ListCertificates, ListSites, RemoveSite
from archipel.vocabulary.states import ApprovalState, MemberState

_told: TypeAdapter[tuple[DatasetSummary, ...]] = TypeAdapter(Datasets)


class Site(Record):
    """An enrolled or removed site."""

    site: str
    identity_key: str
    state: MemberState
    enrolled_at: str
    last_seen: str | None
    datasets: tuple[DatasetSummary, ...]


class CertificateRow(Record):
    """A certificate as listed."""

    serial: str
    site: str
    issued_at: str
    not_after: str
    revoked_at: str | None
    reason: str | None


class MemberRegistry:
    """Sites and certificates over the database; safe to use from several threads."""

    def __init__(self, database: Database, authority: Authority, certificate_lifetime: timedelta) -> None:
        self._database, self._authority = database, authority
        self.certificate_lifetime = certificate_lifetime
        self._watch = _ChangeWatch(database)
        self._lock = threading.Lock()
        self._valid: dict[str, tuple[str, datetime]] = {}

    def sites(self, *, removed: bool = False) -> list[Site]:
        """Enrolled sites by name, and with ``removed`` the removed ones too."""
        query = select(schema.sites).order_by(schema.sites.c.site)
        with self._database.read() as connection:
            rows = (
                connection.execute(query if removed else query.where(schema.sites.c.state == MemberState.ENROLLED))
                .mappings()
                .all()
            )
        return [_site(row) for row in rows]

    def site(self, site: str) -> Site:
        """One enrolled site. Raises NotFound."""
        with self._database.read() as connection:
            return _enrolled(connection, site)

    def remove_site(self, site: str, *, by: Actor) -> None:
        """End a site's membership: its certificates and approvals are revoked with it. Raises NotFound."""
        with self._database.write() as connection:
            _enrolled(connection, site)
            add_entry(connection, ServerJournalKind.SITE_REMOVED, SiteNamed(site=site, by=by.journal_name))
            connection.execute(
                update(schema.sites).where(schema.sites.c.site == site).values(state=MemberState.REMOVED)
            )
            revoke_all(connection, site, "the site was removed", by=by)
            _end_approvals(connection, site, by=by)

    def seen(self, names: Collection[str], at: str | None = None) -> None:
        """Note that these sites are or were connected. Not journaled, because it changes no permission."""
        if not names:
            return
        with self._database.write() as connection:
            connection.execute(
                update(schema.sites).where(schema.sites.c.site.in_(names)).values(last_seen=at or utc_now())
            )

    def set_datasets(self, site: str, datasets: Sequence[DatasetSummary]) -> None:
        """Keep what the site announced of its datasets."""
        text = json.dumps([dataset.model_dump(mode="json") for dataset in datasets])
        with self._database.write() as connection:
            connection.execute(
                update(schema.sites).where(schema.sites.c.site == site).values(summary=text, last_seen=utc_now())
            )

    def certificates(self) -> list[CertificateRow]:
        """Every certificate ever issued, newest first."""
        with self._database.read() as connection:
            rows = (
                connection.execute(select(schema.certificates).order_by(schema.certificates.c.issued_at.desc()))
                .mappings()
                .all()
            )
        return [_certificate(row) for row in rows]

    def revoke_certificate(self, serial: str, reason: str, *, by: Actor) -> CertificateRow:
        """End a certificate now, named by its serial or how it begins; the certificate as it was.

        Raises NotFound, and Conflict when it is revoked already or several begin so.
        """
        with self._database.write() as connection:
            serial = whole(connection, schema.certificates.c.serial, serial, "certificate", ListCertificates())
            row = (
                connection.execute(select(schema.certificates).where(schema.certificates.c.serial == serial))
                .mappings()
                .one()
            )
            check_not_revoked("certificate", serial, row["revoked_at"])
            _revoke(connection, serial, row["site"], reason, by=by)
        return _certificate(row)

    def renew(self, site: str, csr: str, now: datetime | None = None) -> SiteCertificate:
        """A new certificate for an enrolled site; its identity stays, and the old certificate lasts to its end.

        Raises NotFound when the site is not enrolled and BadInput for a bad request.
        """
        signed = self._authority.sign_site(site, csr, now or datetime.now(UTC), self.certificate_lifetime)
        with self._database.write() as connection:
            _enrolled(connection, site)
            keep_certificate(connection, ServerJournalKind.CERTIFICATE_RENEWED, signed)
        return signed

    def site_of_serial(self, serial: str) -> str | None:
        """Whose certificate may speak now: issued here, not revoked, not expired, its site enrolled; else None.

        Cheap enough for every message: the answer is in memory and is read again only after a commit to the database,
        by this process or another one.
        """
        with self._lock:
            if self._watch.changed():
                try:
                    self._valid = self._read_valid()
                except BaseException:
                    # The change is not known yet; otherwise a revoked certificate would stay valid until the next
                    # change.
                    self._watch.forget()
                    raise
            valid = self._valid.get(serial)
        return valid[0] if valid and datetime.now(UTC) < valid[1] else None

    def _read_valid(self) -> dict[str, tuple[str, datetime]]:
        query = (
            select(schema.certificates.c.serial, schema.certificates.c.site, schema.certificates.c.not_after)
            .join(schema.sites, schema.sites.c.site == schema.certificates.c.site)
            .where(schema.certificates.c.revoked_at.is_(None), schema.sites.c.state == MemberState.ENROLLED)
        )
        with self._database.read() as connection:
            return {row.serial: (row.site, datetime.fromisoformat(row.not_after)) for row in connection.execute(query)}

    def journal_head(self, owner: str) -> JournalHead:
        """The server's unsigned journal head now."""
        with self._database.read() as connection:
            return head(connection, schema.journal, owner)

    def journal(self, after: int = 0, limit: int | None = None) -> list[JournalEntry]:
        """Journal lines after number ``after``, oldest first."""
        with self._database.read() as connection:
            lines = iter(entries(connection, schema.journal, after))
            return [line for _, line in zip(range(limit), lines, strict=False)] if limit else list(lines)

    def journal_faults(self, journal_heads: Sequence[JournalHead] = ()) -> list[str]:
        """What is wrong with the server's journal; an empty list proves it whole."""
        lines: list[JournalEntry] = []
        with self._database.read() as connection:
            try:
                lines.extend(entries(connection, schema.journal))
            except ValueError:
                number = lines[-1].number + 1 if lines else 1
                return [*check_chain(lines), f"line {number} was changed: it cannot be read"]
        return check_chain(lines, journal_heads)

    def close(self) -> None:
        """Give back the connection that watches for changes."""
        self._watch.close()


_COUNTS = """
SELECT (SELECT count(*) FROM certificates), (SELECT count(*) FROM certificates WHERE revoked_at IS NOT NULL),
       (SELECT count(*) FROM sites WHERE state = 'enrolled')
"""


class _ChangeWatch:
    """Tells whether certificates or memberships changed since the last time it was asked.

    SQLite's data_version, read on a connection that never writes, changes with every commit of every other
    connection in any process. Other databases have no such mark: there the answer is always yes.
    """

    def __init__(self, database: Database) -> None:
        self._connection: PoolProxiedConnection | None = None
        if database.engine.dialect.name == "sqlite":
            self._connection = database.engine.raw_connection()
        self._version: int | None = None
        self._counts: tuple[int, ...] | None = None

    def changed(self) -> bool:
        if self._connection is None:
            return True
        cursor = self._connection.cursor()
        (version,) = cursor.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            # Rounds commit all the time; these counts change with every certificate and membership, and only then.
            before, self._counts = self._counts, cursor.execute(_COUNTS).fetchone()
            self._version = version
            changed = self._counts != before
        else:
            changed = False
        cursor.close()
        return changed

    def forget(self) -> None:
        """The next answer is that something changed."""
        self._version = self._counts = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def enrol_site(connection: Connection, site: str, identity_key: str, signed: SiteCertificate) -> None:
    """Make a site a member, or an enrolled one again with the same identity key; older certificates end.

    Raises Conflict when the site is enrolled with another identity key, which is kept for life.
    """
    row = connection.execute(select(schema.sites).where(schema.sites.c.site == site)).mappings().first()
    if row is not None and row["state"] == MemberState.ENROLLED and row["identity_key"] != identity_key:
        raise Conflict(
            Thing("site", site),
            "is enrolled with another identity key",
            "restore its state folder, or remove the site first (approvals of the old key end)",
            command=RemoveSite(site=site),
        )
    member = SiteEnrolled(site=site, identity_key=identity_key, serial=signed.serial, not_after=signed.not_after)
    add_entry(connection, ServerJournalKind.SITE_ENROLLED, member)
    values = {"identity_key": identity_key, "state": MemberState.ENROLLED, "enrolled_at": signed.issued_at}
    if row is None:
        connection.execute(insert(schema.sites).values(site=site, summary="[]", last_seen=None, **values))
    else:
        connection.execute(update(schema.sites).where(schema.sites.c.site == site).values(**values))
        revoke_all(connection, site, "the site enrolled again", by=None)
    connection.execute(insert(schema.certificates).values(**_certificate_row(signed)))


def keep_certificate(connection: Connection, kind: ServerJournalKind, signed: SiteCertificate) -> None:
    """Record a certificate, journaled as ``kind``."""
    issued = CertificateIssued(site=signed.site, serial=signed.serial, not_after=signed.not_after)
    add_entry(connection, kind, issued)
    connection.execute(insert(schema.certificates).values(**_certificate_row(signed)))


def revoke_all(connection: Connection, site: str, reason: str, *, by: Actor | None) -> None:
    """Revoke every certificate of a site that is not revoked yet."""
    query = select(schema.certificates.c.serial).where(
        schema.certificates.c.site == site, schema.certificates.c.revoked_at.is_(None)
    )
    for serial in connection.scalars(query).all():
        _revoke(connection, serial, site, reason, by=by)


def _end_approvals(connection: Connection, site: str, *, by: Actor) -> None:
    """What a removed site signed does not count in any quorum, neither for it nor for a new site of the same name."""
    mine = (schema.approvals.c.site == site, schema.approvals.c.state == ApprovalState.APPROVED)
    for experiment in connection.scalars(select(schema.approvals.c.experiment).where(*mine)).all():
        ended = AnswerKept(
            experiment=experiment,
            site=site,
            state=ApprovalState.REVOKED,
            reason="the site was removed",
            by=by.journal_name,
        )
        add_entry(connection, ServerJournalKind.SITE_REVOKED, ended)
    connection.execute(update(schema.approvals).where(*mine).values(state=ApprovalState.REVOKED, at=utc_now()))


def _revoke(connection: Connection, serial: str, site: str, reason: str, *, by: Actor | None) -> None:
    ended = CertificateRevoked(site=site, serial=serial, reason=reason, by=by.journal_name if by else None)
    add_entry(connection, ServerJournalKind.CERTIFICATE_REVOKED, ended)
    change = update(schema.certificates).where(schema.certificates.c.serial == serial)
    connection.execute(change.values(revoked_at=utc_now(), reason=reason))


def _certificate(row: RowMapping) -> CertificateRow:
    return CertificateRow.model_validate({key: row[key] for key in CertificateRow.model_fields})


def _certificate_row(signed: SiteCertificate) -> dict[str, str]:
    return {
        "serial": signed.serial,
        "site": signed.site,
        "pem": signed.pem,
        "issued_at": signed.issued_at,
        "not_after": signed.not_after,
    }


def _enrolled(connection: Connection, site: str) -> Site:
    row = connection.execute(select(schema.sites).where(schema.sites.c.site == site)).mappings().first()
    if row is None:
        raise NotFound(
            Thing("site", site),
            "is not enrolled",
            "see `archipel server site list`; a new site needs a join token",
            command=ListSites(),
        )
    if row["state"] != MemberState.ENROLLED:
        raise NotPermitted(
            Thing("site", site),
            "was removed from the federation",
            "give it a new join token",
            code=ErrorCode.REVOKED,
            command=CreateJoinToken(site=site),
        )
    return _site(row)


def _site(row: RowMapping) -> Site:
    try:
        datasets = _told.validate_json(row["summary"])
    except ValidationError:
        # Kept before there were bounds; the site announces its datasets again when it connects.
        datasets = ()
    known = {name: row[name] for name in Site.model_fields if name != "datasets"}
    return Site.model_validate(known | {"datasets": datasets})
