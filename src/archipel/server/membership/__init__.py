"""Who belongs to the federation: the certificate authority, enrolment, the registry of sites, and access tokens.

It knows the state folder. It knows nothing of experiments.
"""
