"""Parameter trees as frames (safetensors layout), their hashes, and sums over them that fit in small memory.

It knows names, types, shapes and bytes; it does not know what a round, a site or a plan is.
"""

from archipel.tensors.frames import (
    Arrays,
    check_header,
    decode,
    encode,
    frame_header,
    frame_size,
    leaf_offsets,
    read_schema,
    schema_of,
    views,
    write_header,
)
from archipel.tensors.hashing import BlobHasher, blob_hash, document_hash
from archipel.tensors.stacks import Array, ChunkStack, NotFiniteFrame, in_type, is_finite
from archipel.tensors.sums import Between, Folded, NotFiniteResult, Rule, WeightedMean, fold, memory_schema
from archipel.tensors.writing import FrameWriter, write_all

__all__ = [
    "Array",
    "Arrays",
    "Between",
    "BlobHasher",
    "ChunkStack",
    "Folded",
    "FrameWriter",
    "NotFiniteFrame",
    "NotFiniteResult",
    "Rule",
    "WeightedMean",
    "blob_hash",
    "check_header",
    "decode",
    "document_hash",
    "encode",
    "fold",
    "frame_header",
    "frame_size",
    "in_type",
    "is_finite",
    "leaf_offsets",
    "memory_schema",
    "read_schema",
    "schema_of",
    "views",
    "write_all",
    "write_header",
]
