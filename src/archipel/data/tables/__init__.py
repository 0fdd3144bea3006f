"""Tables: text and Parquet files, their data dictionary, their rows and what is wrong with them.

It knows files and samples. It knows nothing of the layout of folders.
"""

from archipel.data.tables.dictionary import ColumnRule, Dictionary, read_dictionary
from archipel.data.tables.repeated_rows import repeated
from archipel.data.tables.table_checks import ColumnFacts, TableFacts, examine
from archipel.data.tables.table_files import Row, open_table
from archipel.data.tables.table_rows import Key, PatientTable

__all__ = [
    "ColumnFacts",
    "ColumnRule",
    "Dictionary",
    "Key",
    "PatientTable",
    "Row",
    "TableFacts",
    "examine",
    "open_table",
    "read_dictionary",
    "repeated",
]
