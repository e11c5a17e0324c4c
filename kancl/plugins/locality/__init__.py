"""Plugins that use which splines the samples touch: KAN layers only.

Lazy steps, a mask of what past experiences visited, a penalty on drift where they
were, and grids that grow. Whatever serves an MLP too is a floor up, in ``plugins``.
"""
