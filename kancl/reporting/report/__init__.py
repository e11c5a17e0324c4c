"""A report of run folders: what they show, how sure it is, and what it cost."""

from kancl.reporting.report.write import parts, write_report
from kancl.reporting.variants import benchmarks, find_tunings
from kancl.reporting.verdicts import compare, headline
