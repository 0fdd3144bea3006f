"""The act of withdrawing: patients leave every dataset and every kept cohort, in one transaction, or are readmitted.

It knows who is withdrawn, datasets and cohorts. It knows nothing of experiments and approvals.
"""
