"""A site's state folder: settings, keys, database and its schema, and the cache of prepared samples.

It opens and holds what the other packages of the site work on; it makes no decision and knows none of them.
"""
