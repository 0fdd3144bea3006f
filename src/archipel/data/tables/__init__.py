"""Tables: text and Parquet files, their data dictionary, their rows and what is wrong with them.

It knows files and samples. It knows nothing of the layout of folders.
"""

from archipel.data.tables.dictionary import ColumnRule, Dictionary, read_dictionary
from archipel.data.tables.foreign_files import unread
from archipel.data.tables.identifiers import column_of_ids
from archipel.data.tables.odd_cells import COLUMN_OPTIONS, as_typed
from archipel.data.tables.repeated_rows import repeated
from archipel.data.tables.row_kinds import RowKinds
from archipel.data.tables.table_checks import ColumnFacts, TableFacts, examine
from archipel.data.tables.table_files import TableFile, open_table
from archipel.data.tables.table_rows import Key, PatientTable
from archipel.data.tables.text_tables import Row
from archipel.data.tables.whole_columns import WholeColumns

__all__ = [
    "COLUMN_OPTIONS",
    "ColumnFacts",
    "ColumnRule",
    "Dictionary",
    "Key",
    "PatientTable",
    "Row",
    "RowKinds",
    "TableFacts",
    "TableFile",
    "WholeColumns",
    "as_typed",
    "column_of_ids",
    "examine",
    "open_table",
    "read_dictionary",
    "repeated",
    "unread",
]
