"""Plugins that look at a training and change nothing of it."""

from kancl.observe.curves import ForgettingCurvePlugin
from kancl.observe.learned_function import LearnedFunctionPlugin
from kancl.observe.snapshots import LocalityMetrics, SnapshotPlugin
