"""Samples prepared for a worker: verified, resampled and written down once, then read as they are.

It knows cohorts and formats. It knows nothing of plans.
"""
