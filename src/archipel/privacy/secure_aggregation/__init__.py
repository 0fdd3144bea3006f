"""Secure aggregation: the server learns the sum over a set of sites, and nothing about one of them.

State machines and arithmetic without I/O; ``README.md`` beside this file is the protocol. It knows tensors and
numbers; it does not know tasks, files or how messages travel.
"""
