"""Parameter trees as tensor files (safetensors layout), their hashes, and sums over them that fit in small memory.

It knows names, types, shapes and bytes; it does not know what a round, a site or a plan is.
"""

from archipel.tensors.hashing import BlobHasher, blob_hash, document_hash
from archipel.tensors.number_types import BFLOAT16, bytes_of, is_floating
from archipel.tensors.stacks import Array, ChunkStack, NotFiniteUpdate, in_type, is_finite
from archipel.tensors.sums import (
    Between,
    Folded,
    NotFiniteResult,
    Rule,
    WeightedMean,
    WeightedUpdates,
    fold,
    memory_schema,
    sum_of_numbers,
)
from archipel.tensors.tensor_files import (
    Arrays,
    check_header,
    decode,
    encode,
    joined,
    leaf_offsets,
    read_schema,
    schema_of,
    tensor_file_header,
    tensor_file_size,
    views,
)
from archipel.tensors.writing import TensorFileWriter, write_all

__all__ = [
    "BFLOAT16",
    "Array",
    "Arrays",
    "Between",
    "BlobHasher",
    "ChunkStack",
    "Folded",
    "NotFiniteResult",
    "NotFiniteUpdate",
    "Rule",
    "TensorFileWriter",
    "WeightedMean",
    "WeightedUpdates",
    "blob_hash",
    "bytes_of",
    "check_header",
    "decode",
    "document_hash",
    "encode",
    "fold",
    "in_type",
    "is_finite",
    "is_floating",
    "joined",
    "leaf_offsets",
    "memory_schema",
    "read_schema",
    "schema_of",
    "sum_of_numbers",
    "tensor_file_header",
    "tensor_file_size",
    "views",
    "write_all",
]
