"""Fixtures shared with the tests of plugins."""

from tests.plugins.conftest import points_benchmark

__all__ = ["points_benchmark"]
