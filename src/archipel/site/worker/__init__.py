"""The inside of the sandbox: the process in which an approved plan touches data, and the messages it exchanges.

It sees the plan's file, what was prepared of its cohort, the interpreter, and one socket to the agent. It imports no
database, no network and, unless the plan does, no torch.
"""
