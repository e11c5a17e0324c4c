"""kancl: does a spline network (KAN) forget less than an MLP, when, and why?

``KAN`` and ``KANLinear`` are ordinary ``torch.nn`` modules. Importing ``kancl`` reads,
patches, prints and downloads nothing.
"""

from kancl.models import KAN, MLP, KANLinear

__version__ = "0.1.0"

__all__ = ["KAN", "KANLinear", "MLP", "__version__"]
