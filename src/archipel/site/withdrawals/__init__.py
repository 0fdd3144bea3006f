"""Patients who are not to be used: the opt-out list, withdrawals, and the signed withdrawals from kept cohorts.

It knows the state folder and the audit log.
"""
