"""The server's state folder: settings, keys, database and its schema.

It opens what the other packages of the server work on; it makes no decision and knows none of them.
"""
