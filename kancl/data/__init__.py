"""Images in memory and the loaders that take batches from them by index."""

from kancl.data.images import Images, load_images
