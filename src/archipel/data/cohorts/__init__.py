"""What is chosen from a dataset: mappings, preprocessing, train/validation splits, and the cohort that they make.

It reads no file. It knows samples and orientation, and nothing of formats.
"""
