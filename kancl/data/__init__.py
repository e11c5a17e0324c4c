"""Data sets in memory and the loaders that take batches from them by index."""

from kancl.data.arrays import Arrays, checked_arrays
from kancl.data.images import load_images
