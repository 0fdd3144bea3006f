"""The inside of the sandbox: the process in which an approved plan touches data, and the messages it exchanges.

It sees the plan's file, the dataset's files read-only, the interpreter, and one socket to the agent. It imports no
database, no network and, unless the plan does, no torch.
"""
