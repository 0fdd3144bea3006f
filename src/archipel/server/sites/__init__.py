"""The server's end of each site's connection: messages, received updates, presence, and what is announced.

It knows experiments and membership. It knows nothing of HTTP.
"""
