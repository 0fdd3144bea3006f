"""Frozen cohorts: the versions of a dataset, their tags, and on which side of the split each subject stays.

It knows datasets and who is withdrawn. It knows nothing of experiments and approvals.
"""
