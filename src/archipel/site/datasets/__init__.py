"""The site's datasets: the catalog, the index of their files, who is in them or excluded, and their quality reports.

It knows who is withdrawn, and is given what takes the opt-out list over. It knows no experiments and no approvals.
"""
