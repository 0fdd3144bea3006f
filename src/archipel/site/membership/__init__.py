"""A site's membership in a federation: its founding, enrolment, certificates and their renewal.

It knows the state folder and the audit log; it knows nothing of datasets or experiments.
"""
