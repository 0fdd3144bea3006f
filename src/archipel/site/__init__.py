"""A hospital's side: its state folder, catalog, approvals, journal and enrolment, the agent that dials out, the worker.

The site decides what touches its data. It knows the server only through ``transport``; it never imports
the server's or the researcher's package. This file has no imports because the sandboxed worker starts from here.
"""
