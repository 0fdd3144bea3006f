"""Running an approved task: prepared samples, the sandboxed trainer, and the store of updates already made.

It knows approvals, cohorts and the sandbox. It knows nothing of the connection to the server.
"""
