"""Images in three dimensions: reading NIfTI, NRRD and MetaImage, headers, orientation, thumbnails.

It knows files and samples. It knows nothing of the layout of folders.
"""

from archipel.data.volumes import png, volumes
from archipel.data.volumes.decoding import ITK, NIFTI, PICTURES, SUFFIXES
from archipel.data.volumes.geometry import (
    TOLERANCE_OPTION,
    GridRule,
    Placed,
    check_one_grid,
    check_within,
    oddities,
)
from archipel.data.volumes.orientation import Orientation
from archipel.data.volumes.png import Colour
from archipel.data.volumes.sample_volumes import (
    StructureRules,
    look_at_file,
    look_at_sample,
    read_structures,
    roles_of,
    structure_key,
    structures_of,
    with_data,
)
from archipel.data.volumes.segment_options import ON_TOP, SEGMENT_OPTIONS, SEGMENTS, segment_rules
from archipel.data.volumes.segments import as_option, names_in, plain_name, same_name
from archipel.data.volumes.thumbnails import (
    IN_FULL,
    MOSAIC,
    PLANES,
    Sketchbook,
    Slice,
    Thumbnails,
    image_thumbnails,
    label_thumbnails,
    shrunk,
    window_of,
)
from archipel.data.volumes.volume_facts import Grid, ImageFacts, MaskFacts, looks_drawn
from archipel.data.volumes.volumes import read_image

__all__ = [
    "IN_FULL",
    "ITK",
    "MOSAIC",
    "NIFTI",
    "ON_TOP",
    "PICTURES",
    "PLANES",
    "SEGMENTS",
    "SEGMENT_OPTIONS",
    "SUFFIXES",
    "TOLERANCE_OPTION",
    "Colour",
    "Grid",
    "GridRule",
    "ImageFacts",
    "MaskFacts",
    "Orientation",
    "Placed",
    "Sketchbook",
    "Slice",
    "StructureRules",
    "Thumbnails",
    "as_option",
    "check_one_grid",
    "check_within",
    "image_thumbnails",
    "label_thumbnails",
    "look_at_file",
    "look_at_sample",
    "looks_drawn",
    "names_in",
    "oddities",
    "plain_name",
    "png",
    "read_image",
    "read_structures",
    "roles_of",
    "same_name",
    "segment_rules",
    "shrunk",
    "structure_key",
    "structures_of",
    "volumes",
    "window_of",
    "with_data",
]
