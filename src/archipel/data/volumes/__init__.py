"""Images in three dimensions: reading NIfTI, NRRD and MetaImage, headers, orientation, thumbnails.

It knows files and samples. It knows nothing of the layout of folders.
"""
