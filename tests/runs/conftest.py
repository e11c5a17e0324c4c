"""Run folders, made or planted."""

from tests.reporting.report.conftest import make_run, plant  # noqa: F401  (fixtures)
