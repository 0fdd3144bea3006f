"""Who is not to be used: the opt-out list, the register of withdrawn patients, and what is signed out of cohorts.

It knows the state folder and the audit log. It changes no dataset, and keeps no cohort: that is the act of withdrawing.
"""
