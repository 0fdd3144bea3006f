"""Who is not to be used: the opt-out list, the register of withdrawn patients, and what is signed out of cohorts.

It knows the state folder and the audit log. It changes no dataset, and keeps no cohort: that is the act of withdrawing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.withdrawn import opt_outs, register, signed_withdrawals, spellings
    from archipel.site.withdrawn.opt_outs import (
        EVERYWHERE,
        OPT_OUT,
        OptOut,
        TakeOptOuts,
        check_subject,
        line_ranges,
        listed,
    )
    from archipel.site.withdrawn.register import Withdrawal
    from archipel.site.withdrawn.spellings import AlsoThere
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "opt_outs": ["EVERYWHERE", "OPT_OUT", "OptOut", "TakeOptOuts", "check_subject", "line_ranges", "listed"],
            "register": ["Withdrawal"],
            "spellings": ["AlsoThere"],
        },
        modules=["opt_outs", "register", "signed_withdrawals", "spellings"],
    )

__all__ = [
    "EVERYWHERE",
    "OPT_OUT",
    "AlsoThere",
    "OptOut",
    "TakeOptOuts",
    "Withdrawal",
    "check_subject",
    "line_ranges",
    "listed",
    "opt_outs",
    "register",
    "signed_withdrawals",
    "spellings",
]
