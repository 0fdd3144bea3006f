"""How much a file of a dataset may hold: one value, which a test replaces by its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataLimits:
    """Limits that people at a site do not need to change; names that end in ``_s`` are seconds."""

    volume_bytes: int = 2 << 30
    """What one volume may take in memory, as it is stored and as float32: 800 x 800 x 800 voxels; more is not an image
    of a patient. Reading holds both at once, and the file."""
    npz_bytes: int = 4 << 30
    """What the arrays of one file may take in memory."""
    npz_rows: int = 1_000_000
    """Each row becomes a sample, which takes some 2 KB of memory besides its values."""
    picture_pixels: int = 1 << 27
    """11,000 x 11,000; in colour, reading holds 2 GiB."""
    segments: int = 4096
    """Names in the header of a segmentation, and its layers; the largest atlases have some hundred."""
    columns: int = 30_000
    """Of a table; one of all genes has 20,000."""
    deepest: int = 100
    """Folders below each other that are read; a copy of a folder into itself makes any number of them."""
    findings: int = 1000
    """Lines or rows of one file that are named one by one; the others are counted."""
    pattern_s: int = 10
    """Processor time of a name pattern, for all names together; a normal pattern takes one second for a million
    names.
    """


DATA_LIMITS = DataLimits()
