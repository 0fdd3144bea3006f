"""Data that is nobody's: phantoms for demonstrations and samples of the prepared shape for a dry run.

It knows cohorts and prepared samples.
"""
