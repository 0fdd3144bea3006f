"""A signed withdrawal: a site's signature that certain patients of a cohort are not to be used any more.

It only reduces what an approval allows, so no new approval is needed. It names subjects by keyed tokens, which do not
disclose to any other party who they are.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from archipel.governance.canonical import canonical
from archipel.governance.keys import IdentityKey, verify
from archipel.vocabulary import ErrorCode, Hash, Record, Refused, SiteName, Thing

SubjectToken = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class SignedWithdrawal(Record):
    """Which cohort becomes smaller, by whom (as tokens), and when."""

    site: SiteName
    cohort_hash: Hash
    subjects: tuple[SubjectToken, ...]
    at: str
    signature: str = ""

    def message(self) -> bytes:
        """The bytes that are signed: everything but the signature, in a domain of its own."""
        return b"archipel-subtraction/1\n" + canonical(self.model_copy(update={"signature": ""}))


def sign_withdrawal(key: IdentityKey, withdrawal: SignedWithdrawal) -> SignedWithdrawal:
    """The signed withdrawal with the site's signature."""
    return withdrawal.model_copy(update={"signature": key.sign(withdrawal.message())})


def check_withdrawal(withdrawal: SignedWithdrawal, *, identity_key: str, cohort_hash: str) -> None:
    """Raise Refused unless the site itself signed it, for this very cohort."""
    thing = Thing.worded(f"withdrawal from cohort {cohort_hash}", cohort=cohort_hash)
    remedy = "this site's database was changed by hand: check its journal"
    if not verify(identity_key, withdrawal.signature, withdrawal.message()):
        raise Refused(thing, "its signature is not the site's", remedy, code=ErrorCode.NOT_APPROVED)
    if withdrawal.cohort_hash != cohort_hash:
        raise Refused(thing, "is for another cohort", remedy, code=ErrorCode.NOT_APPROVED)
