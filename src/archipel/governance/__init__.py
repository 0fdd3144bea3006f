"""Who agreed to what, and the proof of it: canonical documents, signatures, approvals, policy and the journal.

Decisions here are functions of values; only the journal uses a database connection, which it is given. It knows
jobs and keys; it does not know sockets, workers or rounds.
"""

from archipel.governance.approvals import Approval, approve, check_approval
from archipel.governance.canonical import canonical, job_hash, record_hash, task_hash
from archipel.governance.journal import (
    SERVER_JOURNAL,
    HeadFault,
    JournalEntry,
    JournalHead,
    append,
    check_chain,
    follows,
    head,
    journal_table,
    sign_head,
)
from archipel.governance.keys import IdentityKey, verify
from archipel.governance.policy import MINIMUM_CELL, SitePolicy, objections
from archipel.governance.round_result import closed_is_signed_by, sign_closed
from archipel.governance.signed_withdrawals import SignedWithdrawal, check_withdrawal, sign_withdrawal

__all__ = [
    "MINIMUM_CELL",
    "SERVER_JOURNAL",
    "Approval",
    "HeadFault",
    "IdentityKey",
    "JournalEntry",
    "JournalHead",
    "SignedWithdrawal",
    "SitePolicy",
    "append",
    "approve",
    "canonical",
    "check_approval",
    "check_chain",
    "check_withdrawal",
    "closed_is_signed_by",
    "follows",
    "head",
    "job_hash",
    "journal_table",
    "objections",
    "record_hash",
    "sign_closed",
    "sign_head",
    "sign_withdrawal",
    "task_hash",
    "verify",
]
