"""The agent: one process that dials out, acts on each message of its server, and reports back.

It knows everything at the site but the checks.
"""
