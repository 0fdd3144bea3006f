"""Tables: text and Parquet files, their data dictionary, their rows and what is wrong with them.

It knows files and samples. It knows nothing of the layout of folders.
"""
