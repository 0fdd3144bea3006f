"""What a person can do at a site, as functions with typed results that any user interface renders.

It knows everything at the site. It prints nothing and asks nothing.
"""
