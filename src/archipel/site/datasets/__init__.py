"""The site's datasets: the catalog, the index of their files, who is excluded, and reports on their quality.

It knows who is withdrawn. It knows nothing of experiments and approvals.
"""
