"""What may run at this site: offers, their explanation, decisions, and the proof of an approval before each task.

It knows cohorts and datasets, and what of them is disclosed to the server. It runs nothing.
"""
