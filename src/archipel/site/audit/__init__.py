"""The site's audit log: the hash-chained journal, the journal heads of both sides, and its export for others.

It knows the state folder. What the lines mean is known to whoever writes them.
"""
