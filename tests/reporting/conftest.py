"""Planted run folders for all tests of this room."""

from tests.reporting.report.conftest import make_run, plant  # noqa: F401  (fixtures)
