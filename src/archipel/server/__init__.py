"""The meeting point: who belongs to the federation, what runs, and the REST interface for people.

It keeps experiments, opens rounds and adds updates up; it never sees an image, runs no plan and trusts no site's word
without a certificate it signed itself.
"""
