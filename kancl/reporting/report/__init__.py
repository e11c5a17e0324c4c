"""A report of run folders: what they show, how sure it is, and what it cost."""

from kancl.reporting.report.verdicts import Comparison, compare, headline
from kancl.reporting.report.write import Report, write_over_seeds, write_report
from kancl.reporting.variants import (
    Benchmark,
    Tuning,
    Variant,
    benchmarks,
    find_tunings,
)
