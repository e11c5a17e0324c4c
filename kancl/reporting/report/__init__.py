"""A report of run folders: what they show, how sure it is, and what it cost."""

from kancl.reporting.report.page import Report, write_report
from kancl.reporting.report.tensorboard import write_over_seeds
from kancl.reporting.report.tuning import Tuning, find_tunings
from kancl.reporting.report.variants import Benchmark, Variant, benchmarks
from kancl.reporting.report.verdicts import Comparison, compare, headline
