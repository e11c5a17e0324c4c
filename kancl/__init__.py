"""kancl: does a spline network (KAN) forget less than an MLP, when, and why?

``KAN`` and ``KANLinear`` are ordinary ``torch.nn`` modules. Importing ``kancl`` reads,
patches, prints and downloads nothing.
"""

__version__ = "0.1.0"
